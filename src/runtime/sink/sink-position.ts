import type { Checkpoint } from "../../core/model/batch.ts";
import type { Accord } from "../../core/checkpoint/bond.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { OnLost, Sink, SinkForm } from "../../core/contracts/sink.ts";
import type { HeldPositions } from "../../core/contracts/log-admin.ts";
import type { BondStore, SinkRecord } from "../../core/contracts/state-store.ts";
import { sinkAhead, sinkBehind, sinkEmptied, sinkForeign } from "../errors.ts";

/**
 * Where a sink continues: from a position of the log, or, if it is new, from the stream's present position. A new one with
 * `isEmpty` holds no rows of an earlier life.
 */
export type Continuation =
  | { readonly kind: "new"; readonly isEmpty: boolean }
  | { readonly kind: "known"; readonly checkpoint: Checkpoint; readonly covered: Position };

/** The sink's own checkpoint, the state's record of it, and how the two go together. */
export interface Meeting {
  readonly own: Checkpoint | null;
  readonly record: SinkRecord | null;
  readonly accord: Accord;
}

/**
 * Compares the sink's own checkpoint with the state store's copy of it. The sink's own counts. If it is behind the copy,
 * the sink was emptied, restored or rolled back; it continues only if the source still has the log from there.
 */
export function continuationOf(sink: string, { own, record, accord }: Meeting, acknowledged: Position | null): Continuation {
  const written = record?.written ?? null;
  if (own === null) {
    if (written !== null) throw sinkEmptied(sink);
    return { kind: "new", isEmpty: true };
  }
  // Invariant: a position that this log does not have never makes changes count as done.
  if (acknowledged !== null && own.position.epoch > acknowledged.epoch) throw sinkAhead(sink);
  if (accord === "foreign") {
    // Rows of the same epoch may have higher versions than anything in this log.
    if (own.position.epoch === acknowledged?.epoch) throw sinkForeign(sink);
    return { kind: "new", isEmpty: false };
  }
  const difference = written === null ? 1 : comparePositions(own.position, written);
  if (difference === 0) {
    const covered = record?.covered ?? own.position;
    const ahead = comparePositions(covered, own.position) > 0;
    return { kind: "known", checkpoint: own, covered: ahead ? covered : own.position };
  }
  const reachable = acknowledged === null || comparePositions(own.position, acknowledged) >= 0;
  // A sink without a record (it was removed from the configuration and added again) is filled again, over the rows that it
  // holds.
  if (!reachable && written === null) return { kind: "new", isEmpty: false };
  if (!reachable) throw sinkBehind(sink);
  return { kind: "known", checkpoint: own, covered: own.position };
}

/**
 * Ids of the tables that may be incomplete although the sink's checkpoint calls them complete. These are tables for which a
 * read was finished after the checkpoint's position, or all tables if the state does not know every obligation that the
 * checkpoint counts.
 */
export async function owedBy(
  sink: string,
  held: Checkpoint,
  accord: Accord,
  bonds: Pick<BondStore, "undone">,
): Promise<readonly string[]> {
  const complete = Object.keys(held.tables);
  if (accord !== "bound") return complete;
  const undone = new Set(await bonds.undone(sink, held.bond.step));
  return complete.filter((id) => undone.has(id));
}

/**
 * What the sink's options call a certain table. With another place all of its tables lie elsewhere, and what the checkpoint
 * says of them does not hold there.
 */
export function placeOf(sink: Pick<Sink, "target">): string {
  return sink.target({ schema: "schema", table: "table" });
}

/** What a sink of this form lacks for good if tables are read in place of the changes in between; null: nothing. */
export function unreadable(form: SinkForm): string | null {
  switch (form) {
    case "mirror":
      return null;
    case "history":
      return "the changes in between are lost to its history: the present rows are appended in their place";
    case "stream":
      return "the changes in between are lost to its readers: they get the present rows in their place";
    case "log":
      return "the changes in between are lost to the daemons that follow it";
    default:
      return form satisfies never;
  }
}

/** What happens to a sink that has lost its data. A history can't be read again. */
export function onLostOf({ form, onLost }: Pick<Sink, "form" | "onLost">, configured?: OnLost): OnLost {
  return form === "history" ? "fail" : (configured ?? onLost);
}

/** Whether the position is beyond a log of this epoch that ends at `tip`. */
export function isBeyondLog(place: Position, epoch: number, tip: bigint): boolean {
  return place.epoch > epoch || (place.epoch === epoch && place.commit > tip);
}

/** Everything before it is done for the sink, as far as the state knows. */
export function knownPlace(record: SinkRecord | null): Position | null {
  return record?.covered ?? record?.written ?? null;
}

/** What a stream that starts at `from` has to reach: the furthest position of a sink in that epoch. */
export function heldFrom(from: Position, standings: readonly Pick<SinkRecord, "covered" | "written">[]): HeldPositions {
  let reached = from;
  for (const { covered, written } of standings) {
    for (const position of [covered, written]) {
      if (position?.epoch === from.epoch && comparePositions(position, reached) > 0) reached = position;
    }
  }
  return { from, reached };
}
