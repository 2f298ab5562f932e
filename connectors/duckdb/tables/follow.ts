/**
 * Makes an existing target follow the shape of its table. Old values and rows that can't be kept are null, or removed,
 * until the table has been read again: every change of shape requests that (runtime/schema/sink-tables).
 */
import type { EngineConnection } from "../engine/engine.ts";
import { follow, type Following, nameUntil, type WantedColumn } from "../../../src/core/targets/following.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { duckdbError } from "../errors.ts";
import { createSql } from "./create.ts";
import type { ExistingColumn, ExistingTarget } from "./existing.ts";
import { CHANGE_IDENTITY, EXACT_COLUMN, fold, quoteIdentifier, quoteName, VERSION_COLUMN } from "../names.ts";
import type { TableLayout } from "../write/layout.ts";
import { readTextRows } from "../write/text-rows.ts";
import { shellWord } from "../../../src/core/shell-word.ts";

const OWN = "_millrace_";
const REBUILT = "_millrace_rebuilt";

/** Names are folded, as DuckDB compares them. */
export function wantedColumns(layout: TableLayout): readonly WantedColumn[] {
  return layout.columns.map(({ name, source, duck }) => ({
    name: fold(name),
    identity: source.identity,
    type: duck.name,
  }));
}

interface Shape {
  readonly wanted: readonly WantedColumn[];
  readonly following: Following;
  /** Columns that the table no longer has and the target keeps. */
  readonly retired: readonly string[];
  /** Whether the only difference is that the target lacks columns. */
  readonly isExtended: boolean;
}

function shapeOf(layout: TableLayout, existing: ExistingTarget): Shape {
  const wanted = wantedColumns(layout);
  const found = [...existing.columns.keys()].filter((name) => !name.startsWith(OWN));
  const takes = (name: string, i: number): boolean => existing.columns.get(name)?.type === layout.columns[i]!.duck.name;
  const followed = follow(found, existing.note, layout.table, wanted, takes);
  refuseAltered(layout, existing, followed, wanted);
  const drops = layout.dropsColumns && layout.form.mode === "mirror" && followed.retired.length > 0;
  const following = drops ? { ...followed, retired: [] } : followed;
  const retired = following.retired.map((name) => existing.columns.get(name)!.name);
  return { wanted, following, retired, isExtended: !drops && onlyLacksColumns(layout, existing, following, wanted) };
}

/** Columns that the target keeps, if the target has the table's shape otherwise; null if it does not. */
export function retiredWhereFollowed(layout: TableLayout, existing: ExistingTarget): readonly string[] | null {
  const { following, retired, isExtended } = shapeOf(layout, existing);
  return isExtended && following.from.every((name) => name !== null) ? retired : null;
}

/** Runs inside a transaction. Returns the names of the columns that the table no longer has and the target keeps. */
export async function followTable(
  connection: EngineConnection,
  layout: TableLayout,
  existing: ExistingTarget,
): Promise<readonly string[]> {
  const { following, retired, isExtended } = shapeOf(layout, existing);
  if (isExtended) {
    for (const [i, { name, duck }] of layout.columns.entries()) {
      if (following.from[i] !== null) continue;
      await connection.run(`ALTER TABLE ${layout.sqlName} ADD COLUMN ${quoteIdentifier(name)} ${duck.name}`);
    }
    return retired;
  }
  const isHistory = layout.form.mode === "history";
  const lossy = isHistory ? await lossyColumns(connection, layout, existing, following) : NONE;
  const { statements, moved } = rebuild(layout, existing, following, lossy);
  for (const sql of statements) await connection.run(sql);
  // A history keeps the old values of its columns.
  return isHistory ? retired : [...retired, ...moved];
}

const NONE: ReadonlySet<number> = new Set();

/** Columns of a history with values that the new type can't hold. */
async function lossyColumns(
  connection: EngineConnection,
  layout: TableLayout,
  existing: ExistingTarget,
  { from }: Following,
): Promise<ReadonlySet<number>> {
  const lossy = new Set<number>();
  for (const [i, { duck }] of layout.columns.entries()) {
    const there = existing.columns.get(from[i] ?? "");
    if (there === undefined || there.type === duck.name) continue;
    const lost = `${quoteIdentifier(there.name)} IS NOT NULL AND ${cast(there, duck.name)} IS NULL`;
    const rows = await readTextRows(connection, `SELECT 1 FROM ${layout.sqlName} WHERE ${lost} LIMIT 1`);
    if (rows.length > 0) lossy.add(i);
  }
  return lossy;
}

/** Whether the only difference is that the target lacks columns. */
function onlyLacksColumns(
  layout: TableLayout,
  existing: ExistingTarget,
  { from, replaced }: Following,
  wanted: readonly WantedColumn[],
): boolean {
  const staysAsItIs = layout.columns.every(({ name, duck }, i) => {
    const there = existing.columns.get(from[i] ?? "");
    return there === undefined || (there.name === name && there.type === duck.name);
  });
  return staysAsItIs && replaced.length === 0 && hasKey(layout, keyOf(layout, existing), from, wanted);
}

/** The columns that identify the target's rows. A lake has no constraints: only the note tells. */
function keyOf({ form }: TableLayout, { key, note }: ExistingTarget): readonly string[] {
  if (form.isLake !== true) return key;
  return note === null ? [] : [...note.key, ...(form.mode === "history" ? CHANGE_IDENTITY : [])];
}

