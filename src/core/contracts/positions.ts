import type { Block } from "../model/block.ts";
import type { PositionFields } from "../model/envelope.ts";

/** What tells one log from another; stored beside the progress and compared at each connect. Opaque outside the source. */
export type LogIdentity = Readonly<Record<string, string>>;

/**
 * How the source spells places in its log. Asks no server: it works where none can be reached. Later in the log is a higher
 * number, and `parse(format(commit))` is `commit`.
 */
export interface Positions {
  /** A log position in the source's own spelling (`0/1A2B3C8`), and back. */
  readonly format: (commit: bigint) => string;
  readonly parse: (text: string) => bigint;
  /** The named values that an envelope shows of a position; absent: it shows the position itself, as `commitLsn`. */
  readonly fields?: (commit: bigint) => PositionFields;
  /** Bytes of log between two positions, whichever comes first, as far as it is known: for people and metrics. */
  readonly distance: (a: bigint, b: bigint) => number;
  /** Told what is stored of the log, before positions are spelled by somebody who makes no connection. */
  readonly recall?: (identity: LogIdentity) => void;
  /** The names of the transactions before a position, as the server spells such a set; where `recall` was told of them. */
  readonly namesBefore?: (commit: bigint) => string | undefined;
  /** Position of the own record of a row of a block that a stream gave; undefined where it can't be told. */
  readonly recordPosition?: (block: Block, row: number) => bigint | undefined;
}

/** `Positions.distance` of a log whose positions count its bytes. */
export function distanceInBytes(a: bigint, b: bigint): number {
  return Number(a < b ? b - a : a - b);
}
