import type { MillraceError } from "../errors.ts";
import type { Block } from "../model/block.ts";
import type { Position } from "../model/position.ts";
import type { TableVersion } from "../model/schema.ts";
import type { TableShape } from "./catalog.ts";

/**
 * Follows the log. A stream returns every change of the captured tables that was committed from its position on, in
 * commit order and each once, starting in the transaction that contains the position, at the position or before it. Another stream from the
 * same position returns the same, so received changes may be lost until they are acknowledged. A stream that can't rule
 * out a gap fails.
 */
export interface ChangeLog {
  /**
   * The stream from `from` on. `temporary`: a second stream beside the first, for a sink that catches up; rejects with
   * the reason "one-stream" if no second stream is available although the first may continue.
   */
  readonly stream: (from: Position, options: StreamOptions, signal: AbortSignal) => Promise<ChangeStream>;
  /** The end of the log now: everything committed before the call precedes it. */
  readonly tip: (signal: AbortSignal) => Promise<bigint>;
  /**
   * The first position from which the log can still be read for this daemon's sinks; null: there is none. The end is
   * `tip`.
   */
  readonly earliest: (signal: AbortSignal) => Promise<bigint | null>;
  /**
   * Tells what `onRenamed` of a stream from `from` would tell before `to`, or more, in order and without rows. Returns where it
   * ends: at `to`; without that, or where the log does not reach so far, behind everything that the catalogue showed before the
   * call. Null: any table may have been renamed there. Fails at a gap. Absent: no rename is in the log, because none matters.
   */
  readonly renames?: (
    from: Position,
    to: Position | null,
    onRenamed: OnRenamed,
    signal: AbortSignal,
  ) => Promise<bigint>;
}

export type OnRenamed = (renames: readonly Rename[] | null, position: Position) => void;

export interface StreamOptions {
  readonly temporary: boolean;
  /** How many bytes in blocks the stream may hold before it stops reading; default 24 MiB. */
  readonly byteCountMax?: number;
  /** Called, and awaited, when the log shows a table or a shape that is new to this stream. */
  readonly resolve: SchemaResolver;
  /**
   * Whether the table was followed before. The stream skips a new table that can't be followed, such as one without a
   * key; if this function is missing, it shows every table.
   */
  readonly isKnown?: (tableId: string) => boolean;
  /** Whether the table is captured, as the last look at the catalogue shows, and not suspended. */
  readonly isFlowing?: (tableId: string) => boolean;
  /**
   * Called, and awaited, when the log shows that rows of a table changed whose changes are not in the log. `passedBy`: changes
   * are, which nobody gets.
   */
  readonly onUnloggedRows?: (tableId: string, passedBy?: "passed by") => Promise<void>;
  /**
   * Called, and awaited, where the log says that tables or columns get other names. From a source whose tables have no
   * number that survives this.
   */
  readonly onRenamed?: (renames: readonly Rename[], position: Position) => Promise<void>;
  /**
   * Called, and awaited, when the log has rows of a table in a form that can't be read. The stream then passes them by. If this
   * function is missing, the stream fails.
   */
  readonly onUnreadableRows?: (tableId: string, error: MillraceError) => Promise<void>;
}

/** A table, by ids, that gets another name, other names of its columns, or the columns of another one by a statement. */
export interface Rename {
  readonly from: string;
  readonly to: string;
  /** All at once; `to` empty: it is dropped. */
  readonly columns: readonly (readonly [from: string, to: string])[];
  /**
   * `exchanged`: both tables stay, and rows of each may be in the other now (EXCHANGE PARTITION). `copied`: `to` is new and has
   * the columns of `from` (CREATE TABLE … LIKE); `made`: `to`, which is `from`, is new, whatever had the name before;
   * `perhaps`: or it was there before (IF NOT EXISTS).
   */
  readonly how: "renamed" | "exchanged" | "copied" | "perhaps copied" | "made" | "perhaps made";
}

/**
 * Registers a shape at its position in the schema registry. The same shape at the same position always returns the same
 * object.
 */
export type SchemaResolver = (shape: TableShape, position: Position) => Promise<TableVersion>;

export interface ChangeStream extends AsyncDisposable {
  /**
   * The next block: everything that has arrived; at once when idle, larger under load. A block without rows only moves
   * the position. Not reading is backpressure: the stream stops reading the socket when all its buffers are in use.
   */
  next(signal: AbortSignal): Promise<Block>;
  /** The source may forget everything before `commit`. Sent with the next status message; never moves back. */
  acknowledge(commit: bigint): void;
}
