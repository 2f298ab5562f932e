import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Condition } from "../core/conditions/condition.ts";
import { SOURCE_COUNTERS, type SourceCounter, type SourceCounts } from "../core/contracts/source-counters.ts";
import { ActivityGauges, type ActivityLevels } from "./activity-gauges.ts";
import type { Measured } from "./otlp/metric-data.ts";
import { type TableLevels, TableGauges } from "./table-gauges.ts";
import {
  LATENCY_PARTS,
  type LatencyParts,
  SINK_STATES,
  type Metrics,
  type SinkState,
} from "../core/contracts/telemetry.ts";

/** From one millisecond (an idle pipeline) to one minute, after which somebody should look. */
const SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** Gauges of the library with names of counters. */
const MISNAMED = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"];

/** The values at the moment of a scrape; null if unknown. */
export interface Levels {
  /** What is not, or not yet, as it should be. */
  readonly conditions: readonly Pick<Condition, "kind" | "level">[];
  readonly sourceUp: boolean;
  readonly sourceNeedsPerson: boolean;
  readonly suspendedCount: number;
  readonly unreadableCount: number;
  readonly sourceLagBytes: number | null;
  readonly sourceLagSeconds: number | null;
  readonly slotRetainedBytes: number | null;
  readonly counts: SourceCounts;
  readonly sinks: readonly SinkLevels[];
  /** Captured tables and the version of their shape. */
  readonly schemas: readonly { readonly table: string; readonly version: number }[];
  /** The result of the last comparison of each table in each sink. */
  readonly drift: readonly {
    readonly table: string;
    readonly sink: string;
    readonly kind: string;
    readonly rows: number;
  }[];
  readonly lastEqualSeconds: number | null;
  readonly tables: TableLevels;
  readonly activities: ActivityLevels;
  /** Bytes by sink, for engines that run in this process. */
  readonly memory?: ReadonlyMap<string, number>;
}

export interface SinkLevels {
  readonly name: string;
  readonly state: SinkState;
  readonly lagSeconds: number | null;
  readonly deadLetterCount: number;
  /** Deleted rows that still occupy space in the target; null if the target does not tell. */
  readonly deadRowCount?: number | null;
  readonly isCatchingUp: boolean;
  readonly needsPerson: boolean;
  readonly isWaiting: boolean;
}

export interface Definition {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labels: readonly string[];
}

/** The exported metrics. Names, labels and units are public interface (base units, see docs/metrics.md). */
export class PrometheusMetrics implements Metrics {
  readonly contentType: string;
  readonly #registry = new Registry();
  readonly #rows: Counter<"sink" | "table" | "op">;
  readonly #errors: Counter<"sink" | "kind">;
  readonly #apply: Histogram<"sink">;
  readonly #commitToApply: Histogram<"sink">;
  readonly #levels: LevelGauges;
  readonly #tables: TableGauges;
  readonly #activities: ActivityGauges;
  readonly #parts: Histogram<"sink" | "part">;

