/** Chooses how to write a step of rows, and what to try when the target refuses it. */
import { applyCarefully } from "./careful.ts";
import { isRefused, stateOf } from "../errors.ts";
import { applyAppended } from "./history.ts";
import type { RenderedCopies } from "./copies.ts";
import { type Approach, applyMerged, type Merge, prepareMerge, type RowsStep, type StepCall } from "./merge.ts";
import { FenceBroken } from "../progress.ts";
import { applySmall, isSmall, NO_BASE, type TableStep } from "./small.ts";

const UNIQUE_VIOLATION = "23505";
/** Two rows of one INSERT … ON CONFLICT have one key. */
const CARDINALITY_VIOLATION = "21000";

/** How to merge a step of rows if nothing prevents it; null if it is written in another way. */
export function prepareRows(tables: readonly TableStep[], copies: RenderedCopies): Merge | null {
  if (tables.some(({ table }) => table.history !== null) || isSmall(tables)) return null;
  return prepareMerge(tables, true, copies);
}

export async function applyRows({ tables, copies, merge }: RowsStep, call: StepCall): Promise<void> {
  const { session, advance, signal } = call;
  const isHistory = tables.some(({ table }) => table.history !== null);
  let small = !isHistory && isSmall(tables);
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
