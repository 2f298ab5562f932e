import { abortOf, type Clock, scopeOf, timestamp, pause } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, earliest, type Position } from "../../core/model/position.ts";
import type { SecondStreamRefused } from "../../core/contracts/change-log.ts";
import { type StoredError, storedErrorOf } from "../../core/contracts/state-store.ts";
import type { FanOut } from "./fan-out.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";

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
  ask(error: SecondStreamRefused): void {
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
