/**
 * Transactions that are prepared (XA PREPARE) and wait for their outcome. Their rows are kept here by the transaction's
 * name until XA COMMIT gives them their position in the log, or XA ROLLBACK drops them.
 */
import { type Block, NO_TUPLE } from "../../../../src/core/model/block.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { sourceError } from "../errors.ts";

/** The limit for all of them together. */
const PREPARED_BYTES_MAX = 32 * 1024 * 1024;
/** The overhead of a row besides its tuples. */
const ROW_BYTES = 18;

/** Rows out of a block. Offsets are into `bytes`. */
export interface HeldRows {
  readonly bytes: Uint8Array;
  readonly count: number;
  readonly tables: readonly TableVersion[];
  readonly op: Uint8Array;
  readonly table: Uint16Array;
  readonly after: Uint32Array;
  readonly before: Uint32Array;
  readonly beforeKind: Uint8Array;
  readonly index: Uint32Array;
}

/** Copies the rows of `block` from `from` on; their tuples begin at `start` of `bytes`. */
export function heldRows(block: Block, bytes: Uint8Array, from: number, start: number, end: number): HeldRows {
  const { count } = block;
  const inside = (offsets: Uint32Array): Uint32Array =>
    offsets.slice(from, count).map((offset) => (offset === NO_TUPLE ? NO_TUPLE : offset - start));
  return {
    bytes: Uint8Array.from(bytes.subarray(start, end)),
    count: count - from,
    tables: [...block.tables],
    op: block.op.slice(from, count),
    table: block.table.slice(from, count),
    after: inside(block.after),
    before: inside(block.before),
    beforeKind: block.beforeKind.slice(from, count),
    index: block.index.slice(from, count),
  };
}

export class PreparedTransactions {
  readonly #rows = new Map<string, HeldRows>();
  #byteCount = 0;

  /** False: there is no room. */
  add(name: string, rows: HeldRows): boolean {
    this.take(name);
    this.#byteCount += byteCountOf(rows);
    this.#rows.set(name, rows);
    return this.#byteCount <= PREPARED_BYTES_MAX;
  }

  has(name: string): boolean {
    return this.#rows.has(name);
  }

  take(name: string): HeldRows | undefined {
    const rows = this.#rows.get(name);
    if (rows === undefined) return undefined;
    this.#rows.delete(name);
    this.#byteCount -= byteCountOf(rows);
    return rows;
  }

  /** Moves entries that only the other one has to this one. False: there is no room. */
  takeAll(others: PreparedTransactions): boolean {
    let hasRoom = true;
    for (const [name, rows] of others.#rows) if (!this.has(name)) hasRoom = this.add(name, rows) && hasRoom;
    return hasRoom;
  }
}

function byteCountOf({ bytes, count }: HeldRows): number {
  return bytes.length + count * ROW_BYTES;
}

export function tooLarge(place: string): Error {
  return sourceError("MR2123", "fatal", `prepared transactions are larger than what is kept of them, at ${place}`);
}
