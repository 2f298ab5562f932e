import { invariant } from "../../core/invariant.ts";
import { type Block, type LogMessage, OP_TRUNCATE } from "../../core/model/block.ts";
import type { LogEntry } from "../../core/model/batch.ts";
import { failpoint } from "../../core/failpoint.ts";
import { latest, type Position, rowVersion } from "../../core/model/position.ts";
import { News } from "../../core/waiting.ts";
import type { ChangeStream, Rename } from "../../core/contracts/change-log.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { DeliveredTransactions } from "./delivered-transactions.ts";
import { measuredNow } from "../../core/clock.ts";
import { type BatchLimits, giveReceipt, letGo, lossOf, type SinkQueue, type Work } from "./sink-queue.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { Spoiled, Window, WindowRows } from "../snapshot/windows.ts";

/*
 * Fan-out and catch-up
 *
 * The source has one stream for all sinks, and a slow sink must not slow down the others:
 *
 *                                   ┌─▶ queue ─▶ worker of sink a          positions in the log
 *      source ══ blocks ══▶ fan-out ┼─▶ queue ─▶ worker of sink b      a ────────────────●
 *                    (by reference) └─▶ queue ─▶ worker of sink c      b ───────────────●│
 *                                                                      c ────●          ││
 *                own stream ══════════▶ own fan-out ─▶ queue of c            └ catch-up ┘fan-out
 *
 * 1. The fan-out cuts each block where compaction must stop (`cut`), and puts the parts into the queues of all attached
 *    sinks, in the order of the log. It never waits for one sink. It stops reading only when no sink needs work, or when the
 *    byte budget of the stream is spent.
 * 2. A sink that holds most of the budget while others are idle is detached (detach.ts): its queue is dropped, which frees
 *    the bytes at once. What was in it comes again from the log, because the sink's checkpoint is before it.
 * 3. A sink that is behind catches up with its own stream and its own fan-out (catch-up.ts). Near the end the main fan-out
 *    already collects the sink's changes in a second queue. When the own stream has passed the position where that began,
 *    the second queue is appended to the first one. Changes that both streams carried are dropped by position (`queuedRowsOf`).
 * 4. A source that has no second stream to give lets the main fan-out go back to the sink's position (`GoBack`). Sinks
 *    that were further get changes that they have, and skip them by position, too.
 * 5. At low and high watermarks the fan-out opens and closes windows of incremental snapshots (snapshot/windows.ts): rows that
 *    were read enter the queues at exactly this position. So a move to another position spoils all open windows.
 *
 * What went wrong before: the hand-over looked only after a block, and at an own queue that was nearly empty. In an idle log
 * no further block came, so a sink that had been away kept its second stream and never joined. Now room in its queue counts,
 * and a mark in the log wakes both streams.
 */

/** A batch counts as at least this much, so that a stream reads ahead of sinks that write little at once. */
const BATCH_BYTES_MIN = 8 * 1024 * 1024;

/** One that is being written, one that waits, and one that is being read. */
export const MAIN_BATCHES = 3;
/** A sink that catches up is alone at its stream, and nobody waits for a table's first copy. */
export const OWN_BATCHES = 2;

/** Bytes that may wait in memory, so that sinks with these limits can fill so many batches. */
export function bytesFor(batchCount: number, limits: readonly Pick<BatchLimits, "byteCountMax">[]): number {
  return batchCount * Math.max(BATCH_BYTES_MIN, ...limits.map(({ byteCountMax }) => byteCountMax));
}

/** The fan-out stops reading the stream when in every sink's queue so many works wait, and enough to fill its next batch. */
const WAITING_WORKS_MIN = 2;
/** Then also if they do not fill it: the next ones are larger if the stream is left alone for a while. */
const WAITING_WORKS_MAX = 16;

/** A sink for which this part of the budget waits is crowded. */
const CROWDED = 0.5;

/** How a window ended at its high watermark: with rows to apply (perhaps none), or with the reason why not. */
export type Closed = ClosedWell | { readonly spoiled: Spoiled };

