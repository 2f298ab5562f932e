/** Rows that were read and not streamed: a block of OP_READ that grows tuple by tuple, under one pseudo transaction. */
import { BEFORE_NONE, Block, NO_TUPLE, OP_READ } from "./block.ts";
import type { ByteWriter } from "./bytes.ts";
import type { Position } from "./position.ts";
import type { TableVersion } from "./schema.ts";
import { baseVersion } from "./version.ts";

/**
 * `out`: where the caller writes the tuples. The pseudo transaction has the epoch's lowest version, that of rows of a first
 * copy; who gives the rows another place overwrites `transactions.version` before use.
 */
export function readBlock(
  table: TableVersion,
  epoch: number,
  out: ByteWriter,
  rowCount: number,
  onRelease?: () => void,
): Block {
  const block = new Block(out.bytes, rowCount, onRelease);
  block.tables.push(table);
  block.transactions.add(0n, baseVersion(epoch), BigInt(Date.now()) * 1000n, 0);
  return block;
}

/** The row whose tuple begins at `offset`. */
export function addRead(block: Block, offset: number): void {
  block.append(OP_READ, 0, offset, NO_TUPLE, BEFORE_NONE, 0, block.count);
}

/** The block, which is the caller's from now on. */
export function finishRead(block: Block, out: ByteWriter, until: Position): Block {
  // The writer may have moved to a larger buffer.
  block.bytes = out.bytes;
  block.byteCount = out.length;
  block.until = until;
  return block;
}
