import type { TableWrites } from "../../core/model/batch.ts";
import type { Metrics } from "../../core/contracts/telemetry.ts";

/** Milliseconds since 1970, with fractions. Of measurements alone: a simulation does not depend on it. */
export function measuredNow(): number {
  return performance.timeOrigin + performance.now();
}

/**
 * Counts the rows of a durable batch, and measures how long after its commit the newest of them arrived. `begunMs`: when the
 * write began.
 */
export function measureBatch(metrics: Metrics, sink: string, tables: readonly TableWrites[], begunMs: number): void {
  if (tables.length === 0) return;
  let newestUs = 0n;
  let arrivedMs = 0;
  for (const writes of tables) {
    const { table, count, deleteCount, patchCount } = writes;
    if (deleteCount > 0) metrics.rowsApplied(sink, table.id, "delete", deleteCount);
    if (patchCount > 0) metrics.rowsApplied(sink, table.id, "patch", patchCount);
    const putCount = count - deleteCount - patchCount;
    if (putCount > 0) metrics.rowsApplied(sink, table.id, "put", putCount);
    const block = writes.blocks[writes.block[count - 1]!]!;
    const timeUs = block.transactions.commitTimeUs[block.tx[writes.row[count - 1]!]!]!;
    if (timeUs > newestUs) {
      newestUs = timeUs;
      ({ arrivedMs } = block);
    }
  }
  const commitMs = Number(newestUs) / 1000;
  const nowMs = measuredNow();
  const seconds = (fromMs: number, toMs: number): number => Math.max(0, toMs - fromMs) / 1000;
  const parts =
    arrivedMs === 0
      ? null
      : {
          source: seconds(commitMs, arrivedMs),
          internal: seconds(arrivedMs, begunMs),
          sink: seconds(begunMs, nowMs),
        };
  metrics.commitToApply(sink, seconds(commitMs, nowMs), parts);
}
