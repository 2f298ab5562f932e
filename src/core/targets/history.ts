/** How history sinks name a change: `_millrace_op`, and `_millrace_offset` beside `_millrace_version`. */
import { DELETE, type TableWrites } from "../model/batch.ts";
import { type Block, OP_DELETE, OP_LETTERS, OP_READ } from "../model/block.ts";

/**
 * The offset of a change is its index in its transaction, and the version is the transaction's position. Together they
 * identify the change, the same at each read. Rows that do not come from the log have this offset, after all indexes of
 * their version (which are 32 bits wide).
 */
export const READ_OFFSET = 2 ** 32;

/** True for a row that was read at the source, or found deleted there, and did not come from the log. */
export function isRead(block: Block, row: number): boolean {
  return block.op[row] === OP_READ || block.transactions.commit[block.tx[row]!] === 0n;
}

export function changeOffset(block: Block, row: number): number {
  return isRead(block, row) ? READ_OFFSET : block.index[row]!;
}

/** A change of the key is a delete under the old key. */
export function changeOp(writes: TableWrites, entry: number): (typeof OP_LETTERS)[number] {
  const op = writes.blocks[writes.block[entry]!]!.op[writes.row[entry]!]!;
  return OP_LETTERS[writes.action[entry] === DELETE ? OP_DELETE : op]!;
}

/** A batch contains either rows of the log or rows that were read. */
export function holdsReads(writes: TableWrites): boolean {
  return writes.count > 0 && isRead(writes.blocks[writes.block[0]!]!, writes.row[0]!);
}
