/** A sink that appends, as batch.ts describes what such a sink is given, in plain arrays. */
import { DELETE, PATCH, type TableWrites } from "../../../src/core/model/batch.ts";
import { changeOp } from "../../../src/core/targets/history.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { UNCHANGED } from "./blocks.ts";
import { cellsOf, keyOfRow, type Row } from "./log-model.ts";

export interface Appended {
  readonly op: string;
  readonly key: string;
  /** `commit/index`, which tells changes apart. */
  readonly id: string;
  readonly row: Row;
  /** Whether a cell is null because nobody knew it. */
  readonly isShort: boolean;
}

export class HistoryModel {
  readonly table: TableVersion;
  readonly rows: Appended[] = [];

  constructor(table: TableVersion) {
    this.table = table;
  }

  fill(rows: ReadonlyMap<string, Row>): void {
    for (const [key, row] of rows) this.rows.push({ op: "r", key, id: "", row, isShort: false });
  }

  apply(writes: TableWrites): void {
    // Bases are those from before the batch.
    const before = this.#latest();
    for (let i = 0; i < writes.count; i++) {
      const block = writes.blocks[writes.block[i]!]!;
      const row = writes.row[i]!;
      const action = writes.action[i]!;
      const oldCells = () => cellsOf(this.table, block.bytes, block.before[row]!);
      const cells = action === DELETE ? oldCells() : cellsOf(this.table, block.bytes, block.after[row]!);
      const key = keyOfRow(this.table, cells);
      const baseKey = writes.moved[i] === 1 ? keyOfRow(this.table, oldCells()) : key;
      const found = action === PATCH && writes.fresh[i] !== 1 ? before.get(baseKey) : undefined;
      const base = found === undefined || found.op === "d" || found.isShort ? undefined : found.row;
      this.rows.push({
        op: changeOp(writes, i),
        key,
        id: `${block.transactions.commit[block.tx[row]!]!}/${block.index[row]!}`,
        row: cells.map((cell, c) => (cell === UNCHANGED ? (base?.[c] ?? null) : cell === null ? null : String(cell))),
        isShort: base === undefined && cells.includes(UNCHANGED),
      });
    }
  }

  /** The last state of each key that is there. */
  get live(): Map<string, Row> {
    return new Map([...this.#latest()].flatMap(([key, { op, row }]) => (op === "d" ? [] : [[key, row] as const])));
  }

  #latest(): Map<string, Appended> {
    return new Map(this.rows.map((row) => [row.key, row]));
  }
}
