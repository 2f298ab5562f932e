/** Virtual time: it moves only when nothing else is left to do, and chance decides who is first among many. */
import type { Clock } from "../../src/core/clock.ts";
import type { Random } from "../support/run/random.ts";
import { Blocks } from "./blocks.ts";

/** Something that happens at a time. Taken back by setting `work` to null. */
export interface Due {
  readonly atMs: number;
  /** Decides between two of one time. */
  readonly tie: number;
  work: (() => void) | null;
}

/** What waits for it has its turn among the microtasks; `queueMicrotask` does more for the same. */
const SETTLED = Promise.resolve();

export type Ended = "done" | "idle" | "late";

export class Scheduler {
  nowMs = 0;
  readonly random: Random;
  /** A binary heap. */
  readonly #heap: Due[] = [];
  eventCount = 0;

  constructor(random: Random) {
    this.random = random;
  }

  after(ms: number, work: () => void): Due {
    const due: Due = { atMs: this.nowMs + Math.max(0, ms), tie: this.random.next(), work };
    this.#push(due);
    return due;
  }

  /**
   * Lets things happen, one after the other, until `isDone` says so, nothing is left, or the time is up. Between two of them
   * every promise that can be settled is: a callback that a microtask asks for runs only when no microtask is left.
   */
  run(isDone: () => boolean, untilMs: number): Promise<Ended> {
    return new Promise((resolve, reject) => {
      const batch = (): void => {
        try {
          if (isDone()) return resolve("done");
          const due = this.#next();
          if (due === undefined) return resolve("idle");
          if (due.atMs > untilMs) {
            this.#push(due);
            this.nowMs = untilMs;
            return resolve("late");
          }
          this.nowMs = due.atMs;
          this.eventCount++;
          due.work!();
        } catch (error) {
          // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- what was thrown
          return reject(error);
        }
        void SETTLED.then(settle);
      };
      const settle = (): void => process.nextTick(batch);
      settle();
    });
  }

  #next(): Due | undefined {
    for (;;) {
      const due = this.#pop();
      if (due === undefined || due.work !== null) return due;
    }
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let i = heap.push(due) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(due, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = due;
  }

  #pop(): Due | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return first;
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.tie < b.tie);
}

/** A process that can be stopped dead between any two awaits, and stand still. Everything that it does outside goes by here. */
export class SimulatedProcess {
  readonly name: string;
  readonly scheduler: Scheduler;
  readonly clock: Clock;
  readonly blocks = new Blocks();
  /** Added to the time of day: the machine's clock was set. */
  readonly #skewMs: () => number;
  /** After so many more calls it dies; null: never. */
  #callsLeft: number | null = null;
  #isAlive = true;
  #standsUntilMs = 0;
  readonly #onDeath: (() => void)[] = [];

  constructor(name: string, scheduler: Scheduler, skewMs: () => number = () => 0) {
    this.name = name;
    this.scheduler = scheduler;
    this.#skewMs = skewMs;
    const { random } = scheduler;
    this.clock = {
      now: () => BEGIN_MS + Math.floor(scheduler.nowMs) + this.#skewMs(),
      elapsed: () => scheduler.nowMs,
      sleep: (ms, ...signals) => this.sleep(ms, ...signals),
      after: (ms, work) => {
        const due = this.after(ms, work);
        return () => void (due.work = null);
      },
      later: (work) => void this.after(0, work),
      random: () => random.next(),
      unique: (byteCount) => {
        let digits = "";
        for (let i = 0; i < byteCount; i++) digits += random.below(256).toString(16).padStart(2, "0");
        return digits;
      },
    };
  }

  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** Called once, when the process is gone: connections break. */
  onDeath(work: () => void): void {
    this.#onDeath.push(work);
  }

  kill(): void {
    if (!this.#isAlive) return;
    this.#isAlive = false;
    for (const work of this.#onDeath.splice(0)) work();
  }

  killAfter(calls: number): void {
    this.#callsLeft = calls;
  }

  /** What was planned of its death is void. */
  spare(): void {
    this.#callsLeft = null;
  }

  /** As a machine that is suspended: nothing of it runs for so long. */
  standStill(ms: number): void {
    this.#standsUntilMs = Math.max(this.#standsUntilMs, this.scheduler.nowMs + ms);
  }

  /** A place where the process may die. False: it is dead, and nothing may be done or answered any more. */
  passes(): boolean {
    if (this.#callsLeft !== null && this.#isAlive && this.#callsLeft-- <= 0) this.kill();
    return this.#isAlive;
  }

  after(ms: number, work: () => void): Due {
    return this.scheduler.after(ms, () => this.#run(work));
  }

  #run(work: () => void): void {
    if (!this.#isAlive) return;
    const stillMs = this.#standsUntilMs - this.scheduler.nowMs;
    if (stillMs > 0) this.scheduler.after(stillMs, () => this.#run(work));
    else work();
  }

  sleep(ms: number, ...signals: readonly (AbortSignal | undefined)[]): Promise<void> {
    return new Promise((resolve, reject) => {
      for (const signal of signals) if (signal?.aborted === true) return reject(aborted(signal));
      const end = (): void => {
        for (const signal of signals) if (signal !== undefined) waitingFor(signal).delete(onAbort);
      };
      const onAbort = (error: Error): void => {
        due.work = null;
        end();
        reject(error);
      };
      const due = this.after(ms, () => {
        end();
        resolve();
      });
      for (const signal of signals) if (signal !== undefined) waitingFor(signal).add(onAbort);
    });
  }
}

type OnAbort = (error: Error) => void;

const WAITING = Symbol("waiting");

/** Kept by the signal itself: a map from signals costs the garbage collector more than the run. */
interface Awaited extends AbortSignal {
  [WAITING]?: Set<OnAbort>;
}

/** What is to be called when a signal is aborted. One listener and one error for all: a run waits for hundreds of moments. */
function waitingFor(signal: Awaited): Set<OnAbort> {
  const known = signal[WAITING];
  if (known !== undefined) return known;
  const waiting = new Set<OnAbort>();
  signal[WAITING] = waiting;
  const onAbort = (): void => {
    if (waiting.size === 0) return;
    const error = aborted(signal);
    for (const work of waiting) work(error);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return waiting;
}

/** When every simulation begins. */
const BEGIN_MS = Date.UTC(2026, 0, 1);

/** What a dead process waits for. One of its own each time: one for all would hold whatever ever waited for it. */
export function never(): Promise<never> {
  return new Promise(() => {});
}

/** As the timers of Node reject. */
export function aborted(signal: AbortSignal): Error {
  const error = new Error("The operation was aborted", { cause: signal.reason });
  error.name = "AbortError";
  return error;
}
