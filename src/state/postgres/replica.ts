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
  /** Null: the row is gone. */
  readonly content: string | null;
}

/**
 * The working copy of a state that is kept elsewhere: a temporary SQLite database (its pages go to disk when they are
 * many), so that reads cost no way to the server and both stores share their statements. What changes is noted by
 * triggers.
 */
export class Replica {
  readonly connection: Connection;
  readonly #database = new DatabaseSync("");
  /** The numbers that SQLite gave out, as they were taken last: no trigger stands there. */
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

  /** Puts other rows in the place of all; nothing of that is a change. */
  load(dump: StateDump): void {
    this.replace(dump);
    this.take();
  }

  /** The same as a change. */
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

  /** What changed since it was asked last. */
  take(): readonly Change[] {
    const touched = this.#database.prepare("SELECT DISTINCT relation, number FROM touched").all();
    if (touched.length > 0) this.#database.exec("DELETE FROM touched");
    const changes = touched.map((row) => this.#change(text(row, "relation"), integer(row, "number")));
    return [...changes, ...this.#sequenceChanges()];
  }

  #change(relation: string, number: number): Change {
    return { relation, number, content: contentOf(rowOf(this.#database, relation, number)) };
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

function contentOf(row: StateRow | undefined): string | null {
  return row === undefined ? null : JSON.stringify(row);
}
