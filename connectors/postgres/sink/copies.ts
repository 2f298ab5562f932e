/** Statements and the data of the COPYs among them, in one write. */
import type { TableWrites } from "../../../src/core/batch.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { copyDirect, copyStaged } from "./copy.ts";
import { copyDirectText, copyStagedText } from "./copy-text.ts";
import type { Session } from "./session.ts";
import type { TargetTable } from "./target-table.ts";
import type { Answer, Frames } from "./wire.ts";

/** A COPY of these entries into the table itself (puts only) or into its staging table. */
export interface Copy {
  readonly table: TargetTable;
  readonly writes: TableWrites;
  readonly entries: Uint32Array;
  readonly into: "stage" | "table";
}

export async function sendCopies(
  session: Session,
  statements: readonly (string | Copy)[],
  signal: AbortSignal,
): Promise<Answer> {
  const { frames } = session;
  const copies = statements.filter((statement) => typeof statement !== "string");
  // Where a row turns out to need text its table is marked and all is written anew: at most once per table.
  for (;;) {
    const binary = copies.map(({ table }) => !table.textRows);
    let ordinal = 0;
    const sql = statements.map((s) => (typeof s === "string" ? s : copyStatement(s, binary[ordinal++]!)));
    frames.reset();
    frames.query(sql.join("; "));
    if (copies.every((copy, i) => writeRows(frames, copy, binary[i]!))) break;
  }
  failpoint("postgres-sink.before-send");
  const answer = await session.send(signal);
  failpoint("postgres-sink.answered");
  return answer;
}

function copyStatement({ table, into }: Copy, binary: boolean): string {
  return into === "stage" ? table.copyStage(binary) : table.copyDirect(binary);
}

function writeRows(frames: Frames, { table, writes, entries, into }: Copy, binary: boolean): boolean {
  if (!binary) {
    const write = into === "stage" ? copyStagedText : copyDirectText;
    table.textRows = write(frames, table, writes, entries);
    return true;
  }
  const write = into === "stage" ? copyStaged : copyDirect;
  if (write(frames, table, writes, entries)) return true;
  table.textRows = true;
  return false;
}
