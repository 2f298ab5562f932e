import type { Clock } from "../../core/clock.ts";

/** Others have waited for a sink this long, */
const WAITED_MS_MIN = 2_000;
/**
 * and for this part of the time: without it they need five sixths. What they were waited for themselves does not count: sinks
 * of about the same pace wait for each other by turns, and one that goes on alone has the source read twice.
 */
const WAITED_SHARE = 1 / 6;
/** Half of what was measured counts as past after this time: a sink may become slow late. */
const MEASURED_MS = 20_000;

/** How long sinks that get the same rows have waited for one of them, of late. */
export class Patience<S> {
  readonly #clock: Clock;
  readonly #waitedMs = new Map<S, number>();
  #measuredMs = 0;
  #lookedMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lookedMs = clock.elapsed();
  }

  /** The time since this was last called. */
  passedMs(): number {
    const nowMs = this.#clock.elapsed();
    const passedMs = nowMs - this.#lookedMs;
    this.#lookedMs = nowMs;
    this.#measuredMs += passedMs;
    for (; this.#measuredMs >= MEASURED_MS; this.#measuredMs /= 2)
      for (const [sink, waitedMs] of this.#waitedMs) this.#waitedMs.set(sink, waitedMs / 2);
    return passedMs;
  }

  /** Others have waited for the sink meanwhile. */
  waited(sink: S, ms: number): void {
    this.#waitedMs.set(sink, (this.#waitedMs.get(sink) ?? 0) + ms);
  }

  /** Whether the others go on without the sink. `together`: all that get the same rows. */
  isSpent(sink: S, together: readonly S[]): boolean {
    const of = (one: S): number => this.#waitedMs.get(one) ?? 0;
    const others = together.filter((one) => one !== sink).map(of);
    const waitedMs = of(sink) - (others.length === 0 ? 0 : Math.min(...others));
    return waitedMs >= WAITED_MS_MIN && waitedMs > this.#measuredMs * WAITED_SHARE;
  }
}
