/**
 * The initial snapshot of one table, MySQL to Postgres, by one session and by several: beside the server, where the processors
 * are the limit, and over a network that gives each connection so much and no more. The time runs from the first statement
 * that reads the table until the daemon streams.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { createConnection, type Connection, type RowDataPacket } from "mysql2/promise";
import { mysql } from "../scripts/services/servers/mysql/mysql.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { tcpProxy } from "../test/support/network/proxy.ts";
import { connected, createDatabases, withDatabase } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { type BenchOptions, type BenchReport, type Line, median, type Ratio } from "./report.ts";
import { SETTINGS, until } from "./slot.ts";

const DATABASE = "bench";
const FIRST_ROWS = 1_000;
const ASK_EVERY_MS = 50;
const SESSIONS = [1, 2, 4] as const;

interface Scene {
  readonly name: string;
  readonly table: string;
  readonly rows: number;
  /** Of each connection; undefined: no limit. */
  readonly bytesPerSecond?: number;
  /** How much faster two sessions are than one; undefined: nothing is promised. */
  readonly target?: number;
}

const ORDERS = `create table orders (
  id bigint primary key, customer_id bigint not null, status varchar(16) not null, total decimal(12,2) not null,
  currency char(3) not null, items int not null, weight double, paid tinyint(1) not null, note text,
  email varchar(100) not null, created_at datetime(3) not null, updated_at timestamp(6) not null)`;
const ORDER = `i, i * 7919 % 100000, elt(1 + i % 4, 'new', 'paid', 'shipped', 'done'), i * 31 % 100000 + 0.25, 'EUR', 1 + i % 9,
  i % 1000 / 7, i % 2, if(i % 3 = 0, null, concat('a note that belongs to order ', i)), concat('customer', i, '@example.com'),
  date_sub(now(3), interval i % 100000 second), now(6)`;
const DOCUMENTS = "create table documents (id bigint primary key, customer_id bigint not null, body text not null)";
const DOCUMENT = "i, i * 7919 % 100000, concat('document ', i, repeat(' and more of it', 130))";

const SCENES: readonly Scene[] = [
  { name: "beside the server", table: "orders", rows: 1_000_000 },
  { name: "5 MB/s a connection", table: "documents", rows: 50_000, bytesPerSecond: 5_000_000, target: 1.5 },
];

export async function run({ scale, runs, log, takes }: BenchOptions): Promise<BenchReport> {
  await using source = await mysql.start({ own: true });
  await using target = await postgres.start({ own: true, settings: SETTINGS });
  const admin = await createConnection({ uri: source.url });
  await admin.query(`set session sql_log_bin = 0, information_schema_stats_expiry = 0`);
  await admin.query(`create database ${DATABASE}`);
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  let databaseCount = 0;
  for (const { name, table, rows, bytesPerSecond, target: wanted } of SCENES.filter((scene) => takes(scene.name))) {
    const rowCount = Math.round(rows * scale);
    await load(admin, table, rowCount, log);
    await using proxy = await tcpProxy(source.url);
    if (bytesPerSecond !== undefined) proxy.limit(bytesPerSecond);
    const sourceUrl = withDatabase(bytesPerSecond === undefined ? source.url : proxy.url(source.url), DATABASE);
    const rates = new Map<number, number[]>(SESSIONS.map((sessions) => [sessions, []]));
    for (let round = 0; round < runs; round++) {
      for (const copySessions of round % 2 === 0 ? SESSIONS : SESSIONS.toReversed()) {
        const database = `copied_${databaseCount++}`;
        await createDatabases(target.url, database);
        const targetUrl = withDatabase(target.url, database);
        const seconds = await copied({ admin, sourceUrl, targetUrl, table }, copySessions);
        await compare(admin, targetUrl, table);
        rates.get(copySessions)!.push(rowCount / seconds);
        log(`copy-mysql, ${name}, sessions: ${copySessions}: ${Math.round(rowCount / seconds)} rows/s`);
      }
    }
    for (const [sessions, each] of rates)
      lines.push({ work: name, who: `millrace, sessions: ${sessions}`, figures: { "rows/s": median(each) } });
    const value = median(rates.get(2)!.map((two, i) => two / rates.get(1)![i]!));
    if (wanted !== undefined) ratios.push({ what: `${name}, 2 sessions / 1`, value, target: wanted, atLeast: true });
    else log(`copy-mysql, ${name}, 2 sessions / 1: ${value.toFixed(2)}`);
  }
  await admin.end();
  return { name: "copy-mysql", lines, ratios };
}

async function load(admin: Connection, table: string, rowCount: number, log: BenchOptions["log"]): Promise<void> {
  log(`copy-mysql: writing ${rowCount} rows into ${table}`);
  const [create, row] = table === "orders" ? [ORDERS, ORDER] : [DOCUMENTS, DOCUMENT];
  await admin.query(`use ${DATABASE}`);
  await admin.query(create);
  const numbers = `with recursive n (i) as (select 1 union all select i + 1 from n where i < ${FIRST_ROWS})`;
  for (let from = 0; from < rowCount; from += FIRST_ROWS)
    await admin.query(
      `insert into ${table} ${numbers} select ${row} from (select ${from} + i as i from n where ${from} + i <= ${rowCount}) r`,
    );
  await admin.query(`analyze table ${table}`);
  await admin.query("use information_schema");
}

interface Place {
  readonly admin: Connection;
  readonly sourceUrl: string;
  readonly targetUrl: string;
  readonly table: string;
}

async function copied({ admin, sourceUrl, targetUrl, table }: Place, copySessions: number): Promise<number> {
  await using daemon = new MeasuredDaemon({
    name: "bench",
    source: { kind: "mysql", url: sourceUrl, tables: [`${DATABASE}.${table}`], copySessions },
    sinks: { mirror: { kind: "postgres", url: targetUrl } },
  });
  daemon.start();
  const reading = `select 1 from processlist where db = '${DATABASE}' and info like 'SELECT%${table}%'`;
  await until(async () => (await texts(admin, reading)) !== "[]");
  const startedMs = performance.now();
  while ((await daemon.status("bench"))?.sinks[0]?.state !== "streaming") await sleep(ASK_EVERY_MS);
  const seconds = (performance.now() - startedMs) / 1000;
  await daemon.stop();
  return seconds;
}

/** A rate counts only if the rows that arrived are the rows of the source. */
async function compare(admin: Connection, targetUrl: string, table: string): Promise<void> {
  const text = table === "orders" ? "note" : "body";
  const columns = `count(*), sum(id), sum(customer_id), sum(length(${text}))`;
  const [one] = (
    await admin.query<RowDataPacket[]>({ sql: `select ${columns} from ${DATABASE}.${table}`, rowsAsArray: true })
  )[0];
  const there = await connected(targetUrl);
  const { rows } = await there.query<unknown[]>({
    text: `select ${columns} from ${DATABASE}.${table}`,
    rowMode: "array",
  });
  await there.end();
  const [source, target] = [one, rows[0]].map((row) => JSON.stringify(Object.values(row ?? {}).map(String)));
  if (source !== target) throw new Error(`${table} differs: ${source} and ${target}`);
}

async function texts(admin: Connection, sql: string): Promise<string> {
  const [rows] = await admin.query<RowDataPacket[]>(sql);
  return JSON.stringify(rows);
}
