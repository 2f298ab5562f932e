import type { Block } from "../model/block.ts";
import type { TableVersion } from "../model/schema.ts";

/** A key as the text forms of its columns, in key order. */
export type KeyText = readonly string[];

/**
 * Reads rows as they are now, beside the stream. The rows of one call come from one snapshot, and the chunk says what
 * that saw; two calls use two snapshots. The caller's marks around the call (`Watermarks`) tell where a row belongs in
 * the log. Rows come in the requested shape, or the call rejects, because the table may have another shape by now. Both
 * reads reject with `AmbiguousKey` if no constraint enforces the key, and two rows share it.
 */
export interface RowReads {
  /** Rows of `table` in key order, for at most half a second. Under a condition a chunk may be empty and not be the last. */
  readonly readRange: (table: TableVersion, range: RowRange, signal: AbortSignal) => Promise<Chunk>;
  /** The rows under these keys; a key that is not in the result does not exist. */
  readonly readKeys: (table: TableVersion, keys: readonly KeyText[], signal: AbortSignal) => Promise<Chunk>;
  /**
   * Rows whose columns `by` have the values of rows of another table, and perhaps some more, where the source takes other values
   * for equal. Rules do not matter to what joins: values that they mask are compared at the source. Absent: rows can't be
   * looked up by other columns than the key's.
   */
  readonly readJoined?: (
    table: TableVersion,
    by: readonly number[],
    above: RowsAbove,
    signal: AbortSignal,
  ) => Promise<Chunk>;
  /**
   * As `readKeys`, and for each key the transaction that wrote its row last (null: there is no row). For a source whose log leaves out
   * values that stay the same: a row that this transaction wrote has them as they were at its change. `changedBy`: transactions
   * that the stream has brought; a read waits a moment for one that it does not see yet.
   */
  readonly readWritten?: (
    table: TableVersion,
    keys: readonly KeyText[],
    changedBy: readonly number[],
    signal: AbortSignal,
  ) => Promise<{ readonly block: Block | null; readonly writers: readonly (number | null)[] }>;
  /** Absent: a comparison has to read the rows. */
  readonly sums?: RowSums;
}

/** The rows of `table` under these keys, and the ordinals of their columns whose values count. */
export interface RowsAbove {
  readonly table: TableVersion;
  readonly of: readonly number[];
  readonly keys: readonly KeyText[];
}

/** Compares tables at their servers. The values of these columns, by ordinal and in this order, are a row's content. */
export interface RowSums {
  /** How such contents can be hashed, the quickest first. Two servers hash equal contents alike in one form. */
  readonly forms: (table: TableVersion, columns: readonly number[]) => readonly string[];
  /** Of all rows. The parts of a large table may be of several moments. */
  readonly of: (table: TableVersion, hashed: Hashed, signal: AbortSignal) => Promise<ContentSums>;
  /** The condition for `RowRange`: rows of these buckets. */
  readonly within: (table: TableVersion, hashed: Hashed, buckets: readonly number[]) => string;
}

export interface Hashed {
  readonly columns: readonly number[];
  readonly form: string;
}

/** By bucket, which the hash decides: how many rows, and the exclusive or of their hashes of 64 bits. */
export interface ContentSums {
  readonly counts: Int32Array;
  readonly hashes: BigInt64Array;
}

export interface RowRange {
  /** Null: from the start. */
  readonly after: KeyText | null;
  /** A condition in the source's SQL, and under rules in the language of filters; null: all rows. */
  readonly where: string | null;
  /** How many rows are examined under a condition; 0: none, it is only tried. Default: SCAN_ROW_COUNT_MAX. */
  readonly scanRowCountMax?: number | undefined;
  /**
   * Called between pieces of about a millisecond with how long the last one took; the next is read when it resolves. A hint for
   * sources that are read by many. Default: no rests, and larger pieces.
   */
  readonly rest?: ((tookMs: number) => Promise<void>) | undefined;
}

/** How many rows one chunk examines under a condition: without an index the matching rows may be far apart. */
export const SCAN_ROW_COUNT_MAX = 50_000;

const KEYS_FIRST = 8;
const KEYS_MAX = 1_000;
/** Rows are looked up at once until they have about this many bytes. */
const KEYS_BYTES = 8 * 1024 * 1024;
const KEYS_GROWTH = 8;

/** How many keys of a table to look up at once: few at first, because its rows may be large. */
export class KeyPace {
  #count = KEYS_FIRST;

  get count(): number {
    return this.#count;
  }

  /** So many keys were looked up, and their rows have so many bytes. */
  looked(keyCount: number, byteCount: number): void {
    const fitting = byteCount === 0 ? KEYS_MAX : Math.floor((KEYS_BYTES * keyCount) / byteCount);
    this.#count = Math.max(1, Math.min(fitting, this.#count * KEYS_GROWTH, KEYS_MAX));
  }
}

export interface Chunk {
  /** Rows as OP_READ, or null if there are none. */
  readonly block: Block | null;
  /** The key of the last row read; null: no rows follow, the range is finished. */
  readonly last: KeyText | null;
  /** Whether the chunk's snapshot saw the transaction. */
  readonly sees: (xid: number) => boolean;
  /** The text that `sees` was made of (`snapshotSees`), for passing it on; absent: it saw everything. */
  readonly snapshot?: string;
}

/**
 * A row that was read has a null in its table's key, or the key of another row: no constraint of the source prevents
 * it.
 */
export class AmbiguousKey extends Error {
  readonly what: "null" | "twice";

  constructor(what: "null" | "twice") {
    super(what === "null" ? "a row has a null in its key" : "two rows have one key");
    this.what = what;
  }
}
