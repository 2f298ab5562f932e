import type { SinkConfig } from "../../config/config.ts";
import { systemClock } from "../../core/clock.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { StartedRecord, StateStore } from "../../core/contracts/state-store.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { type Foreseen, foresee, heldForeseen } from "../../runtime/foreseen.ts";
import { knownPlace } from "../../runtime/apply/standing.ts";
import { cliError } from "../errors.ts";
import { withSink } from "../opened-sink.ts";

/** What a start would find. */
export interface LogAnswer {
  /** By the sinks' names. */
  readonly foreseen: ReadonlyMap<string, Foreseen>;
  /** False: another host's log, which can be gone on in, and is by the next start. */
  readonly isSame: boolean;
}

/**
 * The same questions of the log, and of the sinks, that a start asks before it touches anything, and the source's errors.
 * Changes nothing.
 */
export async function askLog(
  { admin, positions }: Pick<Source, "admin" | "positions">,
  state: Pick<StateStore, "sinks" | "bonds">,
  sinks: readonly SinkConfig[],
  record: StartedRecord,
  signal: AbortSignal,
): Promise<LogAnswer> {
  const { identity, epoch } = record;
  positions.recall?.(identity);
  const foreseen = new Map<string, Foreseen>();
  for (const config of sinks) {
    foreseen.set(
      config.name,
      await withSink(SILENT, config, (sink) => foresee({ clock: systemClock, sink, state }, record, signal)),
    );
  }
  const held = heldForeseen(record, [...foreseen.values()]);
  if (held === null) throw cliError("MR1120", "the first start has not finished: there is nothing to recover");
  const places = (await state.sinks.all()).flatMap((sink) => knownPlace(sink) ?? []);
  const commits = places.filter((place) => place.epoch === epoch).map(({ commit }) => commit);
  const crossing = (await admin.cross?.(identity, commits, signal)) ?? null;
  if (crossing === null) await admin.resume(identity, held, signal);
  return { foreseen, isSame: crossing === null };
}
