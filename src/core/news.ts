import type { Clock } from "./clock.ts";

/**
 * Says that something may be otherwise by now: those who wait for a condition look again. A condition is looked at after each
 * change, so nothing depends on what was told.
 */
export class News {
  #count = 0;
  readonly #waiting = new Set<() => void>();

  /** How often something was told: taken before a look, for `after`. */
  get count(): number {
    return this.#count;
  }

  tell(): void {
    this.#count++;
    for (const wake of this.#waiting) wake();
  }

  /** Resolves when more was told than `count`, or after `ms`: by then also what nobody tells of is seen. */
  async after(count: number, clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#count > count) return;
    // All the time somebody waits: a signal of its own for each wait costs more than the rest of it.
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    const takeBack = clock.after(ms, wake);
    this.#waiting.add(wake);
    signal.addEventListener("abort", wake);
    await promise;
    takeBack();
    this.#waiting.delete(wake);
    signal.removeEventListener("abort", wake);
    signal.throwIfAborted();
  }
}
