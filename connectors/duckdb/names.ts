import { createHash } from "node:crypto";
import type { Column, TableVersion } from "../../src/core/model/schema.ts";
import { duckdbError } from "./errors.ts";

/** Schema of Millrace's own tables; no captured table may lie there. */
export const META_SCHEMA = "_millrace";
export const VERSION_COLUMN = "_millrace_version";
export const COMMIT_TIME_COLUMN = "_millrace_commit_time";
/** Only where deletes are soft. A row that is not marked has false here, never null. */
export const DELETED_COLUMN = "_millrace_deleted";
/** Only in a history. */
export const OP_COLUMN = "_millrace_op";
export const OFFSET_COLUMN = "_millrace_offset";
/** In a history: names of the columns that neither the log nor an earlier row knew; null: all are known. */
export const UNCHANGED_COLUMN = "_millrace_unchanged";
/** In a history: version of the last reading beside the stream that found the row as it is here. */
export const SEEN_COLUMN = "_millrace_seen";
/** Made where it is needed first: JSON object of the cells that their columns' types can't hold, see README. */
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

/** Behind the key of a history's rows: what tells the changes of a row apart. */
export const CHANGE_IDENTITY = [VERSION_COLUMN, OFFSET_COLUMN];

const RESERVED_SCHEMAS = new Set([META_SCHEMA, "information_schema", "pg_catalog"]);

export interface TargetName {
  readonly schema: string;
  readonly table: string;
}

export function targetOf(table: TableVersion, schemaOption: string | undefined): TargetName {
  const schema = schemaOption ?? table.schema;
  if (RESERVED_SCHEMAS.has(fold(schema))) {
    throw duckdbError({
      code: "MR3209",
      kind: "fatal",
      message: `table ${table.id} can't be written to schema ${schema}: the name is DuckDB's or Millrace's own`,
      hint: "give the sink a `schema`, or leave the table out of its `tables`",
    });
  }
  return { schema, table: table.table };
}

/** Equal for two tables exactly when they would be one table in DuckDB. */
export function targetKey(target: TargetName): string {
  return `${quoteIdentifier(fold(target.schema))}.${quoteIdentifier(fold(target.table))}`;
}

/** DuckDB compares identifiers without regard to the case of ASCII letters, quoted ones too; others are told apart. */
export function fold(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/**
 * A column whose name differs in case only from an earlier one's, or from one of Millrace's own, gets a suffix: `_` and 8
 * hex digits of its hash.
 */
export function columnNames(columns: readonly Pick<Column, "name">[]): string[] {
  const taken = new Set<string>(OWN_COLUMNS);
  return columns.map(({ name }) => {
    const chosen = taken.has(fold(name))
      ? `${name}_${createHash("sha256").update(name).digest("hex").slice(0, 8)}`
      : name;
    taken.add(fold(chosen));
    return chosen;
  });
}

export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** With catalogue or schema in front. */
export function quoteName(...parts: readonly string[]): string {
  return parts.map(quoteIdentifier).join(".");
}

/** A statement ends at a NUL: each is put in by its number. */
export function quoteLiteral(text: string): string {
  const quoted = `'${text.replaceAll("'", "''")}'`;
  return text.includes("\0") ? `(${quoted.replaceAll("\0", "' || chr(0) || '")})` : quoted;
}
