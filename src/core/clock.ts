import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Time, scheduling and randomness, passed to all code that depends on them. Production passes `systemClock`; a
 * simulation passes its own, so that one seed gives one run.
 */
export interface Clock {
  /** Milliseconds since 1970-01-01 UTC by the machine's clock: may jump, also backwards. */
  now(): number;
  /** Milliseconds since some moment of this process; never goes backwards. */
  elapsed(): number;
  /** Resolves after `ms` milliseconds; rejects with an `AbortError` when one of the signals is aborted. */
  sleep(ms: number, ...signals: readonly AbortSignal[]): Promise<void>;
  /** Calls `work` after `ms` milliseconds, unless the result is called before. */
  after(ms: number, work: () => void): () => void;
  /** Calls `work` in a later turn of the event loop, after everything that is ready now. */
  later(work: () => void): void;
  /** In [0, 1). */
  random(): number;
  /** A unique name: random bytes as hexadecimal digits. */
  unique(byteCount: number): string;
}

/** A longer timer of Node's would be over at once. */
export const TIMER_MS_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  sleep: async (ms, ...signals) => {
    const until =
      signals.length === 0 ? {} : { signal: signals.length === 1 ? signals[0]! : AbortSignal.any([...signals]) };
    let leftMs = ms;
    for (; leftMs > TIMER_MS_MAX; leftMs -= TIMER_MS_MAX) await sleep(TIMER_MS_MAX, undefined, until);
    await sleep(leftMs, undefined, until);
  },
  after: (ms, work) => {
    if (ms <= TIMER_MS_MAX) {
      const timer = setTimeout(work, ms);
      return () => clearTimeout(timer);
    }
    let takeBack = systemClock.after(TIMER_MS_MAX, () => {
      takeBack = systemClock.after(ms - TIMER_MS_MAX, work);
    });
    return () => takeBack();
  },
  later: (work) => void setImmediate(work),
  random: () => Math.random(),
  unique: (byteCount) => randomBytes(byteCount).toString("hex"),
};

/** Sleeps, but resolves early when one of the signals aborts. */
export async function pause(clock: Clock, ms: number, ...signals: readonly AbortSignal[]): Promise<void> {
  try {
    await clock.sleep(ms, ...signals);
  } catch (error) {
    if (signals.every(({ aborted }) => !aborted)) throw error;
  }
}

const REST_MS_MAX = 5_000;

/** How long to rest after work of `tookMs` milliseconds, so that it takes this part of the time: at most five seconds. */
export function restAfter(tookMs: number, share: number): number {
  return Math.min(REST_MS_MAX, tookMs / share - tookMs);
}

/** Lets what is ready go first: for long work in pieces. */
export function nextTurn(clock: Pick<Clock, "later">): Promise<void> {
  return new Promise((resolve) => clock.later(resolve));
}

/** Resolves when the signal is aborted. */
export function abortOf(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** The present time in its stored and displayed form. */
export function timestamp(clock: Pick<Clock, "now">): string {
  return new Date(clock.now()).toISOString();
}

/** The same of a moment `ms` ago. */
export function timestampBefore(clock: Pick<Clock, "now">, ms: number): string {
  return new Date(clock.now() - ms).toISOString();
}

/** A signal that aborts with the others, or after `ms` milliseconds. The caller disposes of it. */
export function deadline(clock: Clock, ms: number, ...others: readonly AbortSignal[]): Deadline {
  const limit = scopeOf(...others);
  const takeBack = clock.after(ms, () => limit.end(new DOMException("the time is up", "TimeoutError")));
  return {
    signal: limit.signal,
    [Symbol.dispose]: () => {
      takeBack();
      limit[Symbol.dispose]();
    },
  };
}

interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}

/** A piece of work that ends with what it is part of, or when its owner says so. The owner ends it, or disposes of it. */
export interface Scope extends Disposable {
  readonly signal: AbortSignal;
  /** Without a reason: an `AbortError`. */
  readonly end: (reason?: Error) => void;
}

/** Making one costs what throwing it does. */
const OVER = new DOMException("the work is over", "AbortError");

/** `AbortSignal.any` for work with an end: many times cheaper, as nothing of it is left to the garbage collector. */
export function scopeOf(...around: readonly AbortSignal[]): Scope {
  const controller = new AbortController();
  const { signal } = controller;
  const leave = (): void => {
    for (const one of around) one.removeEventListener("abort", follow);
  };
  const end = (reason: unknown = OVER): void => {
    leave();
    controller.abort(reason);
  };
  const follow = (): void => end(around.find(({ aborted }) => aborted)?.reason);
  for (const one of around) one.addEventListener("abort", follow);
  if (around.some(({ aborted }) => aborted)) follow();
  return { signal, end, [Symbol.dispose]: leave };
}

/** Milliseconds since 1970, with fractions. Of measurements alone: a simulation does not depend on it. */
export function measuredNow(): number {
  return performance.timeOrigin + performance.now();
}
