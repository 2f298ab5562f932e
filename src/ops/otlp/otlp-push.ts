import type { PushMetricExporter } from "@opentelemetry/sdk-metrics";
import type { Clock } from "../../core/clock.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { MillraceError } from "../../core/errors.ts";
import { codeOf, tlsFailure } from "../../tls/failure.ts";
import { tlsOptions, type TlsSettings, UnusableTls } from "../../tls/options.ts";
import { pages } from "../errors.ts";
import { type Constants, type Measured, metricData } from "./metric-data.ts";

/** Below the shortest interval, so that no push waits for another one. */
const ANSWER_MS_MAX = 4_000;

export interface OtlpParts {
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
  readonly logger: Logger;
}

/**
 * Sends the numbers of `/metrics` to an OpenTelemetry receiver, again and again. A receiver that is away changes nothing for
 * the daemon: what it misses is lost, except that counters go on counting.
 */
export async function pushMetrics(parts: OtlpParts, signal: AbortSignal): Promise<never> {
  const { clock, version, intervalMs, collect, logger } = parts;
  const { constants, exporterFor, resource } = await loaded(parts);
  const startMs = clock.now() - process.uptime() * 1000;
  let exporter: PushMetricExporter | null = null;
  let isAway = false;
  try {
    for (;;) {
      const times = { startMs, nowMs: clock.now() };
      const error = await collect()
        .then((measured) => metricData(measured, times, constants))
        .then((metrics) =>
          send((exporter ??= exporterFor()), {
            resource,
            scopeMetrics: [{ scope: { name: "millrace", version }, metrics }],
          }),
        )
        .catch((thrown: unknown) => thrown);
      // The next attempt reads the files of certificates again.
      if (error !== null) await shutDown(exporter);
      if (error !== null) exporter = null;
      signal.throwIfAborted();
      if (error !== null && !isAway)
        logger.warn({ error: numbered(error) }, "metrics could not be sent to telemetry.otlp; they are sent on");
      if (error === null && isAway) logger.info({}, "telemetry.otlp takes metrics again");
      isAway = error !== null;
      await clock.sleep(intervalMs, signal);
    }
  } finally {
    await shutDown(exporter);
  }
}

async function shutDown(exporter: PushMetricExporter | null): Promise<void> {
  await exporter?.shutdown().catch(() => undefined);
}

function numbered(error: unknown): MillraceError {
  const tls = error instanceof UnusableTls ? error : tlsFailure(codeOf(error));
  const status = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
  return new MillraceError({
    code: "MR1164",
    kind: "retryable",
    message: `telemetry.otlp did not take metrics${tls === undefined ? status : `: TLS failed: ${tls.what}`}`,
    hint: tls?.fix ?? pages.MR1164.remedy,
    cause: tls === undefined ? error : undefined,
  });
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
async function loaded({ endpoint, headers, tls, name, version }: OtlpParts) {
  const [api, sdk, { OTLPMetricExporter }, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/api"),
    import("@opentelemetry/sdk-metrics"),
    import("@opentelemetry/exporter-metrics-otlp-proto"),
    import("@opentelemetry/resources"),
  ]);
  const constants: Constants = { api, sdk };
  const url = `${endpoint.replace(/\/+$/, "")}/v1/metrics`;
  const exporterFor = (): PushMetricExporter => {
    const httpAgentOptions = { keepAlive: true, ...tlsOptions(tls, url.startsWith("https:")) };
    return new OTLPMetricExporter({ url, headers: { ...headers }, timeoutMillis: ANSWER_MS_MAX, httpAgentOptions });
  };
  const resource = resourceFromAttributes({
    "service.name": "millrace",
    "service.version": version,
    "service.instance.id": name,
  });
  return { constants, exporterFor, resource };
}
