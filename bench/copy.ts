/**
 * The initial snapshot, Postgres to Postgres, against `COPY TO` piped into `COPY FROM`: two sessions each, the peer's with the
 * server's own programs. Millrace's time runs from its first copying session until it streams, so it includes creating the
 * tables and storing its state; the peer's tables exist already, with their keys. Then one of the tables, by one session
 * and by two. And a table into DuckDB, alone and beside Elasticsearch, which is slower: by itself, where it takes processors
 * too, and over a slow line, where it takes next to none.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "pg";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { elasticsearch } from "../scripts/services/servers/search/elasticsearch.ts";
import { tcpProxy } from "../test/support/network/proxy.ts";
import { connected, createDatabases, withDatabase } from "./clients.ts";
import { MeasuredDaemon } from "./daemon.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median, type Ratio } from "./report.ts";
import { settled } from "./size.ts";
import { SETTINGS, until } from "./slot.ts";

const ROWS = 2_000_000;
const WANTED = 0.9;
const WANTED_OF_TWO_SESSIONS = 1.5;
/** Two sessions are two backends of the source and two of the target, and the daemon. */
const CORES_OF_TWO_SESSIONS = 5;
/** As many tables as Millrace has sessions for one (connectors/postgres/source/config.ts). */
const TABLES = ["orders", "orders_too"] as const;
/** Of all rows: those of the table that goes into DuckDB. */
const SHARE_OF_BESIDE = 1 / 4;
const WANTED_BESIDE = 1.2;
/** Of each connection to Elasticsearch. */
const SLOW_BYTES_PER_SECOND = 1_000_000;
const ROWS_PER_TRANSACTION = 10_000;
/** Asking for the status takes processor time of daemon and source. While nothing is copied the end is near. */
const ASK_EVERY_MS = 100;
const ASK_AT_THE_END_EVERY_MS = 10;
const COLUMNS = "id, customer_id, status, total, currency, items, weight, paid, note, email, created_at, updated_at";

interface Place {
  readonly from: Client;
  readonly sourceUrl: string;
  readonly targetUrl: string;
}

interface Copied {
  readonly seconds: number;
  readonly daemonSeconds: number;
  readonly memoryMiB: number;
}

type Measured = Pick<BenchReport, "lines" | "ratios">;
const NONE: Measured = { lines: [], ratios: [] };

export async function run({ scale, runs, log, takes }: BenchOptions): Promise<BenchReport> {
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  await using target = await postgres.start({ own: true, settings: SETTINGS });
  const from = await connected(source.url);
  const rowCount = Math.round(ROWS * scale);
  await load(from, rowCount, log);
  const place: Place = { from, sourceUrl: source.url, targetUrl: target.url };
  const own: Copied[] = [];
  const peer: number[] = [];
  for (let round = 0; round < (takes("two tables") ? runs : 0); round++) {
    const first = round % 2 === 0 ? (["peer", "millrace"] as const) : (["millrace", "peer"] as const);
    for (const who of first) {
      const database = `${who}_${round}`;
      await createDatabases(target.url, database);
      if (who === "millrace") own.push(await byMillrace(place, mirror(place, database)));
      else peer.push(await byCopy(place, database));
      await compare(place, database);
      const seconds = who === "millrace" ? own.at(-1)!.seconds : peer.at(-1)!;
      log(`copy ${who}: ${Math.round(rowCount / seconds).toLocaleString("en")} rows/s`);
    }
  }
  const bySessions = takes("one table") ? await oneTable(place, rowCount / TABLES.length, { runs, log }) : [];
  const { lines, ratios } = report(rowCount, own, peer, bySessions);
  const beside = takes("beside")
    ? await besideAnother(place, Math.round(rowCount * SHARE_OF_BESIDE), { runs, log })
    : NONE;
  await from.end();
  return { name: "copy", lines: [...lines, ...beside.lines], ratios: [...ratios, ...beside.ratios] };
}

