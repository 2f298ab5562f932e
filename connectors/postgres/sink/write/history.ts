/** Batches of a history sink: copies all rows into a staging table, then appends them. */
import { failpoint } from "../../../../src/core/failpoint.ts";
import { holdsReads } from "../../../../src/core/targets/history.ts";
import type { Copy, RenderedCopies } from "./copies.ts";
import type { HistoryTable } from "../tables/history-table.ts";
import { completions, createStages, reportIncomplete, type BatchCall } from "./merge.ts";
import { advance as advanceStatement, behindFence } from "../checkpoint.ts";
import type { TableBatch } from "./small.ts";
import type { EntryRange } from "./staged.ts";

export async function applyAppended(
  tables: readonly TableBatch[],
  copies: RenderedCopies,
  { session, advance, outcome, signal }: BatchCall,
): Promise<void> {
  await createStages(
    session,
    tables.map(({ table }) => table),
    signal,
  );
  const staging = tables.map((batch): Copy => {
    const entries = Uint32Array.from({ length: batch.writes.count }, (_, i) => i);
    return { ...batch, entries, into: "stage" };
  });
  copies.render(staging);
  const appends = tables.flatMap((batch) =>
    batch.table.history === null ? [] : appending(batch.table.history, batch),
  );
  const fence = advanceStatement(advance);
  const looking = completions(tables);
  if (looking.length === 0) {
    await behindFence(copies.send(session, [fence, ...staging, ...appends], outcome, signal));
    return;
  }
  const { rows } = await behindFence(copies.send(session, [fence, "BEGIN", ...staging, ...looking], outcome, signal));
  await reportIncomplete(rows, tables, outcome);
  failpoint("postgres-sink.before-commit");
  await session.query([...appends, "COMMIT"].join("; "), signal);
}

export function appending(history: HistoryTable, { writes }: TableBatch, range?: EntryRange): readonly string[] {
  return holdsReads(writes) ? history.appendReads(range) : [history.append(writes.patchCount > 0, range)];
}