  constructor() {
    const registers = [this.#registry];
    this.contentType = this.#registry.contentType;
    this.#rows = new Counter({
      name: "millrace_sink_rows_total",
      help: "Rows that became durable in the sink.",
      labelNames: ["sink", "table", "op"],
      registers,
    });
    this.#errors = new Counter({
      name: "millrace_sink_errors_total",
      help: "Failures of the sink by kind: retryable, blocked, reopen, fatal, poison.",
      labelNames: ["sink", "kind"],
      registers,
    });
    this.#apply = new Histogram({
      name: "millrace_sink_apply_seconds",
      help: "Duration of one write to the sink, retries included.",
      labelNames: ["sink"],
      buckets: SECONDS_BUCKETS,
      registers,
    });
    this.#commitToApply = new Histogram({
      name: "millrace_commit_to_apply_seconds",
      help: "Time from a transaction's commit at the source until its rows are durable in the sink.",
      labelNames: ["sink"],
      buckets: SECONDS_BUCKETS,
      registers,
    });
    this.#parts = new Histogram({
      name: "millrace_latency_part_seconds",
      help: "The parts of that time: source (until Millrace has the transaction), internal (until the write begins), sink (the write).",
      labelNames: ["sink", "part"],
      buckets: SECONDS_BUCKETS,
      registers,
    });
    this.#levels = new LevelGauges(registers);
    this.#tables = new TableGauges(registers);
    this.#activities = new ActivityGauges(registers);
    collectDefaultMetrics({ register: this.#registry });
    for (const name of MISNAMED) this.#registry.removeSingleMetric(name);
  }

  /** Every metric that a scrape can contain. */
  get definitions(): readonly Definition[] {
    return this.#registry.getMetricsAsArray().map((metric) => {
      const { name, help, type } = metric;
      const labels = "labelNames" in metric && Array.isArray(metric.labelNames) ? metric.labelNames.map(String) : [];
      return { name, help, type: String(type), labels };
    });
  }

  rowsApplied(sink: string, table: string, op: "put" | "patch" | "delete" | "truncate", count: number): void {
    this.#rows.inc({ sink, table, op }, count);
  }

  batchApplied(sink: string, seconds: number): void {
    this.#apply.observe({ sink }, seconds);
  }

  commitToApply(sink: string, seconds: number, parts: LatencyParts | null): void {
    this.#commitToApply.observe({ sink }, seconds);
    if (parts === null) return;
    for (const part of LATENCY_PARTS) this.#parts.observe({ sink, part }, parts[part]);
  }

  sinkError(sink: string, kind: string): void {
    this.#errors.inc({ sink, kind });
  }

  /** All metrics with their samples; an unknown value is NaN. */
  async measured(levels: Levels): Promise<readonly Measured[]> {
    this.#set(levels);
    const metrics = await this.#registry.getMetricsAsJSON();
    // prom-client's types say that it is a number.
    return metrics.map((metric) => ({ ...metric, type: String(metric.type) }));
  }

  #set(levels: Levels): void {
    this.#levels.set(levels);
    this.#tables.set(levels.tables);
    this.#activities.set(levels.activities);
  }

  /** All metrics in Prometheus' text format; an unknown value has no sample. */
  async text(levels: Levels): Promise<string> {
    this.#set(levels);
    return (await this.#registry.metrics()).replaceAll(/^[^#\n]+ Nan\n/gm, "");
  }
}

class LevelGauges {
  readonly #conditions: Gauge<"kind" | "level">;
  readonly #sourceUp: Gauge;
  readonly #sourceNeedsPerson: Gauge;
  readonly #suspended: Gauge;
  readonly #unreadable: Gauge;
  readonly #sourceLagBytes: Gauge;
  readonly #sourceLagSeconds: Gauge;
  readonly #slotRetainedBytes: Gauge;
  readonly #counters: readonly (readonly [SourceCounter, Gauge])[];
  readonly #sinkLagSeconds: Gauge<"sink">;
  readonly #sinkState: Gauge<"sink" | "state">;
  readonly #deadLetters: Gauge<"sink">;
  readonly #memory: Gauge<"sink">;
  readonly #deadRows: Gauge<"sink">;
  readonly #schemaVersion: Gauge<"table">;
  readonly #drift: Gauge<"table" | "sink" | "kind">;
  readonly #lastEqual: Gauge;
  readonly #catchingUp: Gauge<"sink">;
  readonly #waiting: Gauge<"sink">;
  readonly #needsPerson: Gauge<"sink">;

