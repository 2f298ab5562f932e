/** The connection to the source breaks in every way: the daemon comes back by itself, and nothing is lost. */
import { expect, test } from "vitest";
import type { FreshDatabase } from "../../support/run/fresh-database.ts";
import { tcpProxy } from "../../support/network/proxy.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { testSeed } from "../../support/run/random.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

const MEMORY_BYTES_MAX = 256 * 1024 * 1024;
/** Faults that must have ended the stream; one that is only held up may live on. */
const BREAKS_MIN = 5;
/** The stream asks for a sign of life after 30 s of silence, and is given up soon after. */
const HALF_OPEN_NOTICED_WITHIN_MS = 60_000;

test.concurrent("walsender ended, connections cut, half-closed and held up under load", async () => {
  await using source = await freshDatabase();
  await using proxy = await tcpProxy(source.url);
  await using load = new Workload(source.url, testSeed());
  await load.createTables(100);
  await using pipeline = await RunningPipeline.start("select 1", {
    source: { ...source, url: proxy.url(source.url), [Symbol.asyncDispose]: async () => {} },
    kinds: ["postgres"],
  });
  const faults: Readonly<Record<string, () => unknown>> = {
    "walsender ended": () => endWalsender(source),
    cut: () => proxy.cut(),
    "client's side closed": () => proxy.halfClose("client"),
    "server's side closed": () => proxy.halfClose("server"),
    "all its sessions ended": () =>
      source.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'millrace' and datname = current_database()",
      ),
    "held up, then delivered late": async () => {
      proxy.stall();
      await eventually(() => load.transactionCount > before + 25);
      await proxy.resume();
    },
    "answers held up, requests not": async () => {
      proxy.stall("toClient");
      await eventually(() => load.transactionCount > before + 25);
      await proxy.resume();
    },
    refused: async () => {
      await proxy.refuse();
      proxy.cut();
      await eventually(async () => {
        const { source: status } = await pipeline.installation.status();
        expect(status.error).toMatchObject({ code: "MR2001" });
      });
      await proxy.resume();
    },
  };
  let before = 0;
  for (const [what, harm] of Object.entries(faults)) {
    before = load.transactionCount;
    load.start(30);
    await eventually(() => load.transactionCount > before + 10);
    await harm();
    await eventually(() => load.transactionCount > before + 50);
    await load.stop();
    expect({ [what]: pipeline.daemon.exited }, pipeline.daemon.said.slice(-1_000)).toEqual({ [what]: false });
    await pipeline.settled();
  }
  await pipeline.expectEqual(WORKLOAD_TABLES);
  expect(pipeline.daemon.residentBytes).toBeLessThan(MEMORY_BYTES_MAX);
  const { exitCode, stderr } = await pipeline.daemon.stop();
  expect(exitCode).toBe(0);
  expect(stderr.split("the stream from the source broke").length - 1).toBeGreaterThanOrEqual(BREAKS_MIN);
});

test.concurrent("a source that gives no answer is told before a call of it fails: not ready, and no wait is over", async () => {
  await using source = await freshDatabase();
  await using proxy = await tcpProxy(source.url);
  await using pipeline = await RunningPipeline.start("create table t (id int primary key)", {
    source: { ...source, url: proxy.url(source.url), [Symbol.asyncDispose]: async () => {} },
    kinds: ["sqlite"],
  });
  await pipeline.settled();
  proxy.stall();
  await eventually(async () => {
    const { conditions, verdict } = await pipeline.installation.status();
    expect(conditions).toMatchObject([{ kind: "source.silent", code: null, blocks: ["ready", "wait"] }]);
    expect(verdict.kind).toBe("unready");
  });
  const waited = await pipeline.installation.ask<object>("POST", "/api/v1/wait", { timeoutMs: 300 });
  expect(waited).toMatchObject({ reached: false });
  await proxy.resume();
  await pipeline.settled();
});

test.concurrent(
  "a connection that went silent is noticed within 60 s, told by status, and replaced",
  { tags: "long" },
  async () => {
    await using source = await freshDatabase();
    await using proxy = await tcpProxy(source.url);
    await using pipeline = await RunningPipeline.start("create table t (id int primary key)", {
      source: { ...source, url: proxy.url(source.url), [Symbol.asyncDispose]: async () => {} },
      kinds: ["postgres"],
    });
    await source.query("insert into t values (1)");
    await pipeline.settled();
    const accepted = proxy.counters.accepted;
    proxy.stall();
    await source.query("insert into t values (2)");
    await eventually(
      async () => {
        const { source: status } = await pipeline.installation.status();
        expect(status.error?.code).toMatch(/^MR20/);
        expect(status.activity).toBe("half-open");
      },
      { withinMs: HALF_OPEN_NOTICED_WITHIN_MS },
    );
    await proxy.resume();
    await pipeline.expectEqual(["t"]);
    expect(proxy.counters.accepted).toBeGreaterThan(accepted);
    expect(pipeline.daemon.exited).toBe(false);
  },
);

async function endWalsender(source: FreshDatabase): Promise<void> {
  await source.query("select pg_terminate_backend(active_pid) from pg_replication_slots where database = $1", [
    source.name,
  ]);
}
