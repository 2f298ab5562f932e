import type { TableName } from "../../src/core/contracts/connector.ts";
import { type Column, tableId, type TableVersion } from "../../src/core/model/schema.ts";
import { distinctNames, fold, quoteIdentifier } from "../kit/sql-names.ts";
import { OWN_COLUMNS, OWN_PREFIX } from "../warehouse/own-columns.ts";
import { ScopeTable } from "../warehouse/scopes.ts";
import { sqliteError } from "./errors.ts";
import { reservedSchema } from "../warehouse/table-change.ts";
import { andInScope } from "../warehouse/targets.ts";

export { fold, quoteIdentifier };

/** Checkpoint and lease of each sink that writes to the file. No captured table has such a name: it holds no dot. */
export const PROGRESS = "_millrace_progress";
/** The notes of the targets (connectors/warehouse/following): SQLite has no comments. */
export const NOTES = "_millrace_tables";
/** Who has which table's rows in targets that tables share. */
export const SCOPES_NAME = "_millrace_scopes";
/** See `NewestRow`. */
export const NEWEST = "_millrace_newest";
/** Takes the place of a target whose rows must be copied. */
export const REBUILT = "_millrace_rebuilt";

export const SCOPES = new ScopeTable(SCOPES_NAME, quoteText);

/** SQLite has no schemas: the table's name is that of both, with a dot. */
export function targetName(table: TableName, schemaOption: string | undefined): string {
  const schema = schemaOption ?? table.schema;
  if (!isReserved(schema)) return `${schema}.${table.table}`;
  const id = tableId(table.schema, table.table);
  const message = `table ${id} can't be written under schema ${schema}: the name is SQLite's or Millrace's own`;
  throw reservedSchema(sqliteError, message, id);
}

export function isReserved(schema: string): boolean {
  return fold(schema).startsWith("sqlite_") || fold(schema).startsWith(OWN_PREFIX) || fold(schema) === "_millrace";
}

/** Equal for two tables if and only if they would be one table in SQLite. */
export function targetKey(name: string): string {
  return quoteIdentifier(fold(name));
}

export function columnNames(columns: readonly Pick<Column, "name">[]): string[] {
  // The name by which rows are walked through.
  return distinctNames(columns, [...OWN_COLUMNS, "_rowid_"]);
}

export function quoteText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** See `andInScope`. */
export function inScope(table: Pick<TableVersion, "scope" | "columns">): string {
  const names = columnNames(table.columns);
  return andInScope(table, (ordinal) => quoteIdentifier(names[ordinal]!), quoteText);
}
