import type { Pipeline } from "../pipeline.ts";

const REASON = "let in again";

/** A table that was set aside is short of changes in every sink: all of them read it again before it flows. */
export async function letIn(pipeline: Pipeline, tableIds: readonly string[]): Promise<void> {
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
