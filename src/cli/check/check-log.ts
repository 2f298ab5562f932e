/** Whether the next start can continue in the source's log: what `check` tells of it, and `recover` begins with. */
import type { Config, SinkConfig } from "../../config/config.ts";
import { systemClock } from "../../core/clock.ts";
import type { Finding } from "../../core/contracts/connector.ts";
import type { LogAdmin } from "../../core/contracts/log-admin.ts";
import type { Source } from "../../core/contracts/source.ts";
import {
  hasIdentity,
  type SourceRecord,
  type StartedRecord,
  type StateStore,
} from "../../core/contracts/state-store.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { memoryOf, openSource } from "../../daemon/ruled-source.ts";
import { noMemory } from "../../rules/former-rules.ts";
import { sinkAhead } from "../../runtime/errors.ts";
import { isBeyondLog, knownPosition, onLostOf } from "../../runtime/sink/sink-position.ts";
import { forecastSink, heldForecast, type SinkForecast } from "../../runtime/start/sink-forecast.ts";
import { ofTables } from "../../daemon/state-parts.ts";
import { openState } from "../../state/open.ts";
import { cliError } from "../errors.ts";
import { whileOpen } from "../opened.ts";
import { liveHolder } from "../state.ts";

/** `part`: of a sink's finding, the sink's name. */
type PlacedFinding = Finding & { readonly part?: string };

/** Whether the source and each sink can continue in the log, and whether another daemon reads it. */
export async function checkLog(config: Config, signal: AbortSignal): Promise<readonly PlacedFinding[]> {
  const state = await openKnown(config);
  try {
    // A running daemon has checked this, and checks it at each connection.
    if (state !== null && (await liveHolder(state)) !== null) return [];
    const memory = state === null ? noMemory() : await memoryOf(config, state);
    return await whileOpen(openSource(config, memory, SILENT), async (source) => {
      try {
        const record = (await state?.source.get()) ?? null;
        if (record !== null && hasIdentity(record)) {
          const tables = ofTables(config, state!);
          const { forecasts, isSame } = await askLog(source, tables.state, tables.config.sinks, record, signal);
          if (!isSame) return [];
          await source.admin.expectFree?.(record.identity, signal);
          return await checkPositions(tables.config, forecasts, record, await source.log.tip(signal));
        }
        if (record === null) await source.admin.expectFree?.(null, signal);
        return [];
      } catch (error) {
        return told(source.admin, error);
      }
    });
  } finally {
    await state?.close();
  }
}

const READ_BY_ANOTHER = "MR2012";

/** A source that can't be reached, or has wrong settings, is reported by the source's own findings. */
function told({ losses }: LogAdmin, error: unknown): readonly Finding[] {
  const known = findMillraceError(error);
  if (known === undefined) throw error;
  if (!losses.has(known.code) && known.code !== READ_BY_ANOTHER) return [];
  // A start waits: the session may belong to a daemon that lost its connection.
  const level = known.kind === "retryable" ? "warning" : "error";
  return [{ id: "log", level, what: textOf(known), fix: known.hint ?? null }];
}

/** Null if there is no state yet. Errors of the state are a finding of its own. */
async function openKnown({ name, state }: Config): Promise<StateStore | null> {
  try {
    return await openState(state, { name, readOnly: true });
  } catch (error) {
    if (findMillraceError(error) === undefined) throw error;
    return null;
  }
}

/** What a start would learn from the log. */
interface LogAnswer {
  /** By the sinks' names. */
  readonly forecasts: ReadonlyMap<string, SinkForecast>;
  /** False: the log of another host that the next start can continue in. */
  readonly isSame: boolean;
}

/** Asks the log and the sinks what a start asks first, and returns the source's errors. Changes nothing. */
export async function askLog(
  { admin, positions }: Pick<Source, "admin" | "positions">,
  state: Pick<StateStore, "sinks" | "bonds">,
  sinks: readonly SinkConfig[],
  record: StartedRecord,
  signal: AbortSignal,
): Promise<LogAnswer> {
  const { identity, epoch } = record;
  positions.recall?.(identity);
  const forecasts = new Map<string, SinkForecast>();
  for (const config of sinks) {
    forecasts.set(
      config.name,
      await whileOpen(config.connector.create(SILENT), (sink) =>
        forecastSink({ clock: systemClock, sink, state }, record, signal),
      ),
    );
  }
  const held = heldForecast(record, [...forecasts.values()]);
  if (held === null) throw cliError("MR1120", "the first start has not finished: there is nothing to recover");
  const known = (await state.sinks.all()).flatMap((sink) => knownPosition(sink) ?? []);
  const commits = known.filter((position) => position.epoch === epoch).map(({ commit }) => commit);
  const crossing = (await admin.cross?.(identity, commits, signal)) ?? null;
  const isSame = crossing === null || crossing.leftAt !== undefined;
  if (isSame) await admin.resume(identity, held, signal);
  return { forecasts, isSame };
}

/** What a start would find about each sink's position in a log that ends at `tip`. */
async function checkPositions(
  { sinks }: Config,
  forecasts: LogAnswer["forecasts"],
  { epoch }: SourceRecord,
  tip: bigint,
): Promise<readonly PlacedFinding[]> {
  const found: PlacedFinding[] = [];
  for (const { name, onLost, connector } of sinks) {
    const error = refusalOf(name, forecasts.get(name), epoch, tip);
    if (error === null) continue;
    const isFilled =
      error.reason === "behind" &&
      (await whileOpen(connector.create(SILENT), (sink) => onLostOf(sink, onLost))) === "resync";
    const fix = isFilled ? "the start fills it again" : (error.hint ?? null);
    found.push({ part: name, id: error.code, level: isFilled ? "warning" : "error", what: textOf(error), fix });
  }
  return found;
}

/** The sink's own findings say why it can't be asked. */
function refusalOf(name: string, forecast: SinkForecast | undefined, epoch: number, tip: bigint): MillraceError | null {
  if (forecast?.kind === "refused") return forecast.error;
  if (forecast?.kind !== "continues" || forecast.from.kind === "new") return null;
  return isBeyondLog(forecast.from.covered, epoch, tip) ? sinkAhead(name) : null;
}

function textOf({ code, message }: MillraceError): string {
  return `${code} ${message}`;
}
