/**
 * What tables cost, at growing numbers of them: from nothing to streaming, idle, one row in one table, one row in each
 * table in one transaction and in transactions of their own, altered tables, tables created at once, `status --tables`, a
 * restart, and memory. The peer is a native
 * subscription of the same tables, from its creation until the last table is in sync. A further part brings tables into
 * DuckDB and Redis as well, and one for each kind of sink (`--scene redis`) shows what grows with the number of tables, as
 * processor time of daemon and target's server.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { connected, createDatabases, libpq, withDatabase } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { type BenchOptions, type BenchReport, type Line, type Ratio, percentile } from "./report.ts";
import { type Kind, KINDS, settled, started, treeSeconds } from "./size.ts";
import { DURABLE } from "./slot.ts";

/** `--scale 2` adds the long form. */
const COUNTS = [10, 100, 1_000, 5_000];
const LONG_COUNT = 10_000;
const PARTITIONS = 500;
const COUNT_OF_THREE = 500;
const COUNTS_OF_KINDS = [500, 2_000];
/** How much dearer 100 altered tables may be among four times as many. */
const ALTERED_WANTED = 2;
const ROWS_PER_TABLE = 3;
const ALTERED_MAX = 100;
const MADE_MAX = 1_000;
const SAMPLES = 200;
const SAMPLE_EVERY_MS = 20;
const IDLE_MS = 10_000;
const WAIT_MS = 3_600_000;
/** Not more often, because the status of many tables is long. */
const POLL_MS = 50;
/** The number of tables in one statement, which locks each of them until its end. */
const TABLES_PER_STATEMENT = 250;
const SETTINGS = {
  ...DURABLE,
  max_locks_per_transaction: "1024",
  max_wal_size: "4GB",
  max_logical_replication_workers: "8",
  max_worker_processes: "16",
};

interface Scene {
  readonly source: string;
  readonly target: string;
  /** Redis; the tables go there and to DuckDB too. */
  readonly cache?: string;
  readonly from: Client;
  readonly log: BenchOptions["log"];
}

/** The limits for 500 tables in three sinks, in seconds. */
const THREE_WANTED = { "start s": 12, "one in each s": 1.5, "altered s": 15 } as const;

type Figures = Record<string, number>;

export async function run({ scale, log, takes }: BenchOptions): Promise<BenchReport> {
  const counts = [...COUNTS, ...(scale >= 2 ? [LONG_COUNT] : [])].filter((count) => count <= COUNTS.at(-1)! * scale);
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  await using target = await postgres.start({ own: true, settings: SETTINGS });
  const lines: Line[] = [];
  if (takes("plain")) for (const count of counts) lines.push(...(await plain(source.url, target.url, count, log)));
  const parts = Math.round(PARTITIONS * Math.min(1, scale));
  if (takes("partitioned")) lines.push(...(await partitioned(source.url, target.url, parts, log)));
  const ratios = takes("plain") ? ratiosOf(lines) : [];
  if (takes("three")) {
    const three = await intoThree(source.url, target.url, Math.round(COUNT_OF_THREE * Math.min(1, scale)), log);
    lines.push(three);
    for (const [figure, target] of Object.entries(THREE_WANTED)) {
      ratios.push({ what: `${three.work}, ${figure}`, value: three.figures[figure]!, target, atLeast: false });
    }
  }
  for (const kind of KINDS.filter((one) => takes(one))) {
    const few = await intoKind(source.url, kind, Math.round(COUNTS_OF_KINDS[0]! * scale), log);
    const many = await intoKind(source.url, kind, Math.round(COUNTS_OF_KINDS[1]! * scale), log);
    lines.push(few, many);
    const spent = ({ figures }: Line): number => figures["altered, CPU s"]! + (figures["altered, server CPU s"] ?? 0);
    const what = `${kind}, altered: ${many.work} / ${few.work}`;
    ratios.push({ what, value: spent(many) / spent(few), target: ALTERED_WANTED, atLeast: false });
  }
  return { name: "tables", lines, ratios };
}

