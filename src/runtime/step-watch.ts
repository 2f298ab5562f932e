import { type Clock, scopeOf } from "../core/clock.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { noAnswer } from "./errors.ts";

export interface StepWatchParts {
  readonly clock: Clock;
  readonly name: string;
  /** A write that takes longer is given up. */
  readonly answerMsMax: number;
  readonly logger: Logger;
}

/** A write that takes this long makes its sink slow. */
const SLOW_MS = 10_000;
/** Each write in a row that was given up doubles the time of the next, so that a slow target gets ahead in the end. */
const DOUBLINGS_MAX = 6;

/**
 * Watches the write that is in flight to one sink. When its time is up, the signal that it was given is aborted: the sink
 * cuts its connection, and is opened again.
 */
export class StepWatch {
  readonly #parts: StepWatchParts;
  #begunMs: number | null = null;
  #isLate = false;
  #lateInRow = 0;

  constructor(parts: StepWatchParts) {
    this.#parts = parts;
  }

  /** Whether the present write takes long. */
  get isSlow(): boolean {
    return this.#begunMs !== null && this.#parts.clock.elapsed() - this.#begunMs >= SLOW_MS;
  }

  /** Whether writes get no answer: the present one was given up and has not ended, or the last one was given up. */
  get isWedged(): boolean {
    return this.#isLate || this.#lateInRow > 0;
  }

  /** Whether the present write was given up and goes on all the same: only a restart of the daemon ends it. */
  get isStuck(): boolean {
    return this.#isLate;
  }

  async bounded(work: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { clock, name, answerMsMax, logger } = this.#parts;
    const limitMs = answerMsMax * 2 ** Math.min(DOUBLINGS_MAX, this.#lateInRow);
    using scope = scopeOf(signal);
    this.#begunMs = clock.elapsed();
    const takeBack = clock.after(limitMs, () => {
      this.#isLate = true;
      logger.warn({ seconds: limitMs / 1000 }, "a write gets no answer: the sink's connection is cut");
      scope.end();
    });
    try {
      await work(scope.signal);
      this.#lateInRow = 0;
    } catch (error) {
      if (!this.#isLate || signal.aborted) throw error;
      this.#lateInRow++;
      throw noAnswer(name, limitMs, error);
    } finally {
      takeBack();
      this.#isLate = false;
      this.#begunMs = null;
    }
  }
}
