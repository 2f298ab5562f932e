import { type Definition, PrometheusMetrics } from "../../src/ops/metrics.ts";
import { SINK_ACTIVITIES, SOURCE_ACTIVITIES } from "../../src/core/contracts/status.ts";
import { LATENCY_PARTS, SINK_STATES } from "../../src/core/contracts/telemetry.ts";

/** Facts about a metric that the code does not have: its unit, and when to alert on it. */
interface Advice {
  readonly unit: string;
  readonly alert: string;
}

const ADVICE: Readonly<Record<string, Advice>> = {
  millrace_conditions: { unit: "conditions", alert: '`{level="act"} > 0`: `millrace status` says what to do' },
  millrace_source_up: { unit: "0 or 1", alert: "`== 0` for 5 minutes: nothing new arrives" },
  millrace_source_needs_person: { unit: "0 or 1", alert: "`== 1`: `millrace status` says what to do" },
  millrace_source_activity: { unit: "0 or 1", alert: '`{activity="half-open"} == 1` for 10 minutes' },
  millrace_source_reads_paused: { unit: "0 or 1", alert: "none; `retention.bytes` is reached" },
  millrace_source_blocked_by: { unit: "1", alert: "`== 1` for an hour: the sink is too slow for the load" },
  millrace_sink_activity: { unit: "0 or 1", alert: '`{activity="wedged"} == 1` for 10 minutes: the target hangs' },
  millrace_source_lag_bytes: { unit: "bytes", alert: "it grows for an hour: the daemon can't keep up with the log" },
  millrace_source_lag_seconds: { unit: "seconds", alert: "`> 60`" },
  millrace_slot_retained_bytes: { unit: "bytes", alert: "above a third of what the server's disk can spare" },
  millrace_source_zero_dates: { unit: "values", alert: "none; look at it once, then choose `zeroDates`" },
  millrace_slot_unconfirmed_bytes: { unit: "bytes", alert: "none; the sink that is furthest behind determines it" },
  millrace_source_oldest_transaction_seconds: {
    unit: "seconds",
    alert: "`> 3600`: `millrace status` names the process",
  },
  millrace_slot_spilled_transactions: { unit: "transactions", alert: "none; `increase()` tells of large ones" },
  millrace_slot_spilled_bytes: { unit: "bytes", alert: "none; if it grows fast, raise `logical_decoding_work_mem`" },
  millrace_slot_state: { unit: "0 or 1", alert: '`{state=~"unreserved|lost"} == 1`' },
  millrace_latency_part_seconds: { unit: "seconds", alert: "none; it says which part a rise comes from" },
  millrace_tables_suspended: { unit: "tables", alert: "`> 0`: `millrace status` says what to do" },
  millrace_tables_unreadable: { unit: "tables", alert: "`> 0` for 10 minutes: a lock or a privilege" },
  millrace_state_up: { unit: "0 or 1", alert: "`== 0` for a minute: a full disk, or the state's server is away" },
  millrace_slot_safe_bytes: { unit: "bytes", alert: "`< 1073741824`: every table would have to be read again" },
  millrace_retention_seconds: { unit: "seconds", alert: "`< 14400`: bring back the sink that is furthest behind" },
  millrace_reads_unfinished: { unit: "reads", alert: "none; it falls to 0" },
  millrace_table_suspended: { unit: "0 or 1", alert: "`== 1`: `millrace status` says what to do" },
  millrace_table_unreadable: { unit: "0 or 1", alert: "`== 1` for 10 minutes: a lock or a privilege" },
  millrace_freshness_seconds: { unit: "seconds", alert: "`> 300`, or what readers of the table can bear" },
  millrace_proof_age_seconds: {
    unit: "seconds",
    alert: "above `millrace_proof_max_age_seconds`; without it, where a comparison runs every night, `> 172800`",
  },
  millrace_proof_max_age_seconds: { unit: "seconds", alert: "none; the age of a proof is compared with it" },
  millrace_snapshot_share: { unit: "0 to 1", alert: "none; absent if the source has no statistics of the table" },
  millrace_snapshot_remaining_seconds: { unit: "seconds", alert: "none; it falls to 0" },
  millrace_snapshot_rows_total: { unit: "rows", alert: "none; `rate()` of it is the speed of the reads" },
  millrace_schema_version: { unit: "version", alert: "none; `changes()` of it tells of a changed table" },
  millrace_sink_state: { unit: "0 or 1", alert: '`{state="failed"} == 1`; `{state="retrying"} == 1` for 10 minutes' },
  millrace_sink_lag_seconds: { unit: "seconds", alert: "`> 60`, or what readers of the sink can bear" },
  millrace_sink_needs_person: { unit: "0 or 1", alert: "`== 1`: a password, a grant, a certificate, a full disk" },
  millrace_sink_catching_up: { unit: "0 or 1", alert: "`== 1` for an hour: the target is too slow for the load" },
  millrace_sink_waiting: { unit: "0 or 1", alert: "`== 1` for 10 minutes: leave a slot and a WAL sender free" },
  millrace_dead_letters: { unit: "rows", alert: "`> 0`: `millrace dlq list`" },
  millrace_documents_waiting: { unit: "documents", alert: "none; it falls to 0" },
  millrace_documents_waiting_seconds: { unit: "seconds", alert: "`> 300`, or what readers of the documents can bear" },
  millrace_sink_dead_rows: { unit: "rows", alert: "above what the disk can spare, see the page of DuckDB" },
  millrace_sink_memory_bytes: { unit: "bytes", alert: "none; it stays below `memoryLimit`" },
  millrace_sink_rows_total: { unit: "rows", alert: "none; `rate()` of it is the throughput" },
  millrace_sink_errors_total: { unit: "failures", alert: "`rate()` above 0 for 10 minutes" },
  millrace_sink_apply_seconds: { unit: "seconds", alert: "none; a rise explains a lag" },
  millrace_commit_to_apply_seconds: { unit: "seconds", alert: "its 99th percentile, where readers rely on it" },
  millrace_reconcile_drift_rows: { unit: "rows", alert: "`> 0`: `millrace report show`" },
  millrace_reconcile_last_success_timestamp_seconds: {
    unit: "Unix time, seconds",
    alert: "`time() -` it `> 100000`, where a comparison runs every night",
  },
};

