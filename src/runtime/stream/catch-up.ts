import { abortOf, type Clock, pause, scopeOf, timestamp } from "../../core/clock.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, earliest, type Position } from "../../core/model/position.ts";
import type { StreamOptions } from "../../core/contracts/change-log.ts";
import type { Source } from "../../core/contracts/source.ts";
import { bytesFor, encodeMark, FanOut, OWN_BATCHES } from "./fan-out.ts";
import { ReconnectBackoff } from "../retry.ts";
import { SinkQueue } from "./sink-queue.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { InitialSnapshot } from "../snapshot/first-copy.ts";
import { type StoredError, storedErrorOf } from "../../core/contracts/state-store.ts";

/** At this distance in the log, in its own unit (Postgres: bytes), a catching-up sink is handed over to the main fan-out. */
const NEAR = 1n << 20n;

/** Attempts to get a second stream while the source has none free: about fifteen seconds. */
export const SECOND_STREAM_TRIES_MAX = 6;

/**
 * What the stream that feeds this fan-out asks about the tables that it shows. `sink`: the one whose own stream it is; null: the
 * main stream.
 */
export type AnswersFor = (fanOut: FanOut, sink: string | null) => Omit<StreamOptions, "temporary" | "byteCountMax">;

export interface CatchUpParts {
  readonly clock: Clock;
  /** Null: there is none. */
  readonly snapshot: Pick<InitialSnapshot, "fill"> | null;
  readonly source: Pick<Source, "log" | "watermarks">;
  readonly main: FanOut;
  readonly goBack: GoBack;
  readonly answersFor: AnswersFor;
  readonly secondStreamTriesMax: number;
}

/**
 * Brings a sink that is behind to the main fan-out: with its own stream or, if the source has none free, by making the main
 * fan-out go back. `onRefused` is called each time the source refuses a stream. Runs beside `worker.run`.
 */
export async function rejoin(
  worker: SinkWorker,
  parts: CatchUpParts,
  onRefused: (refusal: MillraceError) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const backoff = new ReconnectBackoff(parts.clock);
  for (let tries = 1; ; tries++) {
    try {
      return await catchUp(worker, parts, signal);
    } catch (error) {
      const refusal = findMillraceError(error);
      if (refusal?.reason !== "one-stream") {
        // A source whose log has changed is noticed here first, because nothing looks at an idle main stream.
        if (!signal.aborted && parts.main.isAtRest) parts.goBack.reopen();
        throw error;
      }
      await onRefused(refusal);
      const isLast = tries >= parts.secondStreamTriesMax;
      if (isLast) parts.goBack.ask(refusal);
      if (await parts.goBack.comesBy(worker, isLast ? null : backoff.next(), signal)) return;
    }
  }
}

/**
 * Brings one sink to the main fan-out with a second stream, while the others continue. Near the end, the main fan-out already
 * collects the sink's changes in a queue. That queue is appended when the second stream has passed the position where it
 * began; changes that both streams carried are skipped by position.
 */
async function catchUp(worker: SinkWorker, parts: CatchUpParts, signal: AbortSignal): Promise<void> {
  const { source, main } = parts;
  /** Besides those of the main stream. */
  const byteCountMax = bytesFor(OWN_BATCHES, [worker.limits]);
  const from = worker.position.reached;
  const own = new FanOut(from, source.watermarks.markPrefix);
  const options = { temporary: true, ...parts.answersFor(own, worker.name), byteCountMax };
  await using stream = await source.log.stream(from, options, signal);
  failpoint("catch-up.opened");
  own.attach(worker);
  const collected = new SinkQueue();
  try {
    // Near the end nothing more may come on its own stream: what the sink still has to work off must not count.
    await own.run(stream, signal, () => own.hasRoom && main.position.commit - own.position.commit < NEAR);
    main.attach(worker, collected);
    const joint = main.position;
    failpoint("catch-up.collecting");
    // In an idle log both streams would wait for a change beyond that position.
    await source.watermarks.mark(encodeMark({ edge: null }), signal);
    await own.run(stream, signal, () => comparePositions(own.position, joint) >= 0);
    signal.throwIfAborted();
  } catch (error) {
    main.detach(worker);
    throw error;
  }
  worker.queue.append(collected);
  main.attach(worker);
  failpoint("catch-up.handed-over");
}

/** The main fan-out while it has not reached the position again from which it went back. */
export interface GoneBack {
  /** Names of the sinks for which it went back. The other attached sinks wait. */
  readonly sinks: readonly string[];
  readonly until: Position;
  /** Why these sinks have no stream of their own. */
  readonly error: StoredError;
}

