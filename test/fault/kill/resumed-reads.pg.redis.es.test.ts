/**
 * Tables that are read beside the stream while the daemon is killed: what is durable in a sink is not read again, what is
 * not is, and every sink equals the source at the end.
 * @module-tag heavy
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { SnapshotStatus } from "../../../src/core/contracts/status.ts";
import { copyDuckdbFile, runInFile } from "../../support/warehouses/duckdb-file.ts";
import { Random, testSeed } from "../../support/run/random.ts";
import { RunningPipeline, type PipelineOptions } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { tcpProxy, type TcpProxy } from "../../support/network/proxy.ts";
import { start } from "../../support/faults/sink-loss.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROW_COUNT = 8_000;
const BODY = "repeat(md5(g::text), 32)";
/** A chunk lasts for a third of a second: so slow a line makes dozens of them. */
const BYTES_PER_SECOND = 2_000_000;
const WIDE = 'create table wide (id text collate "C" primary key, n int not null, body text)';
const FILL = `insert into wide select 'k' || g, 0, ${BODY} from generate_series(1, ${ROW_COUNT}) g`;
const READ_WITHIN_MS = 120_000;

interface SlowOptions extends PipelineOptions {
  /** The line is slow from the start. By default when the test says so. */
  readonly slowAtOnce?: boolean;
}

interface Slow {
  readonly pipeline: RunningPipeline;
  readonly proxy: TcpProxy;
}

async function onSlowLine(prepare: string, options: SlowOptions, use: (slow: Slow) => Promise<void>): Promise<void> {
  const source = await freshDatabase();
  await using proxy = await tcpProxy(source.url);
  if (options.slowAtOnce === true) proxy.limit(BYTES_PER_SECOND);
  await using pipeline = await RunningPipeline.start(prepare, {
    ...options,
    source,
    configure: ({ name, sinks }) => ({
      name,
      source: { kind: "postgres", url: proxy.url(source.url), heartbeat: "500ms" },
      sinks,
    }),
  });
  await use({ pipeline, proxy });
}

async function snapshots({ installation }: RunningPipeline): Promise<readonly SnapshotStatus[]> {
  return (await installation.ask<readonly SnapshotStatus[]>("GET", "/api/v1/snapshots")) ?? [];
}

/** Resolves when a sink, or the one, has been given so many rows of the table, and not all. */
async function given(pipeline: RunningPipeline, rows: number, only?: string): Promise<SnapshotStatus> {
  return await eventually(
    async () => {
      const running = (await pipeline.installation.status()).snapshots;
      const found = running.find(({ sink, rowsDone }) => rowsDone >= rows && (only === undefined || sink === only));
      if (found === undefined) throw new Error(`not ${rows} rows yet: ${JSON.stringify(running)}`);
      return found;
    },
    { withinMs: READ_WITHIN_MS, everyMs: 20 },
  );
}

/** Kills the daemon when a sink has been given so many rows of the table, and starts it again. */
async function killAt(
  pipeline: RunningPipeline,
  rows: number,
  meanwhile: () => Promise<unknown> | void = () => undefined,
): Promise<void> {
  await given(pipeline, rows);
  await pipeline.kill();
  await meanwhile();
  await pipeline.start();
}

/** Rows of `wide` that the server has given out so far, as it counts them. */
async function rowsGiven({ source }: RunningPipeline): Promise<number> {
  const { rows } = await source.query<{ count: string }>(
    "select seq_tup_read + coalesce(idx_tup_fetch, 0) as count from pg_stat_user_tables where relname = 'wide'",
  );
  return Number(rows[0]?.count);
}

test.concurrent(
  "a snapshot asked for is read about once, however often the daemon is killed, and makes a damaged sink equal",
  { tags: "long" },
  async () => {
    await onSlowLine(
      `${WIDE}; ${FILL}; analyze wide`,
      { kinds: ["postgres", "duckdb"] },
      async ({ pipeline, proxy }) => {
        await pipeline.settled();
        await damage(pipeline);
        proxy.limit(BYTES_PER_SECOND);
        const before = await rowsGiven(pipeline);
        await pipeline.readAgain("public.wide");
        for (const share of [0.25, 0.5, 0.75]) await killAt(pipeline, ROW_COUNT * share);
        await pipeline.settled(READ_WITHIN_MS);
        const given = (await rowsGiven(pipeline)) - before;
        expect(given).toBeGreaterThanOrEqual(ROW_COUNT);
        // Begun again each time it would be two and a half passes.
        expect(given).toBeLessThan(ROW_COUNT * 2.2);
        const done = await snapshots(pipeline);
        expect(done.map(({ sink }) => sink).toSorted()).toEqual(["duckdb", "postgres"]);
        for (const { state, rowsDone, resumedCount, restartedCount } of done) {
          expect({ state, rowsDone, restartedCount }).toEqual({
            state: "done",
            rowsDone: ROW_COUNT,
            restartedCount: 0,
          });
          // The state is told once a second: a kill before that leaves no trace.
          expect(resumedCount).toBeGreaterThan(0);
        }
        await pipeline.expectEqual(["wide"]);
      },
    );
  },
);

