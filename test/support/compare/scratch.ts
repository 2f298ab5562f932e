/** The rows of one table as they should be in a sink, on disk, so that a sink may be read in any order it likes. */
import { createHash } from "node:crypto";
import { DatabaseSync } from "node:sqlite";
import type { Cells } from "./source-table.ts";

/** Longer cells are kept as their digest. */
const CELL_CHARACTERS_MAX = 80;

export type Match =
  | { readonly kind: "equal" }
  | { readonly kind: "different"; readonly columns: readonly number[] }
  /** The source has no such row. */
  | { readonly kind: "unknown" }
  /** This row was met before. */
  | { readonly kind: "again" };

export class Scratch implements Disposable {
  readonly #database: DatabaseSync;
  readonly #find: ReturnType<DatabaseSync["prepare"]>;
  readonly #add: ReturnType<DatabaseSync["prepare"]>;
  #seen = new Uint8Array(1024);
  #rowCount = 0;
  #seenCount = 0;

  constructor(path: string) {
    this.#database = new DatabaseSync(path);
    this.#database.exec(`pragma journal_mode = off; pragma synchronous = off; pragma cache_size = -16384;
      create table expected (n integer primary key, id text not null unique, cells text not null);
      begin`);
    this.#add = this.#database.prepare("insert into expected (n, id, cells) values (?, ?, ?)");
    this.#find = this.#database.prepare("select n, cells from expected where id = ?");
  }

  get rowCount(): number {
    return this.#rowCount;
  }

  get missingCount(): number {
    return this.#rowCount - this.#seenCount;
  }

  add(id: string, cells: Cells): void {
    this.#add.run(this.#rowCount++, id, spell(cells));
  }

  match(id: string, cells: Cells): Match {
    const found = this.#find.get(id);
    if (found === undefined) return { kind: "unknown" };
    const { n, cells: expected } = found;
    if (typeof n !== "number" || typeof expected !== "string") throw new TypeError("not a row of this table");
    if (!this.#see(n)) return { kind: "again" };
    const actual = spell(cells);
    if (actual === expected) return { kind: "equal" };
    return { kind: "different", columns: unequal(parse(expected), parse(actual)) };
  }

  /** Ids of rows that were not met. */
  *missing(): Generator<string> {
    if (this.missingCount === 0) return;
    for (const { n, id } of this.#database.prepare("select n, id from expected order by n").iterate()) {
      const row = Number(n);
      if ((this.#seen[row >> 3]! & (1 << (row & 7))) === 0) yield String(id);
    }
  }

  [Symbol.dispose](): void {
    this.#database.close();
  }

  /** False where it was seen before. */
  #see(row: number): boolean {
    if (this.#seen.length * 8 < this.#rowCount) {
      const grown = new Uint8Array(Math.ceil(this.#rowCount / 8));
      grown.set(this.#seen);
      this.#seen = grown;
    }
    const bit = 1 << (row & 7);
    if ((this.#seen[row >> 3]! & bit) !== 0) return false;
    this.#seen[row >> 3]! |= bit;
    this.#seenCount++;
    return true;
  }
}

function spell(cells: Cells): string {
  return JSON.stringify(
    cells.map((cell) => (cell === null || cell.length <= CELL_CHARACTERS_MAX ? cell : digest(cell))),
  );
}

function digest(cell: string): string {
  return `sha256 ${cell.length} ${createHash("sha256").update(cell).digest("base64")}`;
}

function parse(spelt: string): readonly unknown[] {
  const value: unknown = JSON.parse(spelt);
  return Array.isArray(value) ? value : [];
}

function unequal(expected: readonly unknown[], actual: readonly unknown[]): number[] {
  const columns: number[] = [];
  for (let i = 0; i < expected.length; i++) if (expected[i] !== actual[i]) columns.push(i);
  return columns;
}