/** Rows per second by one session and by two, for each round. */
async function oneTable(
  place: Place,
  rowCount: number,
  { runs, log }: Pick<BenchOptions, "runs" | "log">,
): Promise<readonly (readonly [one: number, two: number])[]> {
  const rounds: [number, number][] = [];
  for (let round = 0; round < runs; round++) {
    const rates: [number, number] = [0, 0];
    for (const copySessions of round % 2 === 0 ? [1, 2] : [2, 1]) {
      const database = `one_${round}_${copySessions}`;
      await createDatabases(place.targetUrl, database);
      const source = { tables: [`public.${TABLES[0]}`], copySessions };
      const { seconds } = await byMillrace(place, mirror(place, database), source);
      rates[copySessions - 1] = rowCount / seconds;
      log(
        `copy of one table, sessions: ${copySessions}: ${Math.round(rowCount / seconds).toLocaleString("en")} rows/s`,
      );
    }
    rounds.push(rates);
  }
  return rounds;
}

/** Seconds until DuckDB streams, in each round. */
async function besideAnother(
  place: Place,
  rowCount: number,
  { runs, log }: Pick<BenchOptions, "runs" | "log">,
): Promise<Measured> {
  const [table] = TABLES;
  await place.from.query(`create table beside (like ${table} including all)`);
  await place.from.query(`insert into beside select * from ${table} where id <= $1`, [rowCount]);
  await place.from.query("vacuum (freeze, analyze) beside");
  await using server = await elasticsearch.start({ own: true, optimized: true });
  await using line = await tcpProxy(server.url);
  line.limit(SLOW_BYTES_PER_SECOND);
  const others = { alone: null, "beside Elasticsearch": server.url, "the same, slow line": line.url(server.url) };
  const copies = new Map<string, Copied[]>(Object.keys(others).map((who) => [who, []]));
  let indexCount = 0;
  for (let round = 0; round < runs; round++) {
    for (const [who, url] of Object.entries(others)) {
      await settled(server.pid);
      const warehouse = { kind: "duckdb", path: "./w.duckdb" };
      const search = { kind: "elasticsearch", url, prefix: `copy${indexCount++}-` };
      const copied = await byMillrace(place, url === null ? { warehouse } : { warehouse, search }, {
        tables: ["public.beside"],
      });
      copies.get(who)!.push(copied);
      log(`copy into DuckDB, ${who}: ${copied.seconds.toFixed(1)} s, daemon ${copied.daemonSeconds.toFixed(1)} s`);
    }
  }
  const work = `first copy of ${rowCount} rows into DuckDB`;
  const [alone = [], ...beside] = copies.values();
  return {
    lines: Array.from(copies, ([who, rounds]) => ({
      work,
      who,
      figures: {
        seconds: median(rounds.map(({ seconds }) => seconds)),
        "daemon s": median(rounds.map(({ daemonSeconds }) => daemonSeconds)),
      },
    })),
    ratios: beside.map((rounds, i) => ({
      what: `DuckDB, ${Object.keys(others)[i + 1]} / alone`,
      value: median(rounds.map(({ seconds }, round) => seconds / alone[round]!.seconds)),
      target: WANTED_BESIDE,
      atLeast: false,
    })),
  };
}

async function load(from: Client, rowCount: number, log: BenchOptions["log"]): Promise<void> {
  const [first, second] = TABLES;
  log(`copy: writing ${rowCount} rows`);
  await from.query(ORDERS);
  await insertOrders(from, 1, rowCount / TABLES.length, ROWS_PER_TRANSACTION);
  await from.query(
    `create table ${second} (like ${first} including all); insert into ${second} select * from ${first}`,
  );
  await from.query("vacuum (freeze, analyze)");
}

function mirror({ targetUrl }: Place, database: string): object {
  return { mirror: { kind: "postgres", url: withDatabase(targetUrl, database) } };
}

