import type { PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { type Constants, type Measured, metricData } from "./metric-data.ts";

/** Below the shortest interval, so that no push waits for another one. */
const ANSWER_MS_MAX = 4_000;

export interface OtlpParts {
  /** With the path below which OTLP is served. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly intervalMs: number;
  readonly clock: Clock;
  /** The daemon's: `service.instance.id`. */
  readonly name: string;
  readonly version: string;
  /** What `/metrics` would serve now. */
  readonly collect: () => Promise<readonly Measured[]>;
  readonly logger: Logger;
}

/**
 * Sends the numbers of `/metrics` to an OpenTelemetry receiver, again and again. A receiver that is away changes nothing for
 * the daemon: what it misses is lost, except that counters go on counting.
 */
export async function pushMetrics(parts: OtlpParts, signal: AbortSignal): Promise<never> {
  const { clock, version, intervalMs, collect, logger } = parts;
  const { constants, exporter, resource } = await loaded(parts);
  const startMs = clock.now() - process.uptime() * 1000;
  let isAway = false;
  try {
    for (;;) {
      const times = { startMs, nowMs: clock.now() };
      const error = await collect()
        .then((measured) => metricData(measured, times, constants))
        .then((metrics) =>
          send(exporter, { resource, scopeMetrics: [{ scope: { name: "millrace", version }, metrics }] }),
        )
        .catch((thrown: unknown) => thrown);
      signal.throwIfAborted();
      if (error !== null && !isAway)
        logger.warn({ error }, "metrics could not be sent to telemetry.otlp; they are sent on");
      if (error === null && isAway) logger.info({}, "telemetry.otlp takes metrics again");
      isAway = error !== null;
      await clock.sleep(intervalMs, signal);
    }
  } finally {
    await exporter.shutdown().catch(() => undefined);
  }
}

/** Null: the receiver took them. */
async function send(exporter: PushMetricExporter, metrics: Parameters<PushMetricExporter["export"]>[0]) {
  return await new Promise<Error | null>((resolve) => {
    exporter.export(metrics, ({ code, error }) => {
      const failed: number = code;
      resolve(failed === 0 ? null : (error ?? new Error("refused")));
    });
  });
}

/** These packages take half a second of processor time and 27 MB of memory, so only a daemon that needs them loads them. */
async function loaded({ endpoint, headers, name, version }: OtlpParts) {
  const [api, sdk, { OTLPMetricExporter }, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-metrics"),
    import("@opentelemetry/exporter-metrics-otlp-proto"),
    import("@opentelemetry/resources"),
  ]);
  const constants: Constants = { api, sdk };
  const url = `${endpoint.replace(/\/+$/, "")}/v1/metrics`;
  const exporter = new OTLPMetricExporter({ url, headers: { ...headers }, timeoutMillis: ANSWER_MS_MAX });
  const resource = resourceFromAttributes({
    "service.name": "millrace",
    "service.version": version,
    "service.instance.id": name,
  });
  return { constants, exporter, resource };
}
