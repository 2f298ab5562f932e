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
/** How many rows to request at once: few at first, because rows may be large, then as many as the time allows. */
const FETCH_ROWS_MIN = 64;
const FETCH_ROWS_MAX = 16_384;
const FETCH_MS = 60;
/** Of a chunk with rests: what else the source and this process do waits no longer for it. */
const RESTED_FETCH_MS = 1;
/** From one request to the next. */
const FETCH_GROWTH_MAX = 60;

/** Whether a row that has just arrived must be the last one of the chunk, even if more rows were requested. */
export function isTooMuch({ byteCount }: { readonly byteCount: number }): boolean {
  return byteCount >= CUT_BYTES;
}

/** The pace of one chunk, from its first row on. */
export class ChunkPace {
  readonly #rest: RowRange["rest"];
  readonly #restedFetchMs: number;
  #readMs = 0;
  #askedMs = 0;
  #wanted = FETCH_ROWS_MIN;

  /** `restedFetchMs`: how long a piece of a chunk with rests takes, what each request costs beside its rows included. */
  constructor(rest: RowRange["rest"], restedFetchMs = RESTED_FETCH_MS) {
    this.#rest = rest;
    this.#restedFetchMs = restedFetchMs;
  }

  /** How many rows to request now. */
  ask(): number {
    this.#askedMs = performance.now();
    return this.#wanted;
  }

  /** The requested rows have arrived: `count` rows with `byteCount` bytes in all. False: the chunk ends with them. */
  async goesOn({ count, byteCount }: { readonly count: number; readonly byteCount: number }): Promise<boolean> {
    const [readMs, fetchMs] = this.#rest === undefined ? [READ_MS, FETCH_MS] : [RESTED_READ_MS, this.#restedFetchMs];
    const tookMs = performance.now() - this.#askedMs;
    this.#readMs += tookMs;
    if (this.#readMs >= readMs || byteCount >= CHUNK_BYTES || count >= CHUNK_ROWS_MAX) return false;
    const rowBytes = Math.ceil(byteCount / count);
    const byTime = Math.floor(this.#wanted * Math.min(FETCH_GROWTH_MAX, fetchMs / tookMs));
    const byBytes = Math.floor((CHUNK_BYTES - byteCount) / rowBytes);
    this.#wanted = Math.max(1, Math.min(byTime, byBytes, FETCH_ROWS_MAX, CHUNK_ROWS_MAX - count));
    await this.#rest?.(tookMs);
    return true;
  }
}
