/**
 * Postgres to DuckDB against DuckDB's own tools: the same rows, as values in memory, through the appender (whole data
 * chunks) into a staging table, and from there by INSERT … ON CONFLICT DO UPDATE into an equal table in another file.
 */
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  BIGINT,
  BOOLEAN,
  DECIMAL,
  DOUBLE,
  type DuckDBConnection,
  DuckDBDataChunk,
  DuckDBDecimalValue,
  DuckDBInstance,
  DuckDBTimestampTZValue,
  type DuckDBType,
  type DuckDBValue,
  INTEGER,
  TIMESTAMPTZ,
  VARCHAR,
} from "@duckdb/node-api";
import { parseLsn } from "../connectors/postgres/source/wire/lsn.ts";
import { againstLoad, type Loaded, type LoadTarget } from "./against-load.ts";
import type { Backlog, Work } from "./backlog.ts";
import { rowsOf } from "./orders.ts";
import type { BenchOptions, BenchReport } from "./report.ts";

const ROWS = 500_000;
const WANTED = 1.2;
/** The sink's memory limit; a single thread would not be faster. */
const SETTINGS = { memory_limit: "512MB", threads: "2" } as const;
/** The size of DuckDB's vectors. */
const CHUNK_ROWS = 2_048;
/** Rows per transaction of the peer. */
const BATCH_ROWS = 24 * CHUNK_ROWS;
const STATUS_POLL_MS = 20;

type Text = string | null;
interface Column {
  readonly name: string;
  readonly type: DuckDBType;
  readonly value: (text: string) => DuckDBValue;
}

const timestamp = (text: string): DuckDBTimestampTZValue =>
  new DuckDBTimestampTZValue(BigInt(Date.parse(`${text.slice(0, 23)}Z`)) * 1000n + BigInt(text.slice(23, 26)));
const COLUMNS: readonly Column[] = [
  { name: "id", type: BIGINT, value: BigInt },
  { name: "customer_id", type: BIGINT, value: BigInt },
  { name: "status", type: VARCHAR, value: String },
  {
    name: "total",
    type: DECIMAL(12, 2),
    value: (text) => new DuckDBDecimalValue(BigInt(text.replace(".", "")), 12, 2),
  },
  { name: "currency", type: VARCHAR, value: String },
  { name: "items", type: INTEGER, value: Number },
  { name: "weight", type: DOUBLE, value: Number },
  { name: "paid", type: BOOLEAN, value: (text) => text === "true" },
  { name: "note", type: VARCHAR, value: String },
  { name: "email", type: VARCHAR, value: String },
  { name: "created_at", type: TIMESTAMPTZ, value: timestamp },
  { name: "updated_at", type: TIMESTAMPTZ, value: timestamp },
  { name: "_millrace_version", type: BIGINT, value: BigInt },
  { name: "_millrace_commit_time", type: TIMESTAMPTZ, value: timestamp },
];
const UPSERT = `insert into orders select * from stage on conflict (id) do update set
  ${COLUMNS.slice(1)
    .map(({ name }) => `${name} = excluded.${name}`)
    .join(", ")}
  where excluded._millrace_version >= orders._millrace_version`;

export async function run(options: BenchOptions): Promise<BenchReport> {
  await using target = new DuckdbTarget();
  return await againstLoad(
    "apply-duckdb",
    target,
    { rowCount: Math.round(ROWS * options.scale), wanted: WANTED },
    options,
  );
}

export class DuckdbTarget implements LoadTarget {
  readonly peer = "appender and upsert";
  readonly serverPid = undefined;
  #path = "";
  #instance: DuckDBInstance | undefined;
  #connection: DuckDBConnection | undefined;

  sink(folder: string): object {
    this.#path = join(folder, "warehouse.duckdb");
    return { kind: "duckdb", path: this.#path };
  }

  async prepare({ daemon }: Backlog): Promise<void> {
    this.#instance = await DuckDBInstance.create(join(daemon.folder, "peer.duckdb"), SETTINGS);
    this.#connection = await this.#instance.connect();
    const columns = COLUMNS.map(({ name, type }) => `${name} ${type.toString()}`).join(", ");
    await this.#connection.run(
      `create table orders (${columns}, primary key (id)); create temp table stage (${columns})`,
    );
  }

  /** The daemon holds the file open, so the daemon's status shows how far the sink is. */
  async hasMark(_name: string, { daemon, markedAfter }: Backlog): Promise<boolean> {
    const status = await daemon.status("bench");
    const position = status?.sinks[0]?.position ?? null;
    if (position !== null && parseLsn(position) > markedAfter) return true;
    await sleep(STATUS_POLL_MS);
    return false;
  }

  async load(work: Work, { source }: Backlog): Promise<Loaded> {
    const connection = this.#connection!;
    const chunks: DuckDBValue[][][] = [];
    let rows: (readonly Text[])[] = [];
    const flush = (): void => {
      if (rows.length === 0) return;
      chunks.push(COLUMNS.map(({ value }, i) => rows.map((row) => (row[i] === null ? null : value(row[i]!)))));
      rows = [];
    };
    for await (const row of rowsOf(source, work)) {
      rows.push(COLUMNS.map(({ name }) => row[name]!));
      if (rows.length === CHUNK_ROWS) flush();
    }
    flush();
    const startedMs = performance.now();
    for (let at = 0; at < chunks.length; at += BATCH_ROWS / CHUNK_ROWS) {
      await connection.run("begin");
      const appender = await connection.createAppender("stage");
      for (const columns of chunks.slice(at, at + BATCH_ROWS / CHUNK_ROWS)) {
        const chunk = DuckDBDataChunk.create(COLUMNS.map(({ type }) => type));
        chunk.setColumns(columns);
        appender.appendDataChunk(chunk);
      }
      appender.closeSync();
      await connection.run(UPSERT);
      await connection.run("delete from stage");
      await connection.run("commit");
    }
    return { seconds: (performance.now() - startedMs) / 1000 };
  }

  async count(): Promise<{ own: number; peer: number }> {
    return { own: await this.countOwn(), peer: await countIn(this.#connection!, "orders") };
  }

  protected async countOwn(): Promise<number> {
    const instance = await DuckDBInstance.create(this.#path, { access_mode: "READ_ONLY" });
    const connection = await instance.connect();
    const count = await countIn(connection, "public.orders");
    connection.closeSync();
    instance.closeSync();
    return count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection?.closeSync();
    this.#instance?.closeSync();
  }
}

export async function countIn(connection: DuckDBConnection, table: string): Promise<number> {
  return Number((await connection.runAndReadAll(`select count(*)::int from ${table}`)).getRows()[0]![0]);
}
