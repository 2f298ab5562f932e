import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import { LATENCY_PARTS, type LatencyParts, type Metrics } from "../core/contracts/telemetry.ts";
import { GAUGES, type LevelGauge, type Scraped } from "./gauges.ts";
import type { Measured } from "./otlp/metric-data.ts";

/** From one millisecond (an idle pipeline) to one minute, after which somebody should look. */
const SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const OPS = ["put", "patch", "delete", "truncate"] as const;

/** Gauges of the library with names of counters. */
const MISNAMED = ["nodejs_active_handles_total", "nodejs_active_requests_total", "nodejs_active_resources_total"];

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
  /** By table, the sinks for which its rows were counted. */
  readonly #counted = new Map<string, Set<string>>();
  readonly #errors: Counter<"sink" | "kind">;
  readonly #apply: Histogram<"sink">;
  readonly #commitToApply: Histogram<"sink">;
  readonly #levels: readonly (readonly [LevelGauge, Gauge | Counter])[];
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
    this.#levels = GAUGES.map((level) => {
      const { name, help, labels: labelNames, isCounter } = level;
      return [level, new (isCounter === true ? Counter : Gauge)({ name, help, labelNames, registers })];
    });
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

  rowsApplied(sink: string, table: string, op: (typeof OPS)[number], count: number): void {
    this.#rows.inc({ sink, table, op }, count);
    const sinks = this.#counted.get(table) ?? new Set();
    this.#counted.set(table, sinks.add(sink));
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
  async measured(scraped: Scraped): Promise<readonly Measured[]> {
    this.#set(scraped);
    const metrics = await this.#registry.getMetricsAsJSON();
    // prom-client's types say that it is a number.
    return metrics.map((metric) => ({ ...metric, type: String(metric.type) }));
  }

  /** All metrics in Prometheus' text format; an unknown value has no sample. */
  async text(scraped: Scraped): Promise<string> {
    this.#set(scraped);
    return (await this.#registry.metrics()).replaceAll(/^[^#\n]+ Nan\n/gm, "");
  }

  /** A sink or a table that is gone must disappear from the scrape. */
  #set(scraped: Scraped): void {
    for (const [{ samples }, metric] of this.#levels) {
      metric.reset();
      for (const [labels, value] of samples(scraped)) metric.inc(labels, value === null ? Number.NaN : Number(value));
    }
    const { schemas, status } = scraped;
    const present = new Set([...schemas, ...status.tables.suspended].map(({ table }) => table));
    for (const [table, sinks] of this.#counted) {
      if (present.has(table)) continue;
      for (const sink of sinks) for (const op of OPS) this.#rows.remove({ sink, table, op });
      this.#counted.delete(table);
    }
  }
}