/** Statements anywhere among the keys, below and above the place where the daemon is killed. */
const WRITES: readonly ((n: number) => string)[] = [
  (n) => `delete from wide where id in ('k${n}', 'k${n + 1}', 'k${n + 2}')`,
  (n) => `update wide set n = n + 1 where id in ('k${n}', 'k${n + 7}')`,
  (n) => `update wide set id = 'm' || substr(id, 2) where id = 'k${n}'`,
  (n) => `update wide set id = 'a' || substr(id, 2) where id = 'k${n}'`,
  (n) => `update wide set id = 'k' || substr(id, 2) where id in ('m${n}', 'a${n}')`,
  (n) => `insert into wide select 'k' || g, 9, ${BODY} from generate_series(${n}, ${n + 3}) g on conflict do nothing`,
];

/** Writes until disposed of. */
function writing({ source }: RunningPipeline): AsyncDisposable {
  const random = new Random(testSeed());
  const over = new AbortController();
  const ended = (async () => {
    await using client = await source.connect();
    while (!over.signal.aborted) {
      try {
        await client.query(random.pick(WRITES)(random.below(ROW_COUNT)));
      } catch (error) {
        // Keys may meet.
        if (!(error instanceof Error && "code" in error && error.code === "23505")) throw error;
      }
      await sleep(40);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      over.abort();
      await ended;
    },
  };
}

test.concurrent(
  "a table that was added goes on under deletes, key changes and inserts, in every sink",
  { tags: "long" },
  async () => {
    // One sink after the other is in the tests around it; in the simulation all of them.
    await onSlowLine("create table small (id int primary key)", {}, async ({ pipeline, proxy }) => {
      await pipeline.settled();
      proxy.limit(BYTES_PER_SECOND);
      await pipeline.run(`${WIDE}; alter table wide alter body set storage external; ${FILL}`);
      {
        await using _ = writing(pipeline);
        for (const share of [0.2, 0.6]) await killAt(pipeline, ROW_COUNT * share);
        await eventually(async () => expect((await pipeline.installation.status()).unfinishedSnapshots).toBe(0), {
          withinMs: READ_WITHIN_MS,
        });
      }
      await pipeline.expectEqual(["wide", "small"]);
      // A sink that is slow beside the others may have had nothing to go on from.
      const resumed = (await ofWide(pipeline)).map(({ resumedCount }) => resumedCount);
      expect(Math.max(...resumed)).toBeGreaterThan(0);
    });
  },
);

test.concurrent("an interrupted first copy goes on by chunks, and these where they were", async () => {
  const prepare = `${WIDE}; ${FILL}; create table small as select g as id from generate_series(1, 10) g;
    alter table small add primary key (id)`;
  await onSlowLine(
    prepare,
    { kinds: ["postgres", "duckdb"], untilStreaming: false, slowAtOnce: true },
    async ({ pipeline }) => {
      await eventually(
        async () => expect((await pipeline.installation.status()).source.copy?.rowsRead).toBeGreaterThan(ROW_COUNT / 4),
        { withinMs: READ_WITHIN_MS, everyMs: 20 },
      );
      await pipeline.kill();
      await pipeline.start();
      await pipeline.run("delete from wide where id < 'k2'");
      await killAt(pipeline, ROW_COUNT * 0.5);
      await pipeline.expectEqual(["wide", "small"]);
      const done = await ofWide(pipeline);
      expect(done.length).toBe(2);
      expect(done.map(({ restartedCount }) => restartedCount)).toEqual([0, 0]);
      // A sink that is slow beside the other may have had nothing to go on from.
      expect(Math.max(...done.map(({ resumedCount }) => resumedCount))).toBe(1);
    },
  );
});

/** What happens to the table while the daemon is down, after a part of it was read. */
interface Meanwhile {
  readonly what: string;
  readonly sql: string;
  readonly begins: boolean;
}

const MEANWHILE: readonly Meanwhile[] = [
  {
    what: "truncated and filled again, all of it in the log",
    sql: `truncate wide; insert into wide select 'k' || g, 5, ${BODY} from generate_series(500, 4000) g`,
    begins: false,
  },
  {
    what: "made anew under its name",
    sql: `drop table wide; ${WIDE}; insert into wide select 'k' || g, 6, ${BODY} from generate_series(300, 5000) g`,
    begins: true,
  },
  {
    what: "given a column with a value in every row",
    sql: "alter table wide add extra int default 7",
    begins: true,
  },
];

test.concurrent.for(MEANWHILE)(
  "a table that is $what while the daemon is down",
  { tags: "long" },
  async ({ sql, begins }) => {
    // In the simulation, as whatever happens to tables is.
    await onSlowLine(`${WIDE}; ${FILL}`, { kinds: ["postgres", "duckdb"] }, async ({ pipeline, proxy }) => {
      await pipeline.settled();
      proxy.limit(BYTES_PER_SECOND);
      await pipeline.readAgain("public.wide");
      await killAt(pipeline, ROW_COUNT * 0.4, () => pipeline.run(sql));
      if (begins) await pipeline.run("update wide set n = 8 where id = 'k400'");
      await pipeline.settled(READ_WITHIN_MS);
      await pipeline.expectEqual(["wide"]);
      for (const { restartedCount } of await ofWide(pipeline)) {
        if (begins) expect(restartedCount).toBeGreaterThan(0);
        else expect(restartedCount).toBe(0);
      }
    });
  },
);

describe.concurrent.each(["duckdb", "postgres"] as const)("%s", (kind) => {
  test(
    "a sink that lost what it had been given of a table is given it again, from the first key",
    { tags: "long" },
    async () => {
      await onSlowLine(
        "create table small (id int primary key)",
        { kinds: ["postgres", "duckdb"] },
        async ({ pipeline, proxy }) => {
          await pipeline.settled();
          proxy.limit(BYTES_PER_SECOND);
          await pipeline.run(`${WIDE}; ${FILL}`);
          await given(pipeline, ROW_COUNT * 0.4, kind);
          await killAt(pipeline, ROW_COUNT * 0.4, async () => {
            if (kind === "postgres") await pipeline.sinks.target!.query("drop table public.wide");
            else await runInFile(join(pipeline.installation.folder, "warehouse.duckdb"), "drop table public.wide");
          });
          await pipeline.settled(READ_WITHIN_MS);
          await pipeline.expectEqual(["wide", "small"]);
          const counts = new Map((await ofWide(pipeline)).map(({ sink, restartedCount }) => [sink, restartedCount]));
          expect(counts.get(kind)).toBe(1);
          expect(counts.get(kind === "duckdb" ? "postgres" : "duckdb")).toBe(0);
        },
      );
    },
  );
});

test.concurrent(
  "a sink put back to an older copy within the log's reach is given again what it was given since",
  { tags: "long" },
  async () => {
    // In the simulation, and without reads in lost-sink.
    await onSlowLine(`${WIDE}; ${FILL}`, { kinds: ["duckdb", "postgres"] }, async ({ pipeline, proxy }) => {
      await pipeline.settled();
      const file = join(pipeline.installation.folder, "warehouse.duckdb");
      proxy.limit(BYTES_PER_SECOND);
      // Paused, the other sink keeps the log.
      expect(await pipeline.installation.command("pause", "--sink", "postgres")).toMatchObject({ exitCode: 0 });
      await pipeline.readAgain("public.wide");
      const reading = async (rows: number, meanwhile: () => void) => {
        await given(pipeline, rows, "duckdb");
        await pipeline.kill();
        meanwhile();
        await start(pipeline);
      };
      // Nothing but the chunks themselves tells the copy from what came after it.
      await reading(ROW_COUNT * 0.2, () => copyDuckdbFile(file, `${file}.old`));
      await reading(ROW_COUNT * 0.6, () => copyDuckdbFile(`${file}.old`, file));
      expect(await pipeline.installation.command("resume", "--sink", "postgres")).toMatchObject({ exitCode: 0 });
      await pipeline.settled(READ_WITHIN_MS);
      await pipeline.expectEqual(["wide"]);
      const duckdb = (await ofWide(pipeline)).find(({ sink }) => sink === "duckdb");
      expect(duckdb?.restartedCount).toBe(1);
    });
  },
);

test.concurrent(
  "one that a sink is short of rows without can't be cancelled, with a daemon and without",
  { tags: "long" },
  async () => {
    const prepare = "create table small (id int primary key)";
    await onSlowLine(prepare, { kinds: ["postgres"] }, async ({ pipeline, proxy }) => {
      await pipeline.settled();
      proxy.limit(BYTES_PER_SECOND);
      await pipeline.run(`${WIDE}; ${FILL}`);
      const { id } = await given(pipeline, 1);
      const cancel = () => pipeline.installation.command("snapshot", "cancel", String(id));
      const refused = { exitCode: 4, stderr: expect.stringContaining("MR1310") };
      expect(await cancel()).toMatchObject(refused);
      await pipeline.kill();
      expect(await cancel()).toMatchObject(refused);
      await pipeline.start();
      await pipeline.expectEqual(["wide", "small"]);
    });
  },
);

async function ofWide(pipeline: RunningPipeline): Promise<readonly SnapshotStatus[]> {
  const found = (await snapshots(pipeline)).filter(({ tableId }) => tableId === "public.wide");
  expect(found.length).toBeGreaterThan(0);
  return found;
}

/** Rows that no log tells of: some are missing below and above every place where the daemon is killed, some are too many. */
async function damage({ sinks }: RunningPipeline): Promise<void> {
  const target = sinks.target!;
  await target.query("delete from public.wide where id in (select id from public.wide order by id limit 40)");
  await target.query("delete from public.wide where id in (select id from public.wide order by id desc limit 40)");
  await target.query(
    `insert into public.wide (id, n, body, _millrace_version, _millrace_commit_time)
     select x, n, body, _millrace_version, _millrace_commit_time
     from (select * from public.wide limit 1) w, unnest(array['a', 'k5x', 'z']) x`,
  );
}
