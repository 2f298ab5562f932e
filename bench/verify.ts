/**
 * `millrace verify` over equal rows that another tool has copied, as its own process from start to exit. The peer is a bare
 * read of both sides, one after the other, in the same run: COPY by Postgres' own program, and what each target reads with
 * least work. Nothing is written by either.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ClickHouseLogLevel, createClient } from "@clickhouse/client";
import { DuckDBInstance } from "@duckdb/node-api";
import { Redis } from "ioredis";
import type { Client } from "pg";
import { clickhouse } from "../scripts/services/servers/clickhouse.ts";
import { postgres } from "../scripts/services/servers/postgres/postgres.ts";
import { redis } from "../scripts/services/servers/redis.ts";
import { elasticsearch } from "../scripts/services/servers/search/elasticsearch.ts";
import type { ReconcileDocument } from "../src/core/contracts/reconciliation.ts";
import { connected, copyToNothing } from "./clients.ts";
import { MAIN, watchedUsage } from "./daemon.ts";
import { insertOrders, ORDERS } from "./orders.ts";
import { type BenchOptions, type BenchReport, type Line, median } from "./report.ts";
import { SETTINGS } from "./slot.ts";

const ROWS = 10_000_000;
const WANTED = 1.3;
const ROWS_PER_TRANSACTION = 10_000;
/** Of the rows, those that a cache and an index get. */
const SHARE_OF_STORES = 0.1;
const PAGE_ROWS = 5_000;
const SCAN_COUNT = 1_000;

interface Target extends AsyncDisposable {
  readonly url: string;
  /** Copies all rows of the source. */
  fill(): Promise<void>;
  /** Reads them all, and keeps nothing. */
  read(): Promise<unknown>;
}

interface Place {
  readonly sourceUrl: string;
  readonly from: Client;
  readonly folder: string;
}

const KINDS = { postgres: database, duckdb: file, clickhouse: warehouse, redis: cache, elasticsearch: index } as const;

export async function run({ scale, runs, log, takes }: BenchOptions): Promise<BenchReport> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-bench-"));
  await using _ = { [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }) };
  await using source = await postgres.start({ own: true, settings: SETTINGS });
  const from = await connected(source.url);
  const rowCount = Math.round(ROWS * scale);
  const lines: Line[] = [];
  const ratios: BenchReport["ratios"][number][] = [];
  await from.query(ORDERS);
  await insertOrders(from, 1, rowCount, ROWS_PER_TRANSACTION);
  await from.query("vacuum (freeze, analyze)");
  let rows = rowCount;
  for (const [kind, open] of Object.entries(KINDS)) {
    if (!takes(kind)) continue;
    if (kind === "redis" || kind === "elasticsearch") rows = Math.round(rowCount * SHARE_OF_STORES);
    await from.query("delete from orders where id > $1", [rows]);
    await from.query("vacuum (freeze, analyze) orders");
    await using target = await open({ sourceUrl: source.url, from, folder });
    await target.fill();
    const [own, bare]: [Verified[], number[]] = [[], []];
    for (let round = 0; round < (kind === "postgres" ? runs : 1); round++) {
      bare.push((await copyToNothing(source.url, "orders")) + (await secondsOf(() => target.read())));
      own.push(await verified(source.url, target.url, folder, rows));
      log(`verify ${kind}: ${own.at(-1)!.seconds.toFixed(1)} s, bare reads ${bare.at(-1)!.toFixed(1)} s`);
    }
    const value = median(own.map(({ seconds }, i) => seconds / bare[i]!));
    const seconds = median(own.map((one) => one.seconds));
    lines.push(
      {
        work: kind,
        who: "millrace",
        figures: {
          seconds,
          "rows/s": rows / seconds,
          "CPU µs/row": (median(own.map(({ cpuSeconds }) => cpuSeconds)) * 1e6) / rows,
          "peak memory MiB": Math.max(...own.map(({ memoryMiB }) => memoryMiB)),
          "times the bare reads": value,
        },
      },
      { work: kind, who: "bare reads", figures: { seconds: median(bare) } },
    );
    if (kind === "postgres")
      ratios.push({ what: "Postgres against Postgres / COPY of both sides", value, target: WANTED, atLeast: false });
  }
  await from.end();
  return { name: "verify", lines, ratios };
}