async function intoKind(source: string, kind: Kind, count: number, log: BenchOptions["log"]): Promise<Line> {
  const name = `${kind}_${count}`;
  await using target = await started(kind);
  await createDatabases(source, name);
  const url = withDatabase(source, name);
  const from = await connected(url);
  await makeTables(from, "t", 0, count);
  await using daemon = new MeasuredDaemon({
    name: "bench",
    source: { kind: "postgres", url },
    sinks: { target: await target.sink(name) },
  });
  const figures: Figures = {};
  const measured = async (figure: string, work: () => Promise<unknown>): Promise<void> => {
    const startedMs = performance.now();
    const before = daemon.running ? daemon.usage().cpuSeconds : 0;
    const serverBefore = treeSeconds(target.pid);
    await work();
    figures[`${figure} s`] = since(startedMs);
    figures[`${figure}, CPU s`] = daemon.usage().cpuSeconds - before;
    if (target.pid !== undefined) figures[`${figure}, server CPU s`] = treeSeconds(target.pid) - serverBefore;
    log(`tables: ${count} into ${kind}, ${figure}: ${JSON.stringify(figures)}`);
  };
  const start = async (): Promise<void> => {
    daemon.start();
    await streaming(daemon);
    await daemon.caughtUp("bench");
  };
  await measured("start", start);
  await settled(daemon.pid, target.pid);
  await measured("idle", () => sleep(IDLE_MS));
  figures["memory MiB"] = daemon.residentMiB();
  await measured("one in each", async () => {
    await inEach(from, 0, count, (table) => `update t${table} set body = 'changed' where id = 1`);
    await daemon.caughtUp("bench");
  });
  await measured("one row", async () => {
    for (let row = 0; row < SAMPLES; row++) await from.query("update t0 set body = $1 where id = 0", [`${row}`]);
    await daemon.caughtUp("bench");
  });
  await measured("altered", async () => {
    await alter(from, Math.min(count, ALTERED_MAX));
    await daemon.caughtUp("bench");
  });
  await measured("status", () => daemon.commandSeconds("status", "--tables"));
  await daemon.stop();
  await measured("restart", start);
  figures["peak MiB"] = daemon.usage().memoryMiB;
  await daemon.stop();
  await from.query(
    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'millrace%'",
  );
  await from.end();
  return { work: `${count} tables`, who: kind, figures };
}

async function alter(client: Client, count: number): Promise<void> {
  for (let table = 0; table < count; table++) {
    await client.query(
      `alter table t${table} add column more int default 7; update t${table} set more = 8 where id = 2`,
    );
  }
}

async function intoThree(source: string, target: string, count: number, log: BenchOptions["log"]): Promise<Line> {
  await using cache = await redis.start({ own: true });
  await createDatabases(source, "three");
  const url = withDatabase(source, "three");
  const from = await connected(url);
  await makeTables(from, "t", 0, count);
  const work = `${count} tables into Postgres, DuckDB, Redis`;
  const figures = await byMillrace({ source: url, target, cache: cache.url, from, log }, work, count);
  await from.end();
  return { work, who: "millrace", figures };
}

async function plain(source: string, target: string, count: number, log: BenchOptions["log"]): Promise<Line[]> {
  const work = `${count} tables`;
  await createDatabases(source, `plain_${count}`);
  const url = withDatabase(source, `plain_${count}`);
  const from = await connected(url);
  await makeTables(from, "t", 0, count);
  const lines = await both(work, { source: url, target, from, log }, count);
  await from.end();
  return lines;
}

/** The rows of one table with many partitions, which the sinks hold as one. */
async function partitioned(source: string, target: string, parts: number, log: BenchOptions["log"]): Promise<Line[]> {
  const work = `1 table in ${parts} partitions`;
  await createDatabases(source, "parts");
  const url = withDatabase(source, "parts");
  const from = await connected(url);
  await from.query("create table t0 (id int primary key, body text) partition by range (id)");
  for (let part = 0; part < parts; part++) {
    await from.query(`create table p${part} partition of t0 for values from (${part * 10}) to (${part * 10 + 10})`);
  }
  await from.query(`insert into t0 select g, 'a row' from generate_series(0, ${parts * 10 - 1}) g where g % 10 < $1`, [
    ROWS_PER_TABLE,
  ]);
  const lines = await both(work, { source: url, target, from, log }, 1);
  await from.end();
  return lines;
}

