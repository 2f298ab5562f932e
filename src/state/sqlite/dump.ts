/** The content of a state database as plain rows, for exports and for states on a server. */
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { invariant } from "../../core/invariant.ts";
import type { StateDump, StateRow } from "../../core/contracts/state-store.ts";
import { stateError } from "../errors.ts";
import { formOf, migrate, newestMigration } from "./migrate.ts";
import { text } from "./row.ts";

/** Each store keeps its owner and its lease itself. */
const OWN = new Set(["migration", "store", "lease"]);
/** SQLite's table of counters. */
export const SEQUENCES = "sqlite_sequence";
const ROWID = "rowid";

/** The tables with Millrace's data. */
export function relationsOf(database: DatabaseSync): readonly string[] {
  const rows = database
    .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*' ORDER BY name")
    .all();
  return [...rows.map((row) => text(row, "name")).filter((name) => !OWN.has(name)), SEQUENCES];
}

export function dumpOf(database: DatabaseSync, leaseNumber: number): StateDump {
  const relations = relationsOf(database).map((name) => {
    const rows = database
      .prepare(`SELECT rowid AS ${ROWID}, * FROM ${quote(name)}`)
      .all()
      .map(plain);
    return [name, rows] as const;
  });
  return { migration: newestMigration(), leaseNumber, relations: Object.fromEntries(relations) };
}

/** One row, or undefined if there is none with this number. */
export function rowOf(database: DatabaseSync, relation: string, rowid: number): StateRow | undefined {
  const row = database.prepare(`SELECT rowid AS ${ROWID}, * FROM ${quote(relation)} WHERE rowid = ?`).get(rowid);
  return row === undefined ? undefined : plain(row);
}

/** Replaces all rows; the dump must have the newest form. Call inside a transaction. */
export function load(database: DatabaseSync, { relations }: StateDump): void {
  loadRows(
    database,
    Object.entries(relations).flatMap(([relation, rows]) => rows.map((row) => ({ relation, row }))),
  );
}

export interface RowOfRelation {
  readonly relation: string;
  readonly row: StateRow;
}

/** The same of rows that come one by one. */
export function loadRows(database: DatabaseSync, rows: Iterable<RowOfRelation>): void {
  const known = new Map(relationsOf(database).map((name) => [name, columnsOf(database, name)]));
  for (const name of known.keys()) database.exec(`DELETE FROM ${quote(name)}`);
  const counters: StateRow[] = [];
  for (const { relation, row } of rows) {
    const columns = known.get(relation);
    if (columns === undefined) throw unreadable(`there is no relation ${JSON.stringify(relation)}`);
    if (relation === SEQUENCES) counters.push(row);
    else insert(database, relation, columns, row);
  }
  // Counters come last, because each insert changes them.
  database.exec(`DELETE FROM ${SEQUENCES}`);
  for (const row of counters) insert(database, SEQUENCES, known.get(SEQUENCES)!, row);
}

/** The same rows in the newest form. */
export function upgraded(dump: StateDump): StateDump {
  if (dump.migration === newestMigration()) return dump;
  if (dump.migration > newestMigration()) {
    throw stateError("MR1206", `the state was written by a newer Millrace (migration ${dump.migration})`);
  }
  const database = new DatabaseSync(":memory:");
  try {
    migrate(database, "of an earlier version", dump.migration);
    load(database, dump);
    migrate(database, "of an earlier version");
    return dumpOf(database, dump.leaseNumber);
  } finally {
    database.close();
  }
}

/** For a reader, which changes nothing: null, or, of an earlier version, a copy in the newest form that ends with its connection. */
export function upgradedCopy(database: DatabaseSync, path: string, timeout: number): DatabaseSync | null {
  const form = formOf(database, path);
  if (form === newestMigration()) return null;
  const copy = new DatabaseSync("", { timeout });
  try {
    migrate(copy, path, form);
    copy.prepare("ATTACH ? AS earlier").run(`${pathToFileURL(path).href}?mode=ro`);
    // All tables as they are at one moment: its daemon may be writing.
    copy.exec("BEGIN");
    const tables = copy.prepare("SELECT name FROM earlier.sqlite_schema WHERE type = 'table'").all();
    for (const name of tables.map((row) => quote(text(row, "name"))))
      copy.exec(`DELETE FROM main.${name}; INSERT INTO main.${name} SELECT * FROM earlier.${name}`);
    copy.exec("COMMIT; DETACH earlier");
    migrate(copy, path);
    copy.exec("PRAGMA query_only = ON");
    return copy;
  } catch (error) {
    copy.close();
    throw error;
  }
}

function insert(database: DatabaseSync, name: string, known: ReadonlySet<string>, row: StateRow): void {
  // An implicit rowid is not listed as a column; SQLite's own counters need none.
  const columns = Object.keys(row).filter((column) => name !== SEQUENCES || column !== ROWID);
  const unknown = columns.find((column) => column !== ROWID && !known.has(column));
  if (unknown !== undefined) throw unreadable(`${name} has no column ${JSON.stringify(unknown)}`);
  const list = columns.map(quote).join(", ");
  const marks = columns.map(() => "?").join(", ");
  database
    .prepare(`INSERT INTO ${quote(name)} (${list}) VALUES (${marks})`)
    .run(...columns.map((column) => row[column] ?? null));
}

function columnsOf(database: DatabaseSync, name: string): ReadonlySet<string> {
  const rows = database.prepare("SELECT name FROM pragma_table_info(?)").all(name);
  return new Set(rows.map((row) => text(row, "name")));
}

function plain(row: Readonly<Record<string, unknown>>): StateRow {
  return Object.fromEntries(
    Object.entries(row).map(([column, value]) => {
      invariant(
        value === null || typeof value === "string" || typeof value === "number",
        "the state holds texts and integers",
      );
      return [column, value];
    }),
  );
}

function unreadable(what: string): Error {
  return stateError("MR1204", `the rows of a state can't be taken over: ${what}`);
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
