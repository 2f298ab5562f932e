import { earliest } from "../core/position.ts";
import type { LogIdentity, Source } from "../core/source.ts";
import type { SourceRecord, StateStore } from "../core/state-store.ts";
import { heldFrom, knownPlace } from "../runtime/standing.ts";
import { cliError } from "./errors.ts";

/**
 * The same questions of the log that a start asks before the first change is read, and the same errors. Changes nothing.
 * Another host's log that can be gone on in is gone on in by the next start; false: there is one.
 */
export async function askLog(
  source: Source,
  state: Pick<StateStore, "sinks">,
  { acknowledged, epoch, origin, identity }: SourceRecord & { readonly identity: LogIdentity },
  signal: AbortSignal,
): Promise<boolean> {
  source.recall?.(identity);
  const records = await state.sinks.all();
  const places = records.flatMap((sink) => knownPlace(sink) ?? []).filter((place) => place.epoch === epoch);
  const from = earliest(places) ?? acknowledged ?? origin;
  if (from === null) throw cliError("MR1120", "the first start has not finished: there is nothing to recover");
  const commits = places.map(({ commit }) => commit);
  const crossing = (await source.cross?.(identity, commits, signal)) ?? null;
  if (crossing !== null) return false;
  await source.resume(identity, heldFrom(from, records), signal);
  return true;
}
