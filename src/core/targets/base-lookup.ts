/**
 * Rows that a PATCH takes its unchanged columns from, in targets that are asked for them: whether what is there is the row that
 * the change was made of.
 */
import type { TableWrites } from "../model/batch.ts";
import type { BaseFloors } from "./base-floors.ts";

/** What is to be completed. */
export interface BaseRequest<Target> {
  readonly target: Target;
  readonly writes: TableWrites;
  readonly entry: number;
}

export type BaseLookup<Base> =
  | ({ readonly kind: "found" } & Base)
  /** The row is not there, is of an older shape, or shows what came after the change: the key must be read from the source. */
  | { readonly kind: "missing" }
  /** The row shows a later commit already: nothing is to be written. */
  | { readonly kind: "newer" };

/** Where the base's key is, in the entry's block. */
export function baseOffset({ writes, entry }: BaseRequest<unknown>): number {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  return writes.moved[entry] === 1 ? block.before[row]! : block.after[row]!;
}

/** `held`: the version of the row that is there. */
export function judgeBase(
  { target, writes, entry }: BaseRequest<{ readonly floors: Pick<BaseFloors, "of"> }>,
  held: bigint,
): BaseLookup<unknown>["kind"] {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const version = block.transactions.version[block.tx[row]!]!;
  if (writes.moved[entry] === 1) {
    // Under the old key another row may stand by now, when the log is read a second time; one of the same transaction
    // can't be told from it.
    if (held >= version) return "missing";
  } else if (held > version) {
    return "newer";
  }
  return held < target.floors.of(block.bytes, block.after[row]!) ? "missing" : "found";
}
