/** ClickHouse as the conformance suite and the tests of the sink look at it: through SQL of their own. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { definition, factory } from "../../../connectors/clickhouse/config.ts";
import type { Sink } from "../../../src/core/contracts/sink.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { HistoryRow, KeptForm, MarkedRow, SinkTarget, TargetRow } from "../../conformance/sink.ts";
import { askClickhouse, nameIn, readable, type Row, spelt } from "./clickhouse-values.ts";
import { tcpProxy } from "../network/proxy.ts";
import { quietLog } from "../run/quiet-log.ts";
import { clickhouseUrl } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";

/** Of a test of another file. */
const LOCKED_WITHIN_MS = 120_000;

export interface ClickhouseTarget extends SinkTarget {
  readonly query: (sql: string) => Promise<readonly Row[]>;
  readonly database: string;
  /** Names its checkpoint. */
  readonly sink: string;
}

let lock: Promise<AsyncDisposable> | undefined;
let holderCount = 0;

/**
 * Databases of ClickHouse have the names of schemas, and a target drops what came while it was there: only one process at
 * a time has targets on the shared server.
 */
async function alone(): Promise<AsyncDisposable> {
  holderCount++;
  const own = await (lock ??= locked(new URL(clickhouseUrl()).port));
  return {
    async [Symbol.asyncDispose]() {
      if (--holderCount > 0) return;
      lock = undefined;
      await own[Symbol.asyncDispose]();
    },
  };
}

/** By a socket, which the system closes for a process that was killed. */
async function locked(name: string): Promise<AsyncDisposable> {
  return await eventually(
    async () => {
      const server = createServer().listen({ path: `\0millrace-test-clickhouse-${name}` });
      await once(server, "listening");
      return server;
    },
    { withinMs: LOCKED_WITHIN_MS },
  );
}

/** All tables in one database, which no other test has. `isOwn`: the server is that of the file. */
export async function clickhouseTarget(form: KeptForm, url: string, isOwn = false): Promise<ClickhouseTarget> {
  const mark = randomUUID().slice(0, 8);
  const shared = isOwn ? null : await alone();
  const proxy = await tcpProxy(url);
  const query = (sql: string) => askClickhouse(url, sql);
  // Only what is made after this moment is the test's. Other files that run meanwhile have databases with names that
  // `freshColumns` gives, and share the checkpoints' database.
  const before = new Set((await query("SELECT name FROM system.databases")).map(([name]) => name));
  const own = async () => {
    const names = (await query("SELECT name FROM system.databases")).map(([name]) => name ?? "");
    return names.filter((name) => !before.has(name) && !name.startsWith("test_") && (isOwn || name !== "millrace"));
  };
  const wipe = async () => {
    for (const name of await own()) await query(`DROP DATABASE IF EXISTS ${nameIn(name)} SYNC`);
    // A database that is dropped costs a tenth of rows that are deleted.
    for (const table of isOwn ? [] : ["progress", "targets"]) {
      const [there] = await query(`SELECT 1 FROM system.tables WHERE database = 'millrace' AND name = '${table}'`);
      if (there === undefined) continue;
      await query(
        `ALTER TABLE millrace.${table} DELETE WHERE sink = 'shop/columns_${mark}' SETTINGS mutations_sync = 2`,
      );
    }
  };
  return {
    query,
    database: "public",
    sink: `shop/columns_${mark}`,
    makeSink: (other = form, daemon = "shop"): Promise<Sink> => {
      const options = definition.parse({ url: proxy.url(url), fsync: false, ...other });
      return factory.create({ name: `columns_${mark}`, daemon, folder: "/", options }, quietLog);
    },
    check: async (tables, daemon, signal) => {
      const options = definition.parse({ url, ...form });
      return await factory.check({ name: `columns_${mark}`, daemon, folder: "/", options }, signal, tables);
    },
    readRows: (table) => readRows(query, table, form),
    readKeys: async (table) => {
      const keys = table.key.map((ordinal) => `toString(${nameIn(table.columns[ordinal]!.name)})`);
      return JSON.stringify(await query(`SELECT ${keys.join(", ")} FROM ${nameOf(table)}`));
    },
    readMarked: (table) => readMarked(query, table),
    readHistory: (table) => readHistory(query, table),
    wipe,
    cut: async () => proxy.cut(),
    async occupy(table) {
      await query(`CREATE DATABASE IF NOT EXISTS ${nameIn(table.schema)}`);
      await query(`CREATE TABLE ${nameOf(table)} (id Int32) ENGINE = MergeTree ORDER BY id`);
    },
    async copy(table) {
      const copy = `${nameIn(table.schema)}.millrace_copy`;
      await query(`CREATE TABLE ${copy} AS ${nameOf(table)}`);
      await query(`INSERT INTO ${copy} SELECT * FROM ${nameOf(table)}`);
      return async () => {
        await query(`DROP TABLE ${nameOf(table)} SYNC`);
        await query(`RENAME TABLE ${copy} TO ${nameOf(table)}`);
      };
    },
    async obstruct(table) {
      const hidden = `${nameIn(table.schema)}.millrace_hidden`;
      await query(`RENAME TABLE ${nameOf(table)} TO ${hidden}`);
      const back = `RENAME TABLE ${hidden} TO ${nameOf(table)}`;
      return { [Symbol.asyncDispose]: async () => void (await query(back)) };
    },
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await wipe();
      await shared?.[Symbol.asyncDispose]();
    },
  };
}

