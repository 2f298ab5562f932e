import type { EngineConnection } from "../engine/engine.ts";
import { followsByNote } from "../../../src/core/targets/carrying.ts";
import { encodeNote, noteOf } from "../../../src/core/targets/following.ts";
import type { Column } from "../../../src/core/model/schema.ts";
import { createSql } from "./create.ts";
import { duckdbError } from "../errors.ts";
import type { ExistingTarget } from "./existing.ts";
import { followTable, retiredWhereFollowed, wantedColumns } from "./follow.ts";
import { conversion } from "./form.ts";
import {
  COMMIT_TIME_COLUMN,
  EXACT_COLUMN,
  quoteIdentifier,
  quoteLiteral,
  quoteName,
  VERSION_COLUMN,
} from "../names.ts";
import type { TableLayout } from "../write/layout.ts";

export interface PreparedTarget {
  /** Whether it has `_millrace_exact`. */
  readonly hasExact: boolean;
  /** Columns that the table no longer has and the target keeps. */
  readonly retired: readonly string[];
}

/** The statements that create a missing target. */
export function createStatements(layout: TableLayout): readonly string[] {
  return [
    `CREATE SCHEMA IF NOT EXISTS ${quoteName(layout.catalogue, layout.target.schema)}`,
    createSql(layout),
    commentSql(layout),
  ];
}

/** The target, if nothing must change; null: it must follow the table. Throws if it is not ours. */
export function preparedAlready(layout: TableLayout, existing: ExistingTarget): PreparedTarget | null {
  verifyTarget(layout, existing);
  if (existing.name !== layout.target.table || conversion(layout.sqlName, layout.form, existing.columns).length > 0)
    return null;
  const retired = retiredWhereFollowed(layout, existing);
  return retired === null || !isNoted(layout, existing)
    ? null
    : { hasExact: existing.columns.has(EXACT_COLUMN), retired };
}

/** Makes an existing target follow the table's shape. Inside a transaction, idempotent. */
export async function followTarget(
  connection: EngineConnection,
  layout: TableLayout,
  existing: ExistingTarget,
): Promise<PreparedTarget> {
  // The target belongs to a dropped table whose name differed only in case.
  if (existing.name !== layout.target.table)
    await connection.run(`ALTER TABLE ${layout.sqlName} RENAME TO ${quoteIdentifier(layout.target.table)}`);
  const retired = await followTable(connection, layout, existing);
  if (!isNoted(layout, existing)) await connection.run(commentSql(layout));
  return { hasExact: existing.columns.has(EXACT_COLUMN), retired };
}

function noteText(layout: TableLayout): string {
  return encodeNote(noteOf(layout.table, wantedColumns(layout), layout.owner));
}

function commentSql(layout: TableLayout): string {
  return `COMMENT ON TABLE ${layout.sqlName} IS ${quoteLiteral(noteText(layout))}`;
}

function isNoted(layout: TableLayout, { note }: ExistingTarget): boolean {
  return note !== null && encodeNote(note) === noteText(layout);
}

/** See `Sink.carries`. Exact texts are stored under the columns' old names. */
export function carriesTarget(from: TableLayout, to: TableLayout, existing: ExistingTarget): boolean {
  // A column that a mirror keeps must be null in all rows; a history keeps the old values.
  const drops = to.dropsColumns || to.form.mode === "history";
  const isGoing = ({ identity }: Column): boolean => to.table.columns.every((column) => column.identity !== identity);
  if (!drops && from.table.columns.some(isGoing)) return false;
  if (existing.columns.has(EXACT_COLUMN) && !isSameNames(from, to)) return false;
  return followsByNote([...existing.columns.keys()], existing.note, wantedColumns(from), to.table, wantedColumns(to));
}

function isSameNames(a: TableLayout, b: TableLayout): boolean {
  return a.columns.length === b.columns.length && a.columns.every(({ name }, i) => name === b.columns[i]!.name);
}

export function addExactSql(layout: TableLayout): string {
  return `ALTER TABLE ${layout.sqlName} ADD COLUMN IF NOT EXISTS ${quoteIdentifier(EXACT_COLUMN)} JSON`;
}

function verifyTarget(layout: TableLayout, existing: ExistingTarget): void {
  const { schema, table } = layout.target;
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
