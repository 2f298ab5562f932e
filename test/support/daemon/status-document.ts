/** A status in which all is well, for tests that change a part of it. */
import { statusDocument as documentOf } from "../../../src/core/conditions/conditions.ts";
import { pipelineStatus, type SinkStatus, type StatusDocument } from "../../../src/core/contracts/status.ts";
import type { Scraped } from "../../../src/ops/gauges.ts";

export const sinkStatus = (name: string, change: Partial<SinkStatus> = {}): SinkStatus => {
  const known = { state: "streaming", position: "0/1A2B3C8", lagSeconds: 0, lagBytes: 0, ...change } as const;
  const named = { name: "shop", source: { kind: "postgres" }, sinks: [{ name, kind: "redis" }] };
  return pipelineStatus(named, { sinks: new Map([[name, known]]) }).sinks[0]!;
};

export type StatusChange = Partial<Omit<StatusDocument, "name" | "source" | "tables" | "conditions" | "verdict">> & {
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
  const { sinks = [sinkStatus("warehouse"), sinkStatus("cache")], ...rest } = change;
  const place = { position: "0/1A2B3C8", lagBytes: 0, lagSeconds: 0 };
  const pipeline = pipelineStatus(
    { name: "shop", source: { kind: "postgres" }, sinks },
    {
      phase: "streaming",
      source: { up: true, ...place, acknowledged: "0/1A2B3C8", retainedBytes: 2048, ...source },
      sinks: new Map(sinks.map((sink) => [sink.name, sink])),
      tables: { captured: 2, areKnown: true, ...tables },
      daemon: { pid: 42, startedAt: "2026-11-20T01:00:00Z" },
      ...rest,
    },
  );
  return documentOf(pipeline, {
    state: state ?? { error: null },
    reconcile: reconcile ?? { next: null, last: null, drift: null, failure: null },
    ...(notify === undefined ? {} : { notify }),
    ...(config === undefined ? {} : { config }),
  });
}

/** What a scrape knows beside this status: nothing. */
export function scrapedWith(status: StatusDocument, change: Partial<Scraped> = {}): Scraped {
  return {
    status,
    schemas: [],
    taken: [],
    reads: [],
    drift: [],
    lastEqualSeconds: null,
    proofs: [],
    retentionSeconds: null,
    memory: new Map(),
    nowMs: Date.parse("2026-11-20T03:12:00Z"),
    ...change,
  };
}
