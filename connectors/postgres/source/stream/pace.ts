/**
 * When to leave the socket alone. A walsender sends every row by itself; who reads eagerly makes both sides pay for
 * each. When the stream is dense and the receive window is left to fill, the server's kernel gathers rows into large
 * segments, and the same server delivers twice as much. So: while dense, drain until a short read, then pause, for
 * 1, 2, 4, 8, 16 ms in turn (a fixed short pause never fills the window and is bistable). Sparse traffic is never paused.
 *
 * A Unix socket gathers nothing and is full after some 180 rows of 165 bytes (naps of 0.5 ms found that many, the server
 * waiting most times), so a pause by timer starves the stream. There naps that are shorter than any timer save the reader
 * a read for every two rows: 13,000 in place of 500,000 per million, half the processor time, some per cent more rows. A nap
 * holds the whole loop up: a tenth of a millisecond, once in a turn of the loop, only while dense and the socket was empty.
 */
const WINDOW_MS = 10;
const DENSE_BYTES_PER_MS = (64 * 1024) / WINDOW_MS;
const PAUSE_MS_MAX = 16;
const NAP_MS = 0.1;

export class Pace {
  readonly #tcp: boolean;
  #windowStart = 0;
  #windowBytes = 0;
  #pauseMs = 1;
  #dense = false;

  constructor(tcp: boolean) {
    this.#tcp = tcp;
  }

  get dense(): boolean {
    return this.#dense;
  }

  /**
   * After a read of `count` bytes at `nowMs`, `drained` when it took all there was: how long to leave the socket alone, 0 for
   * not at all. Less than a millisecond is a nap.
   */
  read(count: number, drained: boolean, nowMs: number): number {
    this.#windowBytes += count;
    const elapsedMs = nowMs - this.#windowStart;
    if (elapsedMs >= WINDOW_MS) {
      this.#dense = this.#windowBytes >= DENSE_BYTES_PER_MS * elapsedMs;
      this.#windowStart = nowMs;
      this.#windowBytes = 0;
      if (!this.#dense) this.#pauseMs = 1;
    } else if (this.#windowBytes >= DENSE_BYTES_PER_MS * WINDOW_MS) {
      this.#dense = true;
    }
    if (!this.#dense || !drained) return 0;
    if (!this.#tcp) return NAP_MS;
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(pauseMs * 2, PAUSE_MS_MAX);
    return pauseMs;
  }

  /** Nothing has come although the socket was read: the dense stretch is over, and its bytes count no more. */
  quiet(nowMs: number): void {
    this.#dense = false;
    this.#pauseMs = 1;
    this.#windowStart = nowMs;
    this.#windowBytes = 0;
  }
}

const never = new Int32Array(new SharedArrayBuffer(4));

/** Stops this thread, and so the whole loop, for a part of a millisecond. */
export function nap(ms: number): void {
  Atomics.wait(never, 0, 0, ms);
}
