import type { TableWrites } from "../../core/model/batch.ts";
import type { Metrics } from "../../core/contracts/telemetry.ts";

/** Counts the rows of a durable step, and measures how long after its commit the newest of them arrived. */
export function measureStep(metrics: Metrics, sink: string, tables: readonly TableWrites[]): void {
  let newestUs = 0n;
  for (const writes of tables) {
    const { table, count, deleteCount, patchCount } = writes;
    if (deleteCount > 0) metrics.rowsApplied(sink, table.id, "delete", deleteCount);
    if (patchCount > 0) metrics.rowsApplied(sink, table.id, "patch", patchCount);
    const putCount = count - deleteCount - patchCount;
    if (putCount > 0) metrics.rowsApplied(sink, table.id, "put", putCount);
    const block = writes.blocks[writes.block[count - 1]!]!;
    const timeUs = block.transactions.commitTimeUs[block.tx[writes.row[count - 1]!]!]!;
    if (timeUs > newestUs) newestUs = timeUs;
  }
  const nowMs = performance.timeOrigin + performance.now();
  metrics.commitToApply(sink, Math.max(0, nowMs - Number(newestUs) / 1000) / 1000);
}
