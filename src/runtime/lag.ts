/** One sample a second is kept for this long; beyond it the lag reads as "at least". */
const SAMPLES_MAX = 3_600;

/**
 * Turns positions into seconds: remembers where the source's log ended at which time. Something that has reached a
 * position lags by the age of the newest end that lies beyond it.
 */
export class LagClock {
  readonly #samples: { readonly atMs: number; readonly tip: bigint }[] = [];

  /** The log ended at `tip` at `atMs`. Samples come in order. */
  sample(tip: bigint, atMs: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && tip <= last.tip) return;
    this.#samples.push({ atMs, tip });
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
  }

  /** The last known end of the log. */
  get tip(): bigint | null {
    return this.#samples.at(-1)?.tip ?? null;
  }

  /** Seconds since the log first went beyond `position`; 0 where it has not, null where nothing is known. */
  seconds(position: bigint, nowMs: number): number | null {
    if (this.#samples.length === 0) return null;
    const first = this.#samples.find((sample) => sample.tip > position);
    return first === undefined ? 0 : Math.max(0, (nowMs - first.atMs) / 1000);
  }
}
