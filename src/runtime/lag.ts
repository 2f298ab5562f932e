/** One sample a second is kept for this long; beyond it the lag reads as "at least". */
const SAMPLES_MAX = 3_600;

/** The log's end is asked for once a second; an answer may take its time. */
const FRESH_MS = 5_000;

/**
 * Turns positions into seconds: remembers where the source's log ended at which time. Something that has reached a
 * position lags by the age of the newest end that lies beyond it.
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

  /** The last known end of the log. */
  get tip(): bigint | null {
    return this.#samples.at(-1)?.tip ?? null;
  }

  /** Whether the end of the log is known as it is about now. */
  isFresh(nowMs: number): boolean {
    return this.#lookedAtMs !== null && nowMs - this.#lookedAtMs < FRESH_MS;
  }

  /**
   * Seconds since the log first went beyond `position`; 0 where it has not, null where nothing is known. While the source
   * is away nobody knows what it has written: then it is the time since the last look at least.
   */
  seconds(position: bigint, nowMs: number): number | null {
    if (this.#lookedAtMs === null) return null;
    const first = this.#samples.find((sample) => sample.tip > position);
    const unknownMs = this.isFresh(nowMs) ? 0 : nowMs - this.#lookedAtMs;
    return Math.max(0, unknownMs, first === undefined ? 0 : nowMs - first.atMs) / 1000;
  }
}
