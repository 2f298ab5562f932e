/** Chooses how to write a batch of rows, and what to try when the target refuses it. */
import type { Batch, Truncate } from "../../../../src/core/model/batch.ts";
import { applyCarefully } from "./careful.ts";
import { isRefused, stateOf } from "../errors.ts";
import type { RenderedCopies } from "./copies.ts";
import {
  type Approach,
  applyMerged,
  type Merge,
  prepareMerge,
  type RowsBatch,
  type BatchCall,
  applyAppended,
} from "./merge.ts";
import { advance as advanceStatement, behindFence, FenceBroken } from "../wire/checkpoint.ts";
import type { PostgresTargets } from "../tables/warehouse.ts";
import { applySmall, isSmall, NO_BASE, type TableBatch } from "./small.ts";

const UNIQUE_VIOLATION = "23505";
/** Two rows of one INSERT … ON CONFLICT have one key. */
const CARDINALITY_VIOLATION = "21000";

/** How to merge a batch of rows if nothing prevents it; null if it is written in another way. */
export function prepareRows(tables: readonly TableBatch[], copies: RenderedCopies): Merge | null {
  if (tables.some(({ table }) => table.history !== null) || isSmall(tables)) return null;
  return prepareMerge(tables, true, copies);
}

export async function applyRows({ tables, copies, merge }: RowsBatch, call: BatchCall): Promise<void> {
  const { session, advance, signal } = call;
  const isHistory = tables.some(({ table }) => table.history !== null);
  let small = !isHistory && isSmall(tables) && advance.first.length === 0;
  let approach: Approach = { direct: true, distinct: false, displace: false };
  let ready = merge;
  // Each failure removes one choice: after at most four rounds rows are tried one by one, and the refused table is
  // known.
  for (;;) {
    try {
      if (isHistory) await applyAppended(tables, copies, call);
      else if (small) await applySmall(session, tables, advance, signal);
      else await applyMerged({ tables, copies, merge: ready }, approach, call);
      return;
    } catch (error) {
      ready = null;
      const state = stateOf(error);
      if (session.broken || state === undefined || error instanceof FenceBroken) throw error;
      if (isHistory && isRefused(error)) {
        await session.query("ROLLBACK", signal);
        break;
      }
      const next = small && state === NO_BASE ? approach : nextApproach(state, approach, small);
      if (next === null && !isRefused(error)) throw error;
      await session.query("ROLLBACK", signal);
      if (next === null) break;
      approach = next;
      small = false;
    }
  }
  await applyCarefully(tables, copies, call);
}

function nextApproach(state: string, approach: Approach, small: boolean): Approach | null {
  if (state === CARDINALITY_VIOLATION && !approach.distinct) return { ...approach, distinct: true };
  if (state !== UNIQUE_VIOLATION) return null;
  // COPY met an existing key; otherwise a second unique index refused a row.
  if (approach.direct && !small) return { ...approach, direct: false };
  return approach.displace ? null : { direct: false, distinct: approach.distinct, displace: true };
}

/** A batch that changes whole tables, or the checkpoint alone. */
export async function applyWhole({ session, advance, signal }: BatchCall): Promise<void> {
  await behindFence(session.query(advanceStatement(advance), signal));
}

/** What the batch does to whole tables. */
export function wholeStatements(batch: Batch, targets: Pick<PostgresTargets, "get">): readonly string[] {
  const truncate = ({ table, version, record }: Truncate): string => {
    const target = targets.get(table);
    return target.history?.truncate(version, record) ?? target.truncateTo(version, record?.commitTimeUs);
  };
  switch (batch.kind) {
    case "rows":
      return (batch.truncates ?? []).map(truncate);
    case "truncate":
      return [truncate(batch)];
    case "sweep":
      return batch.sweeps.map(({ table, below }) => {
        const target = targets.get(table);
        return target.history?.sweep(below) ?? target.sweepBelow(below);
      });
    case "checkpoint":
      return [];
    default:
      return batch satisfies never;
  }
}