interface Verified {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly memoryMiB: number;
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1000;
}

async function millrace(args: readonly string[]): Promise<Verified & { readonly output: string }> {
  const startedMs = performance.now();
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const watched = watchedUsage(child.pid!);
  const parts: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => parts.push(part));
  const [code] = await once(child, "close");
  const usage = watched();
  if (code !== 0) throw new Error(`millrace verify ended with ${String(code)}`);
  return { ...usage, seconds: (performance.now() - startedMs) / 1000, output: Buffer.concat(parts).toString() };
}

async function verified(source: string, target: string, folder: string, rows: number): Promise<Verified> {
  const both = ["verify", "--source", source, "--target", target, "--log-level", "warn"];
  const map = join(folder, "map.yaml");
  writeFileSync(map, (await millrace([...both, "--suggest"])).output);
  const { output, ...usage } = await millrace([...both, "--map", map, "--json"]);
  const { tables, drift }: ReconcileDocument = JSON.parse(output);
  if (drift || tables[0]?.compared !== rows) throw new Error(`compared ${tables[0]?.compared} rows; drift: ${drift}`);
  return usage;
}

/** All rows, as Postgres' own program prints them. */
function copied(url: string, form: string): Readable {
  const command = `copy orders to stdout ${form}`;
  return spawn("psql", ["-X", "-q", "-d", url, "-c", command], { stdio: ["ignore", "pipe", "inherit"] }).stdout;
}