/** Whether these target columns, as they will be, identify the table's rows (in a history: their changes). */
function hasKey(
  layout: TableLayout,
  old: readonly string[],
  from: Following["from"],
  wanted: readonly WantedColumn[],
): boolean {
  const change = layout.form.mode === "history" ? CHANGE_IDENTITY : [];
  const key = [...layout.table.key.map((ordinal) => wanted[ordinal]!.name), ...change];
  const goingOn = old.map((column) => (column.startsWith(OWN) ? column : wanted[from.indexOf(column)]?.name));
  return key.length === goingOn.length && key.every((name, i) => name === goingOn[i]);
}

/**
 * DuckDB can't change the type of a key column, or the key, or drop a column before one: the rows are copied into
 * another table that takes the name. Replaced columns stay under new names, `moved`, unless dropped columns are
 * removed. A history keeps all rows, and so the values of `lossy` columns.
 */
function rebuild(
  layout: TableLayout,
  existing: ExistingTarget,
  { from, retired, replaced }: Following,
  lossy: ReadonlySet<number>,
): { readonly statements: readonly string[]; readonly moved: readonly string[] } {
  const isHistory = layout.form.mode === "history";
  const names: string[] = [];
  const values: string[] = [];
  const kept: string[] = [];
  const carry = (name: string, value: string): void => {
    names.push(quoteIdentifier(name));
    values.push(value);
  };
  const keep = (column: string, name: string): void => {
    const there = existing.columns.get(column)!;
    kept.push(`${quoteIdentifier(name)} ${there.type}`);
    carry(name, quoteIdentifier(there.name));
  };
  const taken = new Set(existing.columns.keys());
  const moved: string[] = [];
  const putBy = (column: string): void => {
    const name = nameUntil(column, layout.table.version, taken);
    moved.push(name);
    keep(column, name);
  };
  for (const [i, { name, duck }] of layout.columns.entries()) {
    const there = existing.columns.get(from[i] ?? "");
    carry(name, there === undefined ? "NULL" : cast(there, duck.name));
    if (lossy.has(i)) putBy(from[i]!);
  }
  for (const column of retired) keep(column, existing.columns.get(column)!.name);
  if (isHistory || !layout.dropsColumns) for (const column of replaced) putBy(column);
  const key = layout.table.key.map((ordinal) => values[ordinal]!);
  for (const [column, { name }] of existing.columns) {
    if (!column.startsWith(OWN)) continue;
    if (column === EXACT_COLUMN) kept.push(`${quoteIdentifier(name)} JSON`);
    carry(name, quoteIdentifier(name));
  }
  const table = layout.sqlName;
  const rebuilt = quoteName(layout.catalogue, layout.target.schema, REBUILT);
  // Rows that do not fit the key are removed: they are read again.
  const standing =
    `WHERE ${key.map((value) => `${value} IS NOT NULL`).join(" AND ")} ` +
    `QUALIFY row_number() OVER (PARTITION BY ${key.join(", ")} ORDER BY ${VERSION_COLUMN} DESC) = 1`;
  const statements = [
    createSql(layout, rebuilt, kept),
    `INSERT INTO ${rebuilt} (${names.join(", ")}) SELECT ${values.join(", ")} FROM ${table} ${isHistory ? "" : standing}`,
    `DROP TABLE ${table}`,
    `ALTER TABLE ${rebuilt} RENAME TO ${quoteIdentifier(layout.target.table)}`,
  ];
  return { statements, moved };
}

/** Null if the value does not fit the new type: so a negative zero as a float. Every type converts to text and back. */
function cast(column: ExistingColumn, type: string): string {
  const name = quoteIdentifier(column.name);
  if (column.type === type) return name;
  const value = `TRY_CAST(CAST(${name} AS VARCHAR) AS ${type})`;
  const isFloat = type === "FLOAT" || type === "DOUBLE";
  return isFloat ? `CASE WHEN ${value}::VARCHAR <> '-0.0' THEN ${value} END` : value;
}

/** A difference from the created target that the table does not explain: somebody else changed the target. */
function refuseAltered(
  layout: TableLayout,
  existing: ExistingTarget,
  following: Following,
  wanted: readonly WantedColumn[],
): void {
  const { note } = existing;
  for (const [i, { name, duck }] of layout.columns.entries()) {
    const from = following.from[i] ?? "";
    const there = existing.columns.get(from);
    if (there === undefined || there.type === duck.name) continue;
    const noted = note?.columns[from]?.[1];
    if (noted === undefined || noted === duck.name) throw otherType(layout, name, there.type, duck.name);
  }
  if (hasKey(layout, keyOf(layout, existing), following.from, wanted)) return;
  const isHistory = layout.form.mode === "history";
  const noted = note === null ? null : [...note.key, ...(isHistory ? CHANGE_IDENTITY : [])];
  if (isHistory || noted === null || hasKey(layout, noted, following.from, wanted)) throw otherKey(layout);
}

function otherKey({ table, target }: TableLayout): MillraceError {
  return duckdbError({
    code: "MR3207",
    kind: "fatal",
    message: `${target.schema}.${target.table} has another primary key in the DuckDB file than at the source`,
    hint: `drop it while Millrace is stopped, then millrace snapshot start --tables ${shellWord(table.id)}`,
  });
}

function otherType(layout: TableLayout, column: string, found: string, wanted: string): MillraceError {
  const { schema, table } = layout.target;
  return duckdbError({
    code: "MR3206",
    kind: "fatal",
    message: `column ${column} of ${schema}.${table} is ${found} in the DuckDB file and should be ${wanted}`,
    hint: `ALTER TABLE ${layout.sqlName} ALTER ${quoteIdentifier(column)} TYPE ${wanted} while Millrace is stopped, or drop the table and fill it again`,
  });
}
