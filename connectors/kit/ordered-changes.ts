/** For sinks of the form `stream`: the entries of a step in commit order, and the ends of transactions. */
import type { Step, TableWrites } from "../../src/core/model/batch.ts";
import type { Position } from "../../src/core/model/position.ts";
import { rowVersion } from "../../src/core/model/version.ts";
import { isRead } from "../../src/core/targets/history.ts";

export type RowsStep = Extract<Step, { readonly kind: "rows" }>;

export function inCommitOrder({ tables, order }: RowsStep, visit: (writes: TableWrites, entry: number) => void): void {
  const next = new Uint32Array(tables.length);
  for (const table of order ?? []) visit(tables[table]!, next[table]!++);
}

/** The version of an entry's transaction; null: the row was read and belongs to none. */
export function transactionOf(writes: TableWrites, entry: number): bigint | null {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  return isRead(block, row) ? null : block.transactions.version[block.tx[row]!]!;
}

/** Whether everything of a transaction precedes the position. */
export function isWhole(transaction: bigint, { epoch, commit }: Position): boolean {
  return transaction < rowVersion(epoch, commit);
}