async function database({ sourceUrl }: Place): Promise<Target> {
  const server = await postgres.start({ own: true, settings: SETTINGS });
  const there = await connected(server.url);
  return {
    url: server.url,
    fill: async () => {
      await there.query(ORDERS);
      const args = ["-X", "-q", "-d", server.url, "-c", "copy orders from stdin"];
      const child = spawn("psql", args, { stdio: ["pipe", "inherit", "inherit"] });
      await pipeline(copied(sourceUrl, ""), child.stdin);
      if (child.exitCode === null) await once(child, "exit");
      await there.query("vacuum (freeze, analyze)");
    },
    read: () => copyToNothing(server.url, "orders"),
    [Symbol.asyncDispose]: async () => {
      await there.end();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function file({ sourceUrl, folder }: Place): Promise<Target> {
  const path = join(folder, "rows.duckdb");
  const csv = join(folder, "rows.csv");
  const run = async (...statements: readonly string[]): Promise<void> => {
    const instance = await DuckDBInstance.create(path);
    const connection = await instance.connect();
    for (const sql of statements) await connection.run(sql);
    connection.disconnectSync();
    instance.closeSync();
  };
  return {
    url: path,
    fill: async () => {
      await pipeline(copied(sourceUrl, "(format csv)"), createWriteStream(csv));
      const columns = ORDERS.replace("char(3)", "varchar");
      await run(columns, `COPY orders FROM '${csv}' (FORMAT csv, HEADER false)`, "CHECKPOINT");
      rmSync(csv);
    },
    read: () => run("COPY orders TO '/dev/null' (FORMAT csv)"),
    [Symbol.asyncDispose]: async () => rmSync(path, { force: true }),
  };
}

async function warehouse({ sourceUrl }: Place): Promise<Target> {
  const server = await clickhouse.start({ own: true });
  const { origin, host, username, password } = new URL(server.url);
  const login = { username: username || "default", password };
  const client = createClient({
    url: origin,
    ...login,
    request_timeout: 600_000,
    log: { level: ClickHouseLogLevel.OFF },
  });
  return {
    url: `clickhouse://${username === "" ? "" : `${username}:${password}@`}${host}/default`,
    fill: async () => {
      const columns = `id Int64, customer_id Int64, status String, total Decimal(12, 2), currency String, items Int32,
        weight Nullable(Float64), paid Bool, note Nullable(String), email String, created_at DateTime64(6), updated_at DateTime64(6)`;
      await client.command({ query: `CREATE TABLE orders (${columns}) ENGINE = MergeTree ORDER BY id` });
      await client.insert({
        table: "orders",
        values: copied(sourceUrl, "(format csv)"),
        format: "CSV",
        clickhouse_settings: { date_time_input_format: "best_effort" },
      });
    },
    read: async () => {
      const { stream } = await client.exec({ query: "SELECT * FROM orders ORDER BY id FORMAT TabSeparated" });
      await pipeline(stream, nothing());
    },
    [Symbol.asyncDispose]: async () => {
      await client.close();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function cache({ from }: Place): Promise<Target> {
  const server = await redis.start({ own: true });
  const client = new Redis(server.url);
  return {
    url: server.url,
    fill: async () => {
      for await (const rows of pagesOf(from)) {
        const pipe = client.pipeline();
        for (const row of rows) pipe.hset(`order:${String(row["id"])}`, textsOf(row));
        await pipe.exec();
      }
    },
    read: async () => {
      let cursor = "0";
      do {
        const [next, keys] = await client.scan(cursor, "COUNT", SCAN_COUNT);
        const pipe = client.pipeline();
        for (const key of keys) pipe.hgetallBuffer(key);
        await pipe.exec();
        cursor = next;
      } while (cursor !== "0");
    },
    [Symbol.asyncDispose]: async () => {
      client.disconnect();
      await server[Symbol.asyncDispose]();
    },
  };
}

async function index({ from }: Place): Promise<Target> {
  const server = await elasticsearch.start({ own: true, optimized: true });
  const ask = async (path: string, body: string | null): Promise<string> => {
    const headers = { "content-type": "application/x-ndjson" };
    const answer = await fetch(`${server.url}/${path}`, { method: "POST", headers, body });
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return await answer.text();
  };
  return {
    url: server.url,
    fill: async () => {
      for await (const rows of pagesOf(from)) {
        const lines = rows.map(
          (row) => `${JSON.stringify({ index: { _id: String(row["id"]) } })}\n${JSON.stringify(row)}\n`,
        );
        await ask("orders/_bulk", lines.join(""));
      }
      await ask("orders/_refresh", null);
    },
    read: async () => {
      const { id }: { readonly id: string } = JSON.parse(await ask("orders/_pit?keep_alive=5m", null));
      for (let after: unknown; ;) {
        const pit = { id, keep_alive: "5m" };
        const page = { size: PAGE_ROWS, pit, sort: ["_shard_doc"], track_total_hits: false };
        const text = await ask(
          "_search",
          JSON.stringify(after === undefined ? page : { ...page, search_after: after }),
        );
        const { hits }: { readonly hits: { readonly hits: readonly { readonly sort: unknown }[] } } = JSON.parse(text);
        after = hits.hits.at(-1)?.sort;
        if (after === undefined) return;
      }
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

type Row = Readonly<Record<string, unknown>>;

async function* pagesOf(from: Client): AsyncGenerator<readonly Row[]> {
  for (let after = 0; ;) {
    const { rows } = await from.query<{ readonly row: Row }>(
      "select to_jsonb(o) as row from orders o where id > $1 order by id limit $2",
      [after, PAGE_ROWS],
    );
    if (rows.length === 0) return;
    yield rows.map(({ row }) => row);
    after = Number(rows.at(-1)!.row["id"]);
  }
}

function textsOf(row: Row): Record<string, string> {
  const set = Object.entries(row).filter(([, value]) => value !== null);
  return Object.fromEntries(set.map(([name, value]) => [name, String(value)]));
}

function nothing(): Writable {
  return new Writable({ write: (_part, _encoding, done) => done() });
}
