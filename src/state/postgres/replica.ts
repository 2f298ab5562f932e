import { DatabaseSync } from "node:sqlite";
import { systemClock } from "../../core/clock.ts";
import type { StateDump, StateRow } from "../../core/contracts/state-store.ts";
import { Connection } from "../sqlite/connection.ts";
import { load, quote, relationsOf, rowOf, SEQUENCES, upgraded } from "../sqlite/dump.ts";
import { migrate } from "../sqlite/migrate.ts";
import { integer, text } from "../sqlite/row.ts";

export interface Change {
  readonly relation: string;
  readonly number: number;
  /** Null: the row is deleted. */
  readonly content: string | null;
}

/**
 * The working copy of a state on a server: a temporary SQLite database, which moves pages to disk when it is large.
 * Reads need no round trip, and both stores share their statements. Triggers record what changes.
 */
export class Replica {
  readonly connection: Connection;
  readonly #database = new DatabaseSync("");
  /** The last known counters of SQLite: triggers do not see them. */
  #sequences = "";

  constructor() {
    migrate(this.#database, "of a working copy");
    this.#database.exec("PRAGMA recursive_triggers = ON; PRAGMA synchronous = OFF");
    this.#database.exec("CREATE TEMP TABLE touched (relation TEXT, number INTEGER)");
    for (const relation of relationsOf(this.#database)) if (relation !== SEQUENCES) this.#watch(relation);
    this.connection = new Connection(this.#database, "of the working copy", systemClock);
  }

  #watch(relation: string): void {
    for (const [event, row] of [
      ["INSERT", "new"],
      ["UPDATE", "new"],
      ["UPDATE", "old"],
      ["DELETE", "old"],
    ] as const) {
      const name = quote(`${relation} ${event} ${row}`);
      const literal = `'${relation.replaceAll("'", "''")}'`;
      this.#database.exec(
        `CREATE TEMP TRIGGER ${name} AFTER ${event} ON main.${quote(relation)}
         BEGIN INSERT INTO touched VALUES (${literal}, ${row}.rowid); END`,
      );
    }
  }

  /** Replaces all rows, without recording changes. */
  load(dump: StateDump): void {
    this.replace(dump);
    this.take();
  }

  /** Replaces all rows, and records changes. */
  replace(dump: StateDump): void {
    const newest = upgraded(dump);
    this.#database.exec("BEGIN");
    try {
      load(this.#database, newest);
      this.#database.exec("COMMIT");
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  /** The changes since the last call. */
  take(): readonly Change[] {
    const touched = this.#database.prepare("SELECT DISTINCT relation, number FROM touched").all();
    if (touched.length > 0) this.#database.exec("DELETE FROM touched");
    const changes = touched.map((row) => this.#change(text(row, "relation"), integer(row, "number")));
    return [...changes, ...this.#sequenceChanges()];
  }

  #change(relation: string, number: number): Change {
    const row = rowOf(this.#database, relation, number);
    return { relation, number, content: row === undefined ? null : contentOf(row) };
  }

  #sequenceChanges(): readonly Change[] {
    const rows = this.#database.prepare(`SELECT rowid AS number, name, seq FROM ${SEQUENCES} ORDER BY rowid`).all();
    const now = JSON.stringify(rows);
    if (now === this.#sequences) return [];
    this.#sequences = now;
    return rows.map((row) => this.#change(SEQUENCES, integer(row, "number")));
  }

  close(): void {
    this.connection.close();
  }
}

/** In ASCII: every database has room for it, whatever its encoding. */
export function contentOf(row: StateRow): string {
  const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(row).replace(/[\u0080-\uffff]/g, escaped);
}
