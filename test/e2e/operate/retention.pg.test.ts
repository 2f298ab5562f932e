/**
 * Log that the source keeps for a sink that does not take rows, beyond the limit of `retention.bytes`: nothing is lost.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { sinkOf } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const LIMIT_BYTES = 4 * 1024 * 1024;
const TABLES = ["item"];

async function keptBytes(pipeline: RunningPipeline): Promise<number> {
  const { rows } = await pipeline.source.query<{ kept: string }>(
    "select pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) as kept from pg_replication_slots where database = current_database()",
  );
  return Number(rows[0]!.kept);
}

/** Each round is about 3 MB of log. */
async function writes(pipeline: RunningPipeline, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    await pipeline.run(
      "update item set n = n + 1, body = (select string_agg(md5(random()::text), '') from generate_series(1, 90) where id > 0)",
    );
  }
}

test("is given up for a paused mirror, which is filled again; a history and a stream keep their places, and somebody is told", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table item (id int primary key, n int not null, body text);
     insert into item select g, 0, 'b' from generate_series(1, 1000) g`,
    {
      kinds: ["postgres", "duckdb", "postgres-history", "files"],
      configure: (config) => ({ ...config, retention: { bytes: `${LIMIT_BYTES}B`, policy: "dropSink" } }),
    },
  );
  await pipeline.settled();
  const { installation } = pipeline;
  expect(await installation.command("pause", "--sink", "duckdb")).toMatchObject({ exitCode: 0 });
  await writes(pipeline, 1);
  await pipeline.run("delete from item where id <= 10");
  expect(await sinkOf(pipeline, "duckdb")).toMatchObject({ state: "paused", isMoved: false });
  await writes(pipeline, 3);
  await eventually(async () => expect(await sinkOf(pipeline, "duckdb")).toMatchObject({ isMoved: true }), {
    withinMs: 30_000,
  });
  await eventually(async () => expect(await keptBytes(pipeline)).toBeLessThan(LIMIT_BYTES), { withinMs: 30_000 });

  // Over a kill in the moment when it is given up once more.
  await pipeline.kill();
  await writes(pipeline, 3);
  pipeline.daemon = installation.run({ MILLRACE_FAILPOINTS: "sink.given-up=kill@1" });
  await pipeline.killed("sink.given-up");
  await pipeline.start(false);
  await eventually(async () => expect(await keptBytes(pipeline)).toBeLessThan(LIMIT_BYTES), { withinMs: 30_000 });
  await eventually(async () =>
    expect(await sinkOf(pipeline, "duckdb")).toMatchObject({ state: "paused", isMoved: true, position: null }),
  );
  expect(await installation.command("resume", "--sink", "duckdb")).toMatchObject({ exitCode: 0 });
  await pipeline.settled();
  expect(await sinkOf(pipeline, "duckdb")).toMatchObject({ state: "streaming", isMoved: false });

  const kept = ["postgres-history", "files"] as const;
  for (const name of kept) expect(await installation.command("pause", "--sink", name)).toMatchObject({ exitCode: 0 });
  await writes(pipeline, 4);
  await eventually(
    async () => {
      const { stdout } = await installation.command("status", "--json");
      expect(stdout).toContain("source.keeps-too-much");
      expect(stdout).toMatch(/bring sink (postgres-history|files) back/);
    },
    { withinMs: 30_000 },
  );
  for (const name of kept) {
    expect(await sinkOf(pipeline, name)).toMatchObject({ state: "paused", isMoved: false });
    expect(await installation.command("resume", "--sink", name)).toMatchObject({ exitCode: 0 });
  }
  await pipeline.settled();
  await pipeline.expectEqual(TABLES);
});

test("reads beside the stream wait while the source keeps too much, and go on by themselves; the stream flows", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table item (id int primary key, n int not null, body text);
     insert into item select g, 0, 'b' from generate_series(1, 1000) g`,
    {
      kinds: ["postgres", "duckdb"],
      configure: (config) => ({ ...config, retention: { bytes: `${LIMIT_BYTES}B`, policy: "pauseSource" } }),
    },
  );
  await pipeline.settled();
  const { installation, sinks } = pipeline;
  const paused = async () => (await installation.status()).source.readsPaused;
  expect(await paused()).toBe(false);
  expect(await installation.command("pause", "--sink", "duckdb")).toMatchObject({ exitCode: 0 });
  await writes(pipeline, 4);
  await eventually(async () => expect(await paused()).toBe(true), { withinMs: 30_000 });

  const lastRead = await pipeline.lastRead();
  // A table with rows that no log shows, a snapshot, and a comparison.
  await pipeline.run("create table late (id int primary key); insert into late select generate_series(1, 10)");
  await pipeline.readAgain("public.item");
  const compared = installation.command("reconcile", "--sink", "postgres");
  // The stream itself reaches the sink, more than once.
  for (const n of [-1, -2]) {
    await pipeline.run(`update item set n = ${n} where id = 1`);
    await eventually(async () => {
      const { rows } = await sinks.target!.query<{ n: number }>("select n from public.item where id = 1");
      expect(rows[0]!.n).toBe(n);
    });
  }
  const status = await installation.status();
  expect(await pipeline.readers(lastRead)).toEqual({});
  expect(status.unfinishedSnapshots).toBeGreaterThan(1);
  expect(status.conditions).toContainEqual(expect.objectContaining({ kind: "source.reads-paused", level: "watch" }));
  const waited = await installation.command("wait", "--timeout", "1s");
  expect(waited.exitCode).toBe(5);
  expect(waited.stdout + waited.stderr).toContain("paused: the source keeps too much log");

  expect(await installation.command("resume", "--sink", "duckdb")).toMatchObject({ exitCode: 0 });
  await eventually(async () => expect(await paused()).toBe(false), { withinMs: 60_000 });
  await pipeline.expectEqual([...TABLES, "late"]);
  expect(await compared).toMatchObject({ exitCode: 0 });
});
