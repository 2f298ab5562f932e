import type { Completeness } from "../../core/checkpoint/completeness.ts";
import type { LogEntry, TruncateInLog } from "../../core/model/batch.ts";
import type { Block } from "../../core/model/block.ts";
import type { Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { ColumnFacts } from "../../core/contracts/catalog.ts";
import type { TargetRawRows } from "../../core/contracts/raw/raw-copy.ts";

/** One entry of a sink's queue, in the order of the log. Entries that hold blocks hold a reference on them. */
export type Work =
  | RowsWork
  | TruncateWork
  | ChunkWork
  | CompareWork
  | CopyWork
  | SweepWork
  | CompleteWork
  | CarryWork
  | NoticeWork
  | HeartbeatWork;

export interface RowsWork {
  readonly kind: "rows";
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** Set for rows of an initial snapshot: they are new to the sink, and do not move its position in the log. */
  readonly receipt?: Receipt;
}

export interface TruncateWork {
  readonly kind: "truncate";
  readonly table: TableVersion;
  readonly version: bigint;
  readonly record: TruncateInLog;
  readonly until: Position;
}

/** Rows of an incremental snapshot, at their high watermark. A listed key that the source no longer has becomes a delete. */
export interface ChunkWork {
  readonly kind: "chunk";
  readonly block: Block;
  /** The high watermark. A sink before it has not got the chunk yet; a sink beyond it must not get it any more. */
  readonly until: Position;
  readonly receipt: Receipt;
}

/** Rows to compare, at the one position in the stream where the sink must hold exactly these. Changes nothing. */
export interface CompareWork {
  readonly kind: "compare";
  readonly table: TableVersion;
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** The position of the rows. A sink beyond it may rightly hold something else. */
  readonly until: Position;
  /** Never rejects: a failed comparison is no failure of the sink. */
  readonly compare: (signal: AbortSignal) => Promise<void>;
  readonly receipt: Receipt;
}

/** A table of an initial snapshot that the sink takes undecoded, and its end. */
export interface CopyWork {
  readonly kind: "copy";
  readonly table: TableVersion;
  readonly run: CopyRun;
  readonly ends: readonly TableEnd[];
  readonly receipt: Receipt;
}

/**
 * `unsuitable`: nothing was written. `failed`: some rows may be durable, and the sink must be opened again. Rejects only if
 * aborted. `onRows` is called for each number of rows that became durable.
 */
export type CopyRun = (
  target: TargetRawRows,
  onRows: (rowCount: number) => void,
  signal: AbortSignal,
) => Promise<"copied" | "unsuitable" | "failed">;

export type TableEnd = SweepEnd | CompleteEnd;

/** The end of a resync: rows with versions lower than `below` are gone at the source. */
interface SweepEnd {
  readonly kind: "sweep";
  readonly table: TableVersion;
  readonly below: bigint;
}

export interface SweepWork extends SweepEnd {
  readonly receipt: Receipt;
}

/** The sink holds a complete copy of the table from here on. */
export interface CompleteEnd {
  readonly kind: "complete";
  readonly table: TableVersion;
  readonly completeness: Completeness;
}

export interface CompleteWork extends CompleteEnd {
  readonly receipt: Receipt;
}

/**
 * Rows that the sink has may make the table complete without a read: those of an earlier shape, if no change in between
 * requires one, or those that another program wrote, which are listed to be compared. Otherwise nothing changes, and the sink
 * lacks the table. Its position in the log is after the change of shape.
 */
export interface CarryWork {
  readonly kind: "carry";
  readonly table: TableVersion;
  readonly completeness: Completeness;
  /** From the same look at the catalogue as `completeness`. Null: rows of an earlier shape prove nothing. */
  readonly facts: ColumnFacts | null;
  readonly receipt: Receipt;
}

/** What the log shows besides changes. Marks are for sinks of form `log`. */
export interface NoticeWork {
  readonly kind: "notice";
  readonly entry: Extract<LogEntry, { readonly kind: "mark" | "lost" | "renamed" }>;
  /** Its position in the log; null: wherever the sink is. */
  readonly until: Position | null;
  readonly receipt?: Receipt;
}

/** Checks whether the sink still holds its data, and stores a covered position that is ahead of the stored one. */
interface HeartbeatWork {
  readonly kind: "heartbeat";
}

/** Called once: the work is durable in the sink, or it was dropped and must be done again later. */
export interface Receipt {
  durable(): void;
  dropped(): void;
}

/** What a block needs besides its bytes: its vectors and objects. This matters when each transaction has one row. */
const BLOCK_OVERHEAD_BYTES = 2_048;

/** What this work keeps in memory, for the byte budget. A block that is cut into several works counts in shares. */
export function heldBytes(work: Work): number {
  if (work.kind === "chunk") return work.block.byteCount + BLOCK_OVERHEAD_BYTES;
  if (work.kind !== "rows" && work.kind !== "compare") return 0;
  const { block, from, to } = work;
  return Math.ceil(((block.byteCount + BLOCK_OVERHEAD_BYTES) * (to - from)) / Math.max(1, block.count));
}

export function giveReceipt(work: Work, how: "durable" | "dropped"): void {
  if ("receipt" in work) work.receipt?.[how]();
}

export function letGo(work: Work): void {
  if (work.kind === "rows" || work.kind === "chunk" || work.kind === "compare") work.block.release();
}

/** One receipt for `count` works in the place of one: they are durable if each of them is. */
export function dividedReceipt(receipt: Receipt, count: number): Receipt {
  let open = count;
  let areDurable = true;
  const end = (isDurable: boolean): void => {
    areDurable &&= isDurable;
    if (--open === 0) receipt[areDurable ? "durable" : "dropped"]();
  };
  return { durable: () => end(true), dropped: () => end(false) };
}

/** Receipts for so many works: `all` resolves when they have ended, true if all are durable, false if one was dropped. */
export class Receipts {
  readonly all: Promise<boolean>;
  readonly #one: Receipt;

  constructor(expected: number) {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.all = promise;
    if (expected === 0) resolve(true);
    this.#one = dividedReceipt({ durable: () => resolve(true), dropped: () => resolve(false) }, expected);
  }

  one(): Receipt {
    return this.#one;
  }
}

/** Rows of the table changed, and the log does not show how: readers of a sink of form `log` must know, another sink lacks them. */
export function lossOf(tableId: string, receipt?: Receipt): NoticeWork {
  return {
    kind: "notice",
    entry: { kind: "lost", tableId },
    until: null,
    ...(receipt === undefined ? {} : { receipt }),
  };
}
