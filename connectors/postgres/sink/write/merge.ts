/**
 * Many rows: rows of new keys by COPY straight into the table, all others by COPY into a staging table and from there in
 * SQL. Where nothing has to be looked at in between, everything is one simple query with its data behind it: one write,
 * one transaction. Otherwise the transaction stays open until the answer has been read.
 */
import { PUT } from "../../../../src/core/model/batch.ts";
import { OP_UPDATE } from "../../../../src/core/model/block.ts";
import { failpoint } from "../../../../src/core/failpoint.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import type { Outcome } from "../../../../src/core/contracts/sink.ts";
import type { Copy, RenderedCopies } from "./copies.ts";
import { sortByKey } from "./order.ts";
import { type Advance, advance as advanceStatement, behindFence } from "../progress.ts";
import type { Session } from "../session.ts";
import type { TableStep } from "./small.ts";
import type { TargetTable } from "../tables/target-table.ts";
import type { Answer } from "../../client/exchange.ts";

/** Fewer new rows than this join the staged ones, if there are any. */
const DIRECT_ROWS_MIN = 20;

/** What an earlier attempt at the step has shown. */
export interface Approach {
  /** Believe the hint that keys are new. */
  readonly direct: boolean;
  /** Two entries of the step have one key in the eyes of the target. */
  readonly distinct: boolean;
  /** Delete the old rows of what is put first: a second unique index was in the way of the order of writing. */
  readonly displace: boolean;
}

interface Part extends TableStep {
  readonly direct: Uint32Array;
  readonly staged: Uint32Array;
  /** How many of the staged entries put a row, and how many of these because the log updated it. */
  readonly putCount: number;
  readonly updateCount: number;
}

/** Which rows go which way. */
export interface Merge {
  readonly staged: readonly Part[];
  readonly staging: readonly Copy[];
  readonly filling: readonly Copy[];
}

/** A step of rows and where they are rendered. */
export interface RowsStep {
  readonly tables: readonly TableStep[];
  readonly copies: RenderedCopies;
  /** Rendered already. */
  readonly merge: Merge | null;
}

/** Sorts the rows by the way they go, and renders them. */
export function prepareMerge(tables: readonly TableStep[], useDirect: boolean, copies: RenderedCopies): Merge {
  const parts = tables.map((step) => partOf(step, useDirect));
  const staged = parts.filter((part) => part.staged.length > 0);
  const direct = parts.filter((part) => part.direct.length > 0);
  const staging = staged.map((part): Copy => ({ ...part, entries: part.staged, into: "stage" }));
  const filling = direct.map((part): Copy => ({ ...part, entries: part.direct, into: "table" }));
  copies.render([...staging, ...filling]);
  return { staged, staging, filling };
}

export async function applyMerged(
  session: Session,
  step: RowsStep,
  advance: Advance,
  approach: Approach,
  outcome: Outcome,
  signal: AbortSignal,
): Promise<void> {
  const { copies } = step;
  const merge = step.merge ?? prepareMerge(step.tables, approach.direct, copies);
  const { staged, staging, filling } = merge;
  await createStages(
    session,
    staged.map((part) => part.table),
    signal,
  );
  const fence = advanceStatement(advance);
  if (!staged.some((part) => part.writes.patchCount > 0)) {
    if (approach.direct && staged.some(areHeld) && staged.every(mayUpdateFirst)) {
      if (await updateFirst(session, fence, merge, copies, outcome, signal)) return;
    }
    await behindFence(
      copies.send(session, [fence, ...staging, ...changes(staged, approach), ...filling], outcome, signal),
    );
    return;
  }
  const { rows } = await behindFence(
    copies.send(session, [fence, "BEGIN", ...staging, ...completions(staged)], outcome, signal),
  );
  await reportIncomplete(rows, staged, outcome);
  failpoint("postgres-sink.before-commit");
  await copies.send(session, [...changes(staged, approach), ...filling, "COMMIT"], outcome, signal);
}

function partOf(step: TableStep, useDirect: boolean): Part {
  const { writes } = step;
  const direct = new Uint32Array(writes.count);
  const staged = new Uint32Array(writes.count);
  let directCount = 0;
  let stagedCount = 0;
  for (let i = 0; i < writes.count; i++) {
    if (useDirect && writes.fresh[i] === 1 && writes.action[i] === PUT) direct[directCount++] = i;
    else staged[stagedCount++] = i;
  }
  if (directCount < DIRECT_ROWS_MIN && stagedCount > 0) {
    for (let i = 0; i < directCount; i++) staged[stagedCount++] = direct[i]!;
    directCount = 0;
  }
  const entries = staged.subarray(0, stagedCount);
  let putCount = 0;
  let updateCount = 0;
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i]!;
    if (writes.action[entry] !== PUT) continue;
    putCount++;
    if (writes.blocks[writes.block[entry]!]!.op[writes.row[entry]!] === OP_UPDATE) updateCount++;
  }
  return {
    ...step,
    direct: direct.subarray(0, directCount),
    staged: sortByKey(writes, entries),
    putCount,
    updateCount,
  };
}

