/**
 * When changed documents are read while the sink catches up. Full batches follow each other then, and many a document of one changes
 * again in the next. So what they list is read when no full batch follows, and at intervals while they do.
 */

export interface ReadDelayLimits {
  /** Which part of what a batch may have makes it a full one. */
  readonly fullFrom: number;
  /** So long after a full batch none follows. */
  readonly quietMs: number;
  /** Entries wait no longer, whatever follows. */
  readonly waitMs: number;
}

const LIMITS: ReadDelayLimits = { fullFrom: 0.5, quietMs: 100, waitMs: 500 };

export class ReadDelay {
  readonly #limits: ReadDelayLimits;
  /** When the first full batch came since entries were read; null: none did. */
  #firstMs: number | null = null;
  #lastMs = 0;
  /** A batch is being written. */
  #isWriting = false;

  constructor(limits = LIMITS) {
    this.#limits = limits;
  }

  begun(): void {
    this.#isWriting = true;
  }

  /** `filled`: which part of what it may have the batch had. */
  ended(filled: number, atMs: number): void {
    this.#isWriting = false;
    if (filled < this.#limits.fullFrom) return this.read();
    this.#firstMs ??= atMs;
    this.#lastMs = atMs;
  }

  /** Entries are read now. */
  read(): void {
    this.#firstMs = null;
  }

  /** How long entries wait from now on, if nothing comes; 0: not at all. */
  leftMs(nowMs: number): number {
    if (this.#firstMs === null) return 0;
    const { quietMs, waitMs } = this.#limits;
    const longestMs = this.#firstMs + waitMs;
    const untilMs = this.#isWriting ? longestMs : Math.min(this.#lastMs + quietMs, longestMs);
    return Math.max(untilMs - nowMs, 0);
  }
}
