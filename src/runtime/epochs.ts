import type { SinkProgress } from "../core/model/batch.ts";
import type { Sink } from "../core/contracts/sink.ts";
import { EPOCH_MAX, epochOf } from "../core/model/version.ts";

/**
 * The highest epoch that an opened sink shows: its checkpoint's or, where it has none, its rows'. 0: it holds nothing. Invariant:
 * a new epoch is above it; a row of it would stand against all changes of a lower one.
 */
export async function epochHeld(sink: Sink, own: SinkProgress | null, signal: AbortSignal): Promise<number> {
  return own === null ? await epochOfRows(sink, signal) : own.position.epoch;
}

/** The same, also by the rows of a sink that has a checkpoint. One that no epoch is above does not count there. */
export async function epochHeldAtAll(sink: Sink, own: SinkProgress | null, signal: AbortSignal): Promise<number> {
  const ofRows = await epochOfRows(sink, signal);
  if (own === null) return ofRows;
  return Math.max(own.position.epoch, ofRows < EPOCH_MAX ? ofRows : 0);
}

async function epochOfRows(sink: Sink, signal: AbortSignal): Promise<number> {
  return epochOf((await sink.rows?.highestVersion(null, signal)) ?? 0n);
}