async function both(work: string, scene: Scene, tables: number): Promise<Line[]> {
  const native = await byNative(scene, work);
  const own = await byMillrace(scene, work, tables);
  return [
    { work, who: "native", figures: native },
    { work, who: "millrace", figures: own },
  ];
}

async function byNative({ source, target, from, log }: Scene, work: string): Promise<Figures> {
  const name = `native_${new URL(source).pathname.slice(1)}`;
  await createDatabases(target, name);
  const there = await connected(withDatabase(target, name));
  const definitions = await from.query<{ sql: string }>(
    `select format('create table %I (id int primary key, body text)', relname) as sql from pg_class
     where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition`,
  );
  for (const { sql } of definitions.rows) await there.query(sql);
  await from.query("create publication native for all tables with (publish_via_partition_root = true)");
  const startedMs = performance.now();
  await there.query(`create subscription ${name} connection '${libpq(source)}' publication native`);
  await until(there, "select count(*) = 0 as done from pg_subscription_rel where srsubstate <> 'r'");
  const figures: Figures = { "start s": since(startedMs) };
  log(`tables: ${work}, native: ${JSON.stringify(figures)}`);
  await there.query(`drop subscription ${name}`);
  await from.query("drop publication native");
  await there.end();
  return figures;
}

async function byMillrace({ source, target, cache, from, log }: Scene, work: string, tables: number): Promise<Figures> {
  const name = `own_${new URL(source).pathname.slice(1)}`;
  await createDatabases(target, name);
  const there = await connected(withDatabase(target, name));
  const others = (folder: string) => ({
    warehouse: { kind: "duckdb", path: join(folder, "w.duckdb") },
    cache: { kind: "redis", url: cache },
  });
  await using daemon = new MeasuredDaemon((folder) => ({
    name: "bench",
    source: { kind: "postgres", url: source },
    sinks: {
      mirror: { kind: "postgres", url: withDatabase(target, name) },
      ...(cache === undefined ? {} : others(folder)),
    },
  }));
  const figures: Figures = {};
  const measured = async (figure: string, action: () => Promise<void>): Promise<void> => {
    const startedMs = performance.now();
    const cpuBefore = daemon.running ? daemon.usage().cpuSeconds : 0;
    await action();
    const seconds = since(startedMs);
    figures[figure] = seconds;
    figures[figure.replace(/ s$/, ", CPU s")] = daemon.usage().cpuSeconds - cpuBefore;
    log(`tables: ${work}, ${figure}: ${seconds.toFixed(2)}`);
  };
  await measured("start s", async () => {
    daemon.start();
    await streaming(daemon);
  });
  await daemon.caughtUp("bench");
  const before = daemon.usage().cpuSeconds;
  await sleep(IDLE_MS);
  figures["idle CPU %"] = ((daemon.usage().cpuSeconds - before) * 100_000) / IDLE_MS;
  const times = await latencies(from, there);
  figures["one row p50 ms"] = percentile(times, 0.5);
  figures["one row p99 ms"] = percentile(times, 0.99);
  figures["memory MiB"] = daemon.residentMiB();
  if (tables > 1) {
    await measured("one in each s", async () => {
      await inEach(from, 0, tables, (table) => `update t${table} set body = 'changed' where id = 1`);
      await daemon.caughtUp("bench");
    });
    await measured("singly s", async () => {
      await inEach(from, 0, tables, (table) => `update t${table} set body = 'again' where id = 1`, 1);
      await daemon.caughtUp("bench");
    });
    await measured("altered s", async () => {
      await alter(from, Math.min(tables, ALTERED_MAX));
      await daemon.caughtUp("bench");
    });
    await measured("made s", async () => {
      await makeTables(from, "n", 0, Math.min(tables, MADE_MAX));
      await arrived(there, "n", Math.min(tables, MADE_MAX));
      await daemon.caughtUp("bench");
    });
  }
  figures["status s"] = await daemon.commandSeconds("status", "--tables");
  await daemon.stop();
  await measured("restart s", async () => {
    daemon.start();
    await streaming(daemon);
  });
  figures["peak MiB"] = daemon.usage().memoryMiB;
  await daemon.stop();
  await from.query(
    "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'millrace%'",
  );
  await from.query("drop publication millrace_bench");
  await there.end();
  return figures;
}

