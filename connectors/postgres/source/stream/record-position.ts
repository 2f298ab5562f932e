/** The position of a change's own record in the log: the server sends it in the header before each message. */
import { type Block, NO_TUPLE } from "../../../../src/core/model/block.ts";

/** It is the first of the header's three 64-bit numbers; this far before the message. */
export const POSITION_BEFORE_MESSAGE = 24;
/** A row's first tuple comes after the message's kind, the relation and the tuple's kind. */
const TUPLE_IN_MESSAGE = 6;

/** Position of the own record of a row that the stream delivered; its frame is in the block as it was received. */
export function recordPosition(block: Block, row: number): bigint | undefined {
  const before = block.before[row]!;
  const tuple = before === NO_TUPLE ? block.after[row]! : before;
  if (tuple === NO_TUPLE) return block.truncates.find((truncate) => truncate.row === row)?.recordPosition;
  const { buffer, byteOffset, byteLength } = block.bytes;
  return new DataView(buffer, byteOffset, byteLength).getBigUint64(tuple - TUPLE_IN_MESSAGE - POSITION_BEFORE_MESSAGE);
}
