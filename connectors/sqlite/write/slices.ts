import type { SQLInputValue, SQLOutputValue } from "node:sqlite";
import { setImmediate as turn } from "node:timers/promises";
import { stopped } from "../errors.ts";
import type { SqliteFile } from "../file.ts";
import { quoteIdentifier } from "../names.ts";
import { parameters } from "../tables/layout.ts";

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

  /** Runs a statement over all rows of a table, in pieces. Its own parameters are the first ones. */
  async overRows(
    file: SqliteFile,
    sqlName: string,
    statement: (isInPiece: IsInPiece) => string,
    ...values: readonly SQLInputValue[]
  ): Promise<void> {
    const walk = walkOf(file, sqlName);
    const [from, to] = [0, walk.length].map((before) => parameters(walk.length, values.length + before + 1));
    const first = `SELECT ${walk.join(", ")} FROM ${sqlName}`;
    const order = `ORDER BY ${walk.join(", ")} LIMIT 1`;
    const next = `${first} WHERE ${walked(walk, ">=", parameters(walk.length))} ${order} OFFSET ${WINDOW_ROWS}`;
    const last = statement((row) => walked(walk, ">=", from!, row));
    const piece = statement((row) => `${walked(walk, ">=", from!, row)} AND ${walked(walk, "<", to!, row)}`);
    for (let begin = placeOf(file.rows(`${first} ${order}`)); begin !== null;) {
      const end: Place | null = placeOf(file.rows(next, ...begin));
      if (end === null) file.run(last, ...values, ...begin);
      else file.run(piece, ...values, ...begin, ...end);
      begin = end;
      if (this.isOver) await this.next();
    }
  }
}

/** The condition that a row is in the piece at hand. `row`: what names the row. */
export type IsInPiece = (row?: string) => string;

/** Of a row among those of its table, in the order of `walkOf`. */
export type Place = readonly SQLInputValue[];

/** Null: there is no row. */
export function placeOf([row]: readonly (readonly SQLOutputValue[])[]): Place | null {
  return row?.map((value) => (value instanceof Uint8Array ? Uint8Array.from(value) : value)) ?? null;
}

/** Of a row, unless its table is WITHOUT ROWID. */
export const NUMBER = "_rowid_";

/** By which columns all rows of a table are walked through, in the order in which they lie in the file. */
export function walkOf(file: Pick<SqliteFile, "rows">, sqlName: string): readonly string[] {
  const [table] = file.rows(`PRAGMA main.table_list(${sqlName})`);
  if (table?.[4] !== 1n) return [NUMBER];
  return file
    .rows(`PRAGMA main.table_info(${sqlName})`)
    .filter(([, , , , , part]) => part !== 0n)
    .toSorted(([, , , , , a], [, , , , , b]) => Number(a) - Number(b))
    .map(([, name]) => quoteIdentifier(String(name)));
}

/** Where a row is beside a place, whose parameters these are. */
export function walked(
  walk: readonly string[],
  comparison: ">=" | ">" | "<=" | "<",
  place: readonly string[],
  row?: string,
): string {
  const names = row === undefined ? walk : walk.map((name) => `${row}.${name}`);
  return `(${names.join(", ")}) ${comparison} (${place.join(", ")})`;
}
