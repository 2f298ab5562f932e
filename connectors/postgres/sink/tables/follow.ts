/**
 * Makes an existing table follow the shape of the source's table. Old values and rows that can't be kept are null, or
 * removed, until the table has been read again: every change of shape requests that (runtime/schema/sink-tables).
 */
import { follow, type Following, nameUntil, renamesOf } from "../../../../src/core/targets/following.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteIdentifier, quoteTable } from "../../../../src/postgres/quote.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import { fatal, FOREIGN_TABLE_FIX, stateOf } from "../errors.ts";
import { type FoundColumn, type FoundTable, obstaclesOf, OWN, type TypedColumn } from "./found-table.ts";
import { conversion, DELETED_COLUMN, OP_COLUMN, type TargetForm, TIME_COLUMN, VERSION_COLUMN } from "./form.ts";
import { OFFSET_COLUMN } from "./history-table.ts";
import { fitted, type TargetName } from "./names.ts";
import type { Session } from "../session.ts";

export interface FollowParts {
  readonly version: TableVersion;
  readonly name: TargetName;
  /** SQL types of the columns. */
  readonly types: readonly string[];
  readonly wanted: readonly TypedColumn[];
  readonly found: FoundTable;
  readonly form: TargetForm;
  /** Whether columns that the table no longer has are dropped. */
  readonly dropsColumns: boolean;
}

/**
 * Runs inside the caller's transaction. Returns the names of the columns that the table no longer has and the target
 * keeps.
 */
export async function followTable(
  session: Session,
  parts: FollowParts,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const { version, name, types, wanted, found, form } = parts;
  const table = quoteTable(name.schema, name.table);
  const existing = new Map(found.columns.map((column) => [column.name, column]));
  refuseForeign(table, found, existing);
  const [obstacle] = obstaclesOf(
    table,
    found,
    wanted.map((column) => column.name),
  );
  if (obstacle !== undefined) throw fatal("MR3107", obstacle.what, obstacle.fix);
  const foundForm = { hasDeleted: existing.has(DELETED_COLUMN), hasOp: existing.has(OP_COLUMN) };
  const converting = conversion(table, form, foundForm);
  if (converting.length > 0) await session.query(converting.join("; "), signal);
  const isHistory = form.mode === "history";
  const names = found.columns.map((column) => column.name).filter((column) => !column.startsWith(OWN));
  const fits = (column: string, i: number): boolean => takes(existing.get(column)!, wanted[i]!);
  const following = follow(names, found.note, version, wanted, fits);
  const key = keyChange(parts, following);
  if (key.isLost || (key.isNew && isHistory)) throw noKey(table, key.columns);

  if (key.isNew && found.primaryKey !== null) await session.query(dropKey(table, found.primaryKey), signal);
  const moved = await makeRoom(session, parts, following.replaced, signal);
  const statements: string[] = [];
  const until = (column: string): string => nameUntil(column, version.version, new Set(existing.keys()), fitted);
  for (const { from, to } of renamesOf(following, wanted)) {
    statements.push(rename(table, from, to));
  }
  const isAdded = (i: number): boolean => following.from[i] === null;
  const added = wanted.flatMap(({ name: column }, i) =>
    isAdded(i) ? [`ADD COLUMN ${quoteIdentifier(column)} ${types[i]}`] : [],
  );
  if (added.length > 0) statements.push(`ALTER TABLE ${table} ${added.join(", ")}`);
  if (statements.length > 0) await session.query(statements.join("; "), signal);

  for (const [i, column] of wanted.entries()) {
    const there = existing.get(following.from[i] ?? "");
    if (there === undefined || takes(there, column)) continue;
    refuseAltered(table, column, there, found.note?.columns[there.name]?.[1]);
    const retyped = { name: column.name, type: types[i]!, isKey: version.key.includes(i) };
    if (isHistory) await retypeHistory(session, table, retyped, until(column.name), signal);
    else await retype(session, table, retyped, signal);
  }
  if (key.isNew) await makeKey(session, table, key.columns, signal);
  // A history keeps the old values of its columns.
  if (isHistory) return following.retired;
  if (!parts.dropsColumns) return [...following.retired, ...moved];
  return [...(await dropRetired(session, table, following.retired, signal)), ...moved];
}

