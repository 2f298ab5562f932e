import type { Block } from "../../core/model/block.ts";
import { type Clock, pause, scopeOf } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { type Chunk, type KeyText, SCAN_ROW_COUNT_MAX } from "../../core/contracts/row-reads.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { type Closed, type ClosedWell, encodeMark, type FanOut } from "../stream/fan-out.ts";
import { isOfOneTable, type ReadLimits } from "./row-reader.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import { ApplyWindow, CompareWindow, type Window } from "./windows.ts";
import { withTimeout } from "../../core/waiting.ts";
import { Receipts, type Work } from "../stream/sink-queue.ts";

interface ChunkReaderParts {
  readonly clock: Clock;
  readonly fanOut: FanOut;
  readonly source: Pick<Source, "log" | "watermarks">;
  readonly logger: Logger;
}

/** A read in one window. */
export interface Passage {
  readonly table: TableVersion;
  /** The keys that are asked for, if it is a key lookup. */
  readonly keys: readonly KeyText[] | null;
  readonly read: (asked: ReadLimits) => Promise<Chunk>;
  /** Called at the position of the high mark; the callee releases the block. */
  readonly hand: (closed: ClosedWell) => void;
}

/** A table's next chunk, and its sinks. */
export interface WantedChunk extends Pick<Passage, "table" | "keys" | "read"> {
  readonly workers: readonly SinkWorker[];
}

/** A chunk that is in the queues of its sinks. */
export interface HandedOver {
  readonly lowVersion: bigint;
  /** Whether it became durable in the sink, or was dropped; for the sink as it was attached then. */
  readonly durable: ReadonlyMap<SinkWorker, Promise<boolean>>;
  readonly sessions: ReadonlyMap<SinkWorker, number>;
}

/** The limit for tables that share two marks: about what one chunk of a large table takes. */
const TOGETHER_MS_MAX = 350;
const TOGETHER_BYTES_MAX = 8 * 1024 * 1024;
const SCAN_ROW_COUNT_MIN = 100;
/** The wait before a chunk is read again that is not visible yet, or was spoiled. */
const AGAIN_MS = 50;
const AGAIN_MS_MAX = 1_600;
/** How often it checks whether the stream has passed a mark without showing it. */
const LATE_MS = 1_000;

/** Reads chunk after chunk in windows of the log (windows.ts), and hands each to its sinks. */
export class ChunkReader {
  readonly #parts: ChunkReaderParts;
  /** Distinguishes our marks from those of other processes. */
  readonly #run: string;
  #windowCount = 0;
  #againMs = AGAIN_MS;
  #scanRowCountMax = SCAN_ROW_COUNT_MAX;

  constructor(parts: ChunkReaderParts) {
    this.#parts = parts;
    this.#run = parts.clock.unique(6);
  }

  /**
   * Reads a chunk of each table between the same two marks, as long as that is quick. The chunks enter the sinks' queues at
   * their position. Null for a chunk that must be read again.
   */
  async read(wanted: readonly WantedChunk[], signal: AbortSignal): Promise<readonly (HandedOver | null)[]> {
    const passages = wanted.map(({ table, workers, keys, read }) => {
      const receipts = new Map(workers.map((worker) => [worker, new Receipts(1)]));
      const sessions = new Map(workers.map((worker) => [worker, worker.session]));
      const hand = ({ block, until }: ClosedWell) => this.#hand(block, until, receipts);
      return { table, keys, read, hand, receipts, sessions };
    });
    const windows = await this.#through(passages, ApplyWindow, signal);
    return windows.map((window, i) => {
      if (window === null) return null;
      const { receipts, sessions } = passages[i]!;
      const durable = new Map([...receipts].map(([worker, receipt]) => [worker, receipt.all]));
      return { lowVersion: window.lowVersion, durable, sessions };
    });
  }

