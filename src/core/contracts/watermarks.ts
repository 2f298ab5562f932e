/**
 * Puts marks into the log, and tells what reads beside it can see. A mark comes in every stream that passes its place, among
 * the changes and behind all that was committed before the call. Rows that were read between two marks show every transaction
 * before the low one, as far as the read `sees` it, and none behind the high one. Who waits for a mark that the stream has
 * passed without showing it writes another.
 */
export interface Watermarks {
  /** Writes a mark into the log; it comes back in the stream as a message with the prefix `markPrefix`. */
  readonly mark: (content: string, signal: AbortSignal) => Promise<void>;
  readonly markPrefix: string;

  /**
   * Writes a mark behind which every stream looks at the shapes of its tables anew, and returns its place: what was in
   * doubt at a row, since the catalogue had gone on, is certain from there on.
   */
  readonly renew: (signal: AbortSignal) => Promise<bigint>;

  /**
   * Resolves when every transaction that was writing at the call has ended; `onWait` says who holds it up. Absent: the log
   * has every table's changes, published or not, and there is nothing to wait for.
   */
  readonly settle?: (onWait: (blocker: Blocker) => void, signal: AbortSignal) => Promise<void>;

  /** Which transactions can be seen now; absent: everything is (`EVERYTHING_VISIBLE`). */
  readonly visibility?: (signal: AbortSignal) => Promise<Visibility>;
}

export interface Visibility {
  /** Whether other sessions see the transaction. */
  readonly sees: (xid: number) => boolean;
  /** Transactions that may be committed in the log although nobody sees them yet. */
  readonly committing: readonly number[];
}

/** What a source sees each of whose reads waits until all that is in the log can be seen. */
export const EVERYTHING_VISIBLE: Visibility = { sees: () => true, committing: [] };

export interface Blocker {
  readonly pid: number;
  readonly ageSeconds: number;
  readonly what: string;
}
