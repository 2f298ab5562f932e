import type { Block } from "../model/block.ts";
import type { PositionFields } from "../model/envelope.ts";

/**
 * Distinguishes one log from another; stored beside the progress and compared at each connect. Only the source knows
 * its content.
 */
export type LogIdentity = Readonly<Record<string, string>>;

/**
 * The text form of positions in the source's log. Needs no connection to a server. A later position is a higher number,
 * and `parse(format(commit))` is `commit`.
 */
export interface Positions {
  /** A log position in the source's own format (`0/1A2B3C8`), and back. */
  readonly format: (commit: bigint) => string;
  readonly parse: (text: string) => bigint;
  /** The named values of a position in an envelope; absent: the position itself, as `commitLsn`. */
  readonly fields?: (commit: bigint) => PositionFields;
  /**
   * Everything that a token of an application names is before this position: a position in text form, or the server's own names
   * of transactions. Undefined: the stream has not come to it yet. Throws a RangeError for a text that is no token. Absent:
   * tokens are positions.
   */
  readonly locate?: (token: string) => bigint | undefined;
  /** Bytes of log between two positions in either order, as far as known: for people and metrics. */
  readonly distance: (a: bigint, b: bigint) => number;
  /** Receives the stored identity, for callers that format positions without a connection. */
  readonly recall?: (identity: LogIdentity) => void;
  /** The names of the transactions before a position, in the server's form; only after `recall` was told of them. */
  readonly namesBefore?: (commit: bigint) => string | undefined;
  /** Position of the record of one row in a stream's block; undefined if unknown. */
  readonly recordPosition?: (block: Block, row: number) => bigint | undefined;
}

/** `Positions.distance` for a log whose positions count its bytes. */
export function distanceInBytes(a: bigint, b: bigint): number {
  return Number(a < b ? b - a : a - b);
}

/** Of a log whose positions are plain numbers. */
export const NUMBERED: Positions = { format: String, parse: BigInt, distance: distanceInBytes };
