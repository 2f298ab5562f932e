/** For sinks of the form `stream`: the entries of a batch in commit order, and the ends of transactions. */
import { type Batch, DELETE, type TableWrites } from "../../src/core/model/batch.ts";
import { type Position, rowVersion } from "../../src/core/model/position.ts";
import { isRead } from "../../src/core/targets/history.ts";

export type RowsBatch = Extract<Batch, { readonly kind: "rows" }>;

type Visit = (writes: TableWrites, entry: number, isMoved: boolean) => void;

/** A change of the key is a delete under the old key, and then what comes under the new one: both `isMoved`. */
export function inCommitOrder(batch: RowsBatch, visit: Visit): void {
  new CommitWalk(batch).visit(Number.POSITIVE_INFINITY, visit);
}

/** The same in parts. */
export class CommitWalk {
  readonly #tables: RowsBatch["tables"];
  readonly #order: Uint16Array;
  /** By table, its next entry. */
  readonly #next: Uint32Array;
  #at = 0;
  #isVisited = false;

  constructor({ tables, order = new Uint16Array() }: RowsBatch) {
    this.#tables = tables;
    this.#order = order;
    this.#next = new Uint32Array(tables.length);
  }

  /** Visits about so many entries more; false: these were the last. */
  visit(count: number, visit: Visit): boolean {
    const tables = this.#tables;
    const order = this.#order;
    const next = this.#next;
    const end = Math.min(this.#at + count, order.length);
    for (let i = this.#at; i < end; i++) {
      const writes = tables[order[i]!]!;
      const entry = next[order[i]!]!++;
      if (this.#isVisited) this.#isVisited = false;
      else if (isMove(writes, entry)) {
        visit(writes, entry + 1, true);
        visit(writes, entry, true);
        this.#isVisited = true;
      } else visit(writes, entry, false);
    }
    this.#at = end;
    return end < order.length;
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
