import type { StateStore } from "../../core/contracts/state-store.ts";
import type { SuspendedTables } from "./suspended-tables.ts";
import type { TableGate } from "./table-gate.ts";

/** Of a pipeline. */
interface Admitting {
  readonly gate: TableGate;
  readonly state: Pick<StateStore, "refills">;
  readonly suspended: SuspendedTables;
  readonly runners: readonly { readonly name: string }[];
  refill(sink: string, tableIds: readonly string[], where: null, reason: string): Promise<void>;
}

const REASON = "let in again";

/** A table that was set aside is short of changes in every sink: all of them read it again before it flows. */
export async function letIn(pipeline: Admitting, tableIds: readonly string[]): Promise<void> {
  const { gate, state } = pipeline;
  const sinks = pipeline.runners.map(({ name }) => name);
  const aside = tableIds.filter((id) => gate.aside.has(id));
  for (const tableId of aside) {
    const takers = sinks.filter((name) => !pipeline.suspended.has(name, tableId));
    const request = { tableId, scope: { kind: "table" }, reason: REASON, needed: true } as const;
    await state.refills.addAll(takers.map((sink) => ({ ...request, sink })));
    await gate.readmit(tableId);
  }
  for (const sink of sinks) await pipeline.refill(sink, aside, null, REASON);
}
