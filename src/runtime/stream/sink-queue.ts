import { abortedError } from "../../core/errors.ts";
import { type Block, NO_TUPLE } from "../../core/model/block.ts";
import { isKeyed, type TableVersion } from "../../core/model/schema.ts";
import { CELL_BINARY, CellMap } from "../../core/model/tuple.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { Completeness } from "../../core/checkpoint.ts";
import type { LogEntry, TruncateInLog } from "../../core/model/batch.ts";
import type { ColumnFacts } from "../../core/contracts/catalog.ts";
import type { TargetRawRows } from "../../core/contracts/raw-copy.ts";
import type { SinkForm } from "../../core/contracts/sink.ts";
import type { Slice } from "../compaction/compaction.ts";

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
  /**
   * Only for a log, and only if renames follow: these rows take its position no further than this, so that the batch
   * with the renames moves it to the next row. Absent: the rows end where the next row begins.
   */
  readonly until?: Position;
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
interface ChunkWork {
  readonly kind: "chunk";
  readonly block: Block;
  readonly from: number;
  readonly to: number;
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

/** What the log shows besides changes. Marks and renames are for sinks of form `log`. */
export interface NoticeWork {
  readonly kind: "notice";
  readonly entries: readonly Extract<LogEntry, { readonly kind: "mark" | "lost" | "renamed" }>[];
  /** Its position in the log; null: wherever the sink is. */
  readonly until: Position | null;
  readonly receipt?: Receipt;
}

/** A batch of the smallest part is one row, or a few. */
const PART_MIN = 1 / 4096;
/** Limits that were lowered are doubled after so many batches that were full and became durable. */
const GROWS_AFTER = 16;
/** After so many at most, if that was too much again and again. */
const GROWS_AFTER_MAX = 1_024;

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
function heldBytes(work: Work): number {
  if (work.kind !== "rows" && work.kind !== "chunk" && work.kind !== "compare") return 0;
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
function dividedReceipt(receipt: Receipt, count: number): Receipt {
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
    entries: [{ kind: "lost", tableId }],
    until: null,
    ...(receipt === undefined ? {} : { receipt }),
  };
}

export interface BatchLimits {
  readonly rowCountMax: number;
  readonly byteCountMax: number;
  /** Of the tables with rows in a batch. Absent: as many as a batch can name. */
  readonly tableCountMax?: number;
  /** So long after the beginning of one batch the next one begins, unless it can't grow any more. Absent: at once. */
  readonly delayMs?: number;
  /** Whether a batch of rows goes on behind a truncate: see `Sink.batchLimits`. */
  readonly hasTruncates?: boolean;
  /** A write that takes longer is given up, and its sink opened again. Absent: the runtime's default. */
  readonly answerMsMax?: number;
}

/** What a sink takes at once: consecutive works that fit in one batch, or one work of another kind. */
export type QueuedWork =
  | QueuedRowWorks
  | QueuedChunks
  | QueuedEnds
  | QueuedCarries
  | Exclude<Work, RowsWork | ChunkWork | SweepWork | CompleteWork | CarryWork>;

/** Rows that can be compacted together, and truncates between them. */
export interface QueuedRowWorks {
  readonly kind: "rows";
  readonly works: readonly (RowsWork | TruncateWork)[];
  /** Tables that are complete with these rows. In an initial snapshot one batch can complete many small tables. */
  readonly complete: readonly CompleteWork[];
}

/** Chunks of several tables that share a high watermark. */
export interface QueuedChunks {
  readonly kind: "chunks";
  readonly works: readonly ChunkWork[];
}

/** Ends of whole tables. */
export interface QueuedEnds {
  readonly kind: "ends";
  readonly works: readonly (SweepWork | CompleteWork)[];
}

/** Tables whose targets follow together. */
export interface QueuedCarries {
  readonly kind: "carries";
  readonly works: readonly CarryWork[];
}

/**
 * The work that waits for one sink. Natural batching: a sink takes everything that has arrived while it was busy, up to its
 * limits, and by itself never waits for a batch to fill. The byte budget bounds the queue: its works hold their blocks' bytes, and
 * the source stops reading when the budget is spent.
 */
export class SinkQueue {
  #works: Work[] = [];
  #head = 0;
  /** Below that of the limits, if the target could not take so many at once. */
  #tableCountMax = TABLES_PER_BATCH_MAX;
  /** The most tables that one batch has had since `#tableCountMax` was lowered last; 0: there was no batch since. */
  #tablesTaken = 0;
  /** How much of the limits of a batch may be used. */
  #part = 1;
  /** Those that were taken and left out what would go with them. */
  readonly #full = new WeakSet<QueuedWork>();
  /** How many of them were done since the limits changed, and how many it takes until a batch may have more again. */
  #fullDone = 0;
  #fullNeeded = GROWS_AFTER / 2;
  #heldBytes = 0;
  #waitingRows = 0;
  #waitingBytes = 0;
  /** Of works that are large by themselves, waiting or taken. */
  #largeCount = 0;
  #waitingTruncates = 0;
  /** The last waiting work that does not go into one batch with those before it. */
  #cut: Work | null = null;
  /** The tables of the works from there on. */
  readonly #versions = new Map<string, TableVersion>();
  #wake: (() => void) | null = null;
  /**
   * Called after works have ended: the producer may continue. V8 places a closure that is written right where it is assigned
   * to a property among the old objects, where it keeps all it sees until a full collection: give the closure a name first.
   */
  onRoom: (() => void) | null = null;
  onPush: (() => void) | null = null;

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Whether one work alone holds as much as many others together. */
  get hasLarge(): boolean {
    return this.#largeCount > 0;
  }

