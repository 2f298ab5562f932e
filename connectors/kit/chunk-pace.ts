/** How fast rows are read beside the stream: what one chunk takes, and how many rows are asked for at once. */

/** A chunk ends at the first of these. */
const READ_MS = 350;
const CHUNK_BYTES = 8 * 1024 * 1024;
export const CHUNK_ROWS_MAX = 200_000;
/** Rows asked for at once: few at first, as rows may be large, then as many as the time allows. */
const FETCH_ROWS_MIN = 64;
const FETCH_ROWS_MAX = 16_384;
const FETCH_MS = 60;

/** Of one chunk, from its first row on. */
export class ChunkPace {
  readonly #startedMs = performance.now();
  #askedMs = 0;
  #wanted = FETCH_ROWS_MIN;

  /** So many rows are to be asked for, now. */
  ask(): number {
    this.#askedMs = performance.now();
    return this.#wanted;
  }

  /** What was asked for is there, `count` rows of `byteCount` in all. False: the chunk ends with them. */
  goesOn({ count, byteCount }: { readonly count: number; readonly byteCount: number }): boolean {
    const nowMs = performance.now();
    if (nowMs - this.#startedMs >= READ_MS || byteCount >= CHUNK_BYTES || count >= CHUNK_ROWS_MAX) return false;
    const rowBytes = Math.ceil(byteCount / count);
    const byTime = Math.floor((this.#wanted * FETCH_MS) / Math.max(1, nowMs - this.#askedMs));
    const byBytes = Math.floor((CHUNK_BYTES - byteCount) / rowBytes);
    this.#wanted = Math.max(1, Math.min(byTime, byBytes, FETCH_ROWS_MAX, CHUNK_ROWS_MAX - count));
    return true;
  }
}
