/** Blocks as a source hands them out: those that are held are counted, and one that was given back is written over. */
import type { Block } from "../../src/core/model/block.ts";
import { blockOf, type BlockSpec, type Change } from "../support/model/blocks.ts";

const OVERWRITTEN = 0xff;

export class Blocks {
  /** Handed out, and not given back by everybody who holds them. */
  held = 0;

  of(changes: readonly Change[], spec: Omit<BlockSpec, "onRelease">): Block {
    const onRelease = ({ bytes }: Block): void => {
      this.held--;
      bytes.fill(OVERWRITTEN);
    };
    const block = blockOf(changes, { ...spec, onRelease });
    // Not before: a row of another shape than the table's makes none.
    this.held++;
    return block;
  }
}