/** Milliseconds from a commit of one row until the target shows it. */
async function latencies(from: Client, there: Client): Promise<number[]> {
  const seen = new Map<string, number>();
  there.on("notification", ({ payload }) => seen.set(payload ?? "", performance.now()));
  await there.query(`
    create function told() returns trigger language plpgsql as $$ begin perform pg_notify('t0', new.body); return new; end $$;
    create trigger told after update on t0 for each row execute function told();
    alter table t0 enable always trigger told;
    listen t0`);
  const times: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample++) {
    await from.query("update t0 set body = $1 where id = 0", [`sample ${sample}`]);
    const committedMs = performance.now();
    while (!seen.has(`sample ${sample}`)) await sleep(1);
    times.push(Math.max(0, seen.get(`sample ${sample}`)! - committedMs));
    await sleep(SAMPLE_EVERY_MS);
  }
  await there.query("drop function told cascade");
  return times.slice(SAMPLES / 10);
}

async function makeTables(client: Client, prefix: string, first: number, count: number): Promise<void> {
  await inEach(
    client,
    first,
    count,
    (table) =>
      `create table ${prefix}${table} (id int primary key, body text);
       insert into ${prefix}${table} select g, 'a row' from generate_series(0, ${ROWS_PER_TABLE - 1}) g`,
    TABLES_PER_STATEMENT,
  );
}

/** In one transaction, or in one for each `together` tables. */
async function inEach(
  client: Client,
  first: number,
  count: number,
  sql: (table: number) => string,
  together = Number.POSITIVE_INFINITY,
): Promise<void> {
  for (let from = first; from < first + count; from += together) {
    const tables = Array.from({ length: Math.min(together, first + count - from) }, (_, i) => sql(from + i));
    await client.query(tables.join(";"));
  }
}

async function arrived(there: Client, prefix: string, count: number): Promise<void> {
  const made = `select count(*) = ${count} as done from pg_class
     where relnamespace = 'public'::regnamespace and relkind = 'r' and relname ~ '^${prefix}[0-9]+$'`;
  await until(there, made);
  for (let table = 0; table < count; table++) {
    await until(there, `select count(*) = ${ROWS_PER_TABLE} as done from ${prefix}${table}`);
  }
}

async function streaming(daemon: MeasuredDaemon): Promise<void> {
  await poll(async () => (await daemon.status("bench"))?.sinks.every(({ state }) => state === "streaming") === true);
}

async function until(client: Client, sql: string): Promise<void> {
  await poll(async () => (await client.query<{ done: boolean }>(sql)).rows[0]?.done === true);
}

async function poll(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`the wait took longer than ${WAIT_MS / 1000} s`);
    await sleep(POLL_MS);
  }
}

function since(startedMs: number): number {
  return (performance.now() - startedMs) / 1000;
}

function ratiosOf(lines: readonly Line[]): Ratio[] {
  const own = lines.filter(({ who, work }) => who === "millrace" && work.endsWith("tables"));
  const few = own[0]!;
  const many = own.at(-1)!;
  const native = lines.find(({ who, work }) => who === "native" && work === many.work)!;
  const tables = (line: Line): number => Number.parseInt(line.work, 10);
  const kib = ((many.figures["memory MiB"]! - few.figures["memory MiB"]!) * 1024) / (tables(many) - tables(few));
  const latency = many.figures["one row p50 ms"]! / few.figures["one row p50 ms"]!;
  return [
    { what: `one row, p50, ${many.work} / ${few.work}`, value: latency, target: 1.2, atLeast: false },
    {
      what: `start of ${many.work}, millrace / native`,
      value: many.figures["start s"]! / native.figures["start s"]!,
      target: 1,
      atLeast: false,
    },
    { what: "memory per table, KiB", value: kib, target: 20, atLeast: false },
  ];
}
