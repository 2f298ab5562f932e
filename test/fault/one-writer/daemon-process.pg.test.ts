/**
 * The daemon as a process: stopped by a signal, frozen for longer than its lease, started twice, killed between commits.
 */
import { expect, test } from "vitest";
import type { StatusDocument } from "../../../src/core/contracts/status.ts";
import type { Daemon } from "../../support/daemon/daemon-process.ts";
import type { FreshDatabase } from "../../support/run/fresh-database.ts";
import { testSeed } from "../../support/run/random.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

/** A lease is held for 15 s from its last renewal. */
const LEASE_OVER_MS = 20_000;
/** A closed terminal; and one that signals npm, which passes it on, and the daemon. */
const STOPS = [["SIGTERM"], ["SIGHUP"], ["SIGINT", "SIGINT"]] as const;
const ADJACENT_COUNT = 4;

test.concurrent("a signal under load ends it in order, and the next start loses nothing", async () => {
  await using source = await freshDatabase();
  await using load = new Workload(source.url, testSeed());
  await load.createTables(100);
  await using pipeline = await pipelineOn(source);
  load.start(15);
  for (const signals of STOPS) {
    await changes(load, 50);
    for (const name of signals) pipeline.daemon.signal(name);
    const { exitCode, signal } = await pipeline.daemon.ended;
    expect({ exitCode, signal, complaints: pipeline.complaints() }).toEqual({
      exitCode: 0,
      signal: null,
      complaints: [],
    });
    await pipeline.start();
  }
  await load.stop();
  await pipeline.expectEqual(WORKLOAD_TABLES);
});

test.concurrent("without a reader of its log it goes on, and stops in order", async () => {
  await using source = await freshDatabase();
  await using pipeline = await RunningPipeline.start("create table t (id int primary key)", {
    source: kept(source),
    kinds: ["postgres"],
  });
  pipeline.daemon.loseLog();
  for (const id of [1, 2]) {
    await pipeline.run(`create table other_${id} (id int primary key); insert into t values (${id})`);
    await pipeline.expectEqual(["t", `other_${id}`]);
  }
  const { exitCode, signal } = await pipeline.daemon.stop();
  expect({ exitCode, signal }).toEqual({ exitCode: 0, signal: null });
});

test.concurrent(
  "frozen for longer than its lease, it goes on by itself when nobody took over",
  { tags: "long" },
  async () => {
    await using source = await freshDatabase();
    await using load = new Workload(source.url, testSeed());
    await load.createTables(100);
    await using pipeline = await pipelineOn(source);
    load.start(50);
    await changes(load, 20);
    pipeline.daemon.signal("SIGSTOP");
    await pastLease();
    pipeline.daemon.signal("SIGCONT");
    await changes(load, 20);
    await load.stop();
    await pipeline.expectEqual(WORKLOAD_TABLES);
    expect(pipeline.daemon.exited).toBe(false);
  },
);

test.concurrent("frozen for longer than its lease, it stops with MR1210 when another daemon took over", async () => {
  await using source = await freshDatabase();
  await using load = new Workload(source.url, testSeed());
  await load.createTables(100);
  await using pipeline = await RunningPipeline.start("select 1", {
    source: kept(source),
    kinds: ["postgres", "duckdb"],
  });
  load.start(50);
  await changes(load, 20);
  const frozen = pipeline.daemon;
  frozen.signal("SIGSTOP");
  // Being there is not enough: only who answers has the lease.
  const tookOver = async (next: Daemon): Promise<null> => {
    await eventually(
      async () => {
        // The frozen one's socket takes questions and never answers them.
        const asked = pipeline.installation.ask<StatusDocument>("GET", "/api/v1/status");
        const status = await Promise.race([asked, pastMs(500)]);
        return status?.daemon?.pid === next.pid;
      },
      { withinMs: LEASE_OVER_MS },
    );
    return null;
  };
  pipeline.installation.endLease();
  const next = pipeline.installation.run();
  expect(await Promise.race([next.ended, tookOver(next)])).toBeNull();
  pipeline.daemon = next;
  frozen.signal("SIGCONT");
  const { exitCode, stderr } = await frozen.ended;
  expect({ exitCode, stderr: stderr.slice(-600) }).toMatchObject({
    exitCode: 75,
    stderr: expect.stringMatching(/MR1210/),
  });
  // The frozen process had the file locked: that sink alone waits for an operator.
  const resumed = await pipeline.installation.command("resume", "--sink", "duckdb");
  expect(resumed).toMatchObject({ exitCode: 0 });
  await pipeline.daemon.streaming(60_000);
  await load.stop();
  await pipeline.expectEqual(WORKLOAD_TABLES);
});

test.concurrent(
  "of commits that follow each other without a gap none is skipped, whichever was the last one done",
  { tags: "long" },
  async () => {
    await using source = await freshDatabase();
    await using pipeline = await RunningPipeline.start("create table t (id serial primary key, writer int)", {
      source: kept(source),
      kinds: ["postgres"],
      // Each commit by itself, so that the daemon can die between any two.
      configure: (config) => ({ ...config, sinks: { postgres: { ...config.sinks["postgres"], batch: { rows: 1 } } } }),
    });
    await using sessions = new AsyncDisposableStack();
    const writers = await Promise.all(
      Array.from({ length: ADJACENT_COUNT }, async () => sessions.use(await source.connect())),
    );
    await pipeline.daemon.stop();
    for (const point of ["sink.applied", "ack.stored"]) {
      for (let count = 1; count <= ADJACENT_COUNT; count += point === "ack.stored" ? ADJACENT_COUNT / 2 : 1) {
        await Promise.all(writers.map((writer, i) => writer.query(`begin; insert into t (writer) values (${i})`)));
        await Promise.all(writers.map((writer) => writer.query("commit")));
        const { signal } = await pipeline.installation.run({ MILLRACE_FAILPOINTS: `${point}=kill@${count}` }).ended;
        expect(signal).toBe("SIGKILL");
      }
    }
    await pipeline.start();
    await pipeline.expectEqual(["t"]);
  },
);

/** The database outlives the pipeline's own. */
function kept(source: FreshDatabase): FreshDatabase {
  return { ...source, [Symbol.asyncDispose]: async () => {} };
}

function pipelineOn(source: FreshDatabase, prepare = "select 1"): Promise<RunningPipeline> {
  return RunningPipeline.start(prepare, { source: kept(source), kinds: ["postgres"] });
}

async function changes(load: Workload, count: number): Promise<void> {
  const before = load.transactionCount;
  await eventually(() => load.transactionCount > before + count);
}

/** Until a lease that was last renewed before the call has run out. */
async function pastLease(): Promise<void> {
  await pastMs(LEASE_OVER_MS);
}

function pastMs(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(resolve, ms, undefined));
}
