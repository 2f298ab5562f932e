import { ExponentialBackoff, handleWhen, type IBackoff, type RetryPolicy, retry } from "cockatiel";
import { type ErrorKind, findMillraceError, isAborted } from "../core/errors.ts";

/** What to do about an error. One that no connector classified is retried within bounds, then stops the sink. */
export function kindOf(error: unknown): ErrorKind {
  if (isAborted(error)) return "aborted";
  return findMillraceError(error)?.kind ?? "retryable";
}

/** Whether it may pass, by itself or when somebody outside has acted. */
export function isTriedAgain(error: unknown): boolean {
  const kind = kindOf(error);
  return kind === "retryable" || kind === "blocked";
}

/** Attempts at one step before its sink is parked: with the waits between them some three seconds. */
const STEP_ATTEMPTS_MAX = 6;

/** In-place retries of one step: what passes within seconds (a deadlock, a restart, a full queue) parks nobody. */
export function stepRetry(onRetry: (error: unknown) => void): RetryPolicy {
  const policy = retry(
    handleWhen((error) => kindOf(error) === "retryable"),
    { maxAttempts: STEP_ATTEMPTS_MAX, backoff: new ExponentialBackoff({ initialDelay: 50, maxDelay: 1_000 }) },
  );
  policy.onRetry((reason) => onRetry("error" in reason ? reason.error : undefined));
  return policy;
}

/** The longest wait between attempts at what waits for somebody, or fails in its work. */
const WAIT_MS_MAX = 30_000;
/** The longest between attempts to open a sink that does not answer: it goes on within two seconds of its return. */
export const PROBE_MS_MAX = 1_000;

/** In a row and in vain: by then somebody has to look. */
export const IN_VAIN_MS_MAX = 10 * 60_000;

/** Waits between attempts to reach a parked sink or a lost source: jittered, from a quarter second on. */
export class ReconnectBackoff {
  readonly #factory: ExponentialBackoff<undefined>;
  #current: IBackoff<undefined> | null = null;
  /** Waited since the last attempt that came further. */
  #waitedMs = 0;

  constructor(maxDelay = WAIT_MS_MAX) {
    this.#factory = new ExponentialBackoff({ initialDelay: 250, maxDelay });
  }

  /** Milliseconds to wait before the next attempt. */
  next(): number {
    this.#current = this.#current === null ? this.#factory.next() : this.#current.next(undefined);
    this.#waitedMs += this.#current.duration;
    return this.#current.duration;
  }

  get waitedMs(): number {
    return this.#waitedMs;
  }

  reset(): void {
    this.#current = null;
    this.#waitedMs = 0;
  }
}
