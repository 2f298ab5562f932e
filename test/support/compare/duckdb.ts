/**
 * A DuckDB file, or a lake. One process holds it, so a copy is read, made by a program of its own: closing the file in this process
 * would drop the lock of a sink that has it open here. Whoever writes to it must be idle or stopped meanwhile.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { promisify } from "node:util";
import { type DuckDBConnection, DuckDBInstance, type Json } from "@duckdb/node-api";
import { wholeResult } from "../../../connectors/kit/duckdb-engine/reading.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { duckdbExtensions } from "../../../scripts/services/packages/duckdb-extensions.ts";
import { isDense, landed } from "../warehouses/duckdb-landing.ts";
import type { FreshBucket } from "../run/services.ts";
import { temporaryFolder } from "../run/temporary-folder.ts";
import { eventually } from "../run/waiting.ts";
import { type Kept, liveRows } from "./live-rows.ts";
import { sinkRow } from "./postgres.ts";
import { rowId, type SinkReader, type SinkRow, VERSION } from "./reader.ts";
import { quoted, type SourceColumn, type SourceTable } from "./source-table.ts";

export interface DuckdbSinkAddress {
  readonly kind: "duckdb";
  readonly path: string;
  readonly schema?: string;
  readonly kept?: Kept;
}

/** Texts of the values that their columns can't hold (README of the connector). */
const EXACT = "_millrace_exact";

const run = promisify(execFile);

/** A lake whose catalogue is a SQLite file: read as it is, also while somebody writes. */
export interface LakeSinkAddress {
  readonly kind: "ducklake";
  readonly catalog: string;
  readonly schema?: string;
  readonly kept?: Kept;
  /** Where the data files are, if not in a folder. */
  readonly bucket?: FreshBucket;
}

export async function lakeReader({ catalog, schema, kept, bucket }: LakeSinkAddress): Promise<SinkReader> {
  const instance = await DuckDBInstance.create(":memory:", { allow_unsigned_extensions: "true", threads: "2" });
  const connection = await instance.connect();
  const extensions = await duckdbExtensions();
  for (const name of ["ducklake", "sqlite_scanner", "httpfs"]) {
    await connection.run(`LOAD '${extensions}/${name}.duckdb_extension'`);
  }
  if (bucket !== undefined) {
    const { endpoint, region, accessKeyId, secretAccessKey } = bucket.options;
    const login = `KEY_ID '${accessKeyId}', SECRET '${secretAccessKey}', REGION '${region}', ENDPOINT '${new URL(endpoint).host}'`;
    await connection.run(`CREATE TEMPORARY SECRET (TYPE s3, ${login}, URL_STYLE 'path', USE_SSL false)`);
  }
  await connection.run(`ATTACH 'ducklake:sqlite:${catalog}' AS lake (READ_ONLY, META_BUSY_TIMEOUT 5000); USE lake`);
  return readerOver({ instance, connection }, schema, kept, () => undefined);
}

export async function duckdbReader({ path, schema, kept }: DuckdbSinkAddress): Promise<SinkReader> {
  const folder = temporaryFolder();
  try {
    const files = [path, `${path}.wal`].filter((file) => existsSync(file));
    if (files.length > 0) await run("cp", ["--", ...files, folder.path]);
    const instance = await DuckDBInstance.create(folder.file(basename(path)), { memory_limit: "512MB", threads: "2" });
    const connection = await instance.connect();
    return await readerOver({ instance, connection }, schema, kept, () => folder[Symbol.dispose]());
  } catch (error) {
    folder[Symbol.dispose]();
    throw error;
  }
}

async function readerOver(
  { instance, connection }: { readonly instance: DuckDBInstance; readonly connection: DuckDBConnection },
  schema: string | undefined,
  kept: Kept | undefined,
  released: () => void,
): Promise<SinkReader> {
  await connection.run("SET TimeZone = 'UTC'");
  return {
    mayRepeat: false,
    expected: (column, text) => landingOf(column, text),
    idOf: (_key, landedKey) => rowId(landedKey),
    rows: (table) => readRows(connection, schema ?? table.schema, table, kept),
    async [Symbol.asyncDispose]() {
      connection.disconnectSync();
      instance.closeSync();
      released();
    },
  };
}

/** Keys are no lists, and have one zero. */
function landingOf(column: SourceColumn, text: string): string {
  if (!column.isKey) return landed(column, text);
  if (column.type.kind === "array") return text;
  return landed(column, column.type.kind === "float" && text === "-0" ? "0" : text);
}

