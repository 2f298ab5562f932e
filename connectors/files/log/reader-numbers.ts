/**
 * The numbers that readers compare: `_millrace_sequence`, in microseconds, and those of manifests, in milliseconds. Each is the
 * higher of the last one plus one and the clock. The path may be emptied, or put back from a copy, and the clock set back before that
 * is noticed: so numbers are reserved in the state before a reader can see them, and each opening of the log begins above those.
 */
import type { Clock } from "../../../src/core/clock.ts";
import type { NumberStore } from "../../../src/core/contracts/state-store.ts";

const US_PER_MS = 1000;
/** A clock that shows a later time than the year 2112 is wrong; numbers would be used up. */
const CLOCK_MS_MAX = 2 ** 52 / US_PER_MS;
/** What is used up begins again by the clock. */
const RESERVED_MS_MAX = Number.MAX_SAFE_INTEGER / US_PER_MS;
/**
 * The state is not written for each of many small batches. Less than a start of the daemon takes: numbers that were ahead of the
 * clock would be above those of a path that is emptied while the state is lost.
 */
const AHEAD_MS = 250;

export class ReaderNumbers {
  readonly #clock: Pick<Clock, "now">;
  readonly #sink: string;
  /** Null: no state knows the sink. */
  readonly #store: NumberStore | null;
  /** Earlier numbers are below. */
  readonly #begunMs: number;
  /** Those that may be used are below. */
  #reservedMs: number;

  private constructor(sink: string, clock: Pick<Clock, "now">, store: NumberStore | null, reservedMs: number) {
    this.#sink = sink;
    this.#clock = clock;
    this.#store = store;
    this.#begunMs = reservedMs;
    this.#reservedMs = reservedMs;
  }

  static async begin(sink: string, clock: Pick<Clock, "now">, store: NumberStore | null): Promise<ReaderNumbers> {
    const reservedMs = (await store?.reserved(sink)) ?? 0;
    return new ReaderNumbers(sink, clock, store, reservedMs < RESERVED_MS_MAX ? reservedMs : 0);
  }

  sequenceAfter(last: number): number {
    return Math.max(last + 1, this.#leastMs * US_PER_MS);
  }

  manifestAfter(last: number): number {
    return Math.max(last + 1, this.#leastMs);
  }

  get #leastMs(): number {
    return Math.max(this.#begunMs, Math.floor(Math.min(this.#clock.now(), CLOCK_MS_MAX)));
  }

  /** Sequences below `sequence`, and manifests up to `manifest`. */
  async reserve(sequence: number, manifest: number): Promise<void> {
    const usedMs = Math.max(Math.ceil(sequence / US_PER_MS), manifest);
    if (this.#store === null || usedMs < this.#reservedMs) return;
    const reservedMs = usedMs + AHEAD_MS;
    await this.#store.reserve(this.#sink, reservedMs);
    this.#reservedMs = reservedMs;
  }
}
