/**
 * One of the newest rows of each mirror, which no older copy of the table has. SQLite tells tables apart by nothing else: one that
 * somebody makes again from a copy has the same definition, and often the same place in the file.
 */
import type { SQLInputValue } from "node:sqlite";
import { VERSION_COLUMN } from "../../warehouse/own-columns.ts";
import { isMissing } from "../errors.ts";
import { openForReading, rowsOf, type SqliteFile } from "../file.ts";
import { NEWEST, quoteIdentifier, targetKey } from "../names.ts";
import { NUMBER, Slices, walkOf } from "../write/slices.ts";
import { isRow, type SqliteLayout } from "./layout.ts";

export const CREATE_NEWEST =
  `CREATE TABLE IF NOT EXISTS ${NEWEST} (name TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, "row" INTEGER NOT NULL, ` +
  "version INTEGER NOT NULL) STRICT, WITHOUT ROWID";

type Target = Pick<SqliteLayout, "name" | "sqlName">;

/** Inside the transaction that wrote the row with this key. */
export function noteNewest(file: SqliteFile, layout: SqliteLayout, key: readonly SQLInputValue[]): void {
  const { name, sqlName } = layout;
  file.run(
    `INSERT INTO ${NEWEST} (name, "row", version) SELECT ?${key.length + 1}, ${NUMBER}, ${VERSION_COLUMN} FROM ${sqlName} ` +
      `WHERE ${isRow(layout, 1)} ON CONFLICT (name) DO UPDATE SET "row" = excluded."row", version = excluded.version ` +
      `WHERE version <= excluded.version OR ${isGone(sqlName)}`,
    ...key,
    name,
  );
}

/** Inside the transaction that removed rows. */
export function dropIfGone(file: SqliteFile, { name, sqlName }: Target): void {
  file.run(`DELETE FROM ${NEWEST} WHERE name = ?1 AND ${isGone(sqlName)}`, name);
}

export function dropNewest(file: SqliteFile, name: string): void {
  file.run(`DELETE FROM ${NEWEST} WHERE name = ?1`, name);
}

/** Whether the row is not there, although this sink has not removed it: the table is another one, or has older rows. */
export function lacksNewest(file: Pick<SqliteFile, "rows">, { name, sqlName }: Target): boolean {
  // Somebody may have made it again WITHOUT ROWID.
  const isNumbered = walkOf(file, sqlName)[0] === NUMBER;
  const and = isNumbered ? ` AND ${isGone(sqlName)}` : "";
  try {
    return file.rows(`SELECT 1 FROM ${NEWEST} WHERE name = ?1${and}`, name).length > 0;
  } catch (error) {
    // Nor has it the column of versions.
    if (isMissing(error)) return true;
    throw error;
  }
}

/**
 * Keys of the tables that lack it in the file as a program finds it that opens it now: what a connection keeps of the file may be
 * gone from there.
 */
export async function lackingNewest(path: string, signal: AbortSignal): Promise<ReadonlySet<string>> {
  using database = openForReading(path);
  const rows = (sql: string, ...values: readonly SQLInputValue[]) => rowsOf(database, sql, ...values);
  const slices = new Slices(signal);
  const lacking = new Set<string>();
  const noted = `SELECT t.name FROM ${NEWEST} AS n JOIN sqlite_schema AS t ON t.name = n.name COLLATE NOCASE WHERE t.type = 'table'`;
  for (const [name] of rows(noted)) {
    const target = { name: String(name), sqlName: quoteIdentifier(String(name)) };
    if (lacksNewest({ rows }, target)) lacking.add(targetKey(target.name));
    if (slices.isOver) await slices.next();
  }
  return lacking;
}

function isGone(sqlName: string): string {
  return (
    `NOT EXISTS (SELECT 1 FROM ${sqlName} AS t WHERE t.${NUMBER} = ${NEWEST}."row" ` +
    `AND t.${VERSION_COLUMN} >= ${NEWEST}.version)`
  );
}