  constructor(registers: Registry[]) {
    const plain = (name: string, help: string) => new Gauge({ name, help, registers });
    this.#conditions = new Gauge({
      name: "millrace_conditions",
      help: "What `status` lists as not, or not yet, as it should be; none: all is well. act: it waits for a person.",
      labelNames: ["kind", "level"],
      registers,
    });
    this.#sourceUp = plain("millrace_source_up", "1 while the source answers and its stream flows.");
    this.#sourceNeedsPerson = plain(
      "millrace_source_needs_person",
      "1 while the stream waits for somebody to act at the source, or has failed for ten minutes.",
    );
    this.#suspended = plain("millrace_tables_suspended", "Tables whose changes are skipped until somebody acts.");
    this.#unreadable = plain(
      "millrace_tables_unreadable",
      "Tables whose rows the source refuses to a read beside the stream.",
    );
    this.#sourceLagBytes = plain(
      "millrace_source_lag_bytes",
      "Log that the source has written and Millrace has not read yet.",
    );
    this.#sourceLagSeconds = plain("millrace_source_lag_seconds", "Age of the log that Millrace reads now.");
    this.#slotRetainedBytes = plain("millrace_slot_retained_bytes", "Log that the source keeps for this daemon.");
    this.#counters = SOURCE_COUNTERS.map(({ name, metric, help }) => [name, plain(metric, help)]);
    this.#lastEqual = plain(
      "millrace_reconcile_last_success_timestamp_seconds",
      "End of the last comparison that found all tables in all sinks equal.",
    );
    this.#drift = new Gauge({
      name: "millrace_reconcile_drift_rows",
      help: "Rows that differed from the source in the last comparison: missing, extra, different.",
      labelNames: ["table", "sink", "kind"],
      registers,
    });
    this.#sinkLagSeconds = new Gauge({
      name: "millrace_sink_lag_seconds",
      help: "How far the sink is behind the source.",
      labelNames: ["sink"],
      registers,
    });
    this.#sinkState = new Gauge({
      name: "millrace_sink_state",
      help: "1 for the state that the sink is in, 0 for the others.",
      labelNames: ["sink", "state"],
      registers,
    });
    const perSink = (name: string, help: string) => new Gauge({ name, help, labelNames: ["sink"] as const, registers });
    this.#catchingUp = perSink(
      "millrace_sink_catching_up",
      "1 while the sink catches up after it was away or too slow.",
    );
    this.#needsPerson = perSink(
      "millrace_sink_needs_person",
      "1 while the sink waits for somebody to act, here or at its target.",
    );
    this.#waiting = perSink(
      "millrace_sink_waiting",
      "1 while the sink gets nothing new because the stream went back for another sink.",
    );
    this.#deadLetters = new Gauge({
      name: "millrace_dead_letters",
      help: "Refused rows of the sink that wait for a decision.",
      labelNames: ["sink"],
      registers,
    });
    this.#deadRows = perSink(
      "millrace_sink_dead_rows",
      "Deleted rows that still occupy space in a DuckDB file, at the last count.",
    );
    this.#memory = perSink("millrace_sink_memory_bytes", "Memory that DuckDB counts as its own, within the process.");
    this.#schemaVersion = new Gauge({
      name: "millrace_schema_version",
      help: "Version of the table's shape; it grows with each change of its columns or key.",
      labelNames: ["table"],
      registers,
    });
  }

  get #perSink(): readonly { reset(): void }[] {
    return [
      this.#sinkLagSeconds,
      this.#sinkState,
      this.#deadLetters,
      this.#memory,
      this.#deadRows,
      this.#catchingUp,
      this.#needsPerson,
      this.#waiting,
    ];
  }

  set(levels: Levels): void {
    this.#conditions.reset();
    for (const { kind, level } of levels.conditions) this.#conditions.inc({ kind, level });
    this.#sourceUp.set(levels.sourceUp ? 1 : 0);
    this.#sourceNeedsPerson.set(levels.sourceNeedsPerson ? 1 : 0);
    this.#suspended.set(levels.suspendedCount);
    this.#unreadable.set(levels.unreadableCount);
    this.#sourceLagBytes.set(levels.sourceLagBytes ?? Number.NaN);
    this.#sourceLagSeconds.set(levels.sourceLagSeconds ?? Number.NaN);
    this.#slotRetainedBytes.set(levels.slotRetainedBytes ?? Number.NaN);
    for (const [name, gauge] of this.#counters) gauge.set(levels.counts[name] ?? Number.NaN);
    this.#lastEqual.set(levels.lastEqualSeconds ?? Number.NaN);
    this.#drift.reset();
    for (const { table, sink, kind, rows } of levels.drift) this.#drift.set({ table, sink, kind }, rows);
    this.#schemaVersion.reset();
    for (const { table, version } of levels.schemas) this.#schemaVersion.set({ table }, version);
    // A sink that left the configuration must disappear from the scrape.
    for (const gauge of this.#perSink) gauge.reset();
    for (const [sink, bytes] of levels.memory ?? []) this.#memory.set({ sink }, bytes);
    for (const level of levels.sinks) {
      const {
        name: sink,
        state,
        lagSeconds,
        deadLetterCount,
        deadRowCount,
        isCatchingUp,
        needsPerson,
        isWaiting,
      } = level;
      if (deadRowCount != null) this.#deadRows.set({ sink }, deadRowCount);
      this.#needsPerson.set({ sink }, needsPerson ? 1 : 0);
      this.#catchingUp.set({ sink }, isCatchingUp ? 1 : 0);
      this.#waiting.set({ sink }, isWaiting ? 1 : 0);
      this.#sinkLagSeconds.set({ sink }, lagSeconds ?? Number.NaN);
      this.#deadLetters.set({ sink }, deadLetterCount);
      for (const other of SINK_STATES) this.#sinkState.set({ sink, state: other }, other === state ? 1 : 0);
    }
  }
}
