import { setTimeout as sleep } from "node:timers/promises";
import type { Block } from "../core/block.ts";
import { failpoint } from "../core/failpoint.ts";
import type { Position } from "../core/position.ts";
import type { TableVersion } from "../core/schema.ts";
import { type Chunk, type KeyText, SCAN_ROW_COUNT_MAX, type Source } from "../core/source.ts";
import type { Logger } from "../core/telemetry.ts";
import type { Closed, ClosedWell, Lane } from "./lane.ts";
import { encodeMark } from "./marks.ts";
import type { SinkWorker } from "./sink-worker.ts";
import { Window } from "./windows.ts";
import { Receipts } from "./work.ts";

export interface ChunkReaderParts {
  readonly lane: Lane;
  readonly source: Source;
  readonly logger: Logger;
}

/** How a chunk is to be read. */
export interface Asked {
  /** Aborted where the chunk is of no use any more. */
  readonly signal: AbortSignal;
  /** Rows to look at, at most, under a condition. */
  readonly scanRowCountMax: number;
}

/** What is read in one window. */
export interface Passage {
  readonly table: TableVersion;
  /** What is asked for, where it is a list. */
  readonly keys: readonly KeyText[] | null;
  readonly purpose: "apply" | "compare";
  readonly read: (asked: Asked) => Promise<Chunk>;
  /** Called at the high mark's place in the stream; the block is its to release. */
  readonly hand: (closed: ClosedWell) => void;
}

/** A chunk that is in the queues of its sinks. */
export interface HandedOver {
  readonly lowVersion: bigint;
  /** Whether it became durable there, or was dropped; for the sink as it was attached then. */
  readonly durable: ReadonlyMap<SinkWorker, Promise<boolean>>;
  readonly sessions: ReadonlyMap<SinkWorker, number>;
}

const SCAN_ROW_COUNT_MIN = 100;
/** A chunk that is not yet visible, or was spoiled, is read again after this. */
const AGAIN_MS = 50;
const AGAIN_MS_MAX = 1_600;
/** After this, and then as often, it is looked whether the stream has gone past a mark without showing it. */
const LATE_MS = 1_000;

/** Distinguishes windows of all readers of this process. */
let windowCount = 0;

/** Reads one chunk after the other in windows of the log (windows.ts), and hands each to its sinks. */
export class ChunkReader {
  readonly #parts: ChunkReaderParts;
  readonly #run = `${process.pid}-${Date.now().toString(36)}`;
  #againMs = AGAIN_MS;
  #scanRowCountMax = SCAN_ROW_COUNT_MAX;

  constructor(parts: ChunkReaderParts) {
    this.#parts = parts;
  }

  /** Reads a chunk that is applied at its place in the queues of the sinks. Null: to be done again. */
  async read(
    table: TableVersion,
    workers: readonly SinkWorker[],
    keys: readonly KeyText[] | null,
    read: (asked: Asked) => Promise<Chunk>,
    signal: AbortSignal,
  ): Promise<HandedOver | null> {
    const receipts = new Map(workers.map((worker) => [worker, new Receipts(1)]));
    const sessions = new Map(workers.map((worker) => [worker, worker.session]));
    const hand = ({ block, until }: ClosedWell) => this.#hand(block, until, receipts);
    const closed = await this.through({ table, keys, purpose: "apply", read, hand }, signal);
    if (closed === null) return null;
    const durable = new Map([...receipts].map(([worker, receipt]) => [worker, receipt.all]));
    return { lowVersion: closed.lowVersion, durable, sessions };
  }

  /**
   * One window: low mark, read, high mark; at the high mark's place the rows are handed on, and it resolves. Null: to be
   * done again.
   */
  async through(
    { table, keys, purpose, read, hand }: Passage,
    signal: AbortSignal,
  ): Promise<{ readonly lowVersion: bigint; readonly aside: readonly KeyText[] } | null> {
    const { lane, source, logger } = this.#parts;
    const window = new Window(`${this.#run}-${++windowCount}`, table.id, purpose);
    const closed = Promise.withResolvers<Closed>();
    lane.expect(window, (result) => {
      if ("block" in result) hand(result);
      closed.resolve(result);
    });
    try {
      await source.mark(encodeMark({ edge: "low", window: window.id }), signal);
      const chunk = await this.#chunk(window, read, signal);
      if (chunk === null) return null;
      window.fill(table, chunk, keys);
      failpoint("refill.chunk-read", table);
      await source.mark(encodeMark({ edge: "high", window: window.id }), signal);
      const result = await this.#passed(closed.promise, signal);
      if ("block" in result) {
        this.#againMs = AGAIN_MS;
        this.#scanRowCountMax = Math.min(SCAN_ROW_COUNT_MAX, this.#scanRowCountMax * 2);
        return { lowVersion: result.lowVersion, aside: window.aside };
      }
      logger.debug({ table: table.id, why: result.spoiled }, "a chunk is read again");
      if (result.spoiled === "not yet visible") this.#slowDown();
    } finally {
      lane.forget(window);
      window.discard();
    }
    await pause(this.#againMs, signal);
    return null;
  }

  /** Null: the stream brought more meanwhile than a window keeps, and less is to be read at once. */
  async #chunk(window: Window, read: (asked: Asked) => Promise<Chunk>, signal: AbortSignal): Promise<Chunk | null> {
    const scanRowCountMax = this.#scanRowCountMax;
    try {
      return await read({ signal: AbortSignal.any([signal, window.overfull]), scanRowCountMax });
    } catch (error) {
      if (signal.aborted || !window.overfull.aborted) throw error;
      this.#scanRowCountMax = Math.max(SCAN_ROW_COUNT_MIN, Math.floor(scanRowCountMax / 4));
      this.#parts.logger.debug(
        { table: window.tableId, scanRowCountMax },
        "a chunk took too long and is read again, smaller",
      );
      return null;
    }
  }

  /** What the source does not show yet it may not show for long: it is not to be read in vain all the time. */
  #slowDown(): void {
    if (this.#againMs >= AGAIN_MS_MAX) return;
    this.#againMs *= 2;
    if (this.#againMs >= AGAIN_MS_MAX)
      this.#parts.logger.warn(
        {},
        "rows can't be read beside the stream yet: a commit at the source is not visible (does it wait for a synchronous standby?) or was about to happen when this process began",
      );
  }

  /** Waits for the high mark, however far the stream is behind; one that the stream has passed by is lost. */
  async #passed(closed: Promise<Closed>, signal: AbortSignal): Promise<Closed> {
    const { lane, source } = this.#parts;
    let beyond: bigint | null = null;
    for (;;) {
      const waiting = new AbortController();
      const late = pause(LATE_MS, AbortSignal.any([signal, waiting.signal])).then(() => null);
      const result = await Promise.race([closed, late]);
      waiting.abort();
      if (result !== null) return result;
      signal.throwIfAborted();
      if (beyond !== null && lane.position.commit > beyond) return { spoiled: "lost" };
      beyond ??= await source.tip(signal);
    }
  }

  #hand(block: Block | null, until: Position, receipts: ReadonlyMap<SinkWorker, Receipts>): void {
    for (const [worker, expected] of receipts) {
      const receipt = expected.one();
      if (block === null) receipt.durable();
      else this.#parts.lane.push(worker, { kind: "chunk", block: block.retain(), until, receipt });
    }
    block?.release();
  }
}

/** Ends early, and well, when it is aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
