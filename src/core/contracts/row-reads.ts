import type { Block } from "../model/block.ts";
import type { TableVersion } from "../model/schema.ts";

/** A key as the text forms of its columns, in key order. */
export type KeyText = readonly string[];

/**
 * Reads rows as they are now, beside the stream. The rows of a call are of one snapshot, of which the chunk says what it saw;
 * two calls see two. Where a row belongs in the log, the caller's marks around the call tell (`Watermarks`). Rows come in
 * the shape that is asked for, or the call rejects: the table may have another by now. Both ways to read reject with
 * `AmbiguousKey` where nothing guards the key, and it does not tell the rows apart.
 */
export interface RowReads {
  /**
   * Rows of `table` in key order behind `after` (null: from the start), at most half a second's worth. Under a condition at
   * most `scanRowCountMax` rows are looked at (default: SCAN_ROW_COUNT_MAX), so that a chunk may have none and not be the
   * last.
   */
  readonly readRange: (
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
    scanRowCountMax?: number,
  ) => Promise<Chunk>;
  /** The rows under these keys; a key that is not in the result does not exist. */
  readonly readKeys: (table: TableVersion, keys: readonly KeyText[], signal: AbortSignal) => Promise<Chunk>;
}

/** Rows that a condition is tried on in one chunk: without an index the ones that it wants may be far apart. */
export const SCAN_ROW_COUNT_MAX = 50_000;

export interface Chunk {
  /** Rows as OP_READ, or null where there are none. */
  readonly block: Block | null;
  /** The key of the last row read; null: nothing lies behind, the range is finished. */
  readonly last: KeyText | null;
  /** Whether the chunk's snapshot saw the transaction. */
  readonly sees: (xid: number) => boolean;
}

/** A row that was read has no value in its table's key, or the key of another row: nothing at the source forbids it. */
export class AmbiguousKey extends Error {
  readonly what: "null" | "twice";

  constructor(what: "null" | "twice") {
    super(what === "null" ? "a row has a null in its key" : "two rows have one key");
    this.what = what;
  }
}
