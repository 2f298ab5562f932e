import type { Sink } from "../core/sink.ts";
import { epochOf } from "../core/version.ts";

/**
 * The highest epoch that a sink shows: its checkpoint's or, where it has none, its rows'. 0: it holds nothing. Invariant: a new
 * epoch is above it; a row of it would stand against all changes of a lower one.
 */
export async function epochHeld(sink: Sink, lease: number, signal: AbortSignal): Promise<number> {
  const own = await sink.open(lease, signal);
  if (own !== null) return own.position.epoch;
  return epochOf((await sink.highestVersion?.(null, signal)) ?? 0n);
}