/**
 * Columns that the table lost release their names; returns their new names. If dropped columns are removed, these are
 * too, except those that a user's view shows.
 */
async function makeRoom(
  session: Session,
  { version, name, found, form, dropsColumns }: FollowParts,
  replaced: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const table = quoteTable(name.schema, name.table);
  const taken = new Set(found.columns.map((column) => column.name));
  const goes = dropsColumns && form.mode === "mirror";
  const moved: string[] = [];
  for (const column of replaced) {
    if (goes && (await dropColumn(session, table, column, signal))) continue;
    const until = nameUntil(column, version.version, taken, fitted);
    await session.query(rename(table, column, until), signal);
    moved.push(until);
  }
  return moved;
}

const DEPENDED_ON = /^2BP01$/;

/** Drops retired columns, except those that a user's view shows; returns the names of these. */
async function dropRetired(
  session: Session,
  table: string,
  retired: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const kept: string[] = [];
  for (const column of retired) if (!(await dropColumn(session, table, column, signal))) kept.push(column);
  return kept;
}

/** False if something depends on it. Inside a transaction. */
export async function dropColumn(
  session: Session,
  table: string,
  column: string,
  signal: AbortSignal,
): Promise<boolean> {
  const sql = `ALTER TABLE ${table} DROP COLUMN ${quoteIdentifier(column)}`;
  return await attempt(session, sql, signal, DEPENDED_ON);
}

interface KeyChange {
  readonly columns: readonly string[];
  /** The table has another key than when the target was created, or the target has not got its key yet. */
  readonly isNew: boolean;
  /** The target no longer has the key with which it was created. */
  readonly isLost: boolean;
}

function keyChange({ version, wanted, found, form }: FollowParts, { from }: Following): KeyChange {
  const columns = version.key.map((i) => wanted[i]!.name);
  const nowNamed = new Map(wanted.map(({ name }, i) => [from[i] ?? null, name]));
  const isKey = (old: readonly string[]): boolean =>
    sameNames(
      old.map((column) => nowNamed.get(column) ?? ""),
      columns,
    );
  // Distinguishes the changes of a row in a history.
  const change = form.mode === "history" ? [VERSION_COLUMN, OFFSET_COLUMN] : [];
  const isThere = found.uniques.some((columns) => {
    const own = columns.filter((column) => column.startsWith(OWN));
    return sameNames(own, change) && isKey(columns.filter((column) => !column.startsWith(OWN)));
  });
  const isNew = !isThere && found.note !== null && (found.note.keyless === true || !isKey(found.note.key));
  return { columns, isNew, isLost: !isThere && !isNew };
}

function dropKey(table: string, { name, columns }: NonNullable<FoundTable["primaryKey"]>): string {
  const free = columns.map((column) => `ALTER COLUMN ${quoteIdentifier(column)} DROP NOT NULL`);
  return `ALTER TABLE ${table} ${[`DROP CONSTRAINT ${quoteIdentifier(name)}`, ...free].join(", ")}`;
}

/** Rows that do not fit the new key are removed: they are read again. */
async function makeKey(session: Session, table: string, key: readonly string[], signal: AbortSignal): Promise<void> {
  const sql = `ALTER TABLE ${table} ADD PRIMARY KEY (${key.map(quoteIdentifier).join(", ")})`;
  if (!(await attempt(session, sql, signal))) await session.query(`DELETE FROM ${table}; ${sql}`, signal);
}

interface Retyped {
  readonly name: string;
  readonly type: string;
  readonly isKey: boolean;
}

/**
 * Keeps values that the new type accepts; others are null until they are read again, and rows without key are removed.
 */
