import { type Clock, scopeOf } from "../../core/clock.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { noAnswer, type SinkTask } from "../errors.ts";

interface BatchWatchParts {
  readonly clock: Clock;
  readonly name: string;
  /** A write of rows that takes longer is given up; other work has a multiple of it. */
  readonly answerMsMax: number;
  readonly logger: Logger;
}

/** How long the work on a whole table takes depends on its size. */
const TIMES: Readonly<Record<SinkTask, number>> = { write: 1, table: 12, opening: 1 };
/** A task that takes this long makes its sink slow. */
const SLOW_MS = 10_000;
/**
 * Each task of a kind that was given up doubles the time of the next one of that kind, so that a slow target gets ahead in
 * the end.
 */
const DOUBLINGS_MAX = 6;

/**
 * Watches what is in flight to one sink. When its time is up, the signal that it was given is aborted: the sink cuts its
 * connection, and is opened again.
 */
export class BatchWatch {
  readonly #parts: BatchWatchParts;
  #begunMs: number | null = null;
  #isLate = false;
  /** By task: how many in a row were given up. */
  readonly #late: Record<SinkTask, number> = { write: 0, table: 0, opening: 0 };

  constructor(parts: BatchWatchParts) {
    this.#parts = parts;
  }

  /** Whether the present task takes long. */
  get isSlow(): boolean {
    return this.#begunMs !== null && this.#parts.clock.elapsed() - this.#begunMs >= SLOW_MS;
  }

  /**
   * Whether the sink gets no answer: the present task was given up and has not ended, or the last write or opening was given
   * up. After work on a table that was given up, rows flow again until its next attempt.
   */
  get isWedged(): boolean {
    return this.#isLate || this.#late.write > 0 || this.#late.opening > 0;
  }

  /** Whether the present task was given up and goes on all the same: only a restart of the daemon ends it. */
  get isStuck(): boolean {
    return this.#isLate;
  }

  async bounded<T>(task: SinkTask, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const { clock, name, answerMsMax, logger } = this.#parts;
    const limitMs = answerMsMax * TIMES[task] * 2 ** Math.min(DOUBLINGS_MAX, this.#late[task]);
    using scope = scopeOf(signal);
    this.#begunMs = clock.elapsed();
    const takeBack = clock.after(limitMs, () => {
      this.#isLate = true;
      logger.warn({ task, seconds: limitMs / 1000 }, "the sink gives no answer: its connection is cut");
      scope.end();
    });
    try {
      const result = await work(scope.signal);
      this.#late[task] = 0;
      return result;
    } catch (error) {
      if (!this.#isLate || signal.aborted) throw error;
      this.#late[task]++;
      throw noAnswer({ sink: name, task, ms: limitMs }, error);
    } finally {
      takeBack();
      this.#isLate = false;
      this.#begunMs = null;
    }
  }
}