export interface ClosedWell extends WindowRows {
  readonly lowVersion: bigint;
  /** The position of the high watermark: the sinks got everything before it before the chunk. */
  readonly until: Position;
}

interface Expected {
  readonly window: Window;
  readonly onClosed: (closed: Closed) => void;
  /** How many transactions were delivered before its low watermark. */
  mark: number;
}

/**
 * One stream on its way to its sinks. The fan-out cuts blocks, shows them to the open windows, and puts them into the sinks'
 * queues in the order of the log. It never waits for one slow sink; the byte budget makes the stream wait.
 */
export class FanOut {
  #position: Position;
  #furthest: Position;
  readonly #markPrefix: string;
  readonly #news: News;
  /** Bytes that all queues together may hold before the stream stops reading (the stream's own bound). */
  readonly byteBudget: number;
  readonly #sinks = new Map<SinkWorker, SinkQueue>();
  /** By the id in their marks, which windows of different tables may share, and by table. */
  readonly #windows = new Map<string, Map<string, Expected>>();
  readonly delivered = new DeliveredTransactions();
  /** Told when more waits for a crowded sink. */
  readonly crowding = new News();
  #roomMade: (() => void) | null = null;
  /** Renames of which the stream has told, and whose position it has not passed, in order. */
  readonly #renamed: Extract<LogEntry, { readonly kind: "renamed" }>[] = [];

  /** `news` is notified when the fan-out has made progress. */
  constructor(
    position: Position,
    markPrefix: string,
    news: News = new News(),
    byteBudget: number = bytesFor(MAIN_BATCHES, []),
  ) {
    this.#position = this.#furthest = position;
    this.#markPrefix = markPrefix;
    this.#news = news;
    this.byteBudget = byteBudget;
  }

  /** Everything before it was given to the attached sinks. */
  get position(): Position {
    return this.#position;
  }

  /** The furthest that it was: it may have gone back since. */
  get furthest(): Position {
    return this.#furthest;
  }

  /**
   * Continues from another position, where the stream is opened next. Going back gives the sinks changes again that they
   * have; going forward skips changes that every attached sink has.
   */
  moveTo(position: Position): void {
    this.#position = position;
    this.#news.tell();
    for (const expected of this.#expected) {
      // Invariant: a window sees the changes between its marks exactly once. After a move it could take earlier changes for
      // those.
      if (!expected.window.isOpen) continue;
      expected.window.spoil("lost");
      this.#close(expected, position);
    }
  }

  get sinks(): Iterable<SinkWorker> {
    return this.#sinks.keys();
  }

  /** Bytes that wait for this sink, in its own queue or in one that will be appended to it. */
  heldBytes(worker: SinkWorker): number {
    return this.#sinks.get(worker)?.heldBytes ?? 0;
  }

  isCrowded(worker: SinkWorker): boolean {
    return this.heldBytes(worker) >= this.byteBudget * CROWDED;
  }

  /** Whether what waits for the sink has a large row: detached, the sink would be given that row again. */
  holdsLarge(worker: SinkWorker): boolean {
    return this.#sinks.get(worker)?.hasLarge ?? false;
  }

  has(worker: SinkWorker): boolean {
    return this.#sinks.get(worker) === worker.queue;
  }

  /** From the next block on, works go to `queue`: the worker's own, or one that will be appended to it. */
  attach(worker: SinkWorker, queue: SinkQueue = worker.queue): void {
    this.#sinks.set(worker, queue);
    const onRoom = (): void => this.#roomMade?.();
    queue.onRoom = onRoom;
    this.#roomMade?.();
  }

  detach(worker: SinkWorker): void {
    this.#sinks.get(worker)?.clear();
    this.#sinks.delete(worker);
    worker.drop();
    worker.queue.onRoom = null;
    this.#roomMade?.();
  }

