/**
 * The size of a DuckDB file whose rows were deleted and inserted again, and updated with a list in them, many times,
 * compared with a fresh copy of the same rows; and of one with several small tables after a minute of small transactions.
 * For a file with a large table also: how long it takes until its dead rows are gone, and how long small transactions take
 * meanwhile until they are durable. And the processor time of an update in tables of several sizes, with keys of several
 * forms.
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "pg";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { connected } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, percentile, type Ratio } from "./report.ts";
import { SETTINGS, until } from "./slot.ts";

const ROWS = 100_000;
const ROUNDS = 24;
const WANTED = 2;
const CHURN_TABLES = 5;
const CHURN_ROWS = 30_000;
const CHURN_SECONDS = 60;
const CHURN_WANTED = 2.5;
const CHURN_SAMPLED = 50;
const LARGE_ROWS = 3_000_000;
const LARGE_WANTED = 3;
/** A table with fewer dead rows is not rewritten. */
const DEAD_MAX = 50_000;
const STEP_ROWS = 20;
const STEPS_ALONE = 300;
/** `--scale 4` adds the long form. */
const UPDATED_ROWS = 200_000;
const UPDATED_ROWS_LONG = 10_000_000;
const UPDATED_WANTED = 2;
const UPDATES = 20_000;
const UPDATES_PER_TRANSACTION = 100;
const KEYS = {
  "one column": "",
  "two columns": "alter table orders drop constraint orders_pkey, add primary key (customer_id, id)",
  text: "alter table orders alter id type text using md5(id::text)",
  uuid: "alter table orders alter id type uuid using md5(id::text)::uuid",
} as const;
const NAME = "bench";
const FILE = "w.duckdb";
const FILL = `insert into worn select g, md5(g::text || random()), array[md5(random()::text)] from generate_series(1, $1) g`;

export async function run({ scale, log, takes }: BenchOptions): Promise<BenchReport> {
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  const from = await connected(source.url);
  const parts: Part[] = [];
  if (takes("rounds")) parts.push(await measureRounds(source.url, from, Math.round(ROWS * scale), log));
  if (takes("churn")) parts.push(await measureChurn(source.url, from, CHURN_SECONDS * scale, log));
  if (takes("large")) parts.push(await measureLarge(source.url, from, Math.round(LARGE_ROWS * scale), log));
  if (takes("updates")) parts.push(...(await measureUpdates(source.url, from, scale, log)));
  await from.end();
  return { name: "growth", lines: parts.flatMap(({ lines }) => lines), ratios: parts.map(({ ratio }) => ratio) };
}

interface Part {
  readonly lines: readonly Line[];
  readonly ratio: Ratio;
}

async function measureRounds(url: string, from: Client, rowCount: number, log: BenchOptions["log"]): Promise<Part> {
  await from.query("create table worn (id int primary key, body text, tags text[])");
  await from.query(FILL, [rowCount]);
  const fresh = await sizeAfter(url, async () => undefined);
  const worn = await sizeAfter(url, async (daemon) => {
    for (let round = 0; round < ROUNDS; round++) {
      if (round % 2 === 0) {
        await from.query("delete from worn");
        await from.query(FILL, [rowCount]);
      } else await from.query("update worn set tags = array[md5(random()::text)]");
      await daemon.caughtUp(NAME);
      log(`growth: round ${round + 1} of ${ROUNDS}`);
    }
  });
  await from.query("truncate worn");
  const line = (who: string, bytes: number): Line => ({ work: `${rowCount} rows`, who, figures: { MB: bytes / 1e6 } });
  return {
    lines: [line("fresh", fresh), line(`after ${ROUNDS} rounds`, worn)],
    ratio: { what: "size after the rounds against a fresh copy", value: worn / fresh, target: WANTED, atLeast: false },
  };
}

