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
  /** Calls `work` in a later turn of the event loop, after everything that is ready now. */
  later(work: () => void): void;
  /** In [0, 1). */
  random(): number;
  /** A unique name: random bytes as hexadecimal digits. */
  unique(byteCount: number): string;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  sleep: async (ms, ...signals) =>
    await sleep(
      ms,
      undefined,
      signals.length === 0 ? {} : { signal: signals.length === 1 ? signals[0]! : AbortSignal.any([...signals]) },
    ),
  later: (work) => void setImmediate(work),
  random: () => Math.random(),
  unique: (byteCount) => randomBytes(byteCount).toString("hex"),
};

/** The present time in its stored and displayed form. */
export function timestamp(clock: Pick<Clock, "now">): string {
  return new Date(clock.now()).toISOString();
}

/** A signal that aborts with the others, or after `ms` milliseconds. The caller disposes of it. */
export function deadline(clock: Clock, ms: number, ...others: readonly AbortSignal[]): Deadline {
  const ended = new AbortController();
  const late = new AbortController();
  const isLate = (): void => late.abort(new DOMException("the time is up", "TimeoutError"));
  clock.sleep(ms, ended.signal).then(isLate, () => undefined);
  return {
    signal: AbortSignal.any([...others, late.signal]),
    [Symbol.dispose]: () => ended.abort(),
  };
}

export interface Deadline extends Disposable {
  readonly signal: AbortSignal;
}
