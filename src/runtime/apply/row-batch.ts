import { comparePositions, type Position } from "../../core/model/position.ts";
import type { Slice } from "../netting/netting.ts";
import type { RowsWork } from "./work.ts";

/** The rows of one batch that are new to a sink at its position. */
export interface RowBatch {
  readonly slices: readonly Slice[];
  /** Where the changes before these ended; null for rows that do not come from the log. */
  readonly since: Position | null;
  /** Where these changes end; null for rows of the initial snapshot, which do not move the sink's position. */
  readonly until: Position | null;
}

/** Null: the sink has all of the rows. */
export function rowBatchOf(works: readonly RowsWork[], reached: Position): RowBatch | null {
  if (works[0]!.receipt !== undefined) {
    return { slices: works.map((work) => ({ ...work, fresh: true })), since: null, until: null };
  }
  // Invariant 1: a change that two streams carried, or one stream carried twice, is netted once.
  let until = reached;
  const slices: Slice[] = [];
  for (const work of works) {
    slices.push(...behind(work, until));
    const end = work.block.positionAt(work.to);
    if (comparePositions(end, until) > 0) until = end;
  }
  return comparePositions(until, reached) > 0 ? { slices, since: reached, until } : null;
}

/** The part of the work at or behind `reached`: nothing, all of it, or its tail. */
function behind(work: RowsWork, reached: Position): readonly Slice[] {
  const { block, to } = work;
  let { from } = work;
  if (comparePositions(block.positionAt(to), reached) <= 0) return [];
  while (from < to && comparePositions(block.positionAt(from), reached) < 0) from++;
  return from < to ? [{ block, from, to }] : [];
}
