import { expect, test } from "vitest";
import { NO_PROGRESS, type SnapshotStatus, type StatusDocument } from "../../src/core/contracts/status.ts";
import { PrometheusMetrics } from "../../src/ops/metrics.ts";
import { scrapedWith, sinkStatus, statusDocument } from "../support/daemon/status-document.ts";

const NOW_MS = Date.parse("2026-11-20T03:12:00Z");

const ago = (seconds: number) => new Date(NOW_MS - seconds * 1000).toISOString();
const failed = (at: string) => ({ code: "MR1303", message: "it waits", hint: null, at });
const read = { ...NO_PROGRESS, tableId: "public.u", sink: "cache", share: 0.25, secondsLeft: 30 };
const copy = { ...NO_PROGRESS, tableCount: 2, tablesDone: 1, rowsRead: 10, share: 0.5 };
const suspended = { table: "public.t", sink: null, error: failed(ago(61)), mayReturn: false };
const unreadable = { table: "public.u", sinks: ["cache"], since: ago(5), error: failed(ago(5)) };

const once = statusDocument({
  source: {
    needsPerson: true,
    lagBytes: 4096,
    lagSeconds: 0.25,
    retainedBytes: null,
    safeBytes: 1024,
    spilledBytes: 512,
    activity: "blocked",
    blockedBy: ["warehouse"],
    log: { from: null, confirmed: null, state: "extended" },
    copy,
  },
  sinks: [
    sinkStatus("warehouse", { lagSeconds: 0.5, deadLetters: 2, waitsFor: ["cache"], activity: "wedged" }),
    sinkStatus("cache", { state: "retrying", lagSeconds: null, catchingUp: true, needsPerson: true }),
  ],
  tables: { suspended: [suspended], unreadable: [unreadable] },
  unfinishedSnapshots: 2,
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what a scrape reads of it
  snapshots: [read as unknown as SnapshotStatus],
});
const status = { ...once, conditions: [...once.conditions, ...once.conditions] };
const scraped = scrapedWith(status, {
  schemas: [{ table: "public.t", version: 3 }],
  taken: [{ sink: "warehouse", tables: ["public.t"] }],
  reads: [
    { tableId: "public.u", sink: "cache", rowsDone: 20 },
    { tableId: "public.u", sink: "cache", rowsDone: 30 },
  ],
  drift: [{ table: "public.t", sink: "warehouse", kind: "missing", rows: 4 }],
  lastEqualSeconds: 1_795_000_000,
  proofs: [{ table: "public.t", sink: "warehouse", equalAt: ago(3600) }],
  nowMs: NOW_MS,
});

test("rows of a table that is gone are counted no longer; those of one that is suspended are", async () => {
  const metrics = new PrometheusMetrics();
  for (const table of ["public.t", "public.gone"])
    for (const sink of ["warehouse", "cache"]) metrics.rowsApplied(sink, table, "delete", 2);
  const counted = async (schemas: typeof scraped.schemas): Promise<string[]> => {
    const lines = (await metrics.text({ ...scraped, schemas })).split("\n");
    return lines.filter((line) => line.startsWith("millrace_sink_rows_total"));
  };
  expect(await counted([{ table: "public.gone", version: 1 }])).toHaveLength(4);
  expect(await counted([])).toEqual(
    ["warehouse", "cache"].map((sink) => `millrace_sink_rows_total{sink="${sink}",table="public.t",op="delete"} 2`),
  );
});

test("the exported names, labels and values", async () => {
  const metrics = new PrometheusMetrics();
  metrics.rowsApplied("warehouse", "public.t", "put", 7);
  metrics.rowsApplied("warehouse", "public.t", "put", 3);
  metrics.batchApplied("warehouse", 0.004);
  metrics.commitToApply("warehouse", 0.009, { source: 0.002, internal: 0.003, sink: 0.004 });
  metrics.commitToApply("cache", 0.009, null);
  metrics.sinkError("cache", "retryable");
  const lines = (await metrics.text(scraped)).split("\n");
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
      'millrace_conditions{kind="table.suspended",level="act"} 2',
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
      "millrace_tables_suspended 1",
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

test("how old a proof may be is told where continuous comparisons run", async () => {
  const name = "millrace_proof_max_age_seconds";
  const shown = async (own: Pick<StatusDocument["reconcile"], "continuous">) => {
    const { reconcile } = scraped.status;
    const text = await new PrometheusMetrics().text({
      ...scraped,
      status: { ...scraped.status, reconcile: { ...reconcile, ...own } },
    });
    return text.split("\n").filter((line) => line.startsWith(name));
  };
  const none = { waits: null, places: 0, neverProven: 0, late: 0, oldest: null, drift: null };
  expect(await shown({ continuous: { ...none, maxAgeSeconds: 21_600 } })).toEqual([`${name} 21600`]);
  expect([await shown({ continuous: null }), await shown({})]).toEqual([[], []]);
});

test("a sink that left the configuration leaves the scrape", async () => {
  const metrics = new PrometheusMetrics();
  await metrics.text(scraped);
  const left = { ...scraped, reads: [], drift: [], proofs: [] };
  const one = statusDocument({ sinks: [sinkStatus("warehouse")] });
  const text = await metrics.text({ ...left, status: one });
  expect(text).toContain('millrace_sink_state{sink="warehouse"');
  expect(text).not.toContain('sink="cache"');
  expect(await metrics.text({ ...left, status: one, schemas: [], taken: [] })).not.toContain('table="public.t"');
});