/** As many small transactions as one writer commits, and an end at once: what the sink has not freed by then stays. */
async function measureChurn(url: string, from: Client, seconds: number, log: BenchOptions["log"]): Promise<Part> {
  const tables = Array.from({ length: CHURN_TABLES }, (_, i) => `churned${i}`);
  for (const table of tables) {
    await from.query(`create table ${table} (id int primary key, body text, n int, at timestamptz, tags text[])`);
    await from.query(`insert into ${table} ${churnedRows("generate_series(1, $1) as g(id)")}`, [CHURN_ROWS]);
  }
  let count = 0;
  let cpuSeconds = 0;
  const waits: number[] = [];
  const worn = await sizeAfter(url, async (daemon) => {
    await daemon.caughtUp(NAME);
    const before = daemon.usage().cpuSeconds;
    for (const endMs = performance.now() + seconds * 1000; performance.now() < endMs;) {
      await churn(from, tables[count % tables.length]!);
      if (++count % CHURN_SAMPLED !== 0) continue;
      const committedMs = performance.now();
      await daemon.caughtUp(NAME);
      waits.push(performance.now() - committedMs);
    }
    await daemon.caughtUp(NAME);
    cpuSeconds = daemon.usage().cpuSeconds - before;
    log(`growth: ${count} transactions, ${(statSync(join(daemon.folder, FILE)).size / 1e6).toFixed(1)} MB`);
  });
  const fresh = await sizeAfter(url, async () => undefined);
  await from.query(`drop table ${tables.join(", ")}`);
  const work = `${CHURN_TABLES} tables of ${CHURN_ROWS} rows`;
  const figures = {
    MB: worn / 1e6,
    "p50 ms": percentile(waits, 0.5),
    "max ms": percentile(waits, 1),
    "CPU µs a transaction": (cpuSeconds * 1e6) / count,
  };
  return {
    lines: [
      { work, who: "fresh", figures: { MB: fresh / 1e6 } },
      { work, who: `after ${count} transactions`, figures },
    ],
    ratio: { what: "size after small transactions", value: worn / fresh, target: CHURN_WANTED, atLeast: false },
  };
}

function churnedRows(from: string): string {
  return `select id, md5(id::text || random()), (random() * 1000)::int, now(), array[md5(random()::text)] from ${from}`;
}

async function churn(from: Client, table: string): Promise<void> {
  const some = (count: number): number[] =>
    Array.from({ length: count }, () => 1 + Math.floor(Math.random() * CHURN_ROWS));
  await from.query("begin");
  await from.query(`update ${table} set body = md5(random()::text), n = n + 1 where id = any($1)`, [some(30)]);
  const gone = `with gone as (delete from ${table} where id = any($1) returning id + ${CHURN_ROWS} as id)`;
  await from.query(`${gone} insert into ${table} ${churnedRows("gone")} on conflict do nothing`, [some(10)]);
  const put = `insert into ${table} ${churnedRows("unnest($1::int[]) as p(id)")}`;
  await from.query(`${put} on conflict (id) do update set body = excluded.body`, [some(1)]);
  await from.query("commit");
}

async function measureLarge(url: string, from: Client, rowCount: number, log: BenchOptions["log"]): Promise<Part> {
  const work = `${rowCount} rows`;
  await from.query(ORDERS);
  await from.query("alter table orders add tags text[]");
  await insertOrders(from, 1, rowCount, rowCount);
  await from.query("update orders set tags = array[md5(id::text)]");
  await from.query("vacuum full orders");
  const fresh = await sizeAfter(url, async () => undefined);
  log(`growth: ${work} fresh, ${(fresh / 1e6).toFixed(0)} MB`);
  const step = (daemon: MeasuredDaemon) => durableWithin(daemon, from, rowCount);
  const beside: number[] = [];
  const alone: number[] = [];
  let seconds = 0;
  let largest = 0;
  const worn = await sizeAfter(url, async (daemon) => {
    const dead = async (): Promise<number> => (await daemon.status(NAME))?.sinks[0]?.deadRows ?? 0;
    // First as many dead rows as live ones, and then a few more.
    await from.query("update orders set tags = array[md5(random()::text)]");
    await daemon.caughtUp(NAME);
    log(`growth: ${work} worn`);
    await from.query("update orders set tags = array[md5(random()::text)] where id <= $1", [2 * DEAD_MAX]);
    await daemon.caughtUp(NAME);
    await until(async () => (await dead()) > rowCount);
    const startedMs = performance.now();
    while ((await dead()) > DEAD_MAX) {
      beside.push(await step(daemon));
      largest = Math.max(largest, statSync(join(daemon.folder, FILE)).size);
    }
    seconds = (performance.now() - startedMs) / 1000;
    while (alone.length < STEPS_ALONE) alone.push(await step(daemon));
  });
  const steps = (what: string, waits: readonly number[]): Line => {
    const figures = { "p50 ms": percentile(waits, 0.5), "max ms": percentile(waits, 1) };
    return { work: what, who: `${waits.length} steps`, figures };
  };
  return {
    lines: [
      { work, who: "fresh", figures: { MB: fresh / 1e6 } },
      { work, who: "largest", figures: { MB: largest / 1e6 } },
      { work, who: "rewritten", figures: { MB: worn / 1e6, seconds } },
      steps("meanwhile", beside),
      steps("afterwards", alone),
    ],
    ratio: { what: "the same with a large table", value: worn / fresh, target: LARGE_WANTED, atLeast: false },
  };
}

