/**
 * A sink is emptied, set back, taken out or put in: it is filled, goes on, or fails alone with a number; never short.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { Client } from "pg";
import { describe, expect, test } from "vitest";
import { compareSink, isEqual } from "../../support/compare/compare.ts";
import { copyDuckdbFile, runInFile } from "../../support/warehouses/duckdb-file.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";
import type { FreshDatabase } from "../../support/run/services.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";
import {
  caughtUp,
  change,
  dropIndices,
  failsAlone,
  filledByItself,
  filledBySnapshot,
  flushKeys,
  PREPARE,
  restartWith,
  running,
  start,
  TABLES,
} from "../../support/faults/sink-loss.ts";
import { type PlainKind, SINK_KINDS, type SinkKind } from "../../support/daemon/sink-set.ts";

type Emptying = (pipeline: RunningPipeline) => Promise<unknown>;

/** Takes away all that the sink has, its own notes included. */
const emptied: Readonly<Record<PlainKind, Emptying>> = {
  duckdb: async ({ installation }) => {
    for (const suffix of ["", ".wal"]) rmSync(join(installation.folder, `warehouse.duckdb${suffix}`), { force: true });
  },
  postgres: async ({ sinks }) =>
    sinks.target!.query("drop schema public cascade; drop schema _millrace cascade; create schema public"),
  redis: ({ sinks }) => flushKeys(sinks.keyPrefix),
  elasticsearch: ({ sinks }) => dropIndices(sinks.indexPrefix),
};

/** Takes away one table with its rows and leaves the sink's own notes. A cache has no tables. */
const tableLost: Readonly<Partial<Record<PlainKind, Emptying>>> = {
  postgres: async ({ sinks }) => sinks.target!.query("drop table public.kept"),
  elasticsearch: ({ sinks }) => dropIndices(`${sinks.indexPrefix}public.kept`),
  duckdb: ({ installation }) => runInFile(join(installation.folder, "warehouse.duckdb"), "drop table public.kept"),
};

/** Sinks that anybody may empty: they are filled again by themselves. */
const RESYNCED: ReadonlySet<SinkKind> = new Set(["redis", "elasticsearch"]);

describe.concurrent.each(SINK_KINDS)("%s", (kind) => {
  test("emptied, while the daemon is down and while it runs: it fails alone, by number, and a snapshot fills it", async ({
    skip,
  }) => {
    skip(RESYNCED.has(kind), "it is filled again by itself: another test's promise");
    skip(!isLongForm() && kind !== "duckdb", "it is part of the long form");
    await using pipeline = await running(kind);
    await pipeline.daemon.stop();
    await emptied[kind](pipeline);
    await start(pipeline);
    await failsAlone(pipeline, kind, /MR1301/);
    await filledBySnapshot(pipeline, kind);
    await emptied[kind](pipeline);
    await failsAlone(pipeline, kind, /MR1301/);
    await filledBySnapshot(pipeline, kind);
  });

  test("emptied under `onLost: resync`, while the daemon is down and while it runs: it is filled again by itself", async ({
    skip,
  }) => {
    skip(!isLongForm() && kind !== "redis", "it is part of the long form");
    await using pipeline = await running(kind, RESYNCED.has(kind) ? {} : { onLost: "resync" });
    await emptied[kind](pipeline);
    await filledByItself(pipeline, kind, /MR1301/);
    await pipeline.daemon.stop();
    await emptied[kind](pipeline);
    await start(pipeline);
    await filledByItself(pipeline, kind, /MR1301/);
  });

  test("taken out of the configuration and put back, and new beside others: it is filled by itself", async ({
    skip,
  }) => {
    skip(!isLongForm() && kind !== "elasticsearch", "it is part of the long form");
    await using pipeline = await running(kind);
    const { [kind]: own, ...others } = pipeline.sinks.config;
    await restartWith(pipeline, others);
    await change(pipeline, "while it was out");
    await pipeline.settled();
    await restartWith(pipeline, { ...others, [kind]: own! });
    await change(pipeline, "since it is back");
    await pipeline.expectEqual(TABLES);
  });
});

