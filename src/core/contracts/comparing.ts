/** Comparing what sinks hold with what the source has, at one place of the log. */
import type { Block } from "../model/block.ts";
import type { TableVersion } from "../model/schema.ts";
import type { KeyText } from "./row-reads.ts";

/** A row that a target holds, as the target shows it. */
export interface StoredRow {
  /** See `Inspection.id`. */
  readonly id: string;
  /** In the order of the table's columns, each spelt as `Inspection.expected` spells it; null: the target shows NULL. */
  readonly cells: readonly (string | null)[];
  /** Null where there is none, or something that is no version. */
  readonly version: bigint | null;
  /** What a row has beside its columns and Millrace's own, by name. Default: nothing. */
  readonly surplus?: readonly string[];
}

export interface EqualRows {
  /** 1 at the place of each row that is there, certainly and in everything that `rows` shows, as it has to be. */
  readonly isEqual: Uint8Array;
  /** Of the target's rows, as they were read. */
  readonly byteCount: number;
}

/** A key that a target lists; `key` as the source prints it, null where it is none that the source could have. */
export interface ListedKey {
  readonly id: string;
  readonly key: KeyText | null;
}

/** Rows of the source, in the order of its key. */
export interface RowsInOrder {
  readonly block: Block;
  /** Where each lies in the block. */
  readonly rows: readonly number[];
  readonly keys: readonly KeyText[];
  /** See `Inspection.id`. */
  readonly ids: readonly string[];
  /** How the target has to show row `i`, as in `StoredRow`. */
  readonly cells: (i: number) => readonly (string | null)[];
  /** No row in the sink can be of a later change than this. */
  readonly versionMax: bigint;
}

/**
 * A second way to what a target holds, over connections of its own, beside the writes. It shares nothing with the encoders
 * that write rows: a mistake of theirs is to be seen. Rows that the sink keeps although they are gone (marked as deleted,
 * earlier states of a history) are not there.
 */
export interface Inspection extends AsyncDisposable {
  /** How the target has to show a value of this column that the source prints as `text` (core/values/text); null: as NULL. */
  expected(table: TableVersion, ordinal: number, text: string): string | null;
  /** What the target has to tell the row with this key of the source by. */
  id(table: TableVersion, key: KeyText): string;
  /** The rows that are there under these keys, in any order; `keys` as the source prints them. */
  rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]>;
  /**
   * A cheaper way for most rows; those that it does not tell to be equal are asked for by `rows`. Null: not to be had for
   * this table. Default: for none.
   */
  equal?(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null>;
  /** The keys of all rows that are there, in any order and pieces. A target that can't help it lists one twice. */
  keys(table: TableVersion, signal: AbortSignal): AsyncIterable<readonly ListedKey[]>;
}

/** Which rows of a table are read at the source: the next ones behind a key (null: the first), or those under listed keys. */
export type ComparedRows =
  | { readonly kind: "range"; readonly after: KeyText | null }
  | { readonly kind: "keys"; readonly keys: readonly KeyText[] };

/**
 * Rows `from`..`to` of a block, at the place of the log where exactly they are what a sink must hold: OP_READ is there,
 * OP_DELETE is a listed key that is not.
 */
export interface ComparedSlice {
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** True where these rows moved while they were read: each is as the source's log left it. */
  readonly isByLog: boolean;
  /** No row in the sink can be of a later change than this. */
  readonly versionMax: bigint;
}

export interface ComparePlace {
  readonly table: TableVersion;
  readonly sinks: readonly string[];
  readonly rows: ComparedRows;
  /** A sink that gets no further for this long on its way to the place is `late`. */
  readonly patienceMs: number;
  /** Called when the rows are on their way in all queues: what lies behind them may be read. */
  readonly onSent?: (sent: SentRows) => void;
  /** Called at the place of each sink, slice by slice. What it throws becomes the sink's `failure`; the sink goes on. */
  readonly compare: (sink: string, slice: ComparedSlice, signal: AbortSignal) => Promise<void>;
}

/**
 * `again`: the rows could not be brought to their place, or the sink left its lane or took another shape of the table on
 * the way: what was compared does not count. `away`: the source can't be reached.
 */
export type CompareOutcome =
  | { readonly kind: "compared" | "late" | "again" }
  | { readonly kind: "failed" | "away"; readonly error: unknown };

export interface SentRows {
  /** See `Chunk.last`. */
  readonly last: KeyText | null;
}

export interface ComparedPlace extends SentRows {
  /** The place, in the source's own spelling; null where the rows never came to one. */
  readonly at: string | null;
  /** Keys that the stream carried meanwhile: what the source has under them at this place can't be told. */
  readonly aside: readonly KeyText[];
  readonly outcomes: ReadonlyMap<string, CompareOutcome>;
}

export interface Unready {
  /** For people. */
  readonly reason: string;
  /** Whether it is so for all the sink's tables. */
  readonly isWhole: boolean;
  /** It does not pass by itself: not waited for. */
  readonly isFinal?: boolean;
}

/** What comparing needs of a running pipeline. */
export interface ComparePort {
  readonly sinks: readonly string[];
  /** The tables that flow, as they are now. */
  readonly tables: readonly TableVersion[];
  /** Tables that are set aside, with the reason. */
  readonly aside: ReadonlyMap<string, { readonly code: string; readonly message: string }>;
  takes(sink: string, table: TableVersion): boolean;
  /** Why the sink can't be expected to hold the table completely now; null: it can. */
  unready(sink: string, table: TableVersion): Promise<Unready | null>;
  /** Whether the sink can be read back. */
  isComparable(sink: string): boolean;
  /** For a sink that can. */
  inspect(sink: string, signal: AbortSignal): Promise<Inspection>;
  /** Reads rows and has them compared at their place. Rejects only when it is aborted. */
  at(place: ComparePlace, signal: AbortSignal): Promise<ComparedPlace>;
  /** Those of the keys that the sink lacks a part of, and waits for, by their place in `keys`. */
  awaited(sink: string, tableId: string, keys: readonly KeyText[]): Promise<ReadonlySet<number>>;
  /** Has the sink await these rows: they are read from the source beside the stream; those that it lacks are removed. */
  repair(sink: string, table: TableVersion, keys: readonly KeyText[]): Promise<void>;
  /** Keys of the sink's waiting dead letters. */
  refused(sink: string, tableId: string): Promise<readonly KeyText[]>;
}
