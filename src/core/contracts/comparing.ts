/** Compares what sinks hold with what the source has, at one position of the log. */
import type { Block } from "../model/block.ts";
import type { TableVersion } from "../model/schema.ts";
import type { KeyText } from "./row-reads.ts";

/** A row in a target, as the target shows it. */
export interface StoredRow {
  /** See `Inspection.id`. */
  readonly id: string;
  /**
   * In the order of the table's columns, each in the spelling of `Inspection.expected`; null: the target shows NULL.
   */
  readonly cells: readonly (string | null)[];
  /** Null if there is none, or if the value is not a version. */
  readonly version: bigint | null;
  /** Names of further fields, besides the table's columns and Millrace's own. Default: none. */
  readonly surplus?: readonly string[];
}

export interface EqualRows {
  /** 1 for each row that certainly exists, and equals the expected row in everything that `rows` shows. */
  readonly isEqual: Uint8Array;
  /** Size of the target's rows as read. */
  readonly byteCount: number;
}

/**
 * A key that a target lists. `key` is in the source's spelling; null if the target's row does not tell it. Such a row
 * counts by its id alone: the source has it, or nobody can repair it.
 */
export interface ListedKey {
  readonly id: string;
  readonly key: KeyText | null;
}

/** Rows of the source, in the order of its key. */
export interface RowsInOrder {
  readonly block: Block;
  /** The rows' ordinals in the block. */
  readonly rows: readonly number[];
  readonly keys: readonly KeyText[];
  /** See `Inspection.id`. */
  readonly ids: readonly string[];
  /** How the target must show row `i`, as in `StoredRow`. */
  readonly cells: (i: number) => readonly (string | null)[];
  /** No row in the sink can belong to a later change. */
  readonly versionMax: bigint;
}

/**
 * Reads a target back over separate connections, beside the writes. It shares no code with the encoders that write
 * rows, so that it detects their mistakes. It hides rows that the sink keeps although they are deleted (soft deletes,
 * earlier states in a history).
 */
