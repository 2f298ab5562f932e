/**
 * Decides when not to read the socket. A walsender sends every row separately, and eager reading makes both sides pay for
 * each row. If the stream is dense and the receive window may fill, the server's kernel gathers rows into large segments,
 * and the same server delivers twice as much. So while the stream is dense: drain until a short read, then pause, for 1, 2,
 * 4, 8, 16 ms in turn (a fixed short pause never fills the window and is bistable). Sparse traffic is never paused.
 *
 * A Unix socket gathers nothing, and is full after about 180 rows of 165 bytes (naps of 0.5 ms found that many, and the
 * server was usually waiting), so a pause by timer starves the stream. There, naps that are shorter than any timer save one
 * read for every two rows: 13,000 reads per million rows instead of 500,000, half the processor time, and a few per cent
 * more rows. A nap blocks the whole event loop for a tenth of a millisecond, once per turn of the loop, and only while the
 * stream is dense and the socket was empty.
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
   * How long not to read the socket after a read of `count` bytes at `nowMs`; 0: read on. `drained`: the read took
   * everything there was. Less than a millisecond is a nap.
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

  /** The socket was read and brought nothing: the dense phase is over, and its bytes do not count any more. */
  quiet(nowMs: number): void {
    this.#dense = false;
    this.#pauseMs = 1;
    this.#windowStart = nowMs;
    this.#windowBytes = 0;
  }
}

const never = new Int32Array(new SharedArrayBuffer(4));

/** Stops this thread, and so the whole event loop, for part of a millisecond. */
export function nap(ms: number): void {
  Atomics.wait(never, 0, 0, ms);
}
