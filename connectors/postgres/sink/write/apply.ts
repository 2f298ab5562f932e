/** Which way a step of rows is written, and what is tried when the target objects. */
import type { Outcome } from "../../../../src/core/contracts/sink.ts";
import { applyCarefully } from "./careful.ts";
import { isRefused, stateOf } from "../errors.ts";
import { applyAppended } from "./history.ts";
import type { RenderedCopies } from "./copies.ts";
import { type Approach, applyMerged, type Merge, prepareMerge, type RowsStep } from "./merge.ts";
import { type Advance, FenceBroken } from "../progress.ts";
import type { Session } from "../session.ts";
import { applySmall, isSmall, NO_BASE, type TableStep } from "./small.ts";

const UNIQUE_VIOLATION = "23505";
/** Two rows of one INSERT … ON CONFLICT have one key. */
const CARDINALITY_VIOLATION = "21000";

/** How a step of rows would be merged if nothing stood in its way; null for one that is written otherwise. */
export function stageRows(tables: readonly TableStep[], copies: RenderedCopies): Merge | null {
  if (tables.some(({ table }) => table.history !== null) || isSmall(tables)) return null;
  return prepareMerge(tables, true, copies);
}

export async function applyRows(
  session: Session,
  { tables, copies, merge }: RowsStep,
  advance: Advance,
  outcome: Outcome,
  signal: AbortSignal,
): Promise<void> {
  const isHistory = tables.some(({ table }) => table.history !== null);
  let small = !isHistory && isSmall(tables);
  let approach: Approach = { direct: true, distinct: false, displace: false };
  let ready = merge;
  // Each failure takes one choice away: at most four rounds before rows are tried one by one, and the table is known that is refused.
  for (;;) {
    try {
      if (isHistory) await applyAppended(session, tables, copies, advance, outcome, signal);
      else if (small) await applySmall(session, tables, advance, signal);
      else await applyMerged(session, { tables, copies, merge: ready }, advance, approach, outcome, signal);
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
  await applyCarefully(session, tables, copies, advance, outcome, signal);
}

function nextApproach(state: string, approach: Approach, small: boolean): Approach | null {
  if (state === CARDINALITY_VIOLATION && !approach.distinct) return { ...approach, distinct: true };
  if (state !== UNIQUE_VIOLATION) return null;
  // By COPY a key that is there after all; otherwise a second unique index.
  if (approach.direct && !small) return { ...approach, direct: false };
  return approach.displace ? null : { direct: false, distinct: approach.distinct, displace: true };
}