  get length(): number {
    return this.#works.length - this.#head;
  }

  push(work: Work): void {
    this.#enter(work);
    this.#largeCount += largeOf(work);
    this.#heldBytes += heldBytes(work);
    this.#wake?.();
    this.onPush?.();
  }

  /** Behind the others. The queue holds its bytes, or does so already. */
  #enter(work: Work): void {
    this.#lookForCut(work);
    if (work.kind === "truncate") this.#waitingTruncates++;
    this.#works.push(work);
    this.#waitingBytes += heldBytes(work);
    this.#waitingRows += rowsOf(work);
  }

  /** Resolves when there is work. */
  async wait(signal: AbortSignal): Promise<void> {
    await this.#until(() => this.length > 0, signal);
  }

  /** Resolves when the next batch can't grow any more. */
  async waitGrown(limits: BatchLimits, signal: AbortSignal): Promise<void> {
    await this.#until(() => this.isGrown(limits), signal);
  }

  /** One caller at a time. */
  async #until(isMet: () => boolean, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (isMet()) return;
    await new Promise<void>((resolve, reject) => {
      const onAbort = () => settle(() => reject(abortedError(signal)));
      const settle = (then: () => void) => {
        this.#wake = null;
        signal.removeEventListener("abort", onAbort);
        then();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      const wake = (): void => {
        if (isMet()) settle(resolve);
      };
      this.#wake = wake;
    });
  }

