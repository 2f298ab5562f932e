/** The clock keeps one sample a second for this long; a longer lag reads as "at least". */
const SAMPLES_MAX = 3_600;

/** The log's end is read once a second, and an answer may take some time. */
const FRESH_MS = 5_000;

/**
 * Turns positions into seconds: it remembers when the source's log ended where. A sink at a position lags by the age of the
 * oldest known end beyond that position. By the time that passes in this process, for the machine's clock may be set.
 */
export class LagClock {
  readonly #samples: { readonly atMs: number; readonly tip: bigint }[] = [];
  #lookedAtMs: number | null = null;

  /** The log ended at `tip` at `atMs`. Samples come in order. */
  sample(tip: bigint, atMs: number): void {
    this.#lookedAtMs = atMs;
    const last = this.#samples.at(-1);
    if (last !== undefined && tip <= last.tip) return;
    this.#samples.push({ atMs, tip });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
  }

  /** When the end of the log was last known; null: never. */
  get lookedAtMs(): number | null {
    return this.#lookedAtMs;
  }

  /** The last known end of the log. */
  get tip(): bigint | null {
    return this.#samples.at(-1)?.tip ?? null;
  }

  /** Whether the present end of the log is known. */
  isFresh(nowMs: number): boolean {
    return this.#lookedAtMs !== null && nowMs - this.#lookedAtMs < FRESH_MS;
  }

  /**
   * Seconds since the log first went beyond `position`; 0 if it has not, null if nothing is known. While the source is away
   * nobody knows what it has written: the result is then at least the time since the last look.
   */
  seconds(position: bigint, nowMs: number): number | null {
    if (this.#lookedAtMs === null) return null;
    const first = this.#samples.find((sample) => sample.tip > position);
    const unknownMs = this.isFresh(nowMs) ? 0 : nowMs - this.#lookedAtMs;
    return Math.max(0, unknownMs, first === undefined ? 0 : nowMs - first.atMs) / 1000;
  }
}
