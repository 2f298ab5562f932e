/** A status in which all is well, for tests that change a part of it. */
import { NOT_COUNTED } from "../../../src/core/contracts/source-counters.ts";
import { statusDocument as documentOf } from "../../../src/core/conditions/conditions.ts";
import type { PipelineStatus, SinkStatus, StatusDocument } from "../../../src/core/contracts/status.ts";

export const sinkStatus = (name: string, change: Partial<SinkStatus> = {}): SinkStatus => ({
  name,
  kind: "redis",
  state: "streaming",
  position: "0/1A2B3C8",
  lagSeconds: 0,
  lagBytes: 0,
  deadLetters: 0,
  error: null,
  needsPerson: false,
  catchingUp: false,
  waitsFor: [],
  ...change,
});

export type StatusChange = Partial<Omit<StatusDocument, "source" | "tables" | "conditions" | "verdict">> & {
  readonly source?: Partial<StatusDocument["source"]>;
  readonly tables?: Partial<StatusDocument["tables"]>;
};

export function statusDocument({
  source,
  tables,
  state,
  reconcile,
  notify,
  config,
  ...change
}: StatusChange = {}): StatusDocument {
  const pipeline: PipelineStatus = {
    name: "shop",
    phase: "streaming",
    source: {
      kind: "postgres",
      up: true,
      position: "0/1A2B3C8",
      acknowledged: "0/1A2B3C8",
      lagBytes: 0,
      lagSeconds: 0,
      retainedBytes: 2048,
      safeBytes: null,
      ...NOT_COUNTED,
      safeSeconds: null,
      warnings: [],
      error: null,
      needsPerson: false,
      goneBack: null,
      copy: null,
      ...source,
    },
    sinks: [sinkStatus("warehouse"), sinkStatus("cache")],
    tables: { captured: 2, aside: [], refused: [], unreadable: [], suspended: [], ...tables },
    unfinishedSnapshots: 0,
    snapshots: [],
    daemon: { pid: 42, startedAt: "2026-11-20T01:00:00Z" },
    ...change,
  };
  return documentOf(pipeline, {
    state: state ?? { error: null },
    reconcile: reconcile ?? { next: null, last: null, drift: null, failure: null },
    ...(notify === undefined ? {} : { notify }),
    ...(config === undefined ? {} : { config }),
  });
}
