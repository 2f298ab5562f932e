import type { SinkProgress } from "../../core/model/batch.ts";
import type { Accord } from "../../core/checkpoint/bond.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { OnLost, Sink } from "../../core/contracts/sink.ts";
import type { HeldPositions } from "../../core/contracts/log-admin.ts";
import type { BondStore, SinkRecord } from "../../core/contracts/state-store.ts";
import { sinkAhead, sinkBehind, sinkForeign } from "../errors.ts";

/**
 * Where a sink goes on: from a position of the log, or, a new one, from wherever the stream is. A new one that `isEmpty`
 * holds no rows of an earlier life.
 */
export type Standing =
  | { readonly kind: "new"; readonly isEmpty: boolean }
  | { readonly kind: "known"; readonly progress: SinkProgress; readonly covered: Position };

/** What the sink says of itself, what the state says of it, and how the two go together. */
export interface Meeting {
  readonly own: SinkProgress | null;
  readonly record: SinkRecord | null;
  readonly accord: Accord;
}

/**
 * Compares what the sink itself holds with the state store's copy of it. The sink's own word counts; where it holds less
 * than it did, it was emptied, restored or rolled back, and goes on only if the source still has the log from there.
 */
export function standingOf(sink: string, { own, record, accord }: Meeting, acknowledged: Position | null): Standing {
  const written = record?.written ?? null;
  if (own === null) {
    if (written !== null) throw sinkBehind(sink);
    return { kind: "new", isEmpty: true };
  }
  // Invariant: nothing is passed over as done because a sink stands at a place that this log does not have.
  if (acknowledged !== null && own.position.epoch > acknowledged.epoch) throw sinkAhead(sink);
  if (accord === "foreign") {
    // Rows of an epoch of its own may have versions that nothing of this log is above.
    if (own.position.epoch === acknowledged?.epoch) throw sinkForeign(sink);
    return { kind: "new", isEmpty: false };
  }
  // Invariant: a sink of which nothing is recorded never counts as complete by its own word.
  if (accord === "unbound" && written === null) return { kind: "new", isEmpty: false };
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

/**
 * Ids of the tables that a sink says it holds completely and may not: of which something was settled behind the place that it
 * stands at, or all, where the state does not know everything that the checkpoint accounts for.
 */
export async function owedBy(
  sink: string,
  held: SinkProgress,
  accord: Accord,
  bonds: Pick<BondStore, "undone">,
): Promise<readonly string[]> {
  const complete = Object.keys(held.tables);
  if (accord === "unbound") return [];
  if (accord !== "bound" || held.bond === undefined) return complete;
  const undone = new Set(await bonds.undone(sink, held.bond.step));
  return complete.filter((id) => undone.has(id));
}

/** What becomes of a sink that lost what it held. A history can't be read again. */
export function onLostOf({ form, onLost }: Pick<Sink, "form" | "onLost">, configured?: OnLost): OnLost {
  return form === "history" ? "fail" : (configured ?? onLost);
}

/** Whether a log of this epoch, whose end is `tip`, does not have the place. */
export function isBeyondLog(place: Position, epoch: number, tip: bigint): boolean {
  return place.epoch > epoch || (place.epoch === epoch && place.commit > tip);
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
