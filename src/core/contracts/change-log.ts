import { MillraceError } from "../errors.ts";
import type { Block } from "../model/block.ts";
import type { Position } from "../model/position.ts";
import type { TableVersion } from "../model/schema.ts";
import type { TableShape } from "./catalog.ts";

/**
 * Follows the log. A stream gives every change of the captured tables that was committed from its position on, in the order of
 * commits and each once, beginning with the whole transaction that the position is in. Another stream from there gives the
 * same again: what was received may be lost as long as it was not acknowledged. A stream that can't rule out a gap fails.
 */
export interface ChangeLog {
  /**
   * The stream from `from` on. `temporary`: a second stream beside the first, for a sink that catches up; rejects with a
   * `SecondStreamRefused` where there is none to be had although the first may go on.
   */
  readonly stream: (from: Position, options: StreamOptions, signal: AbortSignal) => Promise<ChangeStream>;
  /** Where the log ends now: everything committed before the call lies before it. */
  readonly tip: (signal: AbortSignal) => Promise<bigint>;
  /** From where on the log can still be read for this daemon's sinks; null: there is none. Its end is `tip`. */
  readonly earliest: (signal: AbortSignal) => Promise<bigint | null>;
}

export interface StreamOptions {
  readonly temporary: boolean;
  /** Bytes that the stream may keep in blocks before it stops reading; default 24 MiB. */
  readonly byteCountMax?: number;
  /** Called, and awaited, when the log shows a table or a shape that this stream has not seen. */
  readonly resolve: SchemaResolver;
  /**
   * Whether the table was followed before. One that was not is passed over where it can't be, as one without a key; where
   * nobody says, each is shown.
   */
  readonly isKnown?: (tableId: string) => boolean;
  /** Called, and awaited, where the log shows that rows of a table have come, gone or changed that are not in it themselves. */
  readonly onUnloggedRows?: (tableId: string) => Promise<void>;
}

/** No second stream can be had now: no slot or session is free for it, or the server refuses. Says nothing about the first. */
export class SecondStreamRefused extends MillraceError {}

/** Gives a shape its place in the schema registry. The same shape at the same position is the same object, always. */
export type SchemaResolver = (shape: TableShape, position: Position) => Promise<TableVersion>;

export interface ChangeStream extends AsyncDisposable {
  /**
   * The next block: all that has arrived, at once when idle, larger under load. A block without rows moves the position.
   * Not reading is backpressure: the stream stops reading the socket when its buffers are all held.
   */
  next(signal: AbortSignal): Promise<Block>;
  /** Everything before `commit` may be forgotten by the source. Sent with the next status message; never moves back. */
  acknowledge(commit: bigint): void;
}
