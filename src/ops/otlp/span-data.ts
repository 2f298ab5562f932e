/** Batches of sinks as traces, in the form that OpenTelemetry's exporters take. */
import { randomBytes } from "node:crypto";
import type * as api from "@opentelemetry/api";
import type { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { LATENCY_PARTS } from "../../core/contracts/telemetry.ts";
import { hrTime } from "./metric-data.ts";
import type { TracedBatch } from "./traced-batches.ts";

/** The constants of OpenTelemetry's API, which is loaded only when it is needed. */
type SpanConstants = Pick<typeof api, "SpanKind" | "SpanStatusCode" | "TraceFlags">;

export type ReadableSpan = Parameters<OTLPTraceExporter["export"]>[0][number];

export type Origin = Pick<ReadableSpan, "resource" | "instrumentationScope">;

/** What the parts of the latency are called: in Postgres or MySQL and on the way, in the daemon, in the target. */
const NAMES = { source: "capture", internal: "queue", sink: "write" } as const;

/** One trace for each batch: `apply`, with a span for each part of its time. */
export function spanData(batches: readonly TracedBatch[], origin: Origin, constants: SpanConstants): ReadableSpan[] {
  const { SpanKind, SpanStatusCode, TraceFlags } = constants;
  return batches.flatMap(({ sink, rowCount, tables, endMs, parts }) => {
    const traceId = randomBytes(16).toString("hex");
    const contextOf = (): api.SpanContext => ({
      traceId,
      spanId: randomBytes(8).toString("hex"),
      traceFlags: TraceFlags.SAMPLED,
    });
    const span = (name: string, kind: api.SpanKind, startMs: number, durationMs: number): ReadableSpan => {
      const context = contextOf();
      return {
        name,
        kind,
        spanContext: () => context,
        startTime: hrTime(startMs),
        endTime: hrTime(startMs + durationMs),
        duration: hrTime(durationMs),
        status: { code: SpanStatusCode.UNSET },
        attributes: { "millrace.sink": sink },
        links: [],
        events: [],
        ended: true,
        droppedAttributesCount: 0,
        droppedEventsCount: 0,
        droppedLinksCount: 0,
        ...origin,
      };
    };
    const wholeMs = LATENCY_PARTS.reduce((sum, part) => sum + parts[part] * 1000, 0);
    let atMs = endMs - wholeMs;
    const whole = span("apply", SpanKind.CONSUMER, atMs, wholeMs);
    const attributes = { ...whole.attributes, "millrace.rows": rowCount, "millrace.tables": [...tables] };
    const children = LATENCY_PARTS.map((part) => {
      const durationMs = parts[part] * 1000;
      const kind = part === "internal" ? SpanKind.INTERNAL : SpanKind.CLIENT;
      const child = { ...span(NAMES[part], kind, atMs, durationMs), parentSpanContext: whole.spanContext() };
      atMs += durationMs;
      return child;
    });
    return [{ ...whole, attributes }, ...children];
  });
}
