/** Lets callers in one at a time, in the order in which they ask. */
export class Turn {
  #last: Promise<void> = Promise.resolve();

  /** Resolves when the caller's turn comes; disposing of the result ends the turn. */
  async take(signal: AbortSignal): Promise<Disposable> {
    const before = this.#last;
    const own = Promise.withResolvers<void>();
    this.#last = before.then(() => own.promise);
    const aborted = Promise.withResolvers<void>();
    const onAbort = (): void => aborted.resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    if (!signal.aborted) await Promise.race([before, aborted.promise]);
    signal.removeEventListener("abort", onAbort);
    if (signal.aborted) {
      own.resolve();
      signal.throwIfAborted();
    }
    return { [Symbol.dispose]: () => own.resolve() };
  }
}
