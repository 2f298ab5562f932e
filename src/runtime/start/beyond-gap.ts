import type { TableGenerations } from "../../core/contracts/catalog.ts";
import type { SnapshotStore, SinkReset } from "../../core/contracts/state-store.ts";
import { askAgain } from "../snapshot/snapshots.ts";

const GAP_REASON = "the log between was lost";

/**
 * Lists the comparison of each of these tables of a sink that exists now, whatever the sink holds of it. Returns what the sink
 * keeps: no rows that are not compared. Invariant: this is stored before the sink's position moves over the gap.
 */
export async function listComparisons(
  snapshots: SnapshotStore,
  sink: string,
  tableIds: readonly string[],
  generations: TableGenerations,
): Promise<NonNullable<SinkReset["keeps"]>> {
  const kept = tableIds.flatMap((id): readonly [string, string][] => {
    const generation = generations.get(id);
    return generation === undefined ? [] : [[id, generation]];
  });
  const request = { sink, scope: { kind: "differences" }, reason: GAP_REASON, needed: true } as const;
  await askAgain(snapshots, { ...request, tableIds: kept.map(([id]) => id) });
  return Object.fromEntries(kept);
}