  /**
   * Takes the next work; if it has rows, also all following rows that fit in the same batch. Call after `wait`. The bytes
   * of what is taken count until `done`.
   */
  take(whole: BatchLimits): QueuedWork {
    const limits = this.#within(whole);
    const first = this.#works[this.#head]!;
    if (first.kind === "rows") return this.#takeBatch(this.#divided(first, limits), limits);
    if (first.kind === "truncate" && limits.hasTruncates === true) return this.#takeBatch(first, limits);
    if (first.kind === "chunk") {
      // By itself a chunk is no larger than a target takes.
      return this.#takeChunks(limits === whole ? first : this.#divided(first, limits), limits);
    }
    if (isEnd(first)) return { kind: "ends", works: this.#takeThose(isEnd, limits) };
    if (isCarry(first)) return { kind: "carries", works: this.#takeThose(isCarry, limits) };
    this.#next();
    return first;
  }

  isFull(limits: BatchLimits): boolean {
    const { rowCountMax, byteCountMax } = this.#within(limits);
    return this.#waitingRows >= rowCountMax || this.#waitingBytes >= byteCountMax;
  }

  /** Whether the next batch can't grow any more, because it is full, alone, or followed by what does not go with it. */
  isGrown(limits: BatchLimits): boolean {
    const first = this.#works[this.#head];
    if (first === undefined) return false;
    const isCut = this.#cut !== null && this.#cut !== first;
    const isAtTruncate = limits.hasTruncates !== true && this.#waitingTruncates > 0;
    return isCut || isAtTruncate || groupOf(first) === null || this.isFull(limits);
  }

  #lookForCut(work: Work): void {
    const before = this.length === 0 ? null : groupOf(this.#works.at(-1)!);
    const tables = tablesOf(work);
    const isOther = (table: TableVersion): boolean => (this.#versions.get(table.id) ?? table) !== table;
    if (before === null || before !== groupOf(work) || tables.some(isOther)) {
      this.#versions.clear();
      this.#cut = work;
    }
    for (const table of tables) this.#versions.set(table.id, table);
  }

  /** The target could not write so many tables at once: the next batches have a quarter of what the largest one had. */
  takeFewerTables(): void {
    const most = Math.min(this.#tableCountMax, this.#tablesTaken || TABLES_PER_BATCH_MAX);
    this.#tableCountMax = Math.max(1, Math.ceil(most / 4));
    this.#tablesTaken = 0;
    this.#growLater();
  }

  /** The target could not take as much at once as one batch has had. */
  takeSmaller(): void {
    this.#part = Math.max(PART_MIN, this.#part / 4);
    this.#growLater();
  }

  /** Each time it was too much again, the next attempt waits twice as long. */
  #growLater(): void {
    this.#fullDone = 0;
    this.#fullNeeded = Math.min(GROWS_AFTER_MAX, this.#fullNeeded * 2);
  }

  #noteTables(count: number): void {
    this.#tablesTaken = Math.max(this.#tablesTaken, count);
  }

  #noteFull(taken: QueuedWork, first: Work): void {
    if (this.#works[this.#head]?.kind === first.kind) this.#full.add(taken);
  }

  /**
   * The target may take more by now: a quota was raised, or what held its locks has ended. Where it has taken whole batches for
   * as long, that some were too much once counts for less.
   */
  #growAfter(taken: QueuedWork): void {
    if (!this.#full.delete(taken) || ++this.#fullDone < this.#fullNeeded) return;
    this.#fullDone = 0;
    if (this.#part === 1 && this.#tableCountMax === TABLES_PER_BATCH_MAX)
      this.#fullNeeded = Math.max(GROWS_AFTER / 2, this.#fullNeeded / 2);
    this.#part = Math.min(1, this.#part * 2);
    this.#tableCountMax = Math.min(TABLES_PER_BATCH_MAX, this.#tableCountMax * 2);
  }

  #within(limits: BatchLimits): BatchLimits {
    if (this.#part === 1) return limits;
    const rowCountMax = Math.ceil(limits.rowCountMax * this.#part);
    return { ...limits, rowCountMax, byteCountMax: Math.ceil(limits.byteCountMax * this.#part) };
  }

  #tablesIn({ tableCountMax = TABLES_PER_BATCH_MAX }: BatchLimits): number {
    return Math.min(this.#tableCountMax, tableCountMax);
  }

  /** The same if the next work has rows; otherwise null, and nothing is taken. */
  takeRows(whole: BatchLimits): QueuedRowWorks | null {
    const limits = this.#within(whole);
    const first = this.#works[this.#head];
    if (first?.kind === "truncate" && limits.hasTruncates === true) return this.#takeBatch(first, limits);
    return first?.kind === "rows" ? this.#takeBatch(this.#divided(first, limits), limits) : null;
  }

  /** The next work, or the first of those in its place, if it has more than a batch may have: a block knows no limits. */
  #divided<W extends RowsWork | ChunkWork>(work: W, limits: BatchLimits): W {
    const { rowCountMax, byteCountMax } = limits;
    const tableCountMax = this.#tablesIn(limits);
    const rowCount = work.to - work.from;
    const count = Math.min(rowCount, Math.ceil(Math.max(rowCount / rowCountMax, heldBytes(work) / byteCountMax)));
    const hasMany = work.block.tables.length > tableCountMax;
    if (count <= 1 && !hasMany) return work;
    const pieceRows = Math.ceil(rowCount / Math.max(1, count));
    const ends = hasMany ? endsByTables(work, pieceRows, tableCountMax) : endsOf(work, pieceRows);
    if (ends.length === 1) return work;
    const pieces = inPieces(work, ends);
    let byteCount = -heldBytes(work);
    this.#largeCount -= largeOf(work);
    if (work === this.#cut) this.#cut = pieces[0]!;
    for (const piece of pieces) {
      byteCount += heldBytes(piece);
      this.#largeCount += largeOf(piece);
    }
    this.#heldBytes += byteCount;
    this.#waitingBytes += byteCount;
    this.#works.splice(this.#head, 1, ...pieces);
    return pieces[0]!;
  }

  #takeBatch(first: RowsWork | TruncateWork, limits: BatchLimits): QueuedRowWorks {
    this.#next();
    const works: (RowsWork | TruncateWork)[] = [first];
    const complete: CompleteWork[] = [];
    const forms = new KeyForms();
    const versions = new Map<string, TableVersion>();
    const tableCountMax = this.#tablesIn(limits);
    addVersions(versions, first.kind === "rows" ? presentTables(first) : [first.table], tableCountMax);
    let rowCount = rowsOf(first);
    let byteCount = heldBytes(first);
    if (first.kind === "rows") forms.add(first);
    const isRead = first.kind === "rows" && first.receipt !== undefined;
    while (this.length > 0 && works.length + complete.length < WORKS_PER_BATCH_MAX) {
      const work = this.#works[this.#head]!;
      if (work.kind === "complete" && isRead) {
        if (!addVersions(versions, [work.table], tableCountMax)) break;
        complete.push(work);
        this.#next();
        continue;
      }
      if (work.kind === "truncate" && limits.hasTruncates === true && !isRead) {
        if (!addVersions(versions, [work.table], tableCountMax)) break;
        works.push(work);
        this.#next();
        continue;
      }
      if (work.kind !== "rows" || (work.receipt !== undefined) !== isRead) break;
      rowCount += work.to - work.from;
      byteCount += heldBytes(work);
      if (rowCount > limits.rowCountMax || byteCount > limits.byteCountMax) break;
      if (!forms.add(work) || !addVersions(versions, presentTables(work), tableCountMax)) break;
      works.push(work);
      this.#next();
    }
    const taken = { kind: "rows", works, complete } as const;
    this.#noteFull(taken, first);
    this.#noteTables(versions.size);
    return taken;
  }

  #takeChunks(first: ChunkWork, limits: BatchLimits): QueuedChunks {
    this.#next();
    const works = [first];
    const tableIds = new Set(first.block.tables.map(({ id }) => id));
    let rowCount = first.to - first.from;
    let byteCount = heldBytes(first);
    while (this.length > 0) {
      const work = this.#works[this.#head]!;
      if (work.kind !== "chunk" || comparePositions(work.until, first.until) !== 0) break;
      if (work.block.tables.some(({ id }) => tableIds.has(id))) break;
      if (tableIds.size + work.block.tables.length > this.#tablesIn(limits)) break;
      rowCount += work.to - work.from;
      byteCount += heldBytes(work);
      if (rowCount > limits.rowCountMax || byteCount > limits.byteCountMax) break;
      for (const { id } of work.block.tables) tableIds.add(id);
      works.push(work);
      this.#next();
    }
    const taken = { kind: "chunks", works } as const;
    this.#noteFull(taken, first);
    this.#noteTables(tableIds.size);
    return taken;
  }

  #takeThose<W extends SweepWork | CompleteWork | CarryWork>(
    isOne: (work: Work) => work is W,
    limits: BatchLimits,
  ): readonly W[] {
    const works: W[] = [];
    const versions = new Map<string, TableVersion>();
    while (this.length > 0) {
      const work = this.#works[this.#head]!;
      if (!isOne(work) || !addVersions(versions, [work.table], this.#tablesIn(limits))) break;
      works.push(work);
      this.#next();
    }
    this.#noteTables(versions.size);
    return works;
  }

  /**
   * Ends what was taken: releases its bytes and gives its receipts. `passed`: works that were dropped although the others
   * are done.
   */
  done(taken: QueuedWork, how: "durable" | "dropped", passed?: ReadonlySet<Work>): void {
    for (const work of worksOf(taken)) this.#end(work, passed?.has(work) === true ? "dropped" : how);
    if (how === "durable") this.#growAfter(taken);
    this.onRoom?.();
  }

  /** Drops all waiting works. */
  clear(): void {
    while (this.length > 0) this.#end(this.#next(), "dropped");
  }

  /** Drops those waiting works, and leaves the others in their order. */
  dropThose(isDropped: (work: Work) => boolean): void {
    const works: Work[] = [];
    while (this.length > 0) works.push(this.#next());
    const dropped = new Set(works.filter(isDropped));
    for (const work of works) if (!dropped.has(work)) this.#enter(work);
    for (const work of dropped) this.#end(work, "dropped");
  }

  /** Moves all the works of another queue behind this one's. */
  append(other: SinkQueue): void {
    while (other.length > 0) this.push(other.#next());
    other.#heldBytes = 0;
    other.#largeCount = 0;
  }

  #end(work: Work, how: "durable" | "dropped"): void {
    this.#heldBytes -= heldBytes(work);
    this.#largeCount -= largeOf(work);
    letGo(work);
    giveReceipt(work, how);
  }

  #next(): Work {
    const work = this.#works[this.#head++]!;
    this.#waitingBytes -= heldBytes(work);
    this.#waitingRows -= rowsOf(work);
    if (work.kind === "truncate") this.#waitingTruncates--;
    if (work === this.#cut) this.#cut = null;
    this.#compact();
    return work;
  }

  #compact(): void {
    if (this.#head === this.#works.length) this.#works.length = 0;
    else if (this.#head >= 1024) this.#works = this.#works.slice(this.#head);
    else return;
    this.#head = 0;
  }
}

function isEnd(work: Work): work is SweepWork | CompleteWork {
  return work.kind === "sweep" || work.kind === "complete";
}

function isCarry(work: Work): work is CarryWork {
  return work.kind === "carry";
}

/** Works of one group can be one batch. Null: a batch of its own. */
function groupOf(work: Work): "changes" | "reads" | null {
  if (work.kind === "rows") return work.receipt === undefined ? "changes" : "reads";
  if (work.kind === "truncate") return "changes";
  return isEnd(work) ? "reads" : null;
}

function tablesOf(work: Work): readonly TableVersion[] {
  if ("table" in work) return [work.table];
  return work.kind === "rows" ? work.block.tables : [];
}

function worksOf(taken: QueuedWork): readonly Work[] {
  if (taken.kind === "rows") return taken.complete.length === 0 ? taken.works : [...taken.works, ...taken.complete];
  return "works" in taken ? taken.works : [taken];
}

function endsOf({ from, to }: RowsWork | ChunkWork, rowCount: number): number[] {
  return Array.from({ length: Math.ceil((to - from) / rowCount) }, (_, i) => Math.min(to, from + (i + 1) * rowCount));
}

/** Where the next table would be one too many, or the next row. */
function endsByTables({ block, from, to }: RowsWork | ChunkWork, rowCountMax: number, tableCountMax: number): number[] {
  const ends: number[] = [];
  const seenIn = new Uint32Array(block.tables.length);
  let tableCount = 0;
  let start = from;
  for (let row = from; row < to; row++) {
    const table = block.table[row]!;
    const piece = ends.length + 1;
    const isNew = seenIn[table] !== piece;
    if ((isNew && tableCount === tableCountMax) || row - start === rowCountMax) {
      ends.push(row);
      start = row;
      tableCount = 1;
      seenIn[table] = piece + 1;
    } else if (isNew) {
      tableCount++;
      seenIn[table] = piece;
    }
  }
  ends.push(to);
  return ends;
}

/** `ends`: the row behind each piece. */
function inPieces<W extends RowsWork | ChunkWork>(work: W, ends: readonly number[]): W[] {
  const { block, from, receipt } = work;
  const own = receipt === undefined ? {} : { receipt: dividedReceipt(receipt, ends.length) };
  return ends.map((to, i) => {
    if (i > 0) block.retain();
    return { ...work, from: i === 0 ? from : ends[i - 1]!, to, ...own };
  });
}

/** Only a row of about this size, or a chunk of several large ones, makes such a work. */
const LARGE_BYTES = 12 * 1024 * 1024;

function largeOf(work: Work): number {
  return heldBytes(work) >= LARGE_BYTES ? 1 : 0;
}

function rowsOf(work: Work): number {
  return work.kind === "rows" ? work.to - work.from : 0;
}

/** Batches refer to their blocks by 16-bit ordinals. */
const WORKS_PER_BATCH_MAX = 60_000;
/** As `Batch.order` can name. */
const TABLES_PER_BATCH_MAX = 0xffff;

/** The tables of its rows. A block from before and after a change of shape has two versions of a table. */
function presentTables({ block, from, to }: RowsWork): readonly TableVersion[] {
  if (from === 0 && to === block.count) return block.tables;
  return [...new Set(block.table.subarray(from, to))].map((ordinal) => block.tables[ordinal]!);
}

/** False if one of the tables is in `versions` with another version, or they are too many together. */
function addVersions(versions: Map<string, TableVersion>, tables: readonly TableVersion[], countMax: number): boolean {
  let count = versions.size;
  for (const table of tables) {
    const seen = versions.get(table.id);
    if (seen !== undefined && seen !== table) return false;
    if (seen === undefined) count++;
  }
  if (versions.size > 0 && count > countMax) return false;
  for (const table of tables) versions.set(table.id, table);
  return true;
}

const cells = new CellMap();

/**
 * Whether each table of a batch has its keys in one form. Compaction compares keys by their bytes, and a stream that changes
 * from binary to text, or a second stream in another form, shows the same key in other bytes.
 */
class KeyForms {
  readonly #isBinary = new Map<TableVersion, boolean>();

  /** False, and nothing is added, if a table in this work has its keys in another form. */
  add({ block, from, to }: RowsWork): boolean {
    const found = new Map<TableVersion, boolean>();
    const isSeen = new Uint8Array(block.tables.length);
    let unseenCount = isSeen.length;
    for (let row = from; row < to && unseenCount > 0; row++) {
      const ordinal = block.table[row]!;
      if (isSeen[ordinal] === 1) continue;
      isSeen[ordinal] = 1;
      unseenCount--;
      const table = block.tables[ordinal]!;
      if (!isKeyed(table)) continue;
      const after = block.after[row]!;
      cells.read(block.bytes, after === NO_TUPLE ? block.before[row]! : after);
      const isBinary = cells.kind[table.key[0]] === CELL_BINARY;
      if ((this.#isBinary.get(table) ?? isBinary) !== isBinary) return false;
      found.set(table, isBinary);
    }
    for (const [table, isBinary] of found) this.#isBinary.set(table, isBinary);
    return true;
  }
}

/** The rows of one batch that are new to a sink at its position. */
export interface QueuedRows {
  readonly slices: readonly Slice[];
  /** Those that are new to the sink: they come before the rows. Of a mirror the last one of each table. */
  readonly truncates: readonly TruncateWork[];
  /** Where the changes before these ended; null for rows that do not come from the log. */
  readonly since: Position | null;
  /** Where these changes end; null for rows of the initial snapshot, which do not move the sink's position. */
  readonly until: Position | null;
}

/** Null: the sink has all of the rows. */
export function queuedRowsOf(
  works: readonly (RowsWork | TruncateWork)[],
  reached: Position,
  form: SinkForm,
): QueuedRows | null {
  const rows = works.filter((work) => work.kind === "rows");
  if (rows[0]?.receipt !== undefined) {
    return { slices: rows.map((work) => ({ ...work, fresh: true })), truncates: [], since: null, until: null };
  }
  // Invariant 1: a change that two streams carried, or one stream carried twice, is compacted once.
  let until = reached;
  const slices: Slice[] = [];
  const truncates: TruncateWork[] = [];
  /** By slice: the tables that are emptied right behind it. */
  const emptied: Set<string>[] = [];
  for (const work of works) {
    if (work.kind === "rows") slices.push(...behind(work, until));
    else if (comparePositions(work.until, until) > 0) {
      truncates.push(work);
      if (slices.length > 0) (emptied[slices.length - 1] ??= new Set()).add(work.table.id);
    }
    const end = work.kind === "rows" ? endOfRows(work) : work.until;
    if (comparePositions(end, until) > 0) until = end;
  }
  if (comparePositions(until, reached) <= 0) return null;
  const last = new Map(truncates.map((work) => [work.table.id, work]));
  const kept = form === "mirror" ? [...last.values()] : truncates;
  const marked = slices.map((slice, i) => (emptied[i] === undefined ? slice : { ...slice, emptied: emptied[i] }));
  return { slices: marked, truncates: kept, since: reached, until };
}

/** Of a work that was divided each part has `until`, and only the last one reaches it. */
function endOfRows({ block, to, until }: RowsWork): Position {
  const end = block.positionAt(to);
  return until === undefined || comparePositions(end, until) < 0 ? end : until;
}

/** The part of the work at or behind `reached`: nothing, all of it, or its tail. */
function behind(work: RowsWork, reached: Position): readonly Slice[] {
  const { block, to } = work;
  let { from } = work;
  if (comparePositions(block.positionAt(to), reached) <= 0) return [];
  while (from < to && comparePositions(block.positionAt(from), reached) < 0) from++;
  return from < to ? [{ block, from, to }] : [];
}
