/** For sinks of the form `stream`: the entries of a step in commit order, and the ends of transactions. */
import { DELETE, type Step, type TableWrites } from "../../src/core/model/batch.ts";
import type { Position } from "../../src/core/model/position.ts";
import { rowVersion } from "../../src/core/model/version.ts";
import { isRead } from "../../src/core/targets/history.ts";

export type RowsStep = Extract<Step, { readonly kind: "rows" }>;

/** A change of the key is a delete under the old key, and then what comes under the new one: both `isMoved`. */
export function inCommitOrder(
  { tables, order }: RowsStep,
  visit: (writes: TableWrites, entry: number, isMoved: boolean) => void,
): void {
  const next = new Uint32Array(tables.length);
  let isVisited = false;
  for (const table of order ?? []) {
    const writes = tables[table]!;
    const entry = next[table]!++;
    if (isVisited) isVisited = false;
    else if (isMove(writes, entry)) {
      visit(writes, entry + 1, true);
      visit(writes, entry, true);
      isVisited = true;
    } else visit(writes, entry, false);
  }
}

/** Whether this entry and the following one are of one change. */
function isMove(writes: TableWrites, entry: number): boolean {
  const { action, count } = writes;
  if (entry + 1 >= count || action[entry] === DELETE || action[entry + 1] !== DELETE) return false;
  const version = transactionOf(writes, entry);
  return (
    version !== null &&
    version === transactionOf(writes, entry + 1) &&
    indexOf(writes, entry) === indexOf(writes, entry + 1)
  );
}

function indexOf({ blocks, block, row }: TableWrites, entry: number): number {
  return blocks[block[entry]!]!.index[row[entry]!]!;
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
