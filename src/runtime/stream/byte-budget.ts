import type { BatchLimits } from "./sink-queue.ts";

/** A batch counts as at least this much, so that a stream reads ahead of sinks that write little at once. */
const BATCH_BYTES_MIN = 8 * 1024 * 1024;

/** One that is being written, one that waits, and one that is being read. */
export const MAIN_BATCHES = 3;
/** A sink that catches up is alone at its stream, and nobody waits for a table's first copy. */
export const ASIDE_BATCHES = 2;

/** Bytes that may wait in memory, so that sinks with these limits can fill so many batches. */
export function bytesFor(batchCount: number, limits: readonly Pick<BatchLimits, "byteCountMax">[]): number {
  return batchCount * Math.max(BATCH_BYTES_MIN, ...limits.map(({ byteCountMax }) => byteCountMax));
}
