import type {
  ComparedPlace,
  ComparedSlice,
  CompareOutcome,
  ComparePlace,
  ComparePort,
  Inspection,
  Unready,
} from "../core/contracts/comparing.ts";
import { type Clock, pause, restAfter, scopeOf } from "../core/clock.ts";
import { invariant } from "../core/invariant.ts";
import type { Block } from "../core/model/block.ts";
import { keyShape } from "../core/model/row-id.ts";
import type { TableVersion } from "../core/model/schema.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import type { Source } from "../core/contracts/source.ts";
import type { TableSnapshot, StateStore } from "../core/contracts/state-store.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { rowVersion } from "../core/model/position.ts";
import type { ClosedWell, FanOut } from "./stream/fan-out.ts";
import type { ReadHold } from "./stream/kept-log.ts";
import { ChunkReader } from "./snapshot/chunk-reader.ts";
import { lifeOf, type SinkLife } from "./sink/sink-life.ts";
import type { SinkWorker } from "./sink/sink-worker.ts";
import type { SuspendedTables } from "./schema/suspended-tables.ts";
import type { TableGate } from "./schema/table-gate.ts";
import { type News, Turn, withTimeout } from "../core/waiting.ts";
import { Receipts } from "./stream/sink-queue.ts";

export interface ComparisonParts {
  readonly clock: Clock;
  readonly news: News;
  readonly fanOut: FanOut;
  readonly readHold: ReadHold;
  readonly source: Pick<Source, "log" | "positions" | "rows" | "watermarks">;
  readonly state: StateStore;
  readonly gate: TableGate;
  readonly lives: readonly SinkLife[];
  readonly suspended: Pick<SuspendedTables, "errorOf">;
  readonly onPendingKeys: () => void;
  readonly logger: Logger;
}

/** Rows that are compared at a time by a comparison that gets all the time, unless the target says how many. */
const SLICE_ROWS = 2_000;
/** How often the wait checks that a sink makes progress. Seldom on purpose: whether a sink moves at all is no event, and its progress would wake each of many waits. */
const LOOK_MS = 250;

/** How far one sink is with the rows that were given to it. */
interface Way {
  readonly all: Promise<boolean>;
  failure: { readonly error: unknown } | null;
}

/** Puts rows of the source into the sinks' queues, at a position where they can be compared with what the sinks hold. */
export class Comparisons implements ComparePort {
  readonly #parts: ComparisonParts;
  readonly #chunks: ChunkReader;
  /** By sink: one that compares other rows before these gets on. */
  readonly #slicesDone = new Map<string, number>();
  readonly #turns: ComparisonTurns;
  /** By sink: its tables are compared at the same time, and an inspection reads for one slice at a time. */
  readonly #sinkTurns = new Map<string, Turn>();
  readonly #paces = new Map<string, SlicePace>();

  constructor(parts: ComparisonParts) {
    this.#parts = parts;
    this.#chunks = new ChunkReader(parts);
    this.#turns = new ComparisonTurns(parts.clock);
  }

  get sinks(): readonly string[] {
    return this.#parts.lives.map(({ name }) => name);
  }

  get tables(): readonly TableVersion[] {
    return this.#parts.gate.tables;
  }

  get besides(): TableGate["besides"] {
    return this.#parts.gate.besides;
  }

  get suspended(): TableGate["suspended"] {
    return this.#parts.gate.suspended;
  }

