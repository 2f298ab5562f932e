/**
 * Tables that are read beside the stream while the daemon is killed: what is durable in a sink is not read again, what is
 * not is, and every sink equals the source at the end.
 */
import { expect, test } from "vitest";
import type { SnapshotStatus } from "../../../src/core/contracts/status.ts";
import { RunningPipeline, type PipelineOptions } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase } from "../../support/run/services.ts";
import { tcpProxy, type TcpProxy } from "../../support/network/proxy.ts";
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
