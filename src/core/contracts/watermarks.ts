/**
 * Writes marks into the log, and tells what reads beside it can see. A mark appears in every stream that passes its
 * position, among the changes and after everything that was committed before the call. Rows that were read between two
 * marks show every transaction before the low mark, as far as the read `sees` it, and none after the high mark. A
 * caller whose stream passes a mark without showing it writes another one.
 */
export interface Watermarks {
  /** Writes a mark into the log; it comes back in the stream as a message with the prefix `markPrefix`. */
  readonly mark: (content: string, signal: AbortSignal) => Promise<void>;
  readonly markPrefix: string;

  /**
   * Writes a mark after which every stream checks the shapes of its tables again, and returns its position. A row's
   * shape may be in doubt while the catalogue is ahead; from that position on it is certain.
   */
  readonly renew: (signal: AbortSignal) => Promise<bigint>;

  /**
   * Resolves when every transaction that was writing at the call has ended; `onWait` reports which one blocks. Absent:
   * the log has every table's changes, published or not, so there is nothing to wait for.
   */
  readonly settle?: (onWait: (blocker: Blocker) => void, signal: AbortSignal) => Promise<void>;

  /** Which transactions are visible now; absent: all (`EVERYTHING_VISIBLE`). */
  readonly visibility?: (signal: AbortSignal) => Promise<Visibility>;
}

export interface Visibility {
  /** Whether other sessions see the transaction. */
  readonly sees: (xid: number) => boolean;
  /** As in `Chunk`. */
  readonly snapshot?: string;
  /** Transactions that may be committed in the log although they are not visible yet. */
  readonly committing: readonly number[];
}

/** For a source whose reads each wait until everything in the log is visible. */
export const EVERYTHING_VISIBLE: Visibility = { sees: () => true, committing: [] };

export interface Blocker {
  readonly what: string;
  readonly fix: string;
}

/**
 * Whether a snapshot (`xmin:xmax:xip,…` of pg_current_snapshot, 64-bit) saw a transaction that the stream names by its
 * 32-bit id. The full id is the one nearest to the snapshot's end.
 */
export function snapshotSees(text: string): (xid: number) => boolean {
  const [xminText, xmaxText, list] = text.split(":");
  const xmin = BigInt(xminText ?? "");
  const xmax = BigInt(xmaxText ?? "");
  const running = new Set(
    (list ?? "")
      .split(",")
      .filter((xid) => xid !== "")
      .map(BigInt),
  );
  return (xid) => {
    const full = fullXid(xid, xmax);
    return full < xmin || (full < xmax && !running.has(full));
  };
}

function fullXid(xid: number, near: bigint): bigint {
  const candidate = (near & ~0xffff_ffffn) | BigInt(xid >>> 0);
  if (candidate > near + 0x8000_0000n) return candidate - 0x1_0000_0000n;
  if (candidate < near - 0x8000_0000n) return candidate + 0x1_0000_0000n;
  return candidate;
}
