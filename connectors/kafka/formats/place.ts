import { invariant } from "../../../src/core/invariant.ts";
import { DELETE, type TableWrites } from "../../../src/core/model/batch.ts";
import type { Block } from "../../../src/core/model/block.ts";

/** Where an entry's bytes are. */
export function placeOf(
  writes: TableWrites,
  entry: number,
): { readonly block: Block; readonly row: number; readonly isDelete: boolean } {
  const block = writes.blocks[writes.block[entry]!];
  invariant(block !== undefined, "an entry is of a block");
  return { block, row: writes.row[entry]!, isDelete: writes.action[entry] === DELETE };
}
