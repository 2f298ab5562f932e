import type { Clock } from "../../core/clock.ts";

/** Rows that are being compared use at most this much of the queues' budget, plus one more chunk. */
const HELD_BYTES_MAX = 9 * 1024 * 1024;

/** Allows one read at a time, and none while rows of earlier reads fill the queues, or while the source rests. */
export class ReadingTurns {
  readonly #clock: Clock;
  #isTaken = false;
  #restsUntilMs = 0;
  #heldBytes = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when the caller may read; `give` ends its turn. */
  async take(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const restMs = this.#restsUntilMs - this.#clock.elapsed();
      if (restMs > 0) await this.#clock.sleep(restMs, signal);
      else if (!this.#isTaken && this.#heldBytes <= HELD_BYTES_MAX) break;
      else await this.#change(signal);
    }
    this.#isTaken = true;
  }

  /** The source is not read for this time. */
  rest(ms: number): void {
    this.#restsUntilMs = Math.max(this.#restsUntilMs, this.#clock.elapsed() + ms);
  }

  async #change(signal: AbortSignal): Promise<void> {
    const woken = Promise.withResolvers<void>();
    const wake = (): void => woken.resolve();
    this.#waiting.push(wake);
    signal.addEventListener("abort", wake, { once: true });
    await woken.promise;
    signal.removeEventListener("abort", wake);
  }

  give(): void {
    this.#isTaken = false;
    this.#wake();
  }

  hold(byteCount: number): void {
    this.#heldBytes += byteCount;
  }

  letGo(byteCount: number): void {
    this.#heldBytes -= byteCount;
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
