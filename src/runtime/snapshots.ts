/** What operators see of rows read beside the stream, and may stop; with a daemon and without. */
import type { Refill, RefillStore } from "../core/state-store.ts";
import type { SnapshotStatus } from "../core/status.ts";
import { snapshotNeeded } from "./errors.ts";

export function snapshotStatus(refill: Refill): SnapshotStatus {
  const { id, tableId, sink, scope, reason, needed, state, rowsDone, chunksDone, resumedCount } = refill;
  const { attempt: restartedCount, createdAt, startedAt, endedAt } = refill;
  const progress = { rowsDone, chunksDone, resumedCount, restartedCount };
  return { id, tableId, sink, scope, reason, needed, state, ...progress, createdAt, startedAt, endedAt };
}

/**
 * Tables, or a part of each, to read again for one sink, while nobody reads. One that was interrupted begins again: rows
 * that it has passed may be the ones that are asked for. `needed`: without it the sink is short of rows.
 */
export async function askAgain(
  refills: RefillStore,
  sink: string,
  tableIds: readonly string[],
  scope: Refill["scope"],
  reason: string,
  needed = false,
): Promise<void> {
  for (const tableId of tableIds) {
    const { id, state } = await refills.add({ tableId, sink, scope, reason, needed });
    if (state === "running") await refills.restart(id);
  }
}

/** A part of it is in the sink. */
export function isRunning({ state }: SnapshotStatus): boolean {
  return state === "running";
}

/** False where there is no unfinished one; refused where the sink would be left short of rows without a word. */
export async function cancelRefill(refills: RefillStore, id: number): Promise<boolean> {
  const refill = (await refills.list()).find((open) => open.id === id);
  if (refill === undefined) return false;
  if (await refills.cancel(id)) return true;
  throw snapshotNeeded(id, refill.tableId, refill.sink);
}