/** Whether the target is likely to hold the rows that are put. */
function areHeld({ putCount, updateCount }: Part): boolean {
  return updateCount * 2 > putCount;
}

/** Counts the steps that are done the other way after one in which rows were not found. */
function mayUpdateFirst({ table }: Part): boolean {
  if (table.stepsWithoutUpdate === 0) return true;
  table.stepsWithoutUpdate--;
  return false;
}

/**
 * Updates the rows that are there (measured beside ON CONFLICT on uniform updates of a million rows: a tenth less of the
 * target's processor time). False, and nothing is done, where the counts say that not every put was one of them: a row
 * is missing or newer, or two entries have one key in the eyes of the target.
 */
async function updateFirst(
  session: Session,
  fence: string,
  { staged, staging, filling }: Merge,
  copies: RenderedCopies,
  outcome: Outcome,
  signal: AbortSignal,
): Promise<boolean> {
  const puts = staged.filter(({ putCount }) => putCount > 0);
  const updates = puts.map(({ table }) => table.updateStaged());
  const statements = [fence, "BEGIN", ...staging, ...deletes(staged), ...updates, ...filling];
  const { tags } = await behindFence(copies.send(session, statements, outcome, signal));
  failpoint("postgres-sink.before-commit");
  // The only statements here that are answered by this tag; soft deletes come first.
  const answered = tags.filter((tag) => tag.startsWith(UPDATED)).map((tag) => Number(tag.slice(UPDATED.length)));
  const marked = staged.filter(({ table, writes }) => writes.deleteCount > 0 && table.deletesByUpdate);
  const counts = answered.slice(marked.length);
  invariant(counts.length === puts.length, "every update is answered");
  const missed = puts.filter(({ putCount }, i) => counts[i] !== putCount);
  // Invariant: a row is written once in a step, so what was updated is not written over but undone.
  await session.query(missed.length === 0 ? "COMMIT" : "ROLLBACK", signal);
  for (const { table } of missed) table.stepsWithoutUpdate = STEPS_WITHOUT_UPDATE;
  return missed.length === 0;
}

const UPDATED = "UPDATE ";
/** A table that is being filled under load lacks rows in most steps: these are not all done twice. */
const STEPS_WITHOUT_UPDATE = 64;

/** Unchanged cells are read before anything is deleted; what is left without a base comes back. */
export function completions(staged: readonly TableStep[]): readonly string[] {
  return staged.flatMap(({ table, writes }, i) => {
    if (writes.patchCount === 0) return [];
    return table.history === null ? [table.complete, table.incomplete(i)] : [table.history.incomplete(i)];
  });
}

function deletes(staged: readonly Part[]): readonly string[] {
  return staged.filter(({ writes }) => writes.deleteCount > 0).map(({ table }) => table.deleteStaged());
}

/** The statements that change the tables, in the one safe order: deletes, then puts. */
function changes(staged: readonly Part[], approach: Approach): readonly string[] {
  const puts = staged.filter(({ writes }) => writes.deleteCount < writes.count);
  return [
    ...deletes(staged),
    ...(approach.displace ? puts.map(({ table }) => table.displaceStaged()) : []),
    ...puts.map(({ table }) => table.putStaged(approach.distinct)),
  ];
}

/** Rows that `completions` selected: the table's place in `staged`, and the entry. */
export async function reportIncomplete(
  rows: Answer["rows"],
  staged: readonly TableStep[],
  outcome: Outcome,
): Promise<void> {
  const entries = staged.map((): number[] => []);
  // The fence selects one column, these two.
  for (const row of rows) if (row.length === 2) entries[Number(row[0])]!.push(Number(row[1]));
  for (const [i, list] of entries.entries()) if (list.length > 0) await outcome.incomplete(staged[i]!.writes, list);
}

/** In a session's life each table gets its staging table once, outside of the step's transaction. */
export async function createStages(
  session: Session,
  tables: readonly TargetTable[],
  signal: AbortSignal,
): Promise<void> {
  const missing = tables.filter((table) => !session.staged.has(table.ordinal));
  if (missing.length === 0) return;
  await session.query(missing.map((table) => table.createStage).join("; "), signal);
  for (const table of missing) session.staged.add(table.ordinal);
}
