import { comparePositions, type Position } from "../../core/model/position.ts";
import type { Slice } from "../netting/netting.ts";
import type { RowsWork } from "./work.ts";

/** What a batch of rows brings to a sink that stands somewhere. */
export interface Plan {
  readonly slices: readonly Slice[];
  /** Where the changes before these ended; null for rows that are not the log's. */
  readonly since: Position | null;
  /** Where these end; null for rows of a first copy, behind which the sink stands where it stood. */
  readonly until: Position | null;
}

/** Null: the sink has all of it. */
export function planOf(works: readonly RowsWork[], reached: Position): Plan | null {
  if (works[0]!.receipt !== undefined) {
    return { slices: works.map((work) => ({ ...work, fresh: true })), since: null, until: null };
  }
  // Invariant 1: what two streams both carried, or one carried twice, is netted once, whatever lies in one batch.
  let until = reached;
  const slices: Slice[] = [];
  for (const work of works) {
    slices.push(...behind(work, until));
    const end = work.block.positionAt(work.to);
    if (comparePositions(end, until) > 0) until = end;
  }
  return comparePositions(until, reached) > 0 ? { slices, since: reached, until } : null;
}

/** The part of the work that lies at or behind `reached`: nothing, all, or its tail. */
function behind(work: RowsWork, reached: Position): readonly Slice[] {
  const { block, to } = work;
  let { from } = work;
  if (comparePositions(block.positionAt(to), reached) <= 0) return [];
  while (from < to && comparePositions(block.positionAt(from), reached) < 0) from++;
  return from < to ? [{ block, from, to }] : [];
}
