/**
 * Rows that pass from a source to a sink of the same vendor in the vendor's own form, without being decoded. The form has
 * a name, and both sides must know it. What a raw copy can't do, the ordinary copy of blocks does.
 */
import type { TableVersion } from "../model/schema.ts";

/** How the values of a column travel: in the binary form of the column's own type, or as their text. */
export type RawColumn = "binary" | "text";

/** What a source can give of a first copy. */
export interface RawRows {
  readonly form: string;
  /** How many sessions may read one table at once. */
  readonly sessionCountMax: number;
  /** Null: the table is too small for sessions of its own. */
  table(table: TableVersion, signal: AbortSignal): Promise<RawTable | null>;
}

/** A table in parts, which may be read in any order; together they have each row of the copy once. */
export interface RawTable {
  readonly partCount: number;
  /** A session in the copy's snapshot. Fails if the copy can't show the table as it was. */
  reader(columns: readonly RawColumn[], signal: AbortSignal): Promise<RawReader>;
}

export interface RawReader {
  /** Gives all rows of a part to `taker`, one part at a time. After a failure only `close` may be called. */
  read(part: number, taker: RawTaker, signal: AbortSignal): Promise<void>;
  close(): void;
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
  /**
   * Makes the target ready for the first part. False: it has rows, among which the copy's may be, so that the rows must be
   * decoded.
   */
  begin(table: TableVersion, signal: AbortSignal): Promise<boolean>;
  /** A session beside the others. Several may write at once, also into one table. */
  writer(signal: AbortSignal): Promise<RawWriter>;
  /**
   * After the last part: when it resolves, all parts that were committed, by any writer of the sink, are durable, and the
   * target is as `prepare` made it. Fails if one of them is lost.
   */
  finish(table: TableVersion, signal: AbortSignal): Promise<void>;
}

export interface RawWriter {
  /**
   * Writes the rows of one part, which are not durable yet, and returns how many there are. It, or `finish`, fails if the
   * target has a row with one of their keys. After a failure nothing of the part is left, and only `close` may be called.
   */
  write(work: RawWork, signal: AbortSignal): Promise<number>;
  /**
   * Commits the written part, behind the sink's fence; `finish` makes it durable. After a failure it is unknown whether the part
   * is there.
   */
  commit(signal: AbortSignal): Promise<void>;
  /** Abandons what is not durable. */
  close(): void;
}

export interface RawWork {
  readonly table: TableVersion;
  /** Gives the rows of the part. */
  readonly read: (taker: RawTaker, signal: AbortSignal) => Promise<void>;
  readonly version: bigint;
  readonly commitTimeUs: bigint;
}