  /** Reads rows to compare. The window, when its rows were handed on; null: to be read again. */
  async compare(passage: Passage, signal: AbortSignal): Promise<CompareWindow | null> {
    return (await this.#through([passage], CompareWindow, signal))[0] ?? null;
  }

  /**
   * Low mark, read, high mark. At the position of the high mark the rows are handed on, and the promise resolves with the
   * windows. A table's error is thrown only if none can be read.
   */
  async #through<W extends Window>(
    passages: readonly Passage[],
    Kind: new (id: string, tableId: string) => W,
    signal: AbortSignal,
  ): Promise<readonly (W | null)[]> {
    const { clock, fanOut, source } = this.#parts;
    const id = `${this.#run}-${++this.#windowCount}`;
    const open = passages.map((passage) => {
      const window = new Kind(id, passage.table.id);
      const closed = Promise.withResolvers<Closed>();
      fanOut.expect(window, (result) => {
        if ("block" in result) passage.hand(result);
        closed.resolve(result);
      });
      return { passage, window, closed: closed.promise };
    });
    try {
      await source.watermarks.mark(encodeMark({ edge: "low", window: id }), signal);
      const filled = await this.#fill(open, signal);
      if (filled.size === 0) return passages.map(() => null);
      await source.watermarks.mark(encodeMark({ edge: "high", window: id }), signal);
      const results = await Promise.all(
        open.map(async ({ window, closed }) => {
          if (!filled.has(window)) return null;
          return this.#isClosedWell(window, await this.#passed(closed, signal)) ? window : null;
        }),
      );
      const isAgain = open.some(({ window }, i) => filled.has(window) && results[i] === null);
      if (isAgain) await pause(clock, this.#againMs, signal);
      return results;
    } finally {
      for (const { window } of open) {
        fanOut.forget(window);
        window.discard();
      }
    }
  }

  #isClosedWell({ tableId }: Window, result: Closed): boolean {
    if ("block" in result) {
      this.#againMs = AGAIN_MS;
      this.#scanRowCountMax = Math.min(SCAN_ROW_COUNT_MAX, this.#scanRowCountMax * 2);
      return true;
    }
    this.#parts.logger.debug({ table: tableId, why: result.spoiled }, "a chunk is read again");
    if (result.spoiled === "not yet visible") this.#slowDown();
    return false;
  }

  /** Reads one after the other until the time or the bytes of one chunk are spent; the rest gets its turn later. */
  async #fill(
    open: readonly { readonly passage: Passage; readonly window: Window }[],
    signal: AbortSignal,
  ): Promise<ReadonlySet<Window>> {
    const filled = new Set<Window>();
    const { clock } = this.#parts;
    const endMs = clock.elapsed() + TOGETHER_MS_MAX;
    let byteCount = 0;
    let failure: unknown;
    for (const { passage, window } of open) {
      if (filled.size > 0 && (clock.elapsed() >= endMs || byteCount >= TOGETHER_BYTES_MAX)) break;
      const { table, keys, read } = passage;
      try {
        const chunk = await this.#chunk(window, read, signal);
        if (chunk === null) continue;
        window.fill(table, chunk, keys, clock.now());
        byteCount += chunk.block?.byteCount ?? 0;
        filled.add(window);
        failpoint("snapshot.chunk-read", table);
      } catch (error) {
        if (signal.aborted || open.length === 1 || !isOfOneTable(error)) throw error;
        failure ??= error;
      }
    }
    if (filled.size === 0 && failure !== undefined) throw failure;
    return filled;
  }

  /** Null: meanwhile the stream brought more than a window keeps, and the next chunk must be smaller. */
  async #chunk(
    window: Window,
    read: (asked: ReadLimits) => Promise<Chunk>,
    signal: AbortSignal,
  ): Promise<Chunk | null> {
    const scanRowCountMax = this.#scanRowCountMax;
    using reading = scopeOf(signal, window.overfull);
    try {
      return await read({ signal: reading.signal, scanRowCountMax });
    } catch (error) {
      if (signal.aborted || !window.overfull.aborted) throw error;
      this.#scanRowCountMax = Math.max(SCAN_ROW_COUNT_MIN, Math.floor(scanRowCountMax / 4));
      this.#parts.logger.debug(
        { table: window.tableId, scanRowCountMax },
        "a chunk took too long; a smaller one is read instead",
      );
      return null;
    }
  }

  /** What the source does not show yet may stay invisible for long: the attempts slow down. */
  #slowDown(): void {
    if (this.#againMs >= AGAIN_MS_MAX) return;
    this.#againMs *= 2;
    if (this.#againMs >= AGAIN_MS_MAX)
      this.#parts.logger.warn(
        {},
        "rows can't be read beside the stream yet: a commit at the source is not visible (does it wait for a synchronous standby?) or was about to happen when this process began",
      );
  }

  /**
   * Waits for the high mark, however far the stream is behind. A mark that the stream has passed without showing it is
   * lost.
   */
  async #passed(closed: Promise<Closed>, signal: AbortSignal): Promise<Closed> {
    const { clock, fanOut, source } = this.#parts;
    let beyond: bigint | null = null;
    for (;;) {
      const result = await withTimeout(closed, { clock, signal, timeoutMs: LATE_MS, late: () => null });
      if (result !== null) return result;
      if (beyond !== null && fanOut.position.commit > beyond) return { spoiled: "lost" };
      beyond ??= await source.log.tip(signal);
    }
  }

  #hand(block: Block | null, until: Position, receipts: ReadonlyMap<SinkWorker, Receipts>): void {
    const push = (worker: SinkWorker, chunk: Work): void => this.#parts.fanOut.push(worker, chunk);
    for (const [worker, expected] of receipts) {
      const receipt = expected.one();
      if (block === null) receipt.durable();
      else push(worker, { kind: "chunk", block: block.retain(), from: 0, to: block.count, until, receipt });
    }
    block?.release();
  }
}
