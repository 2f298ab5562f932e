import type { DuckDBConnection } from "@duckdb/node-api";
import { followsByNote } from "../../src/core/carrying.ts";
import { decodeNote, encodeNote, noteOf } from "../../src/core/following.ts";
import type { Column } from "../../src/core/schema.ts";
import { createSql } from "./create.ts";
import { duckdbError } from "./errors.ts";
import { type ExistingTarget, followTable, wantedColumns } from "./follow.ts";
import {
  COMMIT_TIME_COLUMN,
  EXACT_COLUMN,
  fold,
  quoteIdentifier,
  quoteLiteral,
  quoteName,
  VERSION_COLUMN,
} from "./names.ts";
import type { Plan } from "./plan.ts";
import { readTextRows } from "./text-rows.ts";

export interface PreparedTarget {
  /** Whether it has `_millrace_exact`. */
  readonly hasExact: boolean;
  /** Columns that stay although the table no longer has them. */
  readonly retired: readonly string[];
}

/** Creates the target, or has it follow the table's shape. Inside of a transaction, idempotent. */
export async function prepareTarget(
  connection: DuckDBConnection,
  plan: Plan,
  catalogue: string,
): Promise<PreparedTarget> {
  const existing = await lookUp(connection, plan, catalogue);
  let retired: readonly string[] = [];
  if (existing === undefined) {
    await connection.run(`CREATE SCHEMA IF NOT EXISTS ${quoteName(catalogue, plan.target.schema)}`);
    await connection.run(createSql(plan));
  } else {
    verifyTarget(plan, existing);
    // Of a table that is gone, and was called the same but for case.
    if (existing.name !== plan.target.table)
      await connection.run(`ALTER TABLE ${plan.sqlName} RENAME TO ${quoteIdentifier(plan.target.table)}`);
    retired = await followTable(connection, plan, existing);
  }
  const note = encodeNote(noteOf(plan.table, wantedColumns(plan)));
  if (existing?.note == null || encodeNote(existing.note) !== note) {
    await connection.run(`COMMENT ON TABLE ${plan.sqlName} IS ${quoteLiteral(note)}`);
  }
  return { hasExact: existing?.columns.has(EXACT_COLUMN) === true, retired };
}

/** See `Sink.carries`. Values that are kept beside their columns lie under the columns' names of before. */
export async function carriesTarget(
  connection: DuckDBConnection,
  from: Plan,
  to: Plan,
  catalogue: string,
): Promise<boolean> {
  const existing = await lookUp(connection, to, catalogue);
  if (existing === undefined) return false;
  // A mirror's column that stays has to be null in all rows; a history's keeps what its rows had.
  const drops = to.dropsColumns || to.form.mode === "history";
  const isGoing = ({ identity }: Column): boolean => to.table.columns.every((column) => column.identity !== identity);
  if (!drops && from.table.columns.some(isGoing)) return false;
  if (existing.columns.has(EXACT_COLUMN) && !isSameNames(from, to)) return false;
  return followsByNote([...existing.columns.keys()], existing.note, wantedColumns(from), to.table, wantedColumns(to));
}

function isSameNames(a: Plan, b: Plan): boolean {
  return a.columns.length === b.columns.length && a.columns.every(({ name }, i) => name === b.columns[i]!.name);
}

export function addExactSql(plan: Plan): string {
  return `ALTER TABLE ${plan.sqlName} ADD COLUMN IF NOT EXISTS ${quoteIdentifier(EXACT_COLUMN)} JSON`;
}

async function lookUp(
  connection: DuckDBConnection,
  plan: Plan,
  catalogue: string,
): Promise<ExistingTarget | undefined> {
  const { schema, table } = plan.target;
  const names = [catalogue, schema, table];
  const columns = await readTextRows(
    connection,
    "SELECT t.schema_name, t.name, t.is_view, c.column_name, c.data_type, t.comment FROM (" +
      "SELECT database_name, schema_name, table_name AS name, table_oid AS id, false AS is_view, comment FROM duckdb_tables() " +
      "UNION ALL SELECT database_name, schema_name, view_name, view_oid, true, comment FROM duckdb_views()) t " +
      "JOIN duckdb_columns() c ON c.table_oid = t.id AND c.database_name = t.database_name " +
      "AND c.schema_name = t.schema_name AND c.table_name = t.name " +
      "WHERE t.database_name = $1 AND lower(t.schema_name) = lower($2) AND lower(t.name) = lower($3)",
    names,
  );
  // lower() knows more letters than DuckDB's comparison of names: the rest is sorted out here.
  const isTarget = ([itsSchema = "", name = ""]: readonly string[]): boolean =>
    fold(itsSchema) === fold(schema) && fold(name) === fold(table);
  const rows = columns.filter(isTarget);
  const [first] = rows;
  if (first === undefined) return undefined;
  const key = await readTextRows(
    connection,
    "SELECT schema_name, table_name, unnest(constraint_column_names) FROM duckdb_constraints() " +
      "WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND database_name = $1 AND lower(schema_name) = lower($2) " +
      "AND lower(table_name) = lower($3)",
    names,
  );
  return {
    name: first[1]!,
    isView: first[2] === "true",
    columns: new Map(rows.map((row) => [fold(row[3]!), { name: row[3]!, type: row[4]! }])),
    key: key.filter(isTarget).map((row) => fold(row[2]!)),
    note: decodeNote(first[5]!),
  };
}

function verifyTarget(plan: Plan, existing: ExistingTarget): void {
  const { schema, table } = plan.target;
  const isOurs = existing.columns.has(VERSION_COLUMN) && existing.columns.has(COMMIT_TIME_COLUMN);
  if (existing.isView || !isOurs) {
    throw duckdbError({
      code: "MR3205",
      kind: "fatal",
      message: `${schema}.${table} exists in the DuckDB file and was not made by Millrace`,
      hint: "rename or drop it while Millrace is stopped, or give the sink another `schema`",
    });
  }
}
