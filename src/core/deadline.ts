/** What ends a wait before the work ends, and with which error. */
export interface Limits {
  readonly signal: AbortSignal;
  /** Infinity: only the signal ends the wait. */
  readonly timeoutMs: number;
  readonly stopped: () => Error;
  readonly late: () => Error;
}

/** The work's result, or the error of the limit that came first; a limit does not stop the work. */
export async function within<T>(work: Promise<T>, { signal, timeoutMs, stopped, late }: Limits): Promise<T> {
  if (signal.aborted) {
    // Nobody else awaits the work: an unhandled rejection would end the process.
    work.catch(() => {});
    throw stopped();
  }
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = (): void => reject(stopped());
  const timer = Number.isFinite(timeoutMs) ? setTimeout(() => reject(late()), timeoutMs) : undefined;
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
