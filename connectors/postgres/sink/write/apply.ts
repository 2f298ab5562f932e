/** Chooses how to write a batch of rows, and what to try when the target refuses it. */
import {
  type Batch,
  becomesDeadLetter,
  DELETE,
  type TableWrites,
  type Truncate,
} from "../../../../src/core/model/batch.ts";
import { isRefused, stateOf, fatal, isPoison, OF_ONE_TABLE, sinkError } from "../errors.ts";
import type { RenderedCopies, Copy } from "./copies.ts";
import {
  type Approach,
  applyMerged,
  type Merge,
  prepareMerge,
  type RowsBatch,
  type BatchCall,
  applyAppended,
  completions,
  createStages,
  reportIncomplete,
  reportUnwritten,
  unwrittenIn,
  appending,
} from "./merge.ts";
import { advance as advanceStatement, behindFence, FenceBroken } from "../wire/checkpoint.ts";
import type { PostgresTargets } from "../tables/warehouse.ts";
import { applySmall, isSmall, NO_BASE, type TableBatch } from "./small.ts";
import { aboutTable, type MillraceError } from "../../../../src/core/errors.ts";
import type { EntryRange } from "../tables/staged.ts";

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

// Applies a batch in which the target refuses rows: tries each statement on halves, under savepoints, down to the
// refused rows. Reports them before the commit; all others are applied with it.

/** More refused rows than this in one batch are the table's fault, not the rows'. */
const REFUSED_ROWS_MAX = 1000;

/** Refused entries of one table, with the reason. */
type RefusedEntries = Map<number, MillraceError>;

async function applyCarefully(tables: readonly TableBatch[], copies: RenderedCopies, call: BatchCall): Promise<void> {
  const { session, advance, outcome, signal } = call;
  await createStages(session, tables, signal);
  await behindFence(session.query(`${advanceStatement(advance)}; BEGIN`, signal));
  const refused = tables.map((): RefusedEntries => new Map());
  const known = (error: unknown) => sinkError(error, "writing rows", session.address);
  const inTurn = async (work: (batch: TableBatch, refused: RefusedEntries) => Promise<void>): Promise<void> => {
    for (const [i, batch] of tables.entries())
      await aboutTable(batch.writes.table.id, OF_ONE_TABLE, known, () => work(batch, refused[i]!));
  };
  await inTurn((batch, found) => stage(batch, copies, found, call));
  const patched = completions(tables);
  if (patched.length > 0) {
    const { rows } = await session.query(patched.join("; "), signal);
    await reportIncomplete(rows, tables, outcome);
  }
  await inTurn((batch, found) => change(batch, found, call));
  const unwritten = unwrittenIn(tables);
  if (unwritten.length > 0) {
    const { rows } = await session.query(unwritten.join("; "), signal);
    await reportUnwritten(rows, tables, outcome, (table, entry) => refused[table]!.has(entry));
  }
  for (const [i, { writes }] of tables.entries()) {
    await outcome.poison(Array.from(refused[i]!, ([entry, error]) => ({ writes, entry, error })));
  }
  await session.query("COMMIT", signal);
}

async function stage(
  batch: TableBatch,
  copies: RenderedCopies,
  refused: RefusedEntries,
  call: BatchCall,
): Promise<void> {
  const { session, outcome, signal } = call;
  const all = Uint32Array.from({ length: batch.writes.count }, (_, i) => i);
  await halve({ batch, refused, call }, { from: 0, to: all.length }, async (range) => {
    const entries = all.subarray(range.from, range.to);
    const copy: Copy = { ...batch, entries, into: "stage" };
    await copies.render([copy]).send(session, [SAVEPOINT, copy, RELEASE], outcome, signal);
  });
}

async function change(batch: TableBatch, refused: RefusedEntries, call: BatchCall): Promise<void> {
  const { session, signal } = call;
  const halving = { batch, refused, call };
  const { table, writes } = batch;
  const all = { from: 0, to: writes.count };
  const run = (statement: (range: EntryRange) => string) => (range: EntryRange) =>
    session.query(`${SAVEPOINT}; ${statement(range)}; ${RELEASE}`, signal);
  const { history } = table;
  if (history !== null) {
    return await halve(
      halving,
      all,
      run((range) => appending(history, batch, range).join("; ")),
    );
  }
  if (writes.deleteCount > 0) {
    await halve(
      halving,
      all,
      run((range) => table.deleteStaged(range)),
    );
  }
  if (writes.deleteCount === writes.count) return;
  const put = run((range) => `${table.displaceStaged(range)}; ${table.putStaged(true, range)}`);
  const rejected: RefusedEntries = new Map();
  await halve({ ...halving, refused: rejected }, all, put);
  // A row may have blocked another one only until it was written itself.
  while (rejected.size > 0) {
    const again: RefusedEntries = new Map();
    for (const entry of rejected.keys()) {
      await halve({ ...halving, refused: again }, { from: entry, to: entry + 1 }, put);
    }
    if (again.size < rejected.size) {
      rejected.clear();
      for (const [entry, error] of again) rejected.set(entry, error);
      continue;
    }
    for (const [entry, error] of rejected) refused.set(entry, error);
    break;
  }
}

const SAVEPOINT = "SAVEPOINT part";
const RELEASE = "RELEASE SAVEPOINT part";

interface Halving {
  readonly batch: TableBatch;
  readonly refused: RefusedEntries;
  readonly call: BatchCall;
}

/** Runs `work` on the range, or on its halves if a row in it is refused. */
async function halve(
  { batch, refused, call: { session, signal } }: Halving,
  whole: EntryRange,
  work: (range: EntryRange) => Promise<unknown>,
): Promise<void> {
  const waiting = [whole];
  for (let range = waiting.pop(); range !== undefined; range = waiting.pop()) {
    try {
      await work(range);
      continue;
    } catch (error) {
      if (!isPoison(error)) throw error;
      await session.query(`ROLLBACK TO SAVEPOINT part; ${RELEASE}`, signal);
      if (range.to - range.from === 1) {
        refuse(batch, range.from, refused, error);
        continue;
      }
    }
    const middle = (range.from + range.to) >> 1;
    waiting.push({ from: middle, to: range.to }, { from: range.from, to: middle });
  }
}

function refuse({ table, writes }: TableBatch, entry: number, refused: RefusedEntries, error: unknown): void {
  const verb = writes.action[entry] === DELETE ? "deleting from" : "writing to";
  const reason = sinkError(error, `${verb} ${table.quoted}`);
  if (becomesDeadLetter(writes, entry) && letterCount(writes, refused) >= REFUSED_ROWS_MAX) {
    throw fatal(
      "MR1302",
      `the target refuses more than ${REFUSED_ROWS_MAX} rows of one batch; the last: ${reason.message}`,
      "Look for a constraint, a trigger or an encoding in the target that the source does not have.",
    );
  }
  refused.set(entry, reason);
}

/** Counted only where all refused entries together could be too many. */
function letterCount(writes: TableWrites, refused: RefusedEntries): number {
  if (refused.size < REFUSED_ROWS_MAX) return refused.size;
  return [...refused.keys()].filter((entry) => becomesDeadLetter(writes, entry)).length;
}
