import type { SinkConfig } from "../../config/config.ts";
import { systemClock } from "../../core/clock.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { StartedRecord, StateStore } from "../../core/contracts/state-store.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { type SinkForecast, forecastSink, heldForecast } from "../../runtime/start/sink-forecast.ts";
import { knownPosition } from "../../runtime/sink/sink-position.ts";
import { cliError } from "../errors.ts";
import { withSink } from "../opened-sink.ts";

/** What a start would learn from the log. */
export interface LogAnswer {
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
      await withSink(SILENT, config, (sink) => forecastSink({ clock: systemClock, sink, state }, record, signal)),
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
