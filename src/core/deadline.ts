/** What ends a wait before its work does, and as which error. */
export interface Limits {
  readonly signal: AbortSignal;
  /** Infinity: the signal alone. */
  readonly timeoutMs: number;
  readonly stopped: () => Error;
  readonly late: () => Error;
}

/** The work's outcome, or the error of the limit that came first; the work itself is not ended by that. */
export async function within<T>(work: Promise<T>, { signal, timeoutMs, stopped, late }: Limits): Promise<T> {
  if (signal.aborted) {
    // It has begun, and nobody else sees how it ends: its failure would end the process.
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
