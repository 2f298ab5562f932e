import { Block, NO_TUPLE } from "../core/model/block.ts";
import type { ByteWriter } from "../core/bytes.ts";
import { tupleEnd, TupleWriter } from "../core/model/tuple.ts";
import type { TableVersion } from "../core/model/schema.ts";

/** Of a table under rules, as sinks see it. */
interface Ruled {
  readonly ruled: TableVersion;
}

/**
 * A new block, made from one of the source row by row: ruled rows are written again, and the bytes of the others are copied in one
 * piece.
 */
export class BlockCopy {
  readonly tuples: TupleWriter;
  readonly #from: Block;
  readonly #tables: readonly (Ruled | undefined)[];
  readonly #made: Block;
  /** How much smaller the offsets of copied rows are. */
  readonly #shift: number;
  #origins: Uint32Array;

  /** `tables`: of the block's tables those under rules. */
  constructor(from: Block, tables: readonly (Ruled | undefined)[], out: ByteWriter, onRelease: () => void) {
    this.#from = from;
    this.#tables = tables;
    this.#shift = copyOthers(out, from, tables);
    this.tuples = new TupleWriter(out);
    this.#made = new Block(out.bytes, Math.max(64, from.count), onRelease);
    this.#origins = new Uint32Array(Math.max(64, from.count));
  }

  add(row: number, op: number, after: number, before: number, beforeKind: number): void {
    const { table, tx, index } = this.#from;
    const made = this.#made;
    if (made.count === this.#origins.length) {
      const larger = new Uint32Array(made.count * 2);
      larger.set(this.#origins);
      this.#origins = larger;
    }
    this.#origins[made.count] = row;
    made.append(op, table[row]!, after, before, beforeKind, tx[row]!, index[row]!);
  }

  /** A row of a table without rules; its bytes were copied. */
  asItIs(row: number): void {
    const { op, after, before, beforeKind } = this.#from;
    const shift = this.#shift;
    const newer = after[row]!;
    const older = before[row]!;
    this.add(
      row,
      op[row]!,
      newer === NO_TUPLE ? NO_TUPLE : newer - shift,
      older === NO_TUPLE ? NO_TUPLE : older - shift,
      beforeKind[row]!,
    );
  }

  message(ordinal: number): void {
    this.#made.messages.push({ ...this.#from.messages[ordinal]!, at: this.#made.count });
  }

  origins(): Uint32Array {
    return this.#origins;
  }

  finish(): Block {
    const from = this.#from;
    const made = this.#made;
    const { out } = this.tuples;
    // Only the written part: after it is whatever the memory held before.
    made.bytes = out.view();
    made.byteCount = from.byteCount + out.length;
    made.until = from.until;
    made.tables.push(...from.tables.map((table, i) => this.#tables[i]?.ruled ?? table));
    const { commit, version, commitTimeUs, xid, count } = from.transactions;
    for (let t = 0; t < count; t++) made.transactions.add(commit[t]!, version[t]!, commitTimeUs[t]!, xid[t]!);
    made.transactions.origins.push(...from.transactions.origins);
    for (const { row, recordPosition } of from.truncates) {
      const at = this.#origins.subarray(0, made.count).indexOf(row);
      if (at >= 0) made.truncates.push({ row: at, recordPosition });
    }
    return made;
  }
}

/** Copies the range of bytes with the rows without rules. Returns how much smaller their offsets become. */
function copyOthers(out: ByteWriter, block: Block, tables: readonly (Ruled | undefined)[]): number {
  const { table, after, before, count } = block;
  let first = NO_TUPLE;
  let last = -1;
  for (let row = 0; row < count; row++) {
    if (tables[table[row]!] !== undefined) continue;
    const newer = after[row]!;
    const older = before[row]!;
    // NO_TUPLE is above every offset.
    first = Math.min(first, newer, older);
    if (newer !== NO_TUPLE && newer > last) last = newer;
    if (older !== NO_TUPLE && older > last) last = older;
  }
  if (last < 0) return 0;
  out.copy(block.bytes, first, tupleEnd(block.bytes, last) - first);
  return first;
}
