/**
 * Applies a batch in which the target refuses rows: tries each statement on halves, under savepoints, down to the
 * refused rows. Reports them before the commit; all others are applied with it.
 */
import { DELETE } from "../../../../src/core/model/batch.ts";
import { aboutTable, type MillraceError } from "../../../../src/core/errors.ts";
import type { Copy, RenderedCopies } from "./copies.ts";
import { fatal, isPoison, OF_ONE_TABLE, sinkError } from "../errors.ts";
import { completions, createStages, reportIncomplete, type BatchCall, appending } from "./merge.ts";
import { advance as advanceStatement, behindFence } from "../wire/checkpoint.ts";
import type { TableBatch } from "./small.ts";
import type { EntryRange } from "../tables/staged.ts";

/** More refused rows than this in one batch are the table's fault, not the rows'. */
const REFUSED_ROWS_MAX = 1000;

/** Refused entries of one table, with the reason. */
type RefusedEntries = Map<number, MillraceError>;

export async function applyCarefully(
  tables: readonly TableBatch[],
  copies: RenderedCopies,
  call: BatchCall,
): Promise<void> {
  const { session, advance, outcome, signal } = call;
  await createStages(session, tables, signal);
  await behindFence(session.query(`${advanceStatement(advance)}; BEGIN`, signal));
  const refused = tables.map((): RefusedEntries => new Map());
  const known = (error: unknown) => sinkError(error, "writing rows");
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
  if (refused.size >= REFUSED_ROWS_MAX) {
    throw fatal(
      "MR1302",
      `the target refuses more than ${REFUSED_ROWS_MAX} rows of one batch; the last: ${reason.message}`,
      "Look for a constraint, a trigger or an encoding in the target that the source does not have.",
    );
  }
  refused.set(entry, reason);
}
