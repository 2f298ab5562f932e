/** The capturing daemon goes on in a new epoch: where a reader goes on there. */
import type { Crossing } from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import type { Cluster } from "../client/cluster.ts";
import { extentOf, type Place } from "../client/reading.ts";
import { classify } from "../errors.ts";
import type { Calls } from "./calls.ts";
import type { SourceContext } from "./context.ts";
import type { Followed } from "./followed.ts";
import { findLog, firstAfterEpoch, firstOf, lastOf } from "./log-topic.ts";
import { tablesFrom } from "./tables.ts";

/**
 * Null: the log has no later epoch, or there are frames of this one to read first. Between two epochs anything may be
 * missing: the capturing daemon's own crossing says nothing of what its readers have. So every sink keeps its rows, goes on
 * where the newest epoch begins, and is compared.
 */
export async function crossEpoch(
  context: SourceContext,
  { calls, followed }: { readonly calls: Calls; readonly followed: Followed },
  identity: LogIdentity,
  places: readonly bigint[],
  signal: AbortSignal,
): Promise<Crossing | null> {
  followed.recall(identity);
  try {
    await using cluster = await context.cluster.connect(signal);
    const place = await findLog(cluster, context, signal);
    if (!followed.isTopic(place.topic.id)) return null;
    const { first, stable } = await extentOf(cluster, place, signal);
    const all = { from: first, until: stable };
    const newest = (await lastOf(cluster, place, all, signal))?.until.epoch ?? 0;
    if (newest <= followed.epoch) return null;
    if (!followed.hasReadOn(newest) && (await hasMore(cluster, place, followed.epoch, places, signal))) return null;
    const { frame, first: offset } = (await firstAfterEpoch(cluster, place, all, newest - 1, signal))!.found;
    const position = frame.from.commit;
    // Invariant: after the position was found. A table of a later generation is read as a whole.
    const { generations } = await tablesFrom(context, calls, signal);
    return {
      identity: followed.identityOf(place.topic.id, newest, { position, offset }),
      places: new Map(),
      from: position,
      end: position,
      generations: new Map(),
      compared: generations,
    };
  } catch (error) {
    throw classify(error, signal);
  }
}

/** Whether the log has changes of this epoch that follow what every sink has: histories need them. */
async function hasMore(
  cluster: Cluster,
  place: Place,
  epoch: number,
  places: readonly bigint[],
  signal: AbortSignal,
): Promise<boolean> {
  const { first, stable } = await extentOf(cluster, place, signal);
  const all = { from: first, until: stable };
  const lowest = places.reduce<bigint | null>((low, one) => (low === null || one < low ? one : low), null);
  const oldest = await firstOf(cluster, place, all, signal);
  if (lowest === null || oldest === null || oldest.until.epoch > epoch) return false;
  // What retention has cut off can't be read: the comparison finds it.
  if (oldest.from.epoch === epoch && oldest.from.commit > lowest) return false;
  const before = (await firstAfterEpoch(cluster, place, all, epoch, signal))?.before ?? null;
  return before !== null && before.until.commit > lowest;
}
