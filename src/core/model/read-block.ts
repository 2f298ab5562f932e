/**
 * Rows from a read, not from the stream: a block of OP_READ that grows tuple by tuple, under one pseudo transaction.
 */
import { BEFORE_NONE, Block, NO_TUPLE, OP_READ } from "./block.ts";
import type { ByteWriter } from "../bytes.ts";
import type { Position } from "./position.ts";
import type { TableVersion } from "./schema.ts";
import { baseVersion } from "./version.ts";

/**
 * `out`: where the caller writes the tuples. The pseudo transaction has the epoch's lowest version, that of a first
 * copy. A caller that gives the rows another position overwrites `transactions.version` before use.
 */
export function readBlock(
  table: TableVersion,
  epoch: number,
  out: ByteWriter,
  onRelease?: (block: Block) => void,
): Block {
  const block = new Block(out.bytes, undefined, onRelease);
  block.tables.push(table);
  block.transactions.add(0n, baseVersion(epoch), BigInt(Date.now()) * 1000n, 0);
  return block;
}

/** The row whose tuple begins at `offset`. */
export function addRead(block: Block, offset: number): void {
  block.append(OP_READ, 0, offset, NO_TUPLE, BEFORE_NONE, 0, block.count);
}

/**
 * Rows that fill less of their buffer than this are copied into a smaller one, because blocks of thousands of tables
 * may wait at once.
 */
const FILLED_MIN = 1 / 8;

/** Finishes the block, which then belongs to the caller. If its bytes are a copy, `out` is free again. */
export function finishRead(block: Block, out: ByteWriter, until: Position): Block {
  // The writer may have moved to a larger buffer.
  block.bytes = out.length < out.bytes.length * FILLED_MIN ? Buffer.from(out.view()) : out.bytes;
  block.byteCount = out.length;
  block.until = until;
  return block;
}
