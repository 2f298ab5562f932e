import type { Clock } from "../core/clock.ts";

/** Rows that are being compared use at most this much of the queues' budget, plus one more chunk. */
const HELD_BYTES_MAX = 9 * 1024 * 1024;

/** A chunk is read for a third of a second, and opening a session takes time too. */
const READ_MS_USUAL = 700;
const BEHIND_MS_USUAL = 1_000;
const PAUSE_MS_MAX = 5_000;

/**
 * How long the source rests between two chunks. `readMs`: how long it took for the rows; `behindMs`: how long its log took to
 * show the high watermark. The pause is the sum of what both exceed their usual values by. So a busy source is asked half as
 * often, and a lagging log catches up.
 */
export function pauseAfter({ readMs, behindMs }: { readonly readMs: number; readonly behindMs: number }): number {
  const slowMs = Math.max(0, readMs - READ_MS_USUAL);
  const lateMs = Math.max(0, behindMs - BEHIND_MS_USUAL);
  return Math.min(PAUSE_MS_MAX, slowMs + lateMs);
}

/** Allows one read at a time, and none while rows of earlier reads fill the queues, or while the source rests. */
export class ComparisonTurns {
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