/** Until the first sink streams. */
async function byMillrace({ from, sourceUrl }: Place, sinks: object, source: object = {}): Promise<Copied> {
  await using daemon = new MeasuredDaemon({
    name: "bench",
    source: { kind: "postgres", url: sourceUrl, ...source },
    sinks,
  });
  daemon.start();
  const copying = "select 1 from pg_stat_activity where application_name = 'millrace' and query ~* '^copy'";
  await until(async () => (await from.query(copying)).rowCount !== 0);
  const before = daemon.usage().cpuSeconds;
  const startedMs = performance.now();
  while ((await daemon.status("bench"))?.sinks[0]?.state !== "streaming") {
    await sleep((await from.query(copying)).rowCount === 0 ? ASK_AT_THE_END_EVERY_MS : ASK_EVERY_MS);
  }
  const seconds = (performance.now() - startedMs) / 1000;
  const usage = daemon.usage();
  await daemon.stop();
  await until(async () => (await from.query("select 1 from pg_replication_slots where active")).rowCount === 0);
  await from.query("select pg_drop_replication_slot(slot_name) from pg_replication_slots");
  await from.query("drop publication millrace_bench");
  return { seconds, daemonSeconds: usage.cpuSeconds - before, memoryMiB: usage.memoryMiB };
}

async function byCopy({ sourceUrl, targetUrl }: Place, database: string): Promise<number> {
  const target = withDatabase(targetUrl, database);
  const client = await connected(target);
  const [first, second] = TABLES;
  await client.query(`${ORDERS}; create table ${second} (like ${first} including all)`);
  await client.end();
  const startedMs = performance.now();
  await Promise.all(TABLES.map((table) => pipe(sourceUrl, target, table)));
  return (performance.now() - startedMs) / 1000;
}

async function pipe(source: string, target: string, table: string): Promise<void> {
  const psql = (url: string, sql: string) => ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql];
  const reader = psql(source, `copy ${table} to stdout (format binary)`);
  const writer = psql(target, `copy ${table} from stdin (format binary)`);
  // A pipe between two processes, as in a shell: this process does not see the bytes.
  const script = 'n=$1; shift; psql "${@:1:n}" | psql "${@:n+1}"';
  const child = spawn("bash", ["-o", "pipefail", "-c", script, "bash", String(reader.length), ...reader, ...writer], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`psql ended with ${String(code)}; the peer of this benchmark needs it`);
}

/** A rate counts only if the rows that arrived are the rows of the source. */
async function compare({ from, targetUrl }: Place, database: string): Promise<void> {
  const there = await connected(withDatabase(targetUrl, database));
  for (const table of TABLES) {
    const sql = `select count(*)::text as n, sum(hashtextextended((${COLUMNS})::text, 0))::text as h from (select ${COLUMNS} from ${table}) o`;
    const [source, target] = await Promise.all(
      [from, there].map(async (client) => JSON.stringify((await client.query(sql)).rows)),
    );
    if (source !== target) throw new Error(`${table} differs: ${source} and ${target}`);
  }
  await there.end();
}

function report(
  rowCount: number,
  own: readonly Copied[],
  peer: readonly number[],
  bySessions: readonly (readonly [one: number, two: number])[],
): Measured {
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  if (own.length > 0) {
    const work = `first copy, ${TABLES.length} tables`;
    const figures = {
      "rows/s": median(own.map(({ seconds }) => rowCount / seconds)),
      "daemon µs/row": (median(own.map(({ daemonSeconds }) => daemonSeconds)) * 1e6) / rowCount,
      "peak memory MiB": Math.max(...own.map(({ memoryMiB }) => memoryMiB)),
    };
    lines.push(
      { work, who: "millrace", figures },
      {
        work,
        who: "COPY TO | COPY FROM, binary",
        figures: { "rows/s": median(peer.map((seconds) => rowCount / seconds)) },
      },
    );
    const value = median(own.map(({ seconds }, i) => peer[i]! / seconds));
    ratios.push({ what: "first copy, millrace / COPY TO | COPY FROM", value, target: WANTED, atLeast: true });
  }
  if (bySessions.length > 0) {
    const work = "first copy, one table";
    lines.push(
      { work, who: "millrace, 1 session", figures: { "rows/s": median(bySessions.map(([one]) => one)) } },
      { work, who: "millrace, 2 sessions", figures: { "rows/s": median(bySessions.map(([, two]) => two)) } },
    );
    const value = median(bySessions.map(([one, two]) => two / one));
    // On fewer cores the sessions take them from each other.
    if (availableParallelism() >= CORES_OF_TWO_SESSIONS)
      ratios.push({ what: "one table, 2 sessions / 1", value, target: WANTED_OF_TWO_SESSIONS, atLeast: true });
  }
  return { lines, ratios };
}
