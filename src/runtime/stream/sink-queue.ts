import { abortedError } from "../../core/errors.ts";
import { NO_TUPLE } from "../../core/model/block.ts";
import { isKeyed, type TableVersion } from "../../core/model/schema.ts";
import { CELL_BINARY, CellMap } from "../../core/model/tuple.ts";
import { comparePositions } from "../../core/model/position.ts";
import {
  type ChunkWork,
  type CompleteWork,
  dividedReceipt,
  heldBytes,
  letGo,
  type RowsWork,
  giveReceipt,
  type SweepWork,
  type TruncateWork,
  type Work,
} from "./work.ts";

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
  | Exclude<Work, RowsWork | ChunkWork | SweepWork | CompleteWork>;

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
  take(limits: BatchLimits): QueuedWork {
    const first = this.#works[this.#head]!;
    if (first.kind === "rows") return this.#takeBatch(this.#divided(first, limits), limits);
    if (first.kind === "truncate" && limits.hasTruncates === true) return this.#takeBatch(first, limits);
    if (first.kind === "chunk") return { kind: "chunks", works: this.#takeChunks(first, limits) };
    if (first.kind === "sweep" || first.kind === "complete") return { kind: "ends", works: this.#takeEnds(limits) };
    this.#next();
    return first;
  }

  isFull({ rowCountMax, byteCountMax }: BatchLimits): boolean {
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

  /** The target could not write as many tables at once as one batch has had. */
  takeFewerTables({ tableCountMax = TABLES_PER_BATCH_MAX }: BatchLimits): void {
    this.#tableCountMax = Math.max(1, Math.ceil(Math.min(this.#tableCountMax, tableCountMax) / 4));
  }

  #tablesIn({ tableCountMax = TABLES_PER_BATCH_MAX }: BatchLimits): number {
    return Math.min(this.#tableCountMax, tableCountMax);
  }

  /** The same if the next work has rows; otherwise null, and nothing is taken. */
  takeRows(limits: BatchLimits): QueuedRowWorks | null {
    const first = this.#works[this.#head];
    if (first?.kind === "truncate" && limits.hasTruncates === true) return this.#takeBatch(first, limits);
    return first?.kind === "rows" ? this.#takeBatch(this.#divided(first, limits), limits) : null;
  }

  /** The next work, or the first of those in its place, if it has more than a batch may have: a block knows no limits. */
  #divided(work: RowsWork, limits: BatchLimits): RowsWork {
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
    return { kind: "rows", works, complete };
  }

  #takeChunks(first: ChunkWork, limits: BatchLimits): ChunkWork[] {
    this.#next();
    const works = [first];
    const tableIds = new Set(first.block.tables.map(({ id }) => id));
    let rowCount = first.block.count;
    let byteCount = heldBytes(first);
    while (this.length > 0) {
      const work = this.#works[this.#head]!;
      if (work.kind !== "chunk" || comparePositions(work.until, first.until) !== 0) break;
      if (work.block.tables.some(({ id }) => tableIds.has(id))) break;
      if (tableIds.size + work.block.tables.length > this.#tablesIn(limits)) break;
      rowCount += work.block.count;
      byteCount += heldBytes(work);
      if (rowCount > limits.rowCountMax || byteCount > limits.byteCountMax) break;
      for (const { id } of work.block.tables) tableIds.add(id);
      works.push(work);
      this.#next();
    }
    return works;
  }

  #takeEnds(limits: BatchLimits): (SweepWork | CompleteWork)[] {
    const works: (SweepWork | CompleteWork)[] = [];
    const versions = new Map<string, TableVersion>();
    while (this.length > 0) {
      const work = this.#works[this.#head]!;
      if (work.kind !== "sweep" && work.kind !== "complete") break;
      if (!addVersions(versions, [work.table], this.#tablesIn(limits))) break;
      works.push(work);
      this.#next();
    }
    return works;
  }

  /**
   * Ends what was taken: releases its bytes and gives its receipts. `passed`: works that were dropped although the others
   * are done.
   */
  done(taken: QueuedWork, how: "durable" | "dropped", passed?: ReadonlySet<Work>): void {
    for (const work of worksOf(taken)) this.#end(work, passed?.has(work) === true ? "dropped" : how);
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

/** Works of one group can be one batch. Null: a batch of its own. */
function groupOf(work: Work): "changes" | "reads" | null {
  if (work.kind === "rows") return work.receipt === undefined ? "changes" : "reads";
  if (work.kind === "truncate") return "changes";
  return work.kind === "sweep" || work.kind === "complete" ? "reads" : null;
}

function tablesOf(work: Work): readonly TableVersion[] {
  if ("table" in work) return [work.table];
  return work.kind === "rows" ? work.block.tables : [];
}

function worksOf(taken: QueuedWork): readonly Work[] {
  if (taken.kind === "rows") return taken.complete.length === 0 ? taken.works : [...taken.works, ...taken.complete];
  return taken.kind === "chunks" || taken.kind === "ends" ? taken.works : [taken];
}

function endsOf({ from, to }: RowsWork, rowCount: number): number[] {
  return Array.from({ length: Math.ceil((to - from) / rowCount) }, (_, i) => Math.min(to, from + (i + 1) * rowCount));
}

/** Where the next table would be one too many, or the next row. */
function endsByTables({ block, from, to }: RowsWork, rowCountMax: number, tableCountMax: number): number[] {
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
function inPieces(work: RowsWork, ends: readonly number[]): RowsWork[] {
  const { block, from, receipt } = work;
  const own = receipt === undefined ? {} : { receipt: dividedReceipt(receipt, ends.length) };
  return ends.map((to, i) => {
    if (i > 0) block.retain();
    return { kind: "rows", block, from: i === 0 ? from : ends[i - 1]!, to, ...own };
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
