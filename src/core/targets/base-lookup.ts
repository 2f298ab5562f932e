/**
 * For targets that are asked for the row from which a PATCH takes its unchanged columns: whether the found row is the
 * one that the change was based on.
 */
import type { TableWrites } from "../model/batch.ts";
import type { BaseFloors } from "./base-floors.ts";

/** One entry to complete. */
export interface BaseRequest<Target> {
  readonly target: Target;
  readonly writes: TableWrites;
  readonly entry: number;
}

export type BaseLookup<Base> =
  | ({ readonly kind: "found" } & Base)
  /** The row does not exist, has an older shape, or shows a later state: the key must be read from the source. */
  | { readonly kind: "missing" }
  /** The row shows a later commit already: there is nothing to write. */
  | { readonly kind: "newer" };

/** The offset of the base's key in the entry's block. */
export function baseOffset({ writes, entry }: BaseRequest<unknown>): number {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  return writes.moved[entry] === 1 ? block.before[row]! : block.after[row]!;
}

/** `held`: the version of the row in the target. */
export function judgeBase(
  { target, writes, entry }: BaseRequest<{ readonly floors: Pick<BaseFloors, "of"> }>,
  held: bigint,
): BaseLookup<unknown>["kind"] {
  const block = writes.blocks[writes.block[entry]!]!;
  const row = writes.row[entry]!;
  const version = block.transactions.version[block.tx[row]!]!;
  if (writes.moved[entry] === 1) {
    // When the log is read a second time, the old key may belong to another row by now; one of the same transaction
    // can't be told from it.
    if (held >= version) return "missing";
  } else if (held > version) {
    return "newer";
  }
  return held < target.floors.of(block.bytes, block.after[row]!) ? "missing" : "found";
}
