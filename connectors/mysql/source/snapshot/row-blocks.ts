/** Turns rows that were read by SQL into blocks of OP_READ, in the layout of core's tuples. */
import type { Block } from "../../../../src/core/model/block.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { addRead, finishRead, readBlock } from "../../../../src/core/model/read-block.ts";
import { keyText } from "../../../../src/core/model/row-id.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import type { KeyText } from "../../../../src/core/contracts/row-reads.ts";
import type { RowPlan } from "../rows/table-map.ts";
import { type DateChoice, selectPlan, writeSelected } from "./select-plan.ts";

export const BLOCK_BYTES = 1024 * 1024;

/** Fills one block (core/model/read-block). */
export class RowBlock {
  readonly #out = new ByteWriter(64 * 1024);
  readonly #block: Block;
  readonly #plan: RowPlan;
  readonly table: TableVersion;

  constructor(table: TableVersion, epoch: number, choice: DateChoice) {
    this.table = table;
    this.#plan = selectPlan(table, choice);
    this.#block = readBlock(table, epoch, this.#out);
  }

  get count(): number {
    return this.#block.count;
  }

  get byteCount(): number {
    return this.#out.length;
  }

  /** Adds the row of a text result between `start` and `end`. */
  append(bytes: Buffer, start: number, end: number): void {
    const out = this.#out;
    const offset = out.length;
    const { columnCount } = this.#plan;
    out.byte(columnCount >> 8);
    out.byte(columnCount & 0xff);
    writeSelected(out, this.#plan, bytes, start, end);
    addRead(this.#block, offset);
  }

  /** The key of the last row. */
  lastKey(): KeyText {
    return keyText(this.table, this.#out.bytes, this.#block.after[this.#block.count - 1]!);
  }

  /** Returns the block, which belongs to the caller from now on. */
  finish(until: Position): Block {
    return finishRead(this.#block, this.#out, until);
  }
}
