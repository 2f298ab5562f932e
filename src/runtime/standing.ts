import type { SinkProgress } from "../core/batch.ts";
import { comparePositions, type Position } from "../core/position.ts";
import type { HeldPositions } from "../core/source.ts";
import type { SinkRecord } from "../core/state-store.ts";
import { sinkAhead, sinkBehind } from "./errors.ts";

/**
 * Where a sink goes on: from a position of the log, or, a new one, from wherever the stream is. A new one that `isEmpty`
 * holds no rows of an earlier life.
 */
export type Standing =
  | { readonly kind: "new"; readonly isEmpty: boolean }
  | { readonly kind: "known"; readonly progress: SinkProgress; readonly covered: Position };

/**
 * Compares what the sink itself holds with the state store's copy of it. The sink's own word counts; where it holds less
 * than it did, it was emptied, restored or rolled back, and goes on only if the source still has the log from there.
 */
export function standingOf(
  sink: string,
  own: SinkProgress | null,
  record: SinkRecord | null,
  acknowledged: Position | null,
): Standing {
  const written = record?.written ?? null;
  if (own === null) {
    if (written !== null) throw sinkBehind(sink);
    return { kind: "new", isEmpty: true };
  }
  // Invariant: nothing is passed over as done because a sink stands at a place that this log does not have.
  if (acknowledged !== null && own.position.epoch > acknowledged.epoch) throw sinkAhead(sink);
  const difference = written === null ? 1 : comparePositions(own.position, written);
  if (difference === 0) {
    const covered = record?.covered ?? own.position;
    const ahead = comparePositions(covered, own.position) > 0;
    return { kind: "known", progress: own, covered: ahead ? covered : own.position };
  }
  const reachable = acknowledged === null || comparePositions(own.position, acknowledged) >= 0;
  // A sink that nothing is known of (it left the file and returned) is filled again, over what it holds.
  if (!reachable && written === null) return { kind: "new", isEmpty: false };
  if (!reachable) throw sinkBehind(sink);
  return { kind: "known", progress: own, covered: own.position };
}

/** As far as the state knows: everything before it is done for the sink. */
export function knownPlace(record: SinkRecord | null): Position | null {
  return record?.covered ?? record?.written ?? null;
}

/** What a stream from `from` on has to reach at least: the furthest that a sink is in that epoch. */
export function heldFrom(from: Position, standings: readonly Pick<SinkRecord, "covered" | "written">[]): HeldPositions {
  let reached = from;
  for (const { covered, written } of standings) {
    for (const position of [covered, written]) {
      if (position?.epoch === from.epoch && comparePositions(position, reached) > 0) reached = position;
    }
  }
  return { from, reached };
}
