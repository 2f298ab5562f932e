/**
 * Rows that pass from a source to a sink of the same vendor in the vendor's own form, without being decoded. The form has
 * a name, and both sides must know it. What a raw copy can't do, the ordinary copy of blocks does.
 */
import type { TableVersion } from "../../model/schema.ts";

/** How the values of a column travel: in the binary form of the column's own type, or as their text. */
export type RawColumn = "binary" | "text";

/** What a source can give of a first copy. */
export interface RawRows {
  readonly form: string;
  /** How many parts may be read at once. */
  readonly sessionCountMax: number;
  /**
   * The parts of a table; together they have each row of the copy once, and they may be read in any order. Null: the
   * table is too small for sessions of its own, or it can't be read in this form.
   */
  parts(table: TableVersion, signal: AbortSignal): Promise<readonly RawPart[] | null>;
}

export interface RawPart {
  /** Gives all rows of the part to `taker`. After a failure the part may be read again, from its start. */
  read(columns: readonly RawColumn[], taker: RawTaker, signal: AbortSignal): Promise<void>;
}

export interface RawTaker {
  /**
   * Takes one row; its bytes are valid during the call. False: the source stops reading until `room` resolves. A few
   * rows that it has received already may still come.
   */
  take(bytes: Buffer, start: number, end: number): boolean;
  /** Rejects if the taker takes no more rows. */
  room(): Promise<void>;
}

/**
 * What a sink can take of a first copy. The runtime uses it while it owns the sink's turn: meanwhile no other method of
 * the sink is called except `close`. After a failure it calls `open`, which ends what is left of the writers.
 */
export interface TargetRawRows {
  readonly form: string;
  /** How each column must come; null: the rows must be decoded. After `prepare`. */
  columns(table: TableVersion): readonly RawColumn[] | null;
  /** A session beside the others. Several may write at once, also into one table. */
  writer(signal: AbortSignal): Promise<RawWriter>;
}

export interface RawWriter {
  /**
   * Writes the rows of one part, which are not durable yet, and returns how many there are. Fails if the target has a
   * row with one of their keys. After a failure nothing of the part is left, and only `close` may be called.
   */
  write(work: RawWork, signal: AbortSignal): Promise<number>;
  /**
   * Makes the written part durable, behind the sink's fence. After a failure it is unknown whether the part is durable.
   */
  commit(signal: AbortSignal): Promise<void>;
  /** Abandons what is not durable. */
  close(): void;
}

export interface RawWork {
  readonly table: TableVersion;
  readonly part: RawPart;
  /** The version and commit time of each row. */
  readonly version: bigint;
  readonly commitTimeUs: bigint;
}
