import type { DatabaseSync, SQLOutputValue } from "node:sqlite";
import type { CompleteTables, Checkpoint } from "../../../src/core/checkpoint.ts";
import { checkpointOfRow, HeldCheckpoint } from "../../kit/held-checkpoint.ts";
import { SCOPE_COLUMNS } from "../../warehouse/scopes.ts";
import { sqliteError } from "../errors.ts";
import { rowsOf, type SqliteFile } from "../file.ts";
import { NEWEST, NOTES, PROGRESS, SCOPES, SCOPES_NAME } from "../names.ts";
import { CREATE_NEWEST } from "./newest.ts";

const READ = `SELECT lease, epoch, "commit", "index", tables, bond FROM ${PROGRESS} WHERE name = ?1`;
const AT = `epoch IS ? AND "commit" IS ? AND "index" IS ?`;

/** Checkpoint and lease of each sink that writes to this file: one row, written in the transaction of the rows. */
export class CheckpointRow {
  readonly #owner: string;
  readonly #known: HeldCheckpoint;

  /** `owner`: several daemons may write to the file, each with a sink of this name. */
  constructor(owner: string) {
    this.#owner = owner;
    this.#known = new HeldCheckpoint(sqliteError, owner);
  }

  /** Creates the tables, takes over the lease and reads the checkpoint. Inside a transaction. */
  take(file: SqliteFile, lease: number): Checkpoint | null {
    file.exec(
      `CREATE TABLE IF NOT EXISTS ${PROGRESS} (name TEXT NOT NULL PRIMARY KEY, epoch INTEGER, "commit" INTEGER, "index" INTEGER, ` +
        `lease INTEGER NOT NULL, tables TEXT, bond TEXT, updated_at TEXT NOT NULL) STRICT; ` +
        `CREATE TABLE IF NOT EXISTS ${NOTES} (name TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, note TEXT NOT NULL) STRICT; ` +
        `CREATE TABLE IF NOT EXISTS ${SCOPES_NAME} (${SCOPE_COLUMNS}) STRICT; ${CREATE_NEWEST}`,
    );
    const [row] = file.rows(READ, this.#owner);
    this.#known.expectFree(Number(row?.[0] ?? 0), lease);
    const sql =
      `INSERT INTO ${PROGRESS} (name, lease, updated_at) VALUES (?, ?, ?) ` +
      `ON CONFLICT (name) DO UPDATE SET lease = excluded.lease, updated_at = excluded.updated_at`;
    file.run(sql, this.#owner, lease, now());
    return this.#known.taken(parsed(row), lease);
  }

  /** The tables of which the file has a complete copy. */
  get complete(): CompleteTables {
    return this.#known.held?.tables ?? {};
  }

  /** The stored checkpoint; creates nothing. */
  look(database: DatabaseSync): Checkpoint | null {
    if (rowsOf(database, "SELECT 1 FROM sqlite_schema WHERE name = ?", PROGRESS).length === 0) return null;
    return parsed(rowsOf(database, READ, this.#owner)[0]);
  }

  /**
   * Begins a batch with the fence and the new checkpoint. Invariant: a batch changes something only if checkpoint and lease
   * are what this process wrote last.
   */
  advance(file: SqliteFile, next: Checkpoint): void {
    const { places } = this.#known;
    const { epoch, commit, index } = next.position;
    const { tables, bond } = this.#known.attempt(next);
    const sets = `epoch = ?, "commit" = ?, "index" = ?, bond = ?${tables === null ? "" : ", tables = ?"}, `;
    this.#write(file, sets, [epoch, commit, index, bond, ...(tables === null ? [] : [tables])], places);
  }

  /** Begins a transaction that changes targets in another way than by a batch, with the same fence. The checkpoint stays. */
  fence(file: SqliteFile): void {
    this.#write(file, "", [], this.#known.places);
  }

  #write(
    file: SqliteFile,
    sets: string,
    values: readonly (number | bigint | string)[],
    places: HeldCheckpoint["places"],
  ): void {
    const sql = `UPDATE ${PROGRESS} SET ${sets}updated_at = ? WHERE name = ? AND lease = ? AND (${places.map(() => AT).join(" OR ")})`;
    const at = places.flatMap((place) => [place?.epoch ?? null, place?.commit ?? null, place?.index ?? null]);
    if (file.run(sql, ...values, now(), this.#owner, this.#known.lease, ...at) !== 1) throw this.#known.lost();
  }

  /** Removes the sink's row, and with the last one the table. Inside a transaction. */
  remove(file: SqliteFile): void {
    this.fence(file);
    file.run(`DELETE FROM ${PROGRESS} WHERE name = ?`, this.#owner);
    file.exec(SCOPES.removeAll(this.#owner));
    if (file.rows(`SELECT 1 FROM ${PROGRESS} LIMIT 1`).length > 0) return;
    file.exec(`DROP TABLE ${PROGRESS}; DROP TABLE ${NOTES}; DROP TABLE ${SCOPES_NAME}; DROP TABLE ${NEWEST}`);
  }

  committed(next: Checkpoint): void {
    this.#known.committed(next);
  }
}

function now(): string {
  return new Date().toISOString();
}

function parsed([, ...row]: readonly SQLOutputValue[] = []): Checkpoint | null {
  return checkpointOfRow(row.map((value) => (value === null ? null : String(value))));
}
