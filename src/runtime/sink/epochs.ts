import type { Checkpoint } from "../../core/model/batch.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import { EPOCH_MAX, epochOf } from "../../core/model/version.ts";

/**
 * The highest epoch that an opened sink shows: that of its checkpoint or, without a checkpoint, of its rows. 0: the sink is
 * empty. Invariant: a new epoch is higher, because a row of this epoch would win against all changes of a lower one.
 */
export async function epochHeld(sink: Sink, own: Checkpoint | null, signal: AbortSignal): Promise<number> {
  return own === null ? await epochOfRows(sink, signal) : own.position.epoch;
}

/**
 * The same, but it also reads the rows of a sink that has a checkpoint. An epoch there that no other can exceed does not
 * count.
 */
export async function epochHeldAtAll(sink: Sink, own: Checkpoint | null, signal: AbortSignal): Promise<number> {
  const ofRows = await epochOfRows(sink, signal);
  if (own === null) return ofRows;
  return Math.max(own.position.epoch, ofRows < EPOCH_MAX ? ofRows : 0);
}

async function epochOfRows(sink: Sink, signal: AbortSignal): Promise<number> {
  return epochOf((await sink.rows?.highestVersion(null, signal)) ?? 0n);
}
