/** The pace of reads beside the stream: the size of one chunk, and how many rows to request at once. */

import type { RowRange } from "../../src/core/contracts/row-reads.ts";

/** A chunk ends at whichever limit comes first. */
const READ_MS = 350;
/** Of a chunk with rests: its snapshot stays open over them. */
const RESTED_READ_MS = 50;
const CHUNK_BYTES = 8 * 1024 * 1024;
/** What was requested is given up at this size: its rows are larger than those before them. */
const CUT_BYTES = 2 * CHUNK_BYTES;
export const CHUNK_ROWS_MAX = 200_000;
/** However far the source is, a chunk is more than a few requests. */
const REQUESTS_MIN = 8;
/**
 * How many rows to request at once: few at first, because rows may be large or take long, and because the first request shows
 * what a request costs whatever its rows; then as many as the time allows.
 */
const FETCH_ROWS_FIRST = 4;
const FETCH_ROWS_MAX = 16_384;
const FETCH_MS = 60;
/** From one request to the next. */
const FETCH_GROWTH_MAX = 8;
/** Of a chunk with rests: the source and this process are kept from other work for no longer than this. */
const RESTED_FETCH_MS = 1;

/** Whether a row that has just arrived must be the last one of the chunk, even if more rows were requested. */
export function isTooMuch({ byteCount }: { readonly byteCount: number }): boolean {
  return byteCount >= CUT_BYTES;
}

/** The pace of one chunk, from its first row on. */
export class ChunkPace {
  readonly #rest: RowRange["rest"];
  readonly #limits: { readonly readMs: number; readonly fetchMs: number };
  #readMs = 0;
  #askedMs = 0;
  /** Of a request, whatever its rows. */
  #leastMs = Infinity;
  #wanted = FETCH_ROWS_FIRST;

  /** `restedFetchMs`: how long a request of a chunk with rests takes, if what it costs beside its rows is less than half. */
  constructor(rest: RowRange["rest"], restedFetchMs = RESTED_FETCH_MS) {
    this.#rest = rest;
    this.#limits =
      rest === undefined ? { readMs: READ_MS, fetchMs: FETCH_MS } : { readMs: RESTED_READ_MS, fetchMs: restedFetchMs };
  }

  /** How many rows to request now. */
  ask(): number {
    this.#askedMs = performance.now();
    return this.#wanted;
  }

  /** The requested rows have arrived: `count` rows with `byteCount` bytes in all. False: the chunk ends with them. */
  async goesOn({ count, byteCount }: { readonly count: number; readonly byteCount: number }): Promise<boolean> {
    const tookMs = performance.now() - this.#askedMs;
    this.#readMs += tookMs;
    this.#leastMs = Math.min(this.#leastMs, tookMs);
    const leastMs = this.#leastMs;
    const readMs = Math.max(this.#limits.readMs, REQUESTS_MIN * leastMs);
    if (this.#readMs >= readMs || byteCount >= CHUNK_BYTES || count >= CHUNK_ROWS_MAX) return false;
    const rowBytes = Math.ceil(byteCount / count);
    // No number of rows makes a request shorter than what it costs without them.
    const fetchMs = Math.max(this.#limits.fetchMs, 2 * leastMs);
    const growth = Math.min(FETCH_GROWTH_MAX, (fetchMs - leastMs) / (tookMs - leastMs));
    const byTime = Math.floor(this.#wanted * growth);
    const byBytes = Math.floor((CHUNK_BYTES - byteCount) / rowBytes);
    this.#wanted = Math.max(1, Math.min(byTime, byBytes, FETCH_ROWS_MAX, CHUNK_ROWS_MAX - count));
    await this.#rest?.(tookMs);
    return true;
  }
}