export interface Inspection extends AsyncDisposable {
  /**
   * How the target must show a value of this column that the source prints as `text` (core/values/text); null: as NULL.
   */
  expected(table: TableVersion, ordinal: number, text: string): string | null;
  /** What identifies the source's row with this key in the target. */
  id(table: TableVersion, key: KeyText): string;
  /** The existing rows under these keys, in any order; `keys` in the source's spelling. `rows` and `equal`: one call at a time. */
  rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]>;
  /**
   * A cheaper comparison for most rows; `rows` reads those that it does not prove equal. Null: this table has no such
   * way. Default: no table has.
   */
  equal?(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null>;
  /** The keys of all existing rows, in any order, in batches. Some targets list a key twice. */
  keys(table: TableVersion, signal: AbortSignal): AsyncIterable<readonly ListedKey[]>;
  /**
   * A thousand of them, or some more where each page costs much, in the target's own order: those after the place where another page ended (null: the first).
   * Pages of different hours make one listing: a row that is there all the time is in one of them. Default: the target
   * has no order that lasts, and all keys are listed at once.
   */
  page?(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage>;
}

export interface KeyPage {
  readonly keys: readonly ListedKey[];
  /** Where the next page begins; null: there is none. */
  readonly next: string | null;
  /** The order is another one since `after`: this is the first page. */
  readonly isNew?: boolean;
}

/** Which rows to read at the source: the next ones after a key (null: the first), or those under listed keys. */
type ComparedRows =
  | { readonly kind: "range"; readonly after: KeyText | null }
  | { readonly kind: "keys"; readonly keys: readonly KeyText[] };

/**
 * Rows `from`..`to` of a block, at the log position at which a sink must hold exactly these. OP_READ: the row exists.
 * OP_DELETE: a listed key that does not exist.
 */
export interface ComparedSlice {
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** Rows that are no part of it. Default: none. */
  readonly without?: ReadonlySet<number>;
  /** True if these rows changed while they were read: each is as the log left it. */
  readonly isByLog: boolean;
  /** No row in the sink can belong to a later change. */
  readonly versionMax: bigint;
}

export interface ComparePlace {
  readonly table: TableVersion;
  readonly sinks: readonly string[];
  readonly rows: ComparedRows;
  /** A sink that makes no progress towards the position for this long is `late`. */
  readonly patienceMs: number;
  /**
   * Between pieces of a range source and sinks rest, and so does the source after listed keys: they read for this part of
   * the time. Default: 1.
   */
  readonly share?: number;
  /** Called when the rows are in all queues: from then on later rows may be read. */
  readonly onSent?: (sent: SentRows) => void;
  /**
   * Called when a sink has reached the position, slice by slice. For listed keys the sink stands still meanwhile; rows of a
   * range are compared beside what it applies from there on. If it throws, the error is the sink's `failure`; the sink goes
   * on.
   */
  readonly compare: (sink: string, slice: ComparedSlice, signal: AbortSignal) => Promise<void>;
}

/**
 * `again`: the rows could not be brought to a position, or on the way the sink left its fan-out or changed the table's
 * shape: the comparison does not count. `away`: the source can't be reached.
 */
export type CompareOutcome =
  | { readonly kind: "compared" | "late" | "again" }
  | { readonly kind: "failed" | "away"; readonly error: unknown };

export interface SentRows {
  /** See `Chunk.last`. */
  readonly last: KeyText | null;
}

export interface ComparedPlace extends SentRows {
  /** The position in the source's format; null if the rows never got one. */
  readonly at: string | null;
  /** Of the rows that were read. */
  readonly byteCount: number;
  /** How long the source took to read them. */
  readonly readMs: number;
  /** Keys that the stream carried meanwhile: the source's rows under them at this position are unknown. */
  readonly unsettled: readonly KeyText[];
  readonly outcomes: ReadonlyMap<string, CompareOutcome>;
}

export interface Unready {
  /** As text for people. */
  readonly reason: string;
  /** Whether it applies to all tables of the sink. */
  readonly isWhole: boolean;
  /** Waiting does not help. */
  readonly isFinal?: boolean;
}

/** What a comparison needs from a running pipeline. */
export interface ComparePort {
  readonly sinks: readonly string[];
  /** The tables that flow, in their present versions. */
  readonly tables: readonly TableVersion[];
  /** Tables that are suspended, with the reason. */
  readonly suspended: ReadonlyMap<string, { readonly code: string; readonly message: string }>;
  /** See `CapturedTables`. */
  readonly besides: ReadonlyMap<string, string>;
  takes(sink: string, table: TableVersion): boolean;
  /** Why the sink can't hold the table completely now; null if it should. */
  unready(sink: string, table: TableVersion): Promise<Unready | null>;
  /** The batch of the sink's last checkpoint; null: it has none. */
  batch(sink: string): number | null;
  /** Whether the sink can be read back. */
  isComparable(sink: string): boolean;
  /** Opens a sink for reading; only if it is comparable. */
  inspect(sink: string, signal: AbortSignal): Promise<Inspection>;
  /** Reads rows and compares them at their position. Rejects only when it is aborted. */
  at(place: ComparePlace, signal: AbortSignal): Promise<ComparedPlace>;
  /** Indexes in `keys` of the rows that the sink lacks partly, and waits for. */
  awaited(sink: string, tableId: string, keys: readonly KeyText[]): Promise<ReadonlySet<number>>;
  /** Requests these rows from the source, beside the stream; rows that the source lacks are deleted. */
  repair(sink: string, table: TableVersion, keys: readonly KeyText[]): Promise<void>;
  /** Keys of the sink's waiting dead letters. */
  refused(sink: string, tableId: string): Promise<readonly KeyText[]>;
}