function nameOf(table: TableVersion): string {
  return nameIn(table.schema, table.table);
}

/** A name that is too long is found by its beginning. */
async function placeOf(query: ClickhouseTarget["query"], table: TableVersion): Promise<string> {
  const rows = await query("SELECT database, name FROM system.tables WHERE engine LIKE '%ReplacingMergeTree'");
  const isLike = (found: string | null, name: string) =>
    found === name || (name.length > 25 && /_[0-9a-f]{8}$/.test(found ?? "") && name.startsWith(found!.slice(0, -9)));
  const found = rows.find(
    ([database, name]) => isLike(database ?? null, table.schema) && isLike(name ?? null, table.table),
  );
  const [database, name] = found ?? [];
  return nameIn(database ?? table.schema, name ?? table.table);
}

/** The rows that a reader of the `_current` view would see, read from the table itself. */
function live(place: string, table: TableVersion, form: KeptForm): string {
  if (form.mode === "mirror") return `${place} FINAL WHERE _millrace_deleted = 0`;
  const keys = table.key.map((i) => nameIn(table.columns[i]!.name)).join(", ");
  return (
    `(SELECT * FROM ${place} FINAL WHERE _millrace_op != 't' ORDER BY _millrace_version DESC, _millrace_offset DESC LIMIT 1 BY ${keys}) ` +
    `WHERE _millrace_op != 'd' AND (_millrace_version, _millrace_offset) > ` +
    `(SELECT max((_millrace_version, _millrace_offset)) FROM ${place} WHERE _millrace_op = 't')`
  );
}

/** Cells that `_millrace_exact` has are shown as that text. */
async function readRows(query: ClickhouseTarget["query"], table: TableVersion, form: KeptForm): Promise<TargetRow[]> {
  const place = await placeOf(query, table);
  const cells = table.columns.map(readable);
  const rows = await query(
    `SELECT toString(_millrace_version), _millrace_exact, ${cells.join(", ")} FROM ${live(place, table, form)}`,
  );
  return rows.map(([version, exact, ...values]) => ({
    version: BigInt(version!),
    cells: cellsOf(table, exact ?? "", values),
  }));
}

function cellsOf(table: TableVersion, exact: string, values: Row): (string | null)[] {
  const beside = new Map<string, unknown>(exact === "" ? [] : Object.entries(JSON.parse(exact)));
  return values.map((value, i) => {
    const column = table.columns[i]!;
    const text = beside.get(column.name);
    if (typeof text === "string") return text;
    return value === null ? null : spelt(column, table.key.includes(i), value);
  });
}

async function readMarked(query: ClickhouseTarget["query"], table: TableVersion): Promise<MarkedRow[]> {
  const place = await placeOf(query, table);
  const [[engine] = []] = await query(
    `SELECT engine_full FROM system.tables WHERE database = '${table.schema}' AND name = '${table.table}'`,
  );
  if (/^\w+\([^)]*_millrace_deleted/.test(engine ?? "")) throw new Error("_millrace_deleted hides rows in this table");
  const keys = table.key.map((i) => nameIn(table.columns[i]!.name));
  const rows = await query(
    `SELECT toString(_millrace_version), toString(toUnixTimestamp64Micro(_millrace_commit_time)), _millrace_deleted, _millrace_exact, ` +
      `${table.columns.map(readable).join(", ")} FROM ${place} FINAL ORDER BY ${keys.join(", ")}`,
  );
  return rows.map(([version, us, deleted, exact, ...values]) => ({
    version: BigInt(version!),
    commitTimeUs: BigInt(us!),
    isDeleted: deleted === "1",
    cells: cellsOf(table, exact ?? "", values),
  }));
}

async function readHistory(query: ClickhouseTarget["query"], table: TableVersion): Promise<HistoryRow[]> {
  const place = await placeOf(query, table);
  const keys = table.key.map((i) => nameIn(table.columns[i]!.name));
  const rows = await query(
    `SELECT toString(_millrace_version), toString(_millrace_offset), _millrace_op, arrayStringConcat(_millrace_unchanged, ','), ` +
      `_millrace_exact, ${table.columns.map(readable).join(", ")} FROM ${place} FINAL ` +
      `ORDER BY _millrace_version, _millrace_offset, ${keys.join(", ")}, _millrace_op DESC`,
  );
  return rows.map(([version, offset, op, unchanged, exact, ...values]) => ({
    version: BigInt(version!),
    offset: Number(offset),
    op: op!,
    unchanged: unchanged === "" ? [] : unchanged!.split(","),
    cells: cellsOf(table, exact ?? "", values),
  }));
}