describe.concurrent.each(Object.entries(tableLost))("%s: one table dropped there", { tags: "heavy" }, (name, lose) => {
  const kind = SINK_KINDS.find((known) => known === name)!;

  // The daemon holds a DuckDB file for itself.
  if (kind !== "duckdb") {
    test("under the running daemon is made and filled again by itself", async ({ skip }) => {
      skip(!isLongForm() && kind !== "elasticsearch", "it is part of the long form");
      await using pipeline = await running(kind);
      await lose(pipeline);
      await filledByItself(pipeline, kind, /MR3[13]\d\d/);
    });
  }

  if (kind !== "duckdb") {
    const filled = {
      "with its next change": async (pipeline: RunningPipeline) => {
        await pipeline.run("update kept set body = 'changed' where id = 7");
        await pipeline.expectEqual(TABLES);
      },
      "without a change": (pipeline: RunningPipeline) => filledByItself(pipeline, kind, /MR(1336|3[13]\d\d)/),
    };
    test.for(Object.entries(filled))(
      "before the running daemon has written to it is filled again %s",
      async ([, expectFilled], { skip }) => {
        skip(!isLongForm() && kind === "elasticsearch", "it is part of the long form");
        await using pipeline = await running(kind);
        await pipeline.daemon.stop();
        await start(pipeline);
        // A sink that is opened later finds the loss as one from before it ran.
        await pipeline.daemon.streaming();
        await lose(pipeline);
        await expectFilled(pipeline);
      },
    );
  }

  test("while the daemon is down is filled again by itself", async ({ skip }) => {
    skip(!isLongForm() && kind === "elasticsearch", "it is part of the long form");
    await using pipeline = await running(kind);
    await pipeline.daemon.stop();
    await lose(pipeline);
    await start(pipeline);
    await change(pipeline, "meanwhile");
    await pipeline.expectEqual(TABLES);
  });
});

test.concurrent(
  "a schema given to a sink, or taken from it, leads to new tables, which are filled by themselves",
  { tags: "long" },
  async () => {
    await using pipeline = await running("postgres");
    const { sinks, source, installation } = pipeline;
    const { postgres, duckdb } = sinks.config;
    await restartWith(pipeline, { postgres: { ...postgres, schema: "other" }, duckdb: { ...duckdb, schema: "other" } });
    await change(pipeline, "elsewhere");
    await pipeline.settled();
    await pipeline.daemon.stop();
    for (const sink of [
      { kind: "postgres", url: sinks.target!.url, schema: "other" },
      { kind: "duckdb", path: join(installation.folder, "warehouse.duckdb"), schema: "other" },
    ] as const) {
      const tables = TABLES.map((table) => ({ schema: "public", table }));
      expect((await compareSink({ source: source.url, sink, tables })).filter((table) => !isEqual(table))).toEqual([]);
    }
  },
);

test.concurrent(
  "a schema that a sink had before has rows from then: its tables are read again, and a history does not go on",
  { tags: "heavy" },
  async () => {
    const kinds = ["postgres", "duckdb", "postgres-history"] as const;
    await using pipeline = await RunningPipeline.start(PREPARE, { kinds });
    await change(pipeline, "at first");
    await pipeline.expectEqual(TABLES);
    const own = pipeline.sinks.config;
    const { "postgres-history": history, ...mirrors } = own;
    const others = Object.entries(mirrors).map(([name, sink]) => [name, { ...sink, schema: "other" }]);
    await restartWith(pipeline, { ...Object.fromEntries(others), "postgres-history": history });
    await pipeline.run("delete from kept where id = 1");
    await change(pipeline, "elsewhere");
    await pipeline.settled();
    await restartWith(pipeline, own);
    await pipeline.expectEqual(TABLES);
    await restartWith(pipeline, { ...own, "postgres-history": { ...history, schema: "other" } });
    await failsAlone(pipeline, "postgres-history", /MR1315/);
    await restartWith(pipeline, own);
    await pipeline.expectEqual(TABLES);
  },
);

