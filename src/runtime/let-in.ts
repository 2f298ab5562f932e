import type { RefillStore } from "../core/state-store.ts";
import type { TableGate } from "./table-gate.ts";

/** A table that was set aside is short of changes in every sink: all of them read it again before it flows. */
export async function letIn(
  tableIds: readonly string[],
  sinks: readonly string[],
  gate: TableGate,
  refills: RefillStore,
): Promise<void> {
  for (const tableId of tableIds.filter((id) => gate.aside.has(id))) {
    for (const sink of sinks)
      await refills.add({ tableId, sink, scope: { kind: "table" }, reason: "let in again", needed: true });
    await gate.readmit(tableId);
  }
}
