import { DatabaseSync } from "node:sqlite";
import { systemClock } from "../../core/clock.ts";
import type { StateDump, StateRow } from "../../core/contracts/state-store.ts";
import { Connection } from "../sqlite/connection.ts";
import { load, loadRows, quote, relationsOf, type RowOfRelation, rowOf, SEQUENCES, upgraded } from "../sqlite/dump.ts";
import { migrate, newestMigration } from "../sqlite/migrate.ts";
import { integer, text } from "../sqlite/row.ts";

export interface Change {
  readonly relation: string;
  readonly number: number;
  /** Null: the row is deleted. */
  readonly content: string | null;
}

/** A row as the server has it. */
export interface ReceivedRow {
  readonly relation: string;
  readonly content: string;
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
    this.#database.exec("CREATE TEMP TABLE received (relation TEXT, content TEXT)");
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

  /** Rows come from the server; those that came before do not count. */
  begin(): void {
    this.#database.exec("DELETE FROM received");
  }

  /** They wait on disk: what is loaded is replaced at once, and may be larger than memory. */
  receive(rows: readonly ReceivedRow[]): void {
    const insert = this.#database.prepare("INSERT INTO received VALUES (?, ?)");
    this.#inOne(() => {
      for (const { relation, content } of rows) insert.run(relation, content);
    });
  }

  /** Replaces all rows by those that came, without recording changes. `form`: theirs. */
  load(form: number, leaseNumber: number): void {
    if (form === newestMigration()) this.#inOne(() => loadRows(this.#database, this.#received()));
    else this.replace(dumpedRows(form, leaseNumber, this.#received()));
    this.begin();
    this.take();
  }

  *#received(): Generator<RowOfRelation> {
    for (const row of this.#database.prepare("SELECT relation, content FROM received ORDER BY rowid").iterate())
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by this store, from a row of the same type
      yield { relation: text(row, "relation"), row: JSON.parse(text(row, "content")) as StateRow };
  }

  /** Replaces all rows, and records changes. */
  replace(dump: StateDump): void {
    const newest = upgraded(dump);
    this.#inOne(() => load(this.#database, newest));
  }

  #inOne(work: () => void): void {
    this.#database.exec("BEGIN");
    try {
      work();
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

function dumpedRows(migration: number, leaseNumber: number, rows: Iterable<RowOfRelation>): StateDump {
  const relations: Record<string, StateRow[]> = Object.create(null);
  for (const { relation, row } of rows) (relations[relation] ??= []).push(row);
  return { migration, leaseNumber, relations };
}

/** In ASCII: every database has room for it, whatever its encoding. */
export function contentOf(row: StateRow): string {
  const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(row).replace(/[\u0080-\uffff]/g, escaped);
}
