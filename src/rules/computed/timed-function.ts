import { classOf, type LoadedFunction, placeOf } from "./functions.ts";
import { WrongResult } from "./results.ts";

/** Of a call, on average, unless the configuration says more. */
export const BUDGET_MS = 1;
const FAILURE_LENGTH_MAX = 300;
/** One call of so many is timed: looking at the clock costs as much as a short function. */
const TIMED_EVERY = 16;
/** The average is of about so many timed calls. */
const AVERAGED_COUNT = 64;

/** A function of the user's with the time that its calls take. */
export class TimedFunction {
  readonly #loaded: LoadedFunction;
  readonly budgetMs: number;
  #callCount = 0;
  #timedCount = 0;
  #averageMs = 0;

  constructor(loaded: LoadedFunction, budgetMs: number) {
    this.#loaded = loaded;
    this.budgetMs = budgetMs;
  }

  /** As the configuration names it. */
  get text(): string {
    return this.#loaded.name.text;
  }

  /** Average of a call in milliseconds, if that is beyond the budget. */
  get slowMs(): number | null {
    const isKnown = this.#timedCount >= TIMED_EVERY;
    return isKnown && this.#averageMs > this.budgetMs ? this.#averageMs : null;
  }

  call(input: unknown): unknown {
    const count = ++this.#callCount;
    if (count > TIMED_EVERY && count % TIMED_EVERY !== 0) return this.#loaded.call(input);
    const begunMs = performance.now();
    try {
      return this.#loaded.call(input);
    } finally {
      const weight = 1 / Math.min(++this.#timedCount, AVERAGED_COUNT);
      this.#averageMs += (performance.now() - begunMs - this.#averageMs) * weight;
    }
  }

  /** Only where it failed is told, and the error's class: its message may hold values of the row. */
  failure(error: unknown): string {
    if (error instanceof WrongResult) return `${this.text} ${error.message}`.slice(0, FAILURE_LENGTH_MAX);
    const place = placeOf(error, this.#loaded.root);
    const at = place === null ? "" : ` at ${place}`;
    return `${this.text} threw ${classOf(error)}${at}`.slice(0, FAILURE_LENGTH_MAX);
  }
}
