/** How many entries of what was left sinks may be behind, and how many are listed at once: a change of another document waits behind both. */

/** What sinks take in so long. */
const TAKEN_MS = 250;
const COUNT_MIN = 200;
const COUNT_MAX = 1_000;
/** In less time it can't be told how much they take. */
const SEEN_MS = 100;

export class Pace {
  readonly max: number;
  #count: number;
  #seen: { readonly passed: bigint; readonly atMs: number } | null = null;

  constructor(max = COUNT_MAX) {
    this.max = max;
    this.#count = max;
  }

  get count(): number {
    return this.#count;
  }

  /** All sinks have everything up to this entry by now, and there is more for them; null: nobody follows. The count. */
  seen(passed: bigint | null, atMs: number): number {
    const before = this.#seen;
    if (passed === null || before === null) this.#seen = passed === null ? null : { passed, atMs };
    else if (passed > before.passed && atMs - before.atMs >= SEEN_MS) {
      const taken = (Number(passed - before.passed) * TAKEN_MS) / (atMs - before.atMs);
      this.#count = Math.round(Math.min(Math.max(taken, COUNT_MIN), this.max));
      this.#seen = { passed, atMs };
    }
    return this.#count;
  }
}