  /** Adds a window that opens and closes when its marks pass. `onClosed` is called at the position of the high mark. */
  expect(window: Window, onClosed: (closed: Closed) => void): void {
    const together = this.#windows.get(window.id) ?? new Map();
    invariant(!together.has(window.tableId), "windows that share their marks are of different tables");
    this.#windows.set(window.id, together.set(window.tableId, { window, onClosed, mark: 0 }));
  }

  forget(window: Window): void {
    const together = this.#windows.get(window.id);
    if (together?.get(window.tableId)?.window !== window) return;
    together.delete(window.tableId);
    if (together.size === 0) this.#windows.delete(window.id);
  }

  /**
   * Forgets transactions that were delivered before `mark` and are visible. Invariant: only while nothing is being read,
   * because the snapshot of a running read may be older than this one.
   */
  forgetVisible(mark: number, sees: (xid: number) => boolean): void {
    if (this.#windows.size === 0) this.delivered.prune(mark, sees);
  }

  /** The queues of sinks that get the log itself. */
  get #logs(): readonly SinkQueue[] {
    return [...this.#sinks].flatMap(([{ sink }, queue]) => (sink.form === "log" ? [queue] : []));
  }

  /**
   * Rows of the table changed whose changes are not in the log, or can't be read. Pushed before the position at which it
   * shows; `isPassedBy`: into all queues, so that the sinks forget that they hold the table.
   */
  lose(tableId: string, isPassedBy = false): void {
    for (const queue of isPassedBy ? this.#sinks.values() : this.#logs) queue.push(lossOf(tableId));
  }

  /**
   * Told to sinks that get the log itself, between the rows before that position and those behind it: who reads their log from a
   * position on must not lack what comes behind it.
   */
  rename(renames: readonly Rename[], { commit }: Position): void {
    const told = JSON.stringify(renames);
    // A stream that was opened again tells it again.
    if (this.#renamed.some((one) => one.commit === commit && JSON.stringify(one.renames) === told)) return;
    this.#renamed.push({ kind: "renamed", renames, commit });
    this.#renamed.sort((a, b) => Number(a.commit - b.commit));
  }

  /**
   * Gives out the rows from `from` on that come before renames, as far as `to`, and the renames. Returns where it stopped.
   * Invariant: a log passes the position of a rename only by the batch that tells it. A process may end between any two
   * batches, and a reader may begin at any position.
   */
  #passRenames(block: Block, from: number, to: number): number {
    let at = from;
    for (let next = this.#renamed[0]; next !== undefined; next = this.#renamed[0]) {
      if (next.commit >= block.until.commit) break;
      const behind = rowBehind(block, at, next.commit);
      if (behind > to) break;
      this.#rows(block, at, behind, "renames follow");
      at = behind;
      const until = block.positionAt(behind);
      const later = this.#renamed.findIndex(({ commit }) => commit >= until.commit);
      const entries = this.#renamed.splice(0, later < 0 ? this.#renamed.length : later);
      for (const queue of this.#logs) queue.push({ kind: "notice", entries, until });
    }
    return at;
  }

  get #expected(): readonly Expected[] {
    return [...this.#windows.values()].flatMap((together) => [...together.values()]);
  }

  /** After a schema change of the table: chunks that were read across it are useless. */
  spoil(tableId: string): void {
    for (const { window } of this.#expected) if (window.tableId === tableId) window.spoil("schema changed");
  }

  push(worker: SinkWorker, work: Work): void {
    const queue = this.#sinks.get(worker);
    if (queue !== undefined) {
      queue.push(work);
      if (this.isCrowded(worker)) this.crowding.tell();
      return;
    }
    letGo(work);
    giveReceipt(work, "dropped");
  }

  /** Feeds the sinks until aborted, until the stream fails, or until `enough` returns true after a block. */
  async run(stream: ChangeStream, signal: AbortSignal, enough: () => boolean = () => false): Promise<void> {
    while (!enough()) {
      await this.#room(signal);
      // Room was made, and `enough` may wait for that: an idle log brings no further block.
      if (enough()) return;
      const block = await stream.next(signal);
      block.arrivedMs = measuredNow();
      try {
        this.#dispatch(block);
      } finally {
        block.release();
      }
      failpoint("fan-out.dispatched");
    }
  }

  /** True while no sink has room, so that the stream is not read. */
  get isAtRest(): boolean {
    return this.#roomMade !== null;
  }

  /** Waits until some sink needs work. Meanwhile more changes gather in the stream, and arrive in larger blocks. */
  async #room(signal: AbortSignal): Promise<void> {
    while (!this.hasRoom) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const go = () => {
          this.#roomMade = null;
          signal.removeEventListener("abort", go);
          resolve();
        };
        this.#roomMade = go;
        signal.addEventListener("abort", go, { once: true });
      });
    }
    signal.throwIfAborted();
  }

