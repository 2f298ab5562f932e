import type { Completeness } from "../../core/checkpoint/completeness.ts";
import type { Block } from "../../core/model/block.ts";
import type { Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { ColumnFacts } from "../../core/contracts/catalog.ts";

/** One entry of a sink's queue, in the order of the log. Entries that hold blocks hold a reference on them. */
export type Work =
  | RowsWork
  | TruncateWork
  | ChunkWork
  | CompareWork
  | SweepWork
  | CompleteWork
  | CarryWork
  | HeartbeatWork;

export interface RowsWork {
  readonly kind: "rows";
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** Set for rows of a first copy: new to the sink, and outside of the log, so that the sink's position stays. */
  readonly receipt?: Receipt;
}

export interface TruncateWork {
  readonly kind: "truncate";
  readonly table: TableVersion;
  readonly version: bigint;
  readonly record: { readonly index: number; readonly commitTimeUs: bigint };
  readonly until: Position;
}

/** Rows read beside the stream, at their place in it. Listed keys that the source no longer has are deletes. */
export interface ChunkWork {
  readonly kind: "chunk";
  readonly block: Block;
  /** Its place: a sink that holds less has not got it, and one that has gone further can't be given it any more. */
  readonly until: Position;
  readonly receipt: Receipt;
}

/** Rows read beside the stream, at the place in it where exactly they are what the sink must hold. Changes nothing. */
export interface CompareWork {
  readonly kind: "compare";
  readonly table: TableVersion;
  readonly block: Block;
  readonly from: number;
  readonly to: number;
  /** Its place: a sink that has gone further may rightly hold something else. */
  readonly until: Position;
  /** Never rejects: what goes wrong is no failure of the sink's. */
  readonly compare: (signal: AbortSignal) => Promise<void>;
  readonly receipt: Receipt;
}

/** The end of a whole table read beside the stream: what lies below `below` is gone at the source. */
export interface SweepWork {
  readonly kind: "sweep";
  readonly table: TableVersion;
  readonly below: bigint;
  readonly receipt: Receipt;
}

/** The sink holds a complete copy of the table from here on. */
export interface CompleteWork {
  readonly kind: "complete";
  readonly table: TableVersion;
  readonly completeness: Completeness;
  readonly receipt: Receipt;
}

/**
 * A copy that was complete in an earlier shape of the table is complete in this one, where all changes in between were
 * such that nothing has to be read for them; else nothing changes, and the sink lacks the table. Comes at a place of the
 * log behind the change.
 */
export interface CarryWork {
  readonly kind: "carry";
  readonly table: TableVersion;
  readonly completeness: Completeness;
  /** Of the look at the catalogue that `completeness` is of. */
  readonly facts: ColumnFacts;
  readonly receipt: Receipt;
}

/** Looks whether the sink still holds what it held, and stores a covered position that is ahead of the stored one. */
export interface HeartbeatWork {
  readonly kind: "heartbeat";
}

/** Told once: the work is durable in the sink, or it was dropped and must be done again some other time. */
export interface Receipt {
  durable(): void;
  dropped(): void;
}

/** What a block costs beside its bytes: its vectors and objects. Counts where transactions have one row each. */
const BLOCK_OVERHEAD_BYTES = 2_048;

/** What this work keeps in memory, against the byte budget: of a block that is cut into several, its share. */
export function heldBytes(work: Work): number {
  if (work.kind === "chunk") return work.block.byteCount + BLOCK_OVERHEAD_BYTES;
  if (work.kind !== "rows" && work.kind !== "compare") return 0;
  const { block, from, to } = work;
  return Math.ceil(((block.byteCount + BLOCK_OVERHEAD_BYTES) * (to - from)) / Math.max(1, block.count));
}

export function settle(work: Work, how: "durable" | "dropped"): void {
  if ("receipt" in work) work.receipt?.[how]();
}

export function letGo(work: Work): void {
  if (work.kind === "rows" || work.kind === "chunk" || work.kind === "compare") work.block.release();
}

/** Resolves true when every expected work is durable, false when the last of them is settled and one was dropped. */
export class Receipts {
  #open = 0;
  #droppedOne = false;
  #resolve: (allDurable: boolean) => void = () => {};
  readonly all: Promise<boolean>;

  constructor(expected: number) {
    this.#open = expected;
    this.all = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (expected === 0) this.#resolve(true);
  }

  one(): Receipt {
    return { durable: () => this.#settle(false), dropped: () => this.#settle(true) };
  }

  #settle(dropped: boolean): void {
    this.#droppedOne ||= dropped;
    if (--this.#open === 0) this.#resolve(!this.#droppedOne);
  }
}
