import type { RefusedEntry } from "../../../src/core/contracts/sink.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { duckdbError, isDataError, rowRefused } from "../errors.ts";
import { appendEntries } from "./history.ts";
import { EntriesRefused, runPass, type WriteTools } from "./merge.ts";
import type { TableLayout } from "./layout.ts";
import { staging } from "./stage.ts";
import { rollBack } from "./transaction.ts";

/** More refused rows in one batch point to a wrong mapping of the table, not to single rows. */
const POISON_COUNT_MAX = 1_000;

/** Finds the rows that DuckDB refuses, by halving; every trial is rolled back. */
export async function findPoison(
  tools: WriteTools,
  layout: TableLayout,
  refused: EntriesRefused,
): Promise<RefusedEntry[]> {
  const { writes, pass } = refused;
  const found: RefusedEntry[] = [];

  async function trial(entries: readonly number[]): Promise<unknown> {
    tools.signal.throwIfAborted();
    await tools.connection.run("BEGIN TRANSACTION");
    try {
      const work = staging(layout, writes, pass, entries);
      await (pass === "append" ? appendEntries(tools, work) : runPass(tools, work));
      return undefined;
    } catch (error) {
      const cause = error instanceof EntriesRefused ? error.cause : error;
      if (isDataError(cause)) return cause;
      throw error;
    } finally {
      await rollBack(tools.connection);
    }
  }

  async function search(entries: readonly number[]): Promise<void> {
    if (entries.length === 0) return;
    const cause = await trial(entries);
    if (cause === undefined) return;
    if (entries.length === 1) {
      found.push({ writes, entry: entries[0]!, error: rowRefused(cause, layout.table.id) });
      if (found.length > POISON_COUNT_MAX) throw tooMany(layout);
      return;
    }
    const half = entries.length >> 1;
    await search(entries.slice(0, half));
    await search(entries.slice(half));
  }

  await search(refused.entries);
  if (found.length === 0) throw refusedTogether(layout, refused.cause);
  return found;
}

function tooMany(layout: TableLayout): MillraceError {
  return duckdbError(
    "MR3111",
    "fatal",
    `DuckDB refuses more than ${POISON_COUNT_MAX} rows of ${layout.table.id} in one batch`,
    { hint: "compare the column types of the table in the file with the source's", table: layout.table.id },
  );
}

/** DuckDB accepts each row alone: it is not a poison row, and must not be skipped. */
function refusedTogether(layout: TableLayout, cause: unknown): MillraceError {
  return duckdbError("MR3111", "fatal", `DuckDB refuses rows of ${layout.table.id} together that it takes one by one`, {
    hint: "report it, with the table's definition",
    table: layout.table.id,
    cause: rowRefused(cause, layout.table.id),
  });
}