  /** Whether some sink needs work. */
  get hasRoom(): boolean {
    for (const [{ limits }, queue] of this.#sinks) {
      if (queue.length < WAITING_WORKS_MIN || (queue.length < WAITING_WORKS_MAX && !queue.isFull(limits))) return true;
    }
    return false;
  }

  #dispatch(block: Block): void {
    let from = 0;
    for (const message of block.messages) {
      const edge = this.#edge(message);
      const takers = message.prefix === this.#markPrefix ? this.#logs : [];
      if (edge === null && takers.length === 0) continue;
      from = this.#passRenames(block, from, message.at);
      this.#rows(block, from, message.at);
      from = message.at;
      for (const queue of takers) queue.push(noticeOf(block, message));
      for (const expected of edge?.expected ?? []) {
        if (edge!.isLow) this.#open(expected, rowVersion(block.until.epoch, message.position));
        else this.#close(expected, block.positionAt(message.at));
      }
    }
    from = this.#passRenames(block, from, block.count);
    this.#rows(block, from, block.count);
    this.#position = block.until;
    this.#furthest = latest(block.until, this.#furthest);
    this.#news.tell();
    for (const worker of this.#sinks.keys()) if (this.isCrowded(worker)) this.crowding.tell();
    for (const [worker, queue] of this.#sinks) {
      // Invariant: only a sink that got everything before this position is covered. A sink that is being handed over has it
      // in two queues.
      if (queue === worker.queue) worker.cover(block.until);
    }
  }

  /** The edge of windows that this fan-out expects; other marks do not cut the rows. */
  #edge(message: LogMessage): { readonly isLow: boolean; readonly expected: readonly Expected[] } | null {
    if (message.prefix !== this.#markPrefix) return null;
    const mark = decodeMark(message.content);
    if (mark === null || mark.edge === null) return null;
    const together = this.#windows.get(mark.window);
    return together === undefined ? null : { isLow: mark.edge === "low", expected: [...together.values()] };
  }

  #rows(block: Block, from: number, to: number, before?: "renames follow"): void {
    if (from === to) return;
    const last = block.positionAt(to - 1);
    // Before renames a log stops short of the next row: the batch with the renames takes it there.
    const endOfLog = before === undefined ? undefined : { ...last, index: last.index + 1 };
    const { tx, transactions } = block;
    for (let t = tx[from]!; t <= tx[to - 1]!; t++) this.delivered.add(transactions.xid[t]!);
    for (const together of this.#windows.values()) {
      for (const id of new Set(block.tables.map((table) => table.id))) {
        const window = together.get(id)?.window;
        if (window?.isOpen === true) window.touch(block, from, to);
      }
    }
    for (const piece of cut(block, from, to)) {
      for (const [{ sink }, queue] of this.#sinks) {
        const end = sink.form === "log" ? endOfLog : undefined;
        if (piece.kind === "rows") {
          const { from: first, to: next } = piece;
          queue.push({ kind: "rows", block: block.retain(), from: first, to: next, ...(end && { until: end }) });
        } else {
          const { row } = piece;
          const table = block.tables[block.table[row]!]!;
          const version = transactions.version[tx[row]!]!;
          const { commitTimeUs, xid, origins } = transactions;
          const of = tx[row]!;
          const record = {
            index: block.index[row]!,
            commitTimeUs: commitTimeUs[of]!,
            xid: xid[of]!,
            origin: origins[of],
          };
          const until = (row + 1 === to ? end : undefined) ?? block.positionAt(row + 1);
          queue.push({ kind: "truncate", table, version, record, until });
        }
      }
    }
  }

  #open(expected: Expected, version: bigint): void {
    expected.window.low(version);
    expected.mark = this.delivered.mark;
  }

  #close({ window, onClosed, mark }: Expected, until: Position): void {
    this.forget(window);
    const result = window.close((sees) => {
      const areSeen = this.delivered.allSeen(mark, sees);
      this.forgetVisible(mark, sees);
      return areSeen;
    });
    onClosed(typeof result === "string" ? { spoiled: result } : { ...result, lowVersion: window.lowVersion, until });
  }
}