test.concurrent("a table emptied by hand in a warehouse is read again by itself, and a history that is dropped stops its sink", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres", "postgres-history"] });
  await change(pipeline, "at first");
  await pipeline.settled();
  await pipeline.sinks.target!.query("truncate public.kept");
  await filledByItself(pipeline, "postgres", /MR3110/);
  await pipeline.sinks.target!.query("drop table history.kept");
  await failsAlone(pipeline, "postgres-history", /MR1315/);
});

describe.concurrent("a table emptied by hand, while no row of it comes,", () => {
  test("in the moment in which a batch of another table loses its connection, is read again", async () => {
    await using pipeline = await running("postgres");
    const target = pipeline.sinks.target!;
    await using hand = await handOn(target.url);
    await hand.query("begin; lock table public.moving in access exclusive mode; truncate public.kept");
    await change(pipeline, "while somebody has the table");
    const [pid] = await waitingFor(hand, target);
    await target.query(`select pg_terminate_backend(${pid})`);
    await hand.query("commit");
    await pipeline.expectEqual(TABLES);
  });

  test(
    "and noticed by a daemon that is killed before it could store that, is read again",
    { tags: "heavy" },
    async () => {
      await using pipeline = await running("postgres");
      const target = pipeline.sinks.target!;
      await using hand = await handOn(target.url);
      // Without this row the sink is asked, and can't be opened. It may have been on its way to a checkpoint.
      for (;;) {
        const before = pipeline.daemon.said.length;
        await hand.query("begin; select from _millrace.progress for update");
        await target.query("truncate public.kept");
        await waitingFor(hand, target);
        if (pipeline.daemon.said.slice(before).includes("MR3110")) break;
        await hand.query("commit");
        await filledByItself(pipeline, "postgres", /MR3110/);
      }
      await pipeline.kill();
      await hand.query("commit");
      await start(pipeline);
      await pipeline.expectEqual(TABLES);
    },
  );
});

/** A session of somebody else's in the target. */
async function handOn(url: string): Promise<Client & AsyncDisposable> {
  const client = new Client({ connectionString: url });
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}

/** Sessions that wait for what this one has, once there are some. */
async function waitingFor(hand: Client, database: FreshDatabase): Promise<readonly number[]> {
  const { rows: own } = await hand.query<{ pid: number }>("select pg_backend_pid() as pid");
  return await eventually(async () => {
    const { rows } = await database.query<{ pid: number }>(
      `select pid from pg_stat_activity where ${own[0]!.pid} = any (pg_blocking_pids(pid))`,
    );
    expect(rows).not.toEqual([]);
    return rows.map(({ pid }) => pid);
  });
}

test.concurrent(
  "a DuckDB file put back to an older copy, beyond the log: the sink fails alone, and a snapshot fills it",
  { tags: "long" },
  async () => {
    await using pipeline = await running("duckdb");
    const file = join(pipeline.installation.folder, "warehouse.duckdb");
    await pipeline.daemon.stop();
    copyDuckdbFile(file, `${file}.old`);
    await start(pipeline);
    await change(pipeline, "after the copy");
    await pipeline.settled();
    await pipeline.daemon.stop();
    copyDuckdbFile(`${file}.old`, file);
    await start(pipeline);
    await failsAlone(pipeline, "duckdb", /MR1301/);
    await filledBySnapshot(pipeline, "duckdb");
  },
);

test.concurrent("a sink put back to an older copy that the log still reaches goes on from there by itself", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["duckdb", "postgres"] });
  const file = join(pipeline.installation.folder, "warehouse.duckdb");
  // The other sink is paused: what it lacks is kept in the log for it.
  expect(await pipeline.installation.command("pause", "--sink", "postgres")).toMatchObject({ exitCode: 0 });
  await change(pipeline, "before the copy");
  await caughtUp(pipeline, "duckdb");
  await pipeline.daemon.stop();
  copyDuckdbFile(file, `${file}.old`);
  pipeline.daemon = pipeline.installation.run();
  await change(pipeline, "after the copy");
  await caughtUp(pipeline, "duckdb");
  await pipeline.daemon.stop();
  copyDuckdbFile(`${file}.old`, file);
  await start(pipeline);
  expect(await pipeline.installation.command("resume", "--sink", "postgres")).toMatchObject({ exitCode: 0 });
  await pipeline.expectEqual(TABLES);
});
