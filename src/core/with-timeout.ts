import { type Clock, TIMER_MS_MAX } from "./clock.ts";
import { abortedError } from "./errors.ts";

export interface Limits<L> {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Infinity: as long as a timer can wait. */
  readonly timeoutMs: number;
  /** What counts as the result when the time is up; it may throw. */
  readonly late: () => L;
  /** The error when the signal is aborted. Default: the signal's reason. */
  readonly stopped?: () => Error;
}

/** The work's result, or what the limit says that came first; a limit does not stop the work. */
export async function withTimeout<T, L>(
  work: Promise<T>,
  { clock, signal, timeoutMs, late, stopped = () => abortedError(signal) }: Limits<L>,
): Promise<T | L> {
  if (signal.aborted) {
    // Nobody else awaits the work: an unhandled rejection would end the process.
    work.catch(() => {});
    throw stopped();
  }
  const { promise: limit, resolve, reject } = Promise.withResolvers<void>();
  const takeBack = clock.after(Math.min(timeoutMs, TIMER_MS_MAX), () => resolve());
  const onAbort = (): void => reject(stopped());
  signal.addEventListener("abort", onAbort);
  try {
    return await Promise.race([work, limit.then(late)]);
  } finally {
    takeBack();
    signal.removeEventListener("abort", onAbort);
  }
}
