import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { installed } from "../../core/installation.ts";
import { stateError } from "../errors.ts";
import { integer } from "./row.ts";

/** "MILR": tells Millrace's SQLite files from others. */
const APPLICATION_ID = 0x4d49_4c52;
const FOLDER = join("migrations", "state", "sqlite");

interface Migration {
  readonly number: number;
  readonly name: string;
  readonly file: string;
}

/** Applies the missing migrations up to `upTo`, each in one transaction with its number. */
export function migrate(database: DatabaseSync, path: string, upTo = Infinity): void {
  const migrations = listMigrations().filter(({ number }) => number <= upTo);
  database.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
  database.exec(
    "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT",
  );
  refuseNewer(appliedNumber(database), migrations, path);
  for (const migration of migrations) apply(database, migration);
}

/** The version of the form that the file has. Throws for one that this release does not know. */
export function formOf(database: DatabaseSync, path: string): number {
  const form = appliedNumber(database);
  refuseNewer(form, listMigrations(), path);
  return form;
}

function apply(database: DatabaseSync, { number, name, file }: Migration): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    // Read again under the lock: two processes may open a new file at once.
    if (appliedNumber(database) < number) {
      database.exec(readFileSync(file, "utf8"));
      database
        .prepare("INSERT INTO migration (number, name, applied_at) VALUES (?, ?, ?)")
        .run(number, name, new Date().toISOString());
    }
    database.exec("COMMIT");
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

/** Throws for another program's file, before changing it. */
export function recognise(database: DatabaseSync, path: string): "ours" | "empty" {
  const tableCount = integer(database.prepare("SELECT count(*) AS count FROM sqlite_schema").get()!, "count");
  const id = integer(database.prepare("PRAGMA application_id").get()!, "application_id");
  if (id === APPLICATION_ID) return tableCount > 0 ? "ours" : "empty";
  if (id !== 0 || tableCount > 0) throw stateError("MR1204", `${path} is another program's SQLite file`);
  return "empty";
}

export function isSound(database: DatabaseSync): boolean {
  return database.prepare("PRAGMA quick_check(1)").get()?.["quick_check"] === "ok";
}

function appliedNumber(database: DatabaseSync): number {
  return integer(database.prepare("SELECT coalesce(max(number), 0) AS number FROM migration").get()!, "number");
}

function refuseNewer(applied: number, migrations: readonly Migration[], path: string): void {
  if (applied > highest(migrations))
    throw stateError("MR1206", `the state file ${path} was written by a newer Millrace (migration ${applied})`);
}

/** The version of the form that this release uses. */
export function newestMigration(): number {
  return highest(listMigrations());
}

function highest(migrations: readonly Migration[]): number {
  return migrations.at(-1)?.number ?? 0;
}

function listMigrations(): readonly Migration[] {
  return migrationsIn(FOLDER);
}

/** In order; `path` is relative to the installation. */
export function migrationsIn(path: string): readonly Migration[] {
  const folder = installed(path);
  return readdirSync(folder)
    .flatMap((file) => {
      const match = /^(\d{4})_([a-z0-9_]+)\.sql$/.exec(file);
      return match === null ? [] : [{ number: Number(match[1]), name: match[2]!, file: join(folder, file) }];
    })
    .toSorted((a, b) => a.number - b.number);
}
