import { createHash } from "node:crypto";
import type { TableName } from "../../src/core/contracts/connector.ts";
import { tableId, type TableVersion } from "../../src/core/model/schema.ts";
import { shortened } from "../../src/core/targets/names.ts";
import { clickhouseError } from "./errors.ts";
import { OWN_PREFIX } from "../warehouse/own-columns.ts";
import { reservedSchema } from "../warehouse/table-change.ts";
import { andInScope } from "../warehouse/targets.ts";

/** Database of Millrace's own tables; captured tables can't be in it. */
export const META_DATABASE = "millrace";
/** Begins the name of a column without values: see WriteFence. */
export const RUN_PREFIX = `${OWN_PREFIX}run_`;
const VIEW_SUFFIX = "_current";

/** The server says of no table in the last one that it is there. */
export const RESERVED_DATABASES: ReadonlySet<string> = new Set([
  META_DATABASE,
  "system",
  "information_schema",
  "INFORMATION_SCHEMA",
  "_temporary_and_external_tables",
]);

/**
 * In the names of files ClickHouse writes each byte of a character outside of ASCII's letters, digits and _ as %XX. A
 * database's and a table's name share 213 of them, and a view's name is longer than its table's.
 */
const ESCAPED_MAX = 100;

export interface TargetName {
  readonly database: string;
  readonly table: string;
}

export function targetOf(table: TableName, schema: string | undefined): TargetName {
  const database = fitted(schema ?? table.schema);
  if (isReserved(database)) {
    const id = tableId(table.schema, table.table);
    const message = `table ${id} can't be written to database ${database}: the name is ClickHouse's or Millrace's own`;
    throw reservedSchema(clickhouseError, message, id);
  }
  return { database, table: fitted(table.table) };
}

export function isReserved(database: string): boolean {
  return RESERVED_DATABASES.has(database);
}

/** A name that is too long for ClickHouse is cut and ends in `_` and a hash of the whole. */
export function fitted(name: string): string {
  let byteCountMax = Buffer.byteLength(name);
  let chosen = name;
  while (escapedLength(chosen) > ESCAPED_MAX) chosen = shortened(name, --byteCountMax);
  return chosen;
}

function escapedLength(name: string): number {
  let length = 0;
  for (const byte of Buffer.from(name)) length += /\w/.test(String.fromCharCode(byte)) ? 1 : 3;
  return length;
}

export function viewOf({ database, table }: TargetName): TargetName {
  return { database, table: `${table}${VIEW_SUFFIX}` };
}

/** Begins the names of what a table is made again as, before it takes the table's name. */
export function rebuiltPrefix({ table }: TargetName): string {
  return `${OWN_PREFIX}rebuilt_${createHash("sha256").update(table).digest("hex").slice(0, 12)}_`;
}

/** In messages. */
export function shownTarget({ database, table }: TargetName): string {
  return `${database}.${table}`;
}

export function sqlNameOf({ database, table }: TargetName): string {
  return `${quoteIdentifier(database)}.${quoteIdentifier(table)}`;
}

/** See `andInScope`. */
export function inScope(table: Pick<TableVersion, "scope" | "columns">): string {
  return andInScope(table, (ordinal) => quoteIdentifier(table.columns[ordinal]!.name), quoteLiteral);
}

export function quoteIdentifier(name: string): string {
  return `\`${name.replaceAll(/[\\`]/g, "\\$&")}\``;
}

export function quoteLiteral(text: string): string {
  return `'${text.replaceAll(/[\\']/g, "\\$&").replaceAll("\0", "\\0")}'`;
}
