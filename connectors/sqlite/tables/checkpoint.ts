import type { DatabaseSync, SQLOutputValue } from "node:sqlite";
import { checkpointFromTexts, checkpointTexts } from "../../../src/core/checkpoint/checkpoint-text.ts";
import type { CompleteTables } from "../../../src/core/checkpoint/completeness.ts";
import type { Checkpoint } from "../../../src/core/model/batch.ts";
import { sqliteError } from "../errors.ts";
import { rowsOf, type SqliteFile } from "../file.ts";
import { NOTES, PROGRESS } from "../names.ts";

const READ = `SELECT epoch, "commit", "index", lease, tables, bond FROM ${PROGRESS} WHERE name = ?1`;
const AT = `epoch IS ? AND "commit" IS ? AND "index" IS ?`;

/** Checkpoint and lease of each sink that writes to this file: one row, written in the transaction of the rows. */
export class CheckpointRow {
  readonly #sink: string;
  /** What this process last wrote or found; null: no progress yet. */
  #held: Checkpoint | null = null;
  /** The text of the complete tables, if the file certainly has it. */
  #storedTables: string | null = null;
  #lease = 0;
  /** The position of the last attempted batch: if its log could not be synced, the file may hold it. */
  #attempted: Checkpoint["position"] | null = null;

  constructor(sink: string) {
    this.#sink = sink;
  }

  /** Creates the tables, takes over the lease and reads the checkpoint. Inside a transaction. */
  take(file: SqliteFile, lease: number): Checkpoint | null {
    file.exec(
      `CREATE TABLE IF NOT EXISTS ${PROGRESS} (name TEXT NOT NULL PRIMARY KEY, epoch INTEGER, "commit" INTEGER, "index" INTEGER, ` +
        `lease INTEGER NOT NULL, tables TEXT, bond TEXT, updated_at TEXT NOT NULL) STRICT; ` +
        `CREATE TABLE IF NOT EXISTS ${NOTES} (name TEXT NOT NULL PRIMARY KEY COLLATE NOCASE, note TEXT NOT NULL) STRICT`,
    );
    const [row] = file.rows(READ, this.#sink);
    const found = row === undefined ? 0 : Number(row[3]);
    if (found > lease) {
      throw sqliteError(
        "MR3109",
        "fatal",
        `sink ${this.#sink} belongs to another process (lease ${found}, ours is ${lease})`,
      );
    }
    const sql =
      `INSERT INTO ${PROGRESS} (name, lease, updated_at) VALUES (?, ?, ?) ` +
      `ON CONFLICT (name) DO UPDATE SET lease = excluded.lease, updated_at = excluded.updated_at`;
    file.run(sql, this.#sink, lease, now());
    this.#attempted = null;
    this.#lease = lease;
    this.#storedTables = null;
    this.#held = parseCheckpoint(row);
    return this.#held;
  }

  /** The tables of which the file has a complete copy. */
  get complete(): CompleteTables {
    return this.#held?.tables ?? {};
  }

  /** The stored checkpoint; creates nothing. */
  look(database: DatabaseSync): Checkpoint | null {
    if (rowsOf(database, "SELECT 1 FROM sqlite_schema WHERE name = ?", PROGRESS).length === 0) return null;
    return parseCheckpoint(rowsOf(database, READ, this.#sink)[0]);
  }

  /**
   * Begins a batch with the fence and the new checkpoint. Invariant: a batch changes something only if checkpoint and lease
   * are what this process wrote last.
   */
  advance(file: SqliteFile, next: Checkpoint): void {
    const places = this.#places;
    const { position } = next;
    this.#attempted = position;
    const { tables, bond } = checkpointTexts(next);
    const { epoch, commit, index } = position;
    const isNew = tables !== this.#storedTables;
    this.#write(
      file,
      `epoch = ?, "commit" = ?, "index" = ?, bond = ?${isNew ? ", tables = ?" : ""}, `,
      [epoch, commit, index, bond, ...(isNew ? [tables] : [])],
      places,
    );
  }

  /** Begins a transaction that changes targets in another way than by a batch, with the same fence. The checkpoint stays. */
  fence(file: SqliteFile): void {
    this.#write(file, "", [], this.#places);
  }

  /** Where the file may be. */
  get #places(): readonly (Checkpoint["position"] | null)[] {
    return [this.#held?.position ?? null, ...(this.#attempted === null ? [] : [this.#attempted])];
  }

  #write(
    file: SqliteFile,
    sets: string,
    values: readonly (number | bigint | string)[],
    places: readonly (Checkpoint["position"] | null)[],
  ): void {
    const sql = `UPDATE ${PROGRESS} SET ${sets}updated_at = ? WHERE name = ? AND lease = ? AND (${places.map(() => AT).join(" OR ")})`;
    const at = places.flatMap((place) => [place?.epoch ?? null, place?.commit ?? null, place?.index ?? null]);
    if (file.run(sql, ...values, now(), this.#sink, this.#lease, ...at) === 1) return;
    throw sqliteError(
      "MR3109",
      "fatal",
      `sink ${this.#sink} was taken over by another process, or its progress was changed`,
    );
  }

  /** Removes the sink's row, and with the last one the table. Inside a transaction. */
  remove(file: SqliteFile): void {
    this.fence(file);
    file.run(`DELETE FROM ${PROGRESS} WHERE name = ?`, this.#sink);
    if (file.rows(`SELECT 1 FROM ${PROGRESS} LIMIT 1`).length > 0) return;
    file.exec(`DROP TABLE ${PROGRESS}; DROP TABLE ${NOTES}`);
  }

  committed(next: Checkpoint): void {
    this.#held = next;
    this.#attempted = null;
    this.#storedTables = checkpointTexts(next).tables;
  }
}

function now(): string {
  return new Date().toISOString();
}

function parseCheckpoint(row: readonly SQLOutputValue[] | undefined): Checkpoint | null {
  if (row === undefined || row[0] === null) return null;
  const [epoch, commit, index, , tables, bond] = row;
  if (typeof commit !== "bigint" || typeof tables !== "string" || typeof bond !== "string")
    throw new Error("the sink's checkpoint does not hold what was written there");
  return { position: { epoch: Number(epoch), commit, index: Number(index) }, ...checkpointFromTexts(tables, bond) };
}