async function measureUpdates(url: string, from: Client, scale: number, log: BenchOptions["log"]): Promise<Part[]> {
  const sizes = [UPDATED_ROWS, Math.round(LARGE_ROWS * Math.min(1, scale)), ...(scale >= 4 ? [UPDATED_ROWS_LONG] : [])];
  const parts: Part[] = [];
  for (const [key, sql] of Object.entries(KEYS)) {
    const lines: Line[] = [];
    for (const size of sizes) {
      await from.query(`drop table if exists orders; ${ORDERS}`);
      await insertOrders(from, 1, size, size);
      await from.query(sql);
      lines.push({ work: `${size} rows`, who: key, figures: await updateCosts(url, from) });
      log(`growth: ${size} rows, ${key}: ${JSON.stringify(lines.at(-1)?.figures)}`);
    }
    const share = (figure: string): number => lines[1]!.figures[figure]! / lines[0]!.figures[figure]!;
    const value = Math.max(share(TOGETHER), share(WAITED));
    const what = `an update's processor time in ${sizes[1]} rows against ${sizes[0]}, key: ${key}`;
    parts.push({ lines, ratio: { what, value, target: UPDATED_WANTED, atLeast: false } });
  }
  return parts;
}

const TOGETHER = "CPU µs an update";
const WAITED = `the same, ${STEP_ROWS} at a time`;

/** Random rows, each updated once, in a file that a daemon has closed. */
async function updateCosts(url: string, from: Client): Promise<Record<string, number>> {
  const count = UPDATES + STEPS_ALONE * STEP_ROWS;
  await from.query(`drop table if exists picked; create temp table picked as select row_number() over () as n, place
    from (select ctid as place from orders order by random() limit ${count}) as orders; create index on picked (n)`);
  const update = async (after: number, rowCount: number): Promise<void> => {
    await from.query(
      `update orders set status = 'changed', total = total + 1, updated_at = now()
       where ctid = any (array(select place from picked where n > $1 and n <= $2))`,
      [after, after + rowCount],
    );
  };
  const costs: Record<string, number> = {};
  await sizeAfter(url, async (daemon) => {
    await daemon.caughtUp(NAME);
    const measure = async (figure: string, rowCount: number, work: () => Promise<void>): Promise<void> => {
      const before = daemon.usage().cpuSeconds;
      await work();
      await daemon.caughtUp(NAME);
      costs[figure] = ((daemon.usage().cpuSeconds - before) * 1e6) / rowCount;
    };
    await measure(TOGETHER, UPDATES, async () => {
      for (let at = 0; at < UPDATES; at += UPDATES_PER_TRANSACTION) await update(at, UPDATES_PER_TRANSACTION);
    });
    await measure(WAITED, count - UPDATES, async () => {
      for (let at = UPDATES; at < count; at += STEP_ROWS) {
        await update(at, STEP_ROWS);
        await daemon.caughtUp(NAME);
      }
    });
  });
  return costs;
}

/** Milliseconds from a small transaction until every sink has it. */
async function durableWithin(daemon: MeasuredDaemon, from: Client, rowCount: number): Promise<number> {
  const startedMs = performance.now();
  await from.query("update orders set total = total + 1 where id = any($1)", [
    Array.from({ length: STEP_ROWS }, () => 1 + Math.floor(Math.random() * rowCount)),
  ]);
  await daemon.caughtUp(NAME);
  return performance.now() - startedMs;
}

async function sizeAfter(url: string, wear: (daemon: MeasuredDaemon) => Promise<void>): Promise<number> {
  await using daemon = new MeasuredDaemon((folder) => ({
    name: NAME,
    source: { kind: "postgres", url, heartbeat: "200ms" },
    sinks: { warehouse: { kind: "duckdb", path: join(folder, FILE) } },
  }));
  await daemon.catchUp();
  daemon.start();
  await wear(daemon);
  await daemon.caughtUp(NAME);
  await daemon.stop();
  const size = statSync(join(daemon.folder, FILE)).size;
  const client = await connected(url);
  await client.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  await client.query("drop publication millrace_bench");
  await client.end();
  return size;
}
