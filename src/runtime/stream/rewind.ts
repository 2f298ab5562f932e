import { abortOf, type Clock, scopeOf, timestamp, pause } from "../../core/clock.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions, earliest, type Position } from "../../core/model/position.ts";
import type { SecondStreamRefused } from "../../core/contracts/change-log.ts";
import type { StoredError } from "../../core/contracts/state-store.ts";
import type { Lane } from "./lane.ts";
import type { SinkWorker } from "../apply/sink-worker.ts";

/** The main lane while it is not back yet where it was before it went back. */
export interface GoneBack {
  /** Names of the sinks for which it did. The other ones that are attached wait. */
  readonly sinks: readonly string[];
  readonly until: Position;
  /** Why they have no stream of their own. */
  readonly error: StoredError;
}

/**
 * What is left for a sink that lies behind and can't have a stream of its own: the main lane goes back to where the sink
 * stands. The sinks that were further pass over what they have (invariant 4), and get nothing new until the lane is back
 * where it was: that is said by `goneBack`.
 */
export class Rewind {
  readonly #clock: Clock;
  readonly #lane: Lane;
  /** Sinks that would come along, and how they are told that they are attached. */
  readonly #waiting = new Map<SinkWorker, () => void>();
  /** Sinks that joined behind `#until`. */
  readonly #along = new Set<SinkWorker>();
  #asked = new AbortController();
  /** Where the lane stood before it went back; null while nobody attached lies before that. */
  #until: Position | null = null;
  #error: StoredError | null = null;

  constructor(clock: Clock, lane: Lane) {
    this.#clock = clock;
    this.#lane = lane;
  }

  /** Aborted when the stream is to be closed, for `move`. Another one after each `move`. */
  get asked(): AbortSignal {
    return this.#asked.signal;
  }

  get goneBack(): GoneBack | null {
    const sinks = [...this.#lane.sinks].filter((worker) => this.isCatchingUp(worker)).map(({ name }) => name);
    if (this.#until === null || this.#error === null || sinks.length === 0) return null;
    return { sinks, until: this.#until, error: this.#error };
  }

  /** True for an attached sink that the others wait for. */
  isCatchingUp(worker: SinkWorker): boolean {
    return this.#along.has(worker) && this.#isBehind(worker);
  }

  #isBehind(worker: SinkWorker): boolean {
    if (this.#until === null || !this.#lane.has(worker) || worker.covered === null) return false;
    return comparePositions(worker.covered, this.#until) < 0;
  }

  /** For a sink that stands where the lane is, or further on. */
  attach(worker: SinkWorker): void {
    this.#lane.attach(worker);
    if (this.#isBehind(worker)) this.#along.add(worker);
  }

  /** After each block. True where the lane is to move on: the sinks that lacked what it gives have left. */
  isDone(): boolean {
    if (this.#until === null || this.#isNeeded) return false;
    if (comparePositions(this.#lane.position, this.#until) < 0) return true;
    this.#until = null;
    this.#along.clear();
    return false;
  }

  /**
   * Whether a sink may lack what the lane gives now: one that was given it before, and still works at it, counts too, and
   * one that is being handed over, for which the lane may not leave anything out.
   */
  get #isNeeded(): boolean {
    for (const worker of this.#lane.sinks) if (!this.#lane.has(worker) || this.#isBehind(worker)) return true;
    return false;
  }

  /** Has the lane go back to the sinks that wait. */
  ask(error: SecondStreamRefused): void {
    const { code, message, hint } = error;
    this.#error = { code, message, hint: hint ?? null, at: timestamp(this.#clock) };
    this.#asked.abort();
  }

  /** Has the main stream opened again where it stands: a source that is another one by now is met there. */
  reopen(): void {
    this.#asked.abort();
  }

  /** Waits for the lane to come by, whoever asked for it. True: the worker is attached; false: it did not in that time. */
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

  /** For the feed, while no stream is read: the lane moves to where the stream is to be opened next. */
  move(): void {
    this.#asked = new AbortController();
    if (this.#until === null && this.#waiting.size === 0) return;
    const { position } = this.#lane;
    const furthest = this.#until !== null && comparePositions(this.#until, position) > 0 ? this.#until : position;
    const from = this.#isNeeded ? position : furthest;
    const to = earliest([from, ...[...this.#waiting.keys()].flatMap(({ covered }) => covered ?? [])])!;
    if (comparePositions(to, position) !== 0) this.#lane.moveTo(to);
    this.#until = comparePositions(to, furthest) < 0 ? furthest : null;
    for (const [worker, tell] of this.#waiting) {
      this.attach(worker);
      tell();
    }
    this.#waiting.clear();
    failpoint("rewind.moved");
  }
}