/** Metrics of the process that only Linux has. Listed here so that the page is the same on every machine. */
const LINUX_ONLY = ["process_virtual_memory_bytes", "process_heap_bytes", "process_open_fds", "process_max_fds"];

const LABELS = `- \`sink\`: the sink's name in millrace.yaml
- \`table\`: \`schema.table\` as in the source
- \`op\`: \`put\` (a whole row), \`patch\` (some of its columns), \`delete\`, \`truncate\`
- \`state\`: ${named(SINK_STATES)}
- \`state\` of \`millrace_slot_state\`: Postgres' wal_status: \`reserved\`, \`extended\`, \`unreserved\`, \`lost\`
- \`part\`: ${named(LATENCY_PARTS)}
- \`activity\` of \`millrace_source_activity\`: ${named(SOURCE_ACTIVITIES)}
- \`activity\` of \`millrace_sink_activity\`: ${named(SINK_ACTIVITIES)}
- \`kind\`, \`level\` of \`millrace_conditions\`: as in [\`status --json\`](status.md): \`sink.failing\`, \`table.suspended\`, …; \`act\`, \`watch\`
- \`kind\` of \`millrace_sink_errors_total\`: \`retryable\`, \`blocked\`, \`reopen\`, \`fatal\`, \`poison\`
- \`kind\` of \`millrace_reconcile_drift_rows\`: \`missing\`, \`extra\`, \`different\`
`;

/** docs/metrics.md, from the metrics that the daemon registers. */
export function metricsPageDocument(): string {
  const all = new PrometheusMetrics().definitions;
  const own = all.filter(({ name }) => name.startsWith("millrace_"));
  const ofProcess = all.filter((metric) => !own.includes(metric) && !LINUX_ONLY.includes(metric.name));
  const stray = Object.keys(ADVICE).filter((name) => !own.some((metric) => metric.name === name));
  if (stray.length > 0) throw new Error(`no metric has the name ${stray.join(", ")}`);
  return `# Metrics

\`GET /metrics\` on \`admin.listen\` answers in Prometheus' text format ([operate.md](operate.md#http)). Names, labels and units are public: they change with a major version alone. A value that is not known at the moment has no sample.

<!-- Generated from src/ops/metrics.ts by scripts/generate.ts; do not edit. -->

## Millrace's own

Of each its type, unit, labels and meaning, and when to alert on it, if at all.

${own.map(ownLine).join("\n")}

A histogram has \`_bucket\` (with the label \`le\`), \`_sum\` and \`_count\`. Alert on \`up == 0\` too: the daemon does not answer, so nothing is copied. \`millrace status --exit-code\` is the same for a monitor without Prometheus.

## Labels

${LABELS}
## Of the process

The usual ones of Node, as prom-client describes them in the scrape: ${named(ofProcess.map(({ name }) => name))}. Linux tells more: ${named(LINUX_ONLY)}.
`;
}

function ownLine(metric: Definition): string {
  const advice = ADVICE[metric.name];
  if (advice === undefined) throw new Error(`scripts/generated/metrics-page.ts says nothing of ${metric.name}`);
  const labels = metric.labels.length === 0 ? "" : `; ${named(metric.labels)}`;
  return `- \`${metric.name}\` (${metric.type}, ${advice.unit}${labels}): ${metric.help}${alertText(advice.alert)}`;
}

/** `none; …`: nothing to alert on, but something to know. */
function alertText(alert: string): string {
  if (!alert.startsWith("none; ")) return ` Alert: ${alert}.`;
  const known = alert.slice("none; ".length);
  return ` ${known.charAt(0).toUpperCase()}${known.slice(1)}.`;
}

function named(names: readonly string[]): string {
  return names.map((name) => `\`${name}\``).join(", ");
}