  takes(sink: string, table: TableVersion): boolean {
    return lifeOf(this.#parts.lives, sink)?.tables.takes(table) ?? false;
  }

  async unready(sink: string, table: TableVersion): Promise<Unready | null> {
    const { fanOut, gate, state, suspended } = this.#parts;
    const life = this.#life(sink);
    const error = suspended.errorOf(sink, table.id);
    if (error !== null) {
      return { reason: `it is suspended in the sink: ${error.code} ${error.message}`, isWhole: false, isFinal: true };
    }
    if (life.state !== "streaming" || life.catchingUp) {
      const why = life.error === null ? "" : ` (${life.error.code} ${life.error.message})`;
      const state = life.state === "streaming" ? "catching up" : life.state;
      // One that has failed waits for a person.
      return { reason: `the sink is ${state}${why}`, isWhole: true, isFinal: life.state === "failed" };
    }
    if (!fanOut.has(life.worker)) return { reason: "the sink is catching up", isWhole: true };
    const held = life.worker.position.tables[table.id];
    const isWhole = held !== undefined && held === gate.completeness(table);
    // A suspended table lacks changes, but the sink's checkpoint still calls its copy complete.
    if (isWhole && !(await state.snapshots.unfinished(sink, table.id)).some(isOwed)) return null;
    return { reason: "it is still being read beside the stream for the sink", isWhole: false };
  }

  batch(sink: string): number | null {
    return this.#life(sink).worker.position.batch;
  }

  isComparable(sink: string): boolean {
    return this.#life(sink).worker.sink.comparison !== undefined;
  }

  async inspect(sink: string, signal: AbortSignal): Promise<Inspection> {
    const inspection = await this.#life(sink).worker.sink.comparison?.inspect(signal);
    invariant(inspection !== undefined, "a sink that can't be compared is not inspected");
    return inspection;
  }

  async awaited(sink: string, tableId: string, keys: readonly KeyText[]): Promise<ReadonlySet<number>> {
    return await this.#parts.state.snapshots.listed(sink, tableId, keys);
  }

  async repair(sink: string, table: TableVersion, keys: readonly KeyText[]): Promise<void> {
    const { state, logger, onPendingKeys } = this.#parts;
    await state.snapshots.addKeys(sink, table.id, keys, keyShape(table));
    logger.info({ sink, table: table.id, rows: keys.length }, "rows that differ are read again");
    onPendingKeys();
  }

  async refused(sink: string, tableId: string): Promise<readonly KeyText[]> {
    const letters = await this.#parts.state.deadLetters.list({ sink, state: "waiting" });
    return letters.filter((letter) => letter.tableId === tableId).map(({ key }) => key);
  }

  async at(place: ComparePlace, signal: AbortSignal): Promise<ComparedPlace> {
    const { clock, news, source, readHold } = this.#parts;
    const { table, rows, share = 1 } = place;
    const ways = new Map<string, Way>();
    const { signal: until, end } = scopeOf(signal);
    let last: KeyText | null = null;
    let handedAt: string | null = null;
    let [readAtMs, readMs, restedMs] = [0, 0, 0];
    let heldBytes = 0;
    const rest = async (tookMs: number): Promise<void> => {
      const beganMs = clock.elapsed();
      await clock.sleep(restAfter(tookMs, share), until);
      const workers = place.sinks.map((sink) => this.#life(sink).worker);
      await calm(workers, news, clock, until);
      restedMs += clock.elapsed() - beganMs;
    };
    await readHold.over(clock, signal);
    await this.#turns.take(signal);
    const endTurn = once(() => this.#turns.give());
    // Before the rows: the sink that stands still for them waits for no answer of the source.
    const tip = rows.kind === "keys" ? source.log.tip(until) : null;
    tip?.catch(() => undefined);
    const read = async () => {
      const beganMs = clock.elapsed();
      const chunk = await (rows.kind === "keys"
        ? source.rows.readKeys(table, rows.keys, until)
        : source.rows.readRange(table, { after: rows.after, where: null, ...(share < 1 ? { rest } : {}) }, until));
      readAtMs = clock.elapsed();
      readMs = readAtMs - beganMs - restedMs;
      last = chunk.last;
      this.#turns.rest(pauseAfter({ readMs, behindMs: 0 }));
      this.#turns.hold((heldBytes = chunk.block?.byteCount ?? 0));
      endTurn();
      return chunk;
    };
    try {
      const passage = {
        table,
        keys: rows.kind === "keys" ? rows.keys : null,
        read,
        hand: (closed: ClosedWell) => {
          handedAt = source.positions.format(closed.until.commit);
          for (const sink of place.sinks) ways.set(sink, this.#hand(place, sink, closed, tip, until));
          closed.block?.release();
        },
      };
      const { fanOut } = this.#parts;
      const passed = await whileMoving(
        clock,
        this.#chunks.compare(passage, until),
        () => fanOut.position.commit,
        place,
        signal,
      );
      if (passed === "late") return nowhere(place, await this.#withoutSource({ kind: "late" }, signal));
      if (passed === null) return nowhere(place, { kind: "again" });
      const behindMs = clock.elapsed() - readAtMs;
      this.#turns.rest(pauseAfter({ readMs: 0, behindMs }));
      place.onSent?.({ last });
      const outcomes = new Map<string, CompareOutcome>();
      const ended = [...ways].map(async ([sink, way]) => {
        const { worker } = this.#life(sink);
        const placeOf = () => `${this.#slicesDone.get(sink)} ${worker.position.covered?.commit}`;
        const all = await whileMoving(clock, way.all, placeOf, place, signal);
        if (way.failure !== null) outcomes.set(sink, { kind: "failed", error: way.failure.error });
        else if (all === "late") outcomes.set(sink, { kind: "late" });
        else outcomes.set(sink, { kind: all ? "compared" : "again" });
      });
      await Promise.all(ended);
      if (rows.kind === "keys" && share < 1) await clock.sleep(restAfter(readMs, share), signal);
      return {
        last,
        at: handedAt,
        byteCount: heldBytes,
        readMs,
        unsettled: passed.unsettled,
        outcomes,
      };
    } catch (error) {
      signal.throwIfAborted();
      return nowhere(place, await this.#withoutSource({ kind: "failed", error }, signal));
    } finally {
      // From here on, work that still waits in a queue compares nothing.
      end();
      endTurn();
      this.#turns.letGo(heldBytes);
    }
  }

  /** The outcome, or `away` when the source can't be reached. */
  async #withoutSource(outcome: CompareOutcome, signal: AbortSignal): Promise<CompareOutcome> {
    try {
      await this.#parts.source.log.tip(signal);
      return outcome;
    } catch (error) {
      signal.throwIfAborted();
      return { kind: "away", error };
    }
  }

  /**
   * Puts the rows into the sink's queue. The sink stands still for listed keys, which are few. The rows of a range are many:
   * from their position on they are compared beside the stream, one slice after the other. `tip`: the end of the source's log
   * at some time before; null: it is asked for.
   */
  #hand(place: ComparePlace, sink: string, closed: ClosedWell, tip: Promise<bigint> | null, signal: AbortSignal): Way {
    const { block, toldCount, until, moved } = closed;
    const { clock, news, fanOut, source } = this.#parts;
    const { worker } = this.#life(sink);
    const { table, share = 1 } = place;
    const turn = this.#turnOf(sink);
    // Where the sink stands still for the work, each rest would be one of the stream's.
    const pace = share < 1 && place.rows.kind === "range" ? this.#paceOf(sink) : null;
    const { rowsAtOnce = SLICE_ROWS } = worker.sink.comparison ?? {};
    const spans = block === null ? [] : spansOf(toldCount, block.count);
    const receipts = new Receipts(spans.length);
    let beside = Promise.resolve();
    const all = receipts.all.then(async (areDurable) => {
      await beside;
      return areDurable;
    });
    const way: Way = { all, failure: null };
    if (block === null) return way;
    let logEnd = tip;
    /** Returns how long it took. */
    const compare = async (slice: Omit<ComparedSlice, "versionMax">, batchSignal: AbortSignal): Promise<number> => {
      using either = scopeOf(signal, batchSignal);
      let beganMs = clock.elapsed();
      try {
        using _ = await turn.take(either.signal);
        if (pace !== null) await calm([worker], news, clock, either.signal);
        const commitMax = await (logEnd ??= source.log.tip(either.signal));
        const versionMax = rowVersion(until.epoch, commitMax > until.commit ? commitMax : until.commit);
        const asked = { ...slice, versionMax };
        beganMs = clock.elapsed();
        await place.compare(sink, asked, either.signal);
      } catch (error) {
        way.failure = { error };
      }
      this.#slicesDone.set(sink, (this.#slicesDone.get(sink) ?? 0) + 1);
      return clock.elapsed() - beganMs;
    };
    const walk = async (rows: Block, isByLog: boolean): Promise<void> => {
      for (let from = 0; from < rows.count && way.failure === null;) {
        const isFirst = from === 0;
        const count = pace?.rowCount(isFirst) ?? rowsAtOnce;
        const to = Math.min(rows.count, from + count);
        const without = isByLog ? undefined : await moved?.among(rows, from, to, clock);
        const slice = { block: rows, from, to, isByLog, ...(without && { without }) };
        const tookMs = await compare(slice, signal);
        from = to;
        if (pace === null) continue;
        if (!isByLog && (isFirst || slice.to - slice.from === count)) pace.took(tookMs, isFirst);
        await pause(clock, restAfter(tookMs, share), signal);
      }
    };
    const walkBeside = async (): Promise<void> => {
      await walk(block, false);
      const left = way.failure === null ? moved?.byLog(block) : null;
      if (left == null) return;
      await walk(left, true).finally(() => left.release());
    };
    for (const { from, to } of spans) {
      const compareHere = async (batchSignal: AbortSignal): Promise<void> => {
        if (way.failure === null) await compare({ block, from, to, isByLog: from >= toldCount }, batchSignal);
      };
      const begin = async (): Promise<void> => {
        block.retain();
        beside = walkBeside().finally(() => block.release());
      };
      fanOut.push(worker, {
        kind: "compare",
        table,
        block: block.retain(),
        from,
        to,
        until,
        compare: place.rows.kind === "keys" ? compareHere : begin,
        receipt: receipts.one(),
      });
    }
    return way;
  }

  #paceOf(sink: string): SlicePace {
    let pace = this.#paces.get(sink);
    if (pace === undefined) this.#paces.set(sink, (pace = new SlicePace()));
    return pace;
  }

  #turnOf(sink: string): Turn {
    let turn = this.#sinkTurns.get(sink);
    if (turn === undefined) this.#sinkTurns.set(sink, (turn = new Turn()));
    return turn;
  }

  #life(sink: string): SinkLife {
    const found = lifeOf(this.#parts.lives, sink);
    if (found === undefined) throw new RangeError(`there is no sink ${sink}`);
    return found;
  }
}

function isOwed({ needed, scope }: TableSnapshot): boolean {
  return needed && scope.kind !== "differences";
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    work();
  };
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** Rows that the source has shown, and those that are as the log left them. */
function spansOf(toldCount: number, count: number): readonly Span[] {
  const both = [
    { from: 0, to: toldCount },
    { from: toldCount, to: count },
  ];
  return both.filter(({ from, to }) => from < to);
}

function nowhere({ sinks }: ComparePlace, outcome: CompareOutcome): ComparedPlace {
  const outcomes = new Map(sinks.map((sink) => [sink, outcome]));
  return { last: null, at: null, byteCount: 0, readMs: 0, unsettled: [], outcomes };
}

/** The promise's value, or `late` when `placeOf` has stayed the same for too long. */
async function whileMoving<T>(
  clock: Clock,
  waited: Promise<T>,
  placeOf: () => unknown,
  { patienceMs }: ComparePlace,
  signal: AbortSignal,
): Promise<T | "late"> {
  // After `late`, no caller awaits this promise any more.
  waited.catch(() => undefined);
  let seen = placeOf();
  let movedMs = clock.elapsed();
  const limits = { clock, signal, timeoutMs: LOOK_MS, late: (): typeof LOOK => LOOK };
  for (;;) {
    const result = await withTimeout(waited, limits);
    if (result !== LOOK) return result;
    const now = placeOf();
    if (now !== seen) movedMs = clock.elapsed();
    else if (clock.elapsed() - movedMs > patienceMs) return "late";
    seen = now;
  }
}

const LOOK = Symbol("look");

/** A sink that has work all the time is read all the same. */
const CALM_MS_MAX = 20;

/** Waits for a moment in which these sinks have nothing to apply, so that no change waits for what is read beside it. */
export async function calm(
  workers: readonly Pick<SinkWorker, "idle">[],
  news: News,
  clock: Clock,
  signal: AbortSignal,
): Promise<void> {
  const endMs = clock.elapsed() + CALM_MS_MAX;
  for (;;) {
    const { count } = news;
    const leftMs = endMs - clock.elapsed();
    if (leftMs <= 0 || workers.every(({ idle }) => idle)) return;
    await news.after(count, clock, leftMs, signal);
  }
}

/** How long a slice beside the stream takes; longer only where one request takes more than half of it. */
const PACED_MS = 1;
const PACED_ROWS_MIN = 64;

/**
 * How many rows of a sink to compare at a time, if it rests in between: as many as take a millisecond. Where a request takes
 * long whatever its rows (a sink that is far away, a query that needs its time to begin), as many as take that time again.
 */
export class SlicePace {
  #rowCount = 4 * PACED_ROWS_MIN;
  #requestMs = PACED_MS / 2;

  /** The first slice of a walk is small: it shows what a request takes. */
  rowCount(isFirst: boolean): number {
    return isFirst ? PACED_ROWS_MIN : Math.round(this.#rowCount);
  }

  took(ms: number, isFirst: boolean): void {
    if (isFirst) this.#requestMs = towards(this.#requestMs, ms);
    else {
      const fitting = (this.#rowCount * Math.max(PACED_MS, 2 * this.#requestMs)) / ms;
      this.#rowCount = Math.min(SLICE_ROWS, Math.max(PACED_ROWS_MIN, towards(this.#rowCount, fitting)));
    }
  }
}

/** By a factor of two at most: one busy moment tells little. */
function towards(value: number, wanted: number): number {
  return Math.min(value * 2, Math.max(value / 2, wanted));
}

/** Rows that are being compared hold at most this much memory, plus one more chunk. */
const HELD_BYTES_MAX = 9 * 1024 * 1024;

/** A chunk is read for a third of a second, and opening a session takes time too. */
const READ_MS_USUAL = 700;
const BEHIND_MS_USUAL = 1_000;
const PAUSE_MS_MAX = 5_000;

/**
 * How long the source rests between two chunks. `readMs`: how long it took for the rows; `behindMs`: how long its log took to
 * show the high watermark. The pause is the sum of what both exceed their usual values by. So a busy source is asked half as
 * often, and a lagging log catches up.
 */
export function pauseAfter({ readMs, behindMs }: { readonly readMs: number; readonly behindMs: number }): number {
  const slowMs = Math.max(0, readMs - READ_MS_USUAL);
  const lateMs = Math.max(0, behindMs - BEHIND_MS_USUAL);
  return Math.min(PAUSE_MS_MAX, slowMs + lateMs);
}

/** Allows one read at a time, and none while rows of earlier reads fill the queues, or while the source rests. */
class ComparisonTurns {
  readonly #clock: Clock;
  #isTaken = false;
  #restsUntilMs = 0;
  #heldBytes = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when the caller may read; `give` ends its turn. */
  async take(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const restMs = this.#restsUntilMs - this.#clock.elapsed();
      if (restMs > 0) await this.#clock.sleep(restMs, signal);
      else if (!this.#isTaken && this.#heldBytes <= HELD_BYTES_MAX) break;
      else await this.#change(signal);
    }
    this.#isTaken = true;
  }

  /** The source is not read for this time. */
  rest(ms: number): void {
    this.#restsUntilMs = Math.max(this.#restsUntilMs, this.#clock.elapsed() + ms);
  }

  async #change(signal: AbortSignal): Promise<void> {
    const woken = Promise.withResolvers<void>();
    const wake = (): void => woken.resolve();
    this.#waiting.push(wake);
    signal.addEventListener("abort", wake, { once: true });
    await woken.promise;
    signal.removeEventListener("abort", wake);
  }

  give(): void {
    this.#isTaken = false;
    this.#wake();
  }

  hold(byteCount: number): void {
    this.#heldBytes += byteCount;
  }

  letGo(byteCount: number): void {
    this.#heldBytes -= byteCount;
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
