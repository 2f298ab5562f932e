import type { SQLInputValue } from "node:sqlite";
import { setImmediate as turn } from "node:timers/promises";
import { stopped } from "../errors.ts";
import type { SqliteFile } from "../file.ts";

/** SQLite's calls are synchronous: after so much time in a row, other work of the process gets its turn. */
const SLICE_MS = 8;
/** Rows between two looks at the clock. */
const CHECKED_EVERY = 16;
/** Of a statement over a whole table. */
const WINDOW_ROWS = 2_000;

export class Slices {
  readonly #signal: AbortSignal;
  #since = performance.now();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  get isOver(): boolean {
    return performance.now() - this.#since > SLICE_MS;
  }

  /** Whether a loop over rows is to give others their turn behind its row `i`. */
  isOverAt(i: number): boolean {
    return i % CHECKED_EVERY === 0 && this.isOver;
  }

  async next(): Promise<void> {
    await turn();
    if (this.#signal.aborted) throw stopped();
    this.#since = performance.now();
  }

  /** Runs a statement over all rows of a table: `?1` and `?2` are the numbers of a piece's first row and last one, then `values`. */
  async overRows(file: SqliteFile, sqlName: string, sql: string, ...values: readonly SQLInputValue[]): Promise<void> {
    const bound = `SELECT max(r) FROM (SELECT _rowid_ AS r FROM ${sqlName} WHERE _rowid_ >= ?1 ORDER BY _rowid_ LIMIT ${WINDOW_ROWS})`;
    const [first] = file.rows(`SELECT min(_rowid_) FROM ${sqlName}`);
    let from = first?.[0] ?? null;
    while (typeof from === "bigint") {
      const to = file.rows(bound, from)[0]?.[0] ?? null;
      if (typeof to !== "bigint") return;
      file.run(sql, from, to, ...values);
      from = to + 1n;
      if (this.isOver) await this.next();
    }
  }
}

/** A row of such a piece. */
export const IN_PIECE = "_rowid_ BETWEEN ?1 AND ?2";
