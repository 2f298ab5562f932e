import type { Config, SinkConfig } from "../../config/config.ts";
import type { Finding } from "../../core/contracts/connector.ts";
import type { MillraceError } from "../../core/errors.ts";
import type { SourceRecord } from "../../core/contracts/state-store.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { sinkAhead } from "../../runtime/errors.ts";
import type { SinkForecast } from "../../runtime/start/sink-forecast.ts";
import { isBeyondLog, onLostOf } from "../../runtime/sink/sink-position.ts";
import { withSink } from "../opened-sink.ts";

/** What a start would find about each sink's position in a log that ends at `tip`. */
export async function checkPositions(
  { sinks }: Config,
  forecasts: ReadonlyMap<string, SinkForecast>,
  { epoch }: SourceRecord,
  tip: bigint,
): Promise<readonly (Finding & { readonly part: string })[]> {
  const found: (Finding & { readonly part: string })[] = [];
  for (const config of sinks) {
    const error = refusalOf(config.name, forecasts.get(config.name), epoch, tip);
    if (error !== null) found.push({ part: config.name, ...(await findingOf(config, error)) });
  }
  return found;
}

/** The sink's own findings say why it can't be asked. */
function refusalOf(name: string, forecast: SinkForecast | undefined, epoch: number, tip: bigint): MillraceError | null {
  if (forecast?.kind === "refused") return forecast.error;
  if (forecast?.kind !== "continues" || forecast.from.kind === "new") return null;
  return isBeyondLog(forecast.from.covered, epoch, tip) ? sinkAhead(name) : null;
}

async function findingOf(config: SinkConfig, { code, message, hint, reason }: MillraceError): Promise<Finding> {
  const what = `${code} ${message}`;
  const isFilled =
    reason === "behind" && (await withSink(SILENT, config, async (sink) => onLostOf(sink, config.onLost))) === "resync";
  if (isFilled) return { id: code, level: "warning", what, fix: "the start fills it again" };
  return { id: code, level: "error", what, fix: hint ?? null };
}
