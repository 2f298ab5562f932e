import { BEFORE_FULL, type Block, NO_TUPLE, OP_UNTOLD } from "../../core/model/block.ts";
import { ByteWriter } from "../../core/bytes.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { hasUnchanged, tupleEnd } from "../../core/model/tuple.ts";
import { mergeTuples } from "./merged-tuples.ts";

/** What the log leaves under a key. `partial`: cells that no change touched are as they were before the first change. */
type KeyImage =
  | { readonly kind: "row" | "partial"; readonly tuple: Uint8Array }
  /** `untold`: the log does not show it. */
  | { readonly kind: "gone" | "untold" };

/** The limit for all keys of one window together; further keys are untold. */
const BYTES_MAX = 4 * 1024 * 1024;

const GONE: KeyImage = { kind: "gone" };
const UNTOLD: KeyImage = { kind: "untold" };

/** What the changes between two watermarks make of each key, as far as the log shows it. */
export class KeyImages {
  readonly #images = new Map<string, KeyImage>();
  #byteCount = 0;

  of(key: string): KeyImage {
    return this.#images.get(key) ?? UNTOLD;
  }

  /** `oldKey`, `newKey`: the keys of the row before and after the change; null if there is no such row. */
  note(block: Block, row: number, table: TableVersion, oldKey: string | null, newKey: string | null): void {
    // Two rows may have this key for a moment, and the log does not show which of them stays.
    const isOrdered = !table.deferrableKey && table.unenforcedKey !== true;
    // The row has just taken this key, so its unchanged cells come from its former key.
    const isOwn = oldKey === null || oldKey === newKey;
    const earlier = isOwn && newKey !== null ? this.#images.get(newKey) : UNTOLD;
    if (oldKey !== null) this.#images.set(oldKey, isOrdered ? GONE : UNTOLD);
    if (newKey !== null) this.#images.set(newKey, isOrdered ? this.#after(block, row, earlier) : UNTOLD);
  }

  #after(block: Block, row: number, earlier: KeyImage | undefined): KeyImage {
    const { bytes } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    if (block.op[row] === OP_UNTOLD || this.#byteCount > BYTES_MAX) return UNTOLD;
    const out = new ByteWriter(256);
    let isPartial = hasUnchanged(bytes, after);
    if (!isPartial) out.copy(bytes, after, tupleEnd(bytes, after) - after);
    else if (before !== NO_TUPLE && block.beforeKind[row] === BEFORE_FULL)
      isPartial = mergeTuples(out, bytes, after, bytes, before);
    else if (earlier === undefined) out.copy(bytes, after, tupleEnd(bytes, after) - after);
    else if ("tuple" in earlier) isPartial = mergeTuples(out, bytes, after, earlier.tuple, 0);
    else return UNTOLD;
    const tuple = out.view();
    this.#byteCount += out.bytes.length;
    return { kind: isPartial ? "partial" : "row", tuple };
  }
}
