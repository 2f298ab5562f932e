import type { SinkForm } from "../../core/contracts/sink.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { Slice } from "../compaction/compaction.ts";
import type { RowsWork, TruncateWork } from "../stream/work.ts";

/** The rows of one batch that are new to a sink at its position. */
export interface QueuedRows {
  readonly slices: readonly Slice[];
  /** Those that are new to the sink: they come before the rows. Of a mirror the last one of each table. */
  readonly truncates: readonly TruncateWork[];
  /** Where the changes before these ended; null for rows that do not come from the log. */
  readonly since: Position | null;
  /** Where these changes end; null for rows of the initial snapshot, which do not move the sink's position. */
  readonly until: Position | null;
}

/** Null: the sink has all of the rows. */
export function queuedRowsOf(
  works: readonly (RowsWork | TruncateWork)[],
  reached: Position,
  form: SinkForm,
): QueuedRows | null {
  const rows = works.filter((work) => work.kind === "rows");
  if (rows[0]?.receipt !== undefined) {
    return { slices: rows.map((work) => ({ ...work, fresh: true })), truncates: [], since: null, until: null };
  }
  // Invariant 1: a change that two streams carried, or one stream carried twice, is compacted once.
  let until = reached;
  const slices: Slice[] = [];
  const truncates: TruncateWork[] = [];
  /** For each truncate after which nothing is left of the rows before, how many slices come before it. */
  const slicesBefore = new Map<string, number>();
  for (const work of works) {
    if (work.kind === "rows") slices.push(...behind(work, until));
    else if (comparePositions(work.until, until) > 0) {
      truncates.push(work);
      if (form === "mirror") slicesBefore.set(work.table.id, slices.length);
    }
    const end = work.kind === "rows" ? work.block.positionAt(work.to) : work.until;
    if (comparePositions(end, until) > 0) until = end;
  }
  if (comparePositions(until, reached) <= 0) return null;
  const last = new Map(truncates.map((work) => [work.table.id, work]));
  const kept = form === "mirror" ? [...last.values()] : truncates;
  return { slices: withEmptied(slices, slicesBefore), truncates: kept, since: reached, until };
}

/** The part of the work at or behind `reached`: nothing, all of it, or its tail. */
function behind(work: RowsWork, reached: Position): readonly Slice[] {
  const { block, to } = work;
  let { from } = work;
  if (comparePositions(block.positionAt(to), reached) <= 0) return [];
  while (from < to && comparePositions(block.positionAt(from), reached) < 0) from++;
  return from < to ? [{ block, from, to }] : [];
}

function withEmptied(slices: readonly Slice[], slicesBefore: ReadonlyMap<string, number>): readonly Slice[] {
  if (slicesBefore.size === 0) return slices;
  return slices.map((slice, i) => {
    const ids = [...slicesBefore].flatMap(([id, count]) => (i < count ? [id] : []));
    return ids.length === 0 ? slice : { ...slice, emptied: new Set(ids) };
  });
}
