import { BEFORE_NONE, Block, NO_TUPLE } from "../../core/model/block.ts";
import { ByteWriter } from "../../core/bytes.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap, tupleEnd } from "../../core/model/tuple.ts";

export interface Tuple {
  readonly bytes: Uint8Array;
  readonly offset: number;
}

export interface MergedRow {
  readonly row: number;
  readonly unresolved: boolean;
}

/** A buffer that a few very large rows made larger than this is not kept. */
const KEPT_BYTES_MAX = 8 * 1024 * 1024;

/** The block into which merged tuples are written: the last one of a batch. */
export class MergedTuples {
  #writer = new ByteWriter(4096);
  readonly #block = new Block(this.#writer.bytes);
  readonly #keepsBefore: boolean;
  ordinal = 0;

  /** `keepsBefore`: a merged row also has the old tuple of its change, as the log has it. */
  constructor(keepsBefore: boolean) {
    this.#keepsBefore = keepsBefore;
  }

  begin(ordinal: number): Block {
    this.ordinal = ordinal;
    if (this.#writer.bytes.length > KEPT_BYTES_MAX) this.#writer = new ByteWriter(4096);
    this.#writer.reset();
    this.#block.reset(this.#writer.bytes);
    return this.#block;
  }

  /** Adds a row that merges two tuples under `origin`'s operation and transaction; returns its ordinal. */
  merge(origin: Block, row: number, newer: Tuple, older: Tuple, base: Tuple | null, table: TableVersion): MergedRow {
    const after = this.#writer.length;
    const unresolved = mergeTuples(this.#writer, newer.bytes, newer.offset, older.bytes, older.offset);
    const own = this.#keepsBefore ? origin.before[row]! : NO_TUPLE;
    const isOwn = own !== NO_TUPLE;
    const kept = isOwn ? { bytes: origin.bytes, offset: own } : unresolved ? base : null;
    const before = kept === null ? NO_TUPLE : this.#writer.length;
    if (kept !== null) this.#writer.copy(kept.bytes, kept.offset, tupleEnd(kept.bytes, kept.offset) - kept.offset);
    const block = this.#block;
    block.bytes = this.#writer.bytes;
    block.until = origin.until;
    let ordinal = block.tables.indexOf(table);
    if (ordinal < 0) ordinal = block.tables.push(table) - 1;
    const from = origin.transactions;
    const t = origin.tx[row]!;
    const tx = block.transactions.add(from.commit[t]!, from.version[t]!, from.commitTimeUs[t]!, from.xid[t]!);
    if (from.origins[t] !== undefined) block.transactions.origins[tx] = from.origins[t];
    const beforeKind = isOwn ? origin.beforeKind[row]! : BEFORE_NONE;
    block.append(origin.op[row]!, ordinal, after, before, beforeKind, tx, origin.index[row]!);
    return { row: block.count - 1, unresolved };
  }
}

const newer = new CellMap();
const older = new CellMap();

/**
 * Writes the newer tuple with its unchanged cells taken from the older one, and returns whether any is still unchanged.
 * Both are tuples of the same table version.
 */
export function mergeTuples(
  out: ByteWriter,
  newerBytes: Uint8Array,
  newerOffset: number,
  olderBytes: Uint8Array,
  olderOffset: number,
): boolean {
  newer.read(newerBytes, newerOffset);
  older.read(olderBytes, olderOffset);
  let unresolved = false;
  out.byte(newer.count >> 8);
  out.byte(newer.count & 0xff);
  for (let i = 0; i < newer.count; i++) {
    const takeOlder = newer.kind[i] === CELL_UNCHANGED && i < older.count;
    const cells = takeOlder ? older : newer;
    const kind = cells.kind[i]!;
    out.byte(kind);
    if (kind === CELL_UNCHANGED) unresolved = true;
    else if (kind !== CELL_NULL) {
      // The length is in the four bytes before the cell.
      out.copy(takeOlder ? olderBytes : newerBytes, cells.start[i]! - 4, cells.length[i]! + 4);
    }
  }
  return unresolved;
}