/**
 * The last way for a sink that is behind and can't have its own stream: the main fan-out goes back to the sink's position. The
 * sinks that were further skip what they have (invariant 4), and get nothing new until the fan-out is back; `goneBack` reports
 * that.
 */
export class GoBack {
  readonly #clock: Clock;
  readonly #fanOut: FanOut;
  /** Sinks that wait for the fan-out, and the callbacks that tell them that they are attached. */
  readonly #waiting = new Map<SinkWorker, () => void>();
  /** Sinks that joined behind `#until`. */
  readonly #along = new Set<SinkWorker>();
  #asked = scopeOf();
  /** The position from which the fan-out went back; null while no attached sink is before it. */
  #until: Position | null = null;
  #error: StoredError | null = null;

  constructor(clock: Clock, fanOut: FanOut) {
    this.#clock = clock;
    this.#fanOut = fanOut;
  }

  /** Aborted when the stream has to be closed for `move`. A new signal after each `move`. */
  get asked(): AbortSignal {
    return this.#asked.signal;
  }

  get goneBack(): GoneBack | null {
    const sinks = [...this.#fanOut.sinks].filter((worker) => this.isCatchingUp(worker)).map(({ name }) => name);
    if (this.#until === null || this.#error === null || sinks.length === 0) return null;
    return { sinks, until: this.#until, error: this.#error };
  }

  /** True for an attached sink that the others wait for. */
  isCatchingUp(worker: SinkWorker): boolean {
    return this.#along.has(worker) && this.#isBehind(worker);
  }

  #isBehind(worker: SinkWorker): boolean {
    if (this.#until === null || !this.#fanOut.has(worker) || worker.position.covered === null) return false;
    return comparePositions(worker.position.covered, this.#until) < 0;
  }

  /** For a sink that is at the fan-out's position, or beyond it. */
  attach(worker: SinkWorker): void {
    this.#fanOut.attach(worker);
    if (this.#isBehind(worker)) this.#along.add(worker);
  }

  /** Called after each block. True if the fan-out has to move on: the sinks that lacked its present changes have left. */
  isDone(): boolean {
    if (this.#until === null || this.#isNeeded) return false;
    if (comparePositions(this.#fanOut.position, this.#until) < 0) return true;
    this.#until = null;
    this.#along.clear();
    return false;
  }

  /**
   * Whether a sink may lack the changes that the fan-out gives now. A sink that got them before and still works on them counts
   * too. So does a sink that is being handed over: the fan-out must not skip anything for it.
   */
  get #isNeeded(): boolean {
    for (const worker of this.#fanOut.sinks) if (!this.#fanOut.has(worker) || this.#isBehind(worker)) return true;
    return false;
  }

  /** Makes the fan-out go back to the sinks that wait. */
  ask(error: MillraceError): void {
    this.#error = storedErrorOf(error, timestamp(this.#clock));
    this.#asked.end();
  }

  /** Opens the main stream again at its position: this notices a source that has another log by now. */
  reopen(): void {
    this.#asked.end();
  }

  /**
   * Waits until the fan-out passes the sink's position, whichever sink asked for it. True: the worker is attached; false: it
   * took too long.
   */
  async comesBy(worker: SinkWorker, withinMs: number | null, signal: AbortSignal): Promise<boolean> {
    let isAttached = false;
    using attached = scopeOf(signal);
    this.#waiting.set(worker, () => {
      isAttached = true;
      attached.end();
    });
    try {
      if (withinMs === null) await abortOf(attached.signal);
      else await pause(this.#clock, withinMs, attached.signal);
      signal.throwIfAborted();
    } finally {
      this.#waiting.delete(worker);
    }
    return isAttached;
  }

  /** Called by the feed while no stream is open: moves the fan-out to where the stream has to be opened next. */
  move(): void {
    this.#asked = scopeOf();
    if (this.#until === null && this.#waiting.size === 0) return;
    const { position } = this.#fanOut;
    const furthest = this.#until !== null && comparePositions(this.#until, position) > 0 ? this.#until : position;
    const from = this.#isNeeded ? position : furthest;
    const to = earliest([from, ...[...this.#waiting.keys()].flatMap(({ position: { covered } }) => covered ?? [])])!;
    if (comparePositions(to, position) !== 0) this.#fanOut.moveTo(to);
    this.#until = comparePositions(to, furthest) < 0 ? furthest : null;
    for (const [worker, tell] of this.#waiting) {
      this.attach(worker);
      tell();
    }
    this.#waiting.clear();
    failpoint("go-back.moved");
  }
}
