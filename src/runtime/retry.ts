import type { Clock } from "../core/clock.ts";
import { type ErrorKind, findMillraceError, isAborted, reasonOf } from "../core/errors.ts";

/** What to do about an error. One that no connector classified is retried within bounds, then stops the sink. */
export function kindOf(error: unknown): ErrorKind {
  if (isAborted(error)) return "aborted";
  return findMillraceError(error)?.kind ?? "retryable";
}

/** Whether the error may pass, by itself or after an operator's action. */
export function isTriedAgain(error: unknown): boolean {
  const kind = kindOf(error);
  return kind === "retryable" || kind === "blocked";
}

/** Attempts at one piece of work before its sink leaves the stream and waits; together they take about three seconds. */
const ATTEMPTS_MAX = 6;
const IN_PLACE_FIRST_WAIT_MS = 50;
const IN_PLACE_WAIT_MS_MAX = 1_000;

/**
 * Retries work of a sink in place: a problem that passes within seconds (a deadlock, a restart, a full queue) makes no sink
 * leave, and no command fail.
 */
export async function retryInPlace<T>(
  clock: Clock,
  work: () => Promise<T>,
  onRetry: (error: unknown) => void,
  signal: AbortSignal,
): Promise<T> {
  const backoff = new ReconnectBackoff(clock, IN_PLACE_WAIT_MS_MAX, IN_PLACE_FIRST_WAIT_MS);
  for (let attempt = 0; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      // The same again would be too much again.
      const isPassing = kindOf(error) === "retryable" && reasonOf(error) !== "size";
      if (!isPassing || attempt === ATTEMPTS_MAX || signal.aborted) throw error;
      onRetry(error);
    }
    await clock.sleep(backoff.next(), signal);
  }
}

/** The longest wait between attempts at something that waits for an operator, or that fails. */
const WAIT_MS_MAX = 30_000;
/** The longest wait between attempts to open a sink that does not answer: it continues within two seconds of its return. */
export const PROBE_MS_MAX = 1_000;

/** After this time of failures in a row, an operator has to act. */
export const IN_VAIN_MS_MAX = 10 * 60_000;

/** An attempt that lasted this long is no repetition of the failure before it. */
export const PROVEN_MS = 60_000;

const FIRST_WAIT_MS = 250;

/**
 * Growing waits between attempts, with a random share, so that many that wait for one thing do not come back together. By
 * default for a failed sink or a lost source: from a quarter of a second on.
 */
export class ReconnectBackoff {
  readonly #clock: Clock;
  readonly #maxMs: number;
  readonly #firstMs: number;
  #count = 0;
  /** Total wait since the last attempt that made progress. */
  #waitedMs = 0;

  constructor(clock: Clock, maxMs = WAIT_MS_MAX, firstMs = FIRST_WAIT_MS) {
    this.#clock = clock;
    this.#maxMs = maxMs;
    this.#firstMs = firstMs;
  }

  /** Milliseconds to wait before the next attempt. */
  next(): number {
    const fullMs = Math.min(this.#maxMs, this.#firstMs * 2 ** this.#count++);
    const waitMs = fullMs * (0.5 + this.#clock.random() / 2);
    this.#waitedMs += waitMs;
    return waitMs;
  }

  get waitedMs(): number {
    return this.#waitedMs;
  }

  reset(): void {
    this.#count = 0;
    this.#waitedMs = 0;
  }
}
