import type { ResourceMetrics } from "@opentelemetry/sdk-metrics";
import type { Clock } from "../../core/clock.ts";
import { LATENCY_PARTS, type Logger } from "../../core/contracts/telemetry.ts";
import type { MillraceError } from "../../core/errors.ts";
import { codeOf, tlsFailure } from "../../tls/failure.ts";
import { tlsOptions, type TlsSettings, UnusableTls } from "../../tls/options.ts";
import { opsError } from "../errors.ts";
import { hrTime, type Measured, metricData } from "./metric-data.ts";
import type { TracedBatch } from "./traced-batches.ts";
import { randomBytes } from "node:crypto";
import type * as api from "@opentelemetry/api";
import type { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";

/** Below the shortest interval, so that no push waits for another one. */
const ANSWER_MS_MAX = 4_000;

interface OtlpParts {
  /** With the path below which OTLP is served. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: TlsSettings;
  readonly intervalMs: number;
  readonly clock: Clock;
  /** The daemon's: `service.instance.id`. */
  readonly name: string;
  readonly version: string;
  /** What `/metrics` would serve now. */
  readonly collect: () => Promise<readonly Measured[]>;
  /** The batches since the last call; null: traces are not sent. */
  readonly takeBatches: (() => readonly TracedBatch[]) | null;
  readonly logger: Logger;
}

/** What is sent to one path below the endpoint. */
interface Pushed<T> {
  readonly what: "metrics" | "traces";
  readonly open: () => Exporter<T>;
  /** Null: there is nothing to send. */
  readonly take: () => Promise<T | null>;
}

interface Exporter<T> {
  export(data: T, done: (result: { readonly code: number; readonly error?: Error }) => void): void;
  shutdown(): Promise<void>;
}

/**
 * Sends the numbers of `/metrics`, and traces of batches, to an OpenTelemetry receiver, again and again. A receiver that is away
 * changes nothing for the daemon: what it misses is lost, except that counters go on counting.
 */
export async function pushTelemetry(parts: OtlpParts, signal: AbortSignal): Promise<never> {
  const { metrics, traces } = await loaded(parts);
  return await Promise.race([push(metrics, parts, signal), ...(traces === null ? [] : [push(traces, parts, signal)])]);
}

async function push<T>(
  { what, open, take }: Pushed<T>,
  { clock, intervalMs, logger }: OtlpParts,
  signal: AbortSignal,
): Promise<never> {
  let exporter: Exporter<T> | null = null;
  let isAway = false;
  try {
    for (;;) {
      const error = await take()
        .then((data) => (data === null ? null : send((exporter ??= open()), data)))
        .catch((thrown: unknown) => thrown);
      // The next attempt reads the files of certificates again.
      if (error !== null) await shutDown(exporter);
      if (error !== null) exporter = null;
      signal.throwIfAborted();
      if (error !== null && !isAway)
        logger.warn({ error: numbered(what, error) }, `${what} could not be sent to telemetry.otlp; they are sent on`);
      if (error === null && isAway) logger.info({}, `telemetry.otlp takes ${what} again`);
      isAway = error !== null;
      await clock.sleep(intervalMs, signal);
    }
  } finally {
    await shutDown(exporter);
  }
}

async function shutDown(exporter: Exporter<never> | null): Promise<void> {
  await exporter?.shutdown().catch(() => undefined);
}

function numbered(what: string, error: unknown): MillraceError {
  const tls = error instanceof UnusableTls ? error : tlsFailure(codeOf(error));
  const status = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
  const message = `telemetry.otlp did not take ${what}${tls === undefined ? status : `: TLS failed: ${tls.what}`}`;
  const cause = tls === undefined ? error : undefined;
  return opsError("MR1158", message, { kind: "retryable", hint: tls?.fix, cause });
}

/** Null: the receiver took them. */
async function send<T>(exporter: Exporter<T>, data: T): Promise<Error | null> {
  return await new Promise<Error | null>((resolve) => {
    exporter.export(data, ({ code, error }) => {
      resolve(code === 0 ? null : (error ?? new Error("refused")));
    });
  });
}

/** These packages take half a second of processor time and 27 MB of memory, so only a daemon that needs them loads them. */
async function loaded(parts: OtlpParts) {
  const { endpoint, headers, tls, name, version, clock, collect, takeBatches } = parts;
  const [api, sdk, { OTLPMetricExporter }, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-metrics"),
    import("@opentelemetry/exporter-metrics-otlp-proto"),
    import("@opentelemetry/resources"),
  ]);
  const optionsFor = (path: string) => {
    const url = `${endpoint.replace(/\/+$/, "")}/v1/${path}`;
    const httpAgentOptions = { keepAlive: true, ...tlsOptions(tls, url.startsWith("https:")) };
    return { url, headers: { ...headers }, timeoutMillis: ANSWER_MS_MAX, httpAgentOptions };
  };
  const resource = resourceFromAttributes({
    "service.name": "millrace",
    "service.version": version,
    "service.instance.id": name,
  });
  const scope = { name: "millrace", version };
  const startMs = clock.now() - process.uptime() * 1000;
  const metrics: Pushed<ResourceMetrics> = {
    what: "metrics",
    open: () => new OTLPMetricExporter(optionsFor("metrics")),
    take: async () => {
      const times = { startMs, nowMs: clock.now() };
      return { resource, scopeMetrics: [{ scope, metrics: metricData(await collect(), times, { api, sdk }) }] };
    },
  };
  if (takeBatches === null) return { metrics, traces: null };
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-proto");
  const traces: Pushed<ReadableSpan[]> = {
    what: "traces",
    open: () => new OTLPTraceExporter(optionsFor("traces")),
    take: async () => {
      const spans = spanData(takeBatches(), { resource, instrumentationScope: scope }, api);
      return await Promise.resolve(spans.length === 0 ? null : spans);
    },
  };
  return { metrics, traces };
}

/** Batches of sinks as traces, in the form that OpenTelemetry's exporters take. */
/** The constants of OpenTelemetry's API, which is loaded only when it is needed. */
type SpanConstants = Pick<typeof api, "SpanKind" | "SpanStatusCode" | "TraceFlags">;

type ReadableSpan = Parameters<OTLPTraceExporter["export"]>[0][number];

type Origin = Pick<ReadableSpan, "resource" | "instrumentationScope">;

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
