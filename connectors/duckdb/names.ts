import { createHash } from "node:crypto";
import type { TableName } from "../../src/core/contracts/connector.ts";
import { type Column, tableId } from "../../src/core/model/schema.ts";
import { duckdbError } from "./errors.ts";
import { quoteIdentifier, quoteLiteral } from "../kit/duckdb.ts";

export { quoteIdentifier, quoteLiteral };

/** Schema of Millrace's own tables; captured tables can't be in it. */
export const META_SCHEMA = "_millrace";
export const VERSION_COLUMN = "_millrace_version";
export const COMMIT_TIME_COLUMN = "_millrace_commit_time";
/** Only with soft deletes. A row that is not deleted has false here, never null. */
export const DELETED_COLUMN = "_millrace_deleted";
/** Only in a history. */
export const OP_COLUMN = "_millrace_op";
export const OFFSET_COLUMN = "_millrace_offset";
/**
 * In a history: names of the columns whose value is unknown, from the log and from earlier rows; null: all are known.
 */
export const UNCHANGED_COLUMN = "_millrace_unchanged";
/** In a history: version of the last read beside the stream that found the row as it is. */
export const SEEN_COLUMN = "_millrace_seen";
/** Added at first need: JSON object of the cells that do not fit their columns' types, see README. */
export const EXACT_COLUMN = "_millrace_exact";

const OWN_COLUMNS = [
  VERSION_COLUMN,
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  OP_COLUMN,
  OFFSET_COLUMN,
  UNCHANGED_COLUMN,
  SEEN_COLUMN,
  EXACT_COLUMN,
];

/** DuckLake gives these names to columns of its own. */
const LAKE_COLUMNS = ["row_id", "begin_snapshot", "end_snapshot"];

interface NamedFor {
  readonly isLake?: boolean;
}

/** Follows the key of a history's rows; distinguishes the changes of a row. */
export const CHANGE_IDENTITY = [VERSION_COLUMN, OFFSET_COLUMN];

const RESERVED_SCHEMAS = new Set([META_SCHEMA, "information_schema", "pg_catalog"]);

export interface TargetName {
  readonly schema: string;
  readonly table: string;
}

export function targetOf(table: TableName, schemaOption: string | undefined): TargetName {
  const schema = schemaOption ?? table.schema;
  if (isReserved(schema)) {
    const id = tableId(table.schema, table.table);
    throw duckdbError({
      code: "MR3209",
      kind: "fatal",
      message: `table ${id} can't be written to schema ${schema}: the name is DuckDB's or Millrace's own`,
      hint: "give the sink a `schema`, or leave the table out of its `tables`",
      table: id,
    });
  }
  return { schema, table: table.table };
}

export function isReserved(schema: string): boolean {
  return RESERVED_SCHEMAS.has(fold(schema));
}

/** Equal for two tables if and only if they would be one table in DuckDB. */
export function targetKey(target: TargetName): string {
  return `${quoteIdentifier(fold(target.schema))}.${quoteIdentifier(fold(target.table))}`;
}

/** DuckDB ignores the case of ASCII letters in identifiers, even in quoted ones; other letters keep their case. */
export function fold(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/**
 * If a column's name differs only in case from an earlier one, or from one of Millrace's or DuckLake's own, it gets a
 * suffix: `_` and 8 hex digits of its hash.
 */
export function columnNames(columns: readonly Pick<Column, "name">[], { isLake }: NamedFor = {}): string[] {
  const taken = new Set<string>(isLake === true ? [...OWN_COLUMNS, ...LAKE_COLUMNS] : OWN_COLUMNS);
  return columns.map(({ name }) => {
    const chosen = taken.has(fold(name))
      ? `${name}_${createHash("sha256").update(name).digest("hex").slice(0, 8)}`
      : name;
    taken.add(fold(chosen));
    return chosen;
  });
}

/** Qualified by catalogue or schema. */
export function quoteName(...parts: readonly string[]): string {
  return parts.map(quoteIdentifier).join(".");
}
