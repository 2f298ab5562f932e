import type { Clock } from "./clock.ts";
import { withTimeout } from "./with-timeout.ts";

/** A state that is well answers in milliseconds. */
const ANSWER_MS_MAX = 1_000;
const NEVER = new AbortController().signal;

/**
 * For those who only want to show something: a state that does not answer keeps nobody from hearing so. What it said last
 * counts then.
 */
export class LastAnswer<T> {
  readonly #clock: Clock;
  #last: T;
  /** When the oldest question was asked that has no answer yet; null: all have. */
  #askedMs: number | null = null;

  /** `first`: until there is an answer. */
  constructor(clock: Clock, first: T) {
    this.#clock = clock;
    this.#last = first;
  }

  async to(question: () => Promise<T>): Promise<T> {
    const clock = this.#clock;
    if (this.#askedMs !== null && clock.elapsed() - this.#askedMs > ANSWER_MS_MAX) return this.#last;
    const limits = { clock, signal: NEVER, timeoutMs: ANSWER_MS_MAX, late: () => this.#last };
    return await withTimeout(this.#ask(question), limits);
  }

  async #ask(question: () => Promise<T>): Promise<T> {
    const atMs = this.#clock.elapsed();
    this.#askedMs ??= atMs;
    try {
      this.#last = await question();
      return this.#last;
    } finally {
      if (this.#askedMs === atMs) this.#askedMs = null;
    }
  }
}