function noticeOf(block: Block, message: LogMessage): Work {
  // The block's bytes are used again.
  const kept = { ...message, content: Uint8Array.from(message.content) };
  return { kind: "notice", entries: [{ kind: "mark", message: kept }], until: block.positionAt(message.at) };
}

/** A part of a block that can be compacted together, or one truncate. */
type Piece =
  | { readonly kind: "rows"; readonly from: number; readonly to: number }
  | { readonly kind: "truncate"; readonly row: number };

/**
 * Cuts rows `from`..`to` of a block where compaction must stop: at truncates, and where a table appears in a second version.
 * Most blocks have neither: they stay in one piece, and their rows are not looked at.
 */
export function cut(block: Block, from: number, to: number): readonly Piece[] {
  const truncate = block.op.subarray(from, to).includes(OP_TRUNCATE);
  if (!truncate && !hasTwoVersions(block.tables)) return from < to ? [{ kind: "rows", from, to }] : [];
  const pieces: Piece[] = [];
  let start = from;
  let versions = new Map<string, TableVersion>();
  const closeAt = (row: number) => {
    if (row > start) pieces.push({ kind: "rows", from: start, to: row });
    start = row;
    versions = new Map();
  };
  for (let row = from; row < to; row++) {
    const table = block.tables[block.table[row]!]!;
    if (block.op[row] === OP_TRUNCATE) {
      closeAt(row);
      pieces.push({ kind: "truncate", row });
      start = row + 1;
      continue;
    }
    const seen = versions.get(table.id);
    if (seen !== undefined && seen !== table) closeAt(row);
    versions.set(table.id, table);
  }
  closeAt(to);
  return pieces;
}

/** The first row from `from` on of a transaction that commits behind this position. */
function rowBehind({ count, tx, transactions }: Block, from: number, commit: bigint): number {
  let row = from;
  while (row < count && transactions.commit[tx[row]!]! <= commit) row++;
  return row;
}

function hasTwoVersions(tables: readonly TableVersion[]): boolean {
  return tables.length > 1 && new Set(tables.map((table) => table.id)).size < tables.length;
}

/**
 * The messages that Millrace writes into the source's log: the edges of windows, and heartbeats, which belong to no window.
 */
export type Mark = { readonly edge: "low" | "high"; readonly window: string } | { readonly edge: null };

export function encodeMark(mark: Mark): string {
  return JSON.stringify(mark);
}

/** Null for a message with our prefix that this version does not know. */
function decodeMark(content: Uint8Array): Mark | null {
  try {
    const value: unknown = JSON.parse(Buffer.from(content.buffer, content.byteOffset, content.length).toString("utf8"));
    if (typeof value !== "object" || value === null || !("edge" in value)) return null;
    if (value.edge === null) return { edge: null };
    if ((value.edge === "low" || value.edge === "high") && "window" in value && typeof value.window === "string") {
      return { edge: value.edge, window: value.window };
    }
    return null;
  } catch (error) {
    // The message comes from another version, or from another program with our prefix: it is ignored.
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