async function* readRows(
  connection: DuckDBConnection,
  schema: string,
  table: SourceTable,
  kept?: Kept,
): AsyncGenerator<SinkRow[]> {
  const there = await columnsOf(connection, schema, table.table);
  if (there.size === 0) return;
  const names = targetNames(table);
  const surplus = [...there.keys()].filter((name) => !names.includes(name) && !name.startsWith("_millrace_"));
  // A list's column may hold texts: of keys, and of box[], whose elements commas do not separate.
  const isText = table.columns.map(({ isKey }, i) => isKey || there.get(names[i]!) === "VARCHAR");
  const cells = table.columns.map(({ type }, i) =>
    there.has(names[i]!) ? readable(type, quoted(names[i]!), isText[i]!) : "NULL",
  );
  const exact = there.has(EXACT) ? `${EXACT}::VARCHAR` : "NULL";
  const keys = table.key.map((ordinal) => quoted(names[ordinal]!));
  const from = liveRows(`${quoted(schema)}.${quoted(table.table)}`, keys, kept);
  const others = surplus.map((name) => `${quoted(name)}::VARCHAR`);
  const list = [`${VERSION}::VARCHAR`, exact, ...cells, ...others].join(", ");
  // Who reads a lake in the moment in which maintenance moves its rows is told, and asks again.
  const result = await eventually(() => connection.stream(`SELECT ${list} FROM ${from}`), { withinMs: 1_000 });
  for await (const rows of wholeResult(result, (it) => it.yieldRowsJson())) {
    yield rows.map(([version, beside, ...values]) => {
      const kept = new Map<string, unknown>(Object.entries(parsedObject(beside)));
      const shown = values.map((value, i) => {
        if (i >= names.length) return value === null ? null : asText(value);
        const text = kept.get(names[i]!);
        if (typeof text === "string") return text;
        return value === null ? null : spelt(table.columns[i]!.type, value, isText[i]!);
      });
      return sinkRow(table, [asText(version), ...shown], surplus);
    });
  }
}

/** Their types, by their names. */
async function columnsOf(connection: DuckDBConnection, schema: string, table: string): Promise<Map<string, string>> {
  const reader = await connection.runAndReadAll(
    "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = $1 AND table_name = $2 AND database_name = current_database()",
    [schema, table],
  );
  return new Map(reader.getRowsJson().map(([name, type]) => [asText(name), asText(type)]));
}

/** DuckDB does not tell letter case apart in names: the second of two columns gets a hash behind it. */
function targetNames({ columns }: SourceTable): string[] {
  const taken = new Set<string>();
  return columns.map(({ name }) => {
    const digest = createHash("sha256").update(name).digest("hex").slice(0, 8);
    const chosen = taken.has(folded(name)) ? `${name}_${digest}` : name;
    taken.add(folded(chosen));
    return chosen;
  });
}

function folded(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** As hex digits, for the client takes a byte order mark off the front of a text. */
function readable(type: ColumnType, name: string, isText: boolean): string {
  if (type.kind === "bytes") return `'\\x' || lower(hex(${name}))`;
  if (type.kind === "bool" || type.kind === "float") return name;
  if (isDense(type) && !isText) return name;
  if (type.kind !== "array" || isText) return `hex(${name}::VARCHAR)`;
  if (type.of.kind === "array") return name;
  return `list_transform(${name}, lambda x: ${readable(type.of, "x", false)})`;
}

function spelt(type: ColumnType, value: Json, isText: boolean): string {
  if (type.kind === "bool") return value === true ? "t" : "f";
  if (type.kind === "float") return String(Number(value));
  if (isDense(type) && Array.isArray(value)) return JSON.stringify(value.map(String));
  if (type.kind === "array" && !isText && Array.isArray(value)) {
    return JSON.stringify(value.map((element) => (element === null ? null : spelt(type.of, element, false))));
  }
  if (type.kind === "bytes") return asText(value);
  const text = Buffer.from(asText(value), "hex").toString();
  // Where all digits stand behind the point, DuckDB prints no zero before it.
  return type.kind === "decimal" ? text.replace(/^(-?)\./, "$10.") : text;
}

function asText(value: Json | undefined): string {
  if (typeof value !== "string") throw new TypeError("the query gives text here");
  return value;
}

function parsedObject(json: Json | undefined): object {
  const parsed: unknown = JSON.parse(typeof json === "string" ? json : "{}");
  return typeof parsed === "object" && parsed !== null ? parsed : {};
}
