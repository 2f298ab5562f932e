import { expect, test } from "vitest";
import { NOT_COUNTED } from "../../src/core/contracts/source-counters.ts";
import { PrometheusMetrics, type Levels } from "../../src/ops/metrics.ts";

const levels: Levels = {
  conditions: [
    { kind: "sink.failing", level: "act" },
    { kind: "sink.failing", level: "act" },
  ],
  sourceUp: true,
  sourceNeedsPerson: true,
  suspendedCount: 2,
  unreadableCount: 1,
  sourceLagBytes: 4096,
  sourceLagSeconds: 0.25,
  slotRetainedBytes: null,
  counts: { ...NOT_COUNTED, spilledBytes: 512 },
  sinks: [
    {
      name: "warehouse",
      state: "streaming",
      lagSeconds: 0.5,
      deadLetterCount: 2,
      isCatchingUp: false,
      needsPerson: false,
      isWaiting: true,
    },
    {
      name: "cache",
      state: "retrying",
      lagSeconds: null,
      deadLetterCount: 0,
      isCatchingUp: true,
      needsPerson: true,
      isWaiting: false,
    },
  ],
  schemas: [{ table: "public.t", version: 3 }],
  drift: [{ table: "public.t", sink: "warehouse", kind: "missing", rows: 4 }],
  lastEqualSeconds: 1_795_000_000,
  activities: {
    source: "blocked",
    blockedBy: ["warehouse"],
    readsPaused: true,
    logState: "extended",
    sinks: [
      { sink: "warehouse", activity: "wedged" },
      { sink: "cache", activity: null },
    ],
  },
  tables: {
    stateUp: true,
    safeBytes: 1024,
    retentionSeconds: null,
    unfinishedReads: 2,
    suspended: [{ table: "public.t", sink: "*" }],
    unreadable: [{ table: "public.u", sink: "cache" }],
    freshness: [{ table: "public.t", sink: "warehouse", seconds: 61 }],
    proofAges: [{ table: "public.t", sink: "warehouse", seconds: 3600 }],
    progress: [
      { table: "public.u", sink: "cache", share: 0.25, secondsLeft: 30 },
      { table: "*", sink: "*", share: 0.5, secondsLeft: null },
    ],
    readRows: [{ table: "public.u", sink: "cache", rows: 50 }],
  },
};

test("the exported names, labels and values", async () => {
  const metrics = new PrometheusMetrics();
  metrics.rowsApplied("warehouse", "public.t", "put", 7);
  metrics.rowsApplied("warehouse", "public.t", "put", 3);
  metrics.batchApplied("warehouse", 0.004);
  metrics.commitToApply("warehouse", 0.009, { source: 0.002, internal: 0.003, sink: 0.004 });
  metrics.commitToApply("cache", 0.009, null);
  metrics.sinkError("cache", "retryable");
  const lines = (await metrics.text(levels)).split("\n");
  expect(lines).toEqual(
    expect.arrayContaining([
      'millrace_sink_rows_total{sink="warehouse",table="public.t",op="put"} 10',
      'millrace_sink_apply_seconds_bucket{le="0.005",sink="warehouse"} 1',
      'millrace_sink_apply_seconds_bucket{le="0.0025",sink="warehouse"} 0',
      'millrace_commit_to_apply_seconds_count{sink="warehouse"} 1',
      'millrace_latency_part_seconds_sum{sink="warehouse",part="internal"} 0.003',
      'millrace_slot_state{state="extended"} 1',
      "millrace_slot_spilled_bytes 512",
      'millrace_sink_errors_total{sink="cache",kind="retryable"} 1',
      'millrace_conditions{kind="sink.failing",level="act"} 2',
      "millrace_source_up 1",
      'millrace_source_activity{activity="blocked"} 1',
      'millrace_source_activity{activity="idle"} 0',
      'millrace_source_blocked_by{sink="warehouse"} 1',
      'millrace_sink_activity{sink="warehouse",activity="wedged"} 1',
      'millrace_sink_activity{sink="warehouse",activity="slow"} 0',
      "millrace_state_up 1",
      "millrace_slot_safe_bytes 1024",
      "millrace_reads_unfinished 2",
      'millrace_table_suspended{sink="*",table="public.t"} 1',
      'millrace_table_unreadable{sink="cache",table="public.u"} 1',
      'millrace_freshness_seconds{sink="warehouse",table="public.t"} 61',
      'millrace_proof_age_seconds{sink="warehouse",table="public.t"} 3600',
      'millrace_snapshot_share{sink="cache",table="public.u"} 0.25',
      'millrace_snapshot_remaining_seconds{sink="cache",table="public.u"} 30',
      'millrace_snapshot_share{sink="*",table="*"} 0.5',
      'millrace_snapshot_rows_total{sink="cache",table="public.u"} 50',
      "millrace_source_needs_person 1",
      "millrace_tables_suspended 2",
      "millrace_tables_unreadable 1",
      "millrace_source_lag_bytes 4096",
      "millrace_source_lag_seconds 0.25",
      'millrace_sink_lag_seconds{sink="warehouse"} 0.5',
      'millrace_sink_state{sink="warehouse",state="streaming"} 1',
      'millrace_sink_state{sink="warehouse",state="retrying"} 0',
      'millrace_sink_state{sink="cache",state="retrying"} 1',
      'millrace_dead_letters{sink="warehouse"} 2',
      'millrace_schema_version{table="public.t"} 3',
      'millrace_reconcile_drift_rows{table="public.t",sink="warehouse",kind="missing"} 4',
      "millrace_reconcile_last_success_timestamp_seconds 1795000000",
      'millrace_sink_waiting{sink="warehouse"} 1',
      'millrace_sink_catching_up{sink="warehouse"} 0',
      'millrace_sink_catching_up{sink="cache"} 1',
      'millrace_sink_needs_person{sink="warehouse"} 0',
      'millrace_sink_needs_person{sink="cache"} 1',
    ]),
  );
  expect(
    lines.filter((line) =>
      /^millrace_slot_(retained|unconfirmed)_bytes|latency_part.*cache|sink_lag_seconds\{sink="cache"/.test(line),
    ),
  ).toEqual([]);
  // A name that ends in _total is a counter's: promtool says so of everything else.
  const gauges = lines.flatMap((line) => /^# TYPE (\S+_total) (?!counter)/.exec(line)?.[1] ?? []);
  expect(gauges).toEqual([]);
  expect(metrics.contentType).toContain("text/plain");
});

test("a sink that left the configuration leaves the scrape", async () => {
  const metrics = new PrometheusMetrics();
  await metrics.text(levels);
  const none = { suspended: [], unreadable: [], freshness: [], proofAges: [], progress: [], readRows: [] };
  const tables = { ...levels.tables, ...none };
  const text = await metrics.text({ ...levels, tables, sinks: levels.sinks.slice(0, 1) });
  expect(text).toContain('millrace_sink_state{sink="warehouse"');
  expect(text).not.toContain('sink="cache"');
  expect(await metrics.text({ ...levels, tables, schemas: [], drift: [] })).not.toContain('table="public.t"');
});