async function retype(
  session: Session,
  table: string,
  { name, type, isKey }: Retyped,
  signal: AbortSignal,
): Promise<void> {
  const column = quoteIdentifier(name);
  const to = (value: string): string => `ALTER TABLE ${table} ALTER COLUMN ${column} TYPE ${type} USING ${value}`;
  const cast = to(`${column}::text::${type}`);
  if (await attempt(session, cast, signal)) return;
  await session.query(isKey ? `DELETE FROM ${table}; ${cast}` : to(`NULL::${type}`), signal);
}

/** SQLSTATE classes 22 and 23: data, and violated constraints; 42846: there is no such cast. */
const FOR_ITS_ROWS = /^(22|23)|^42846$/;

/** Values that the new type does not accept stay in a separate column. */
async function retypeHistory(
  session: Session,
  table: string,
  { name, type, isKey }: Retyped,
  other: string,
  signal: AbortSignal,
): Promise<void> {
  const column = quoteIdentifier(name);
  const cast = `ALTER TABLE ${table} ALTER COLUMN ${column} TYPE ${type} USING ${column}::text::${type}`;
  if (await attempt(session, cast, signal)) return;
  if (isKey) throw noKey(table, [name]);
  await session.query(`${rename(table, name, other)}; ALTER TABLE ${table} ADD COLUMN ${column} ${type}`, signal);
}

function rename(table: string, from: string, to: string): string {
  return `ALTER TABLE ${table} RENAME COLUMN ${quoteIdentifier(from)} TO ${quoteIdentifier(to)}`;
}

/** False if the server refuses the statement with one of these states: then it did nothing. */
export async function attempt(
  session: Session,
  sql: string,
  signal: AbortSignal,
  refusals = FOR_ITS_ROWS,
): Promise<boolean> {
  await session.query("SAVEPOINT millrace_follow", signal);
  try {
    await session.query(sql, signal);
  } catch (error) {
    const state = stateOf(error);
    if (state === undefined || !refusals.test(state)) throw error;
    await session.query("ROLLBACK TO SAVEPOINT millrace_follow", signal);
    return false;
  }
  return true;
}

function refuseForeign(table: string, found: FoundTable, existing: ReadonlyMap<string, FoundColumn>): void {
  const ours = existing.get(VERSION_COLUMN)?.type === "bigint" && existing.has(TIME_COLUMN);
  if (ours && (found.kind === "r" || found.kind === "p")) return;
  throw fatal("MR3106", `${table} exists in the target and was not made by Millrace`, FOREIGN_TABLE_FIX);
}

/** A type without modifier accepts what the same type with one accepts. */
function takes(there: FoundColumn, wanted: TypedColumn): boolean {
  return wanted.oid === there.oid && (wanted.modifier === there.modifier || there.modifier === "-1");
}

/**
 * `noted`: the type with which the column was created. If the source still has that type, somebody else changed the
 * target.
 */
function refuseAltered(table: string, wanted: TypedColumn, there: FoundColumn, noted: string | undefined): void {
  if (noted !== undefined && noted !== wanted.type) return;
  const column = `${table}.${quoteIdentifier(wanted.name)}`;
  throw fatal(
    "MR3107",
    `${column} is ${there.type} in the target, and would have to be ${wanted.type}`,
    `ALTER TABLE ${table} ALTER COLUMN ${quoteIdentifier(wanted.name)} TYPE ${wanted.type}; or drop the table and fill it again with \`millrace snapshot start\`.`,
  );
}

/** Throws if nobody has left the table the key that it was made with. */
export function expectKey(table: string, { uniques, note }: FoundTable, { mode }: TargetForm): void {
  if (note === null || note.keyless === true) return;
  const key = mode === "history" ? [...note.key, VERSION_COLUMN, OFFSET_COLUMN] : note.key;
  if (!uniques.some((columns) => sameNames(columns, key))) throw noKey(table, note.key);
}

function noKey(table: string, key: readonly string[]): MillraceError {
  return fatal(
    "MR3107",
    `${table} has no primary key over ${key.map((column) => JSON.stringify(column)).join(", ")}, the table's key at the source`,
    "Give the target table that primary key, or drop it and fill it again with `millrace snapshot start`.",
  );
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}
