import { DELETE, PATCH, PUT, type TableWrites } from "../../core/model/batch.ts";
import {
  BEFORE_FULL,
  type Block,
  NO_TUPLE,
  OP_CREATE,
  OP_DELETE,
  OP_READ,
  OP_UNTOLD,
  OP_UPDATE,
} from "../../core/model/block.ts";
import { invariant } from "../../core/invariant.ts";
import { hasKeyDates, hasWholeKey, mayLackKeyDates } from "../../core/model/row-id.ts";
import type { KeyedTable, TableVersion } from "../../core/model/schema.ts";
import { hasUnchanged } from "../../core/model/tuple.ts";
import { KeyColumns } from "./key-bytes.ts";
import type { MergedRow, MergedTuples, Tuple } from "./merged-tuples.ts";

/** A key whose row can't be told from the stream alone; it is to be read from the source. */
export interface UntoldKey {
  readonly table: TableVersion;
  readonly bytes: Uint8Array;
  /** A tuple whose key cells name the row. */
  readonly offset: number;
}

/** A row whose key no target can hold. */
export interface UnplacedRow {
  readonly table: TableVersion;
  readonly block: Block;
  readonly row: number;
  /** The key has no row any more. */
  readonly isGone: boolean;
}

const NONE = -1;
/** Most tables of a batch have few rows, and there may be thousands of tables. */
const ROWS_MIN = 16;

/**
 * Where the row that a PATCH builds on lies in the sink: under its own key, under another one, or under its own, which it left
 * and came back to. What left meanwhile a read beside the stream takes for told: without a complete copy it is read again.
 */
const STAYED = 0;
const MOVED = 1;
const RETURNED = 2;
type Whence = typeof STAYED | typeof MOVED | typeof RETURNED;

/** The entries of one table in one batch, and the hash table that finds a key's latest one. */
export class TableNet {
  readonly table: KeyedTable;
  readonly #merged: MergedTuples;
  readonly keys: KeyColumns;
  readonly #appends: boolean;
  /** The batch that it is used in, or was last. */
  batch = 0;
  #blocks: readonly Block[] = [];
  #untold: UntoldKey[] = [];
  #isUnkeyed = false;
  readonly #mayLackKeyDates: boolean;
  #count = 0;
  #action = new Uint8Array(ROWS_MIN);
  #block = new Uint16Array(ROWS_MIN);
  #row = new Uint32Array(ROWS_MIN);
  #fresh = new Uint8Array(ROWS_MIN);
  #moved = new Uint8Array(ROWS_MIN);
  #alive = new Uint8Array(ROWS_MIN);
  #hash = new Int32Array(ROWS_MIN);
  /** Open addressing, linear probing: entry ordinal + 1, 0 where free. At least twice the entries. */
  #slots = new Int32Array(4 * ROWS_MIN);
  #postponed: { slice: number; row: number }[] = [];

  /** `appends`: an earlier entry of a key stays beside the later one. */
  constructor(table: KeyedTable, merged: MergedTuples, appends = false) {
    this.#appends = appends;
    this.table = table;
    this.#merged = merged;
    this.keys = new KeyColumns(table);
    this.#mayLackKeyDates = mayLackKeyDates(table);
  }

  /** Rows that this instance has room for, and keeps when it is used again. */
  get capacity(): number {
    return this.#action.length;
  }

  begin(batch: number, blocks: readonly Block[], untold: UntoldKey[]): void {
    this.batch = batch;
    this.#clearSlots();
    this.#blocks = blocks;
    this.#untold = untold;
    this.#isUnkeyed = false;
    this.#count = 0;
    this.#postponed = [];
  }

  /** What came out is not used any more. */
  end(): void {
    this.#blocks = [];
    this.#untold = [];
    this.#postponed = [];
  }

  /** After a large batch the table is wide: a small one pays only for the runs that it filled. */
  #clearSlots(): void {
    const slots = this.#slots;
    if (this.#count * 8 > slots.length) {
      slots.fill(0);
      return;
    }
    const mask = slots.length - 1;
    for (let i = 0; i < this.#count; i++) {
      for (let slot = this.#hash[i]! & mask; slots[slot] !== 0; slot = (slot + 1) & mask) slots[slot] = 0;
    }
  }

  postpone(slice: number, row: number): void {
    this.#postponed.push({ slice, row });
  }

  get postponed(): readonly { readonly slice: number; readonly row: number }[] {
    return this.#postponed;
  }

  change(b: number, row: number, readIsFresh: boolean): void {
    const block = this.#blocks[b]!;
    const op = block.op[row]!;
    if (op === OP_DELETE) {
      this.remove(b, row);
    } else if (op === OP_CREATE || op === OP_READ) {
      this.put(b, row, op === OP_CREATE || readIsFresh);
    } else if (op === OP_UNTOLD) {
      this.#untoldRow(b, row, block);
    } else {
      this.#update(b, row, block);
    }
  }

  /**
   * For keys on the operator's word. True: the change is dealt with. Another row may have the key, before and behind the
   * change: which one is there is read from the source, and two are found by that. A sink that appends takes every change.
   */
  isUntoldByKey(b: number, row: number): boolean {
    const { op, bytes, before, after } = this.#blocks[b]!;
    const older = before[row]!;
    const newer = after[row]!;
    if (newer !== NO_TUPLE && !hasWholeKey(this.table, bytes, newer)) {
      this.#isUnkeyed = true;
      return true;
    }
    if (this.#appends || op[row] === OP_READ) return false;
    const isGone = older !== NO_TUPLE && (newer === NO_TUPLE || !this.keys.equal(bytes, older, bytes, newer));
    if (!isGone && op[row] === OP_UPDATE) return false;
    if (isGone && hasWholeKey(this.table, bytes, older)) this.giveUpOld(b, row);
    if (newer !== NO_TUPLE) this.giveUpNew(b, row);
    return true;
  }

  /** A row of the batch has no value in its key, and is no entry. */
  get isUnkeyed(): boolean {
    return this.#isUnkeyed;
  }

  /** The row at its new key; its tuple is complete. */
  put(b: number, row: number, fresh: boolean): void {
    const block = this.#blocks[b]!;
    this.#add(PUT, b, row, block.bytes, block.after[row]!, fresh, STAYED);
  }

  #untoldRow(b: number, row: number, { bytes, before, after }: Block): void {
    const old = before[row]!;
    this.giveUpNew(b, row);
    if (old !== NO_TUPLE && !this.keys.equal(bytes, old, bytes, after[row]!)) this.remove(b, row);
  }

  /** Completes an update's new tuple from its full old one; the result is a row to `put`. */
  completed(b: number, row: number): { readonly block: number; readonly row: number } {
    const block = this.#blocks[b]!;
    const { bytes } = block;
    if (block.beforeKind[row] !== BEFORE_FULL || !hasUnchanged(bytes, block.after[row]!)) return { block: b, row };
    const merged = this.#merge(block, row, { bytes, offset: block.before[row]! }, null);
    return { block: this.#merged.ordinal, row: merged.row };
  }

  blockAt(ordinal: number): Block {
    return this.#blocks[ordinal]!;
  }

  /** The row under its old key is gone. */
  remove(b: number, row: number): void {
    const block = this.#blocks[b]!;
    this.#add(DELETE, b, row, block.bytes, block.before[row]!, false, STAYED);
  }

  /** Leaves the key of a row's new tuple to a read from the source: the stream alone can't tell its row. */
  giveUpNew(b: number, row: number): void {
    this.#giveUp(PUT, b, row, this.#blocks[b]!.after[row]!);
  }

  /** The same for the key of its old tuple. */
  giveUpOld(b: number, row: number): void {
    this.#giveUp(DELETE, b, row, this.#blocks[b]!.before[row]!);
  }

  /** Lists the key of a row's old tuple to be read from the source; the change is an entry all the same. */
  doubtOld(b: number, row: number): void {
    const block = this.#blocks[b]!;
    this.#untold.push({ table: this.table, bytes: block.bytes, offset: block.before[row]! });
  }

  /** An entry that is not alive: what comes for this key later in the batch, and is not whole, is given up with it. */
  #giveUp(action: number, b: number, row: number, offset: number): void {
    const { bytes } = this.#blocks[b]!;
    this.#add(action, b, row, bytes, offset, false, STAYED);
    this.#alive[this.#count - 1] = 0;
    this.#untold.push({ table: this.table, bytes, offset });
  }

  #update(b: number, row: number, block: Block): void {
    const { bytes } = block;
    const after = block.after[row]!;
    const before = block.before[row]!;
    const moved = before !== NO_TUPLE && !this.keys.equal(bytes, before, bytes, after);
    const whole = this.completed(b, row);
    if (whole.block !== b || !hasUnchanged(bytes, after)) {
      this.put(whole.block, whole.row, false);
    } else {
      this.#partial(b, row, block, moved);
    }
    if (moved) this.remove(b, row);
  }

  /** An update that carries unchanged cells: completed from an earlier entry of the batch, or left as a PATCH. */
  #partial(b: number, row: number, block: Block, moved: boolean): void {
    const { bytes } = block;
    const after = block.after[row]!;
    const earlier = this.#latest(bytes, moved ? block.before[row]! : after);
    if (earlier === NONE) {
      this.#add(PATCH, b, row, bytes, after, false, moved ? MOVED : STAYED);
      return;
    }
    const earlierBlock = this.#blocks[this.#block[earlier]!]!;
    const earlierRow = this.#row[earlier]!;
    if (this.#alive[earlier] === 0 || this.#action[earlier] === DELETE) {
      // No log shows this; a row whose changes were passed over for a while does.
      if (this.#appends) this.#add(PATCH, b, row, bytes, after, true, STAYED);
      else this.giveUpNew(b, row);
      return;
    }
    const base = this.#baseOf(earlier, moved ? { bytes, offset: block.before[row]! } : null);
    const isBack = base !== null && this.keys.equal(base.bytes, base.offset, bytes, after);
    const isReturned = isBack || (base === null && this.#moved[earlier] === RETURNED);
    const older = { bytes: earlierBlock.bytes, offset: earlierBlock.after[earlierRow]! };
    const merged = this.#merge(block, row, older, isBack ? null : base);
    this.#addMerged(merged, earlier, isReturned ? RETURNED : base === null ? STAYED : MOVED);
  }

  /** The tuple whose key names a PATCH's base, when that is not the entry's own key. */
  #baseOf(entry: number, ownOldKey: Tuple | null): Tuple | null {
    if (this.#action[entry] !== PATCH) return null;
    if (this.#moved[entry] !== MOVED) return ownOldKey;
    const block = this.#blocks[this.#block[entry]!]!;
    return { bytes: block.bytes, offset: block.before[this.#row[entry]!]! };
  }

  #merge(block: Block, row: number, older: Tuple, base: Tuple | null): MergedRow {
    return this.#merged.merge(block, row, { bytes: block.bytes, offset: block.after[row]! }, older, base, this.table);
  }

  #addMerged(merged: MergedRow, earlier: number, moved: Whence): void {
    const ordinal = this.#merged.ordinal;
    const block = this.#blocks[ordinal]!;
    const fresh = earlier !== NONE && this.#fresh[earlier] === 1;
    const action = merged.unresolved ? PATCH : PUT;
    this.#add(
      action,
      ordinal,
      merged.row,
      block.bytes,
      block.after[merged.row]!,
      fresh,
      merged.unresolved ? moved : STAYED,
    );
  }

  /** The latest entry of a key; not alive where the key was given up. */
  #latest(bytes: Uint8Array, offset: number): number {
    const hash = this.keys.hash(bytes, offset);
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot]! - 1;
      if (entry === NONE) return NONE;
      if (this.#hash[entry] === hash && this.#hasKey(entry, bytes, offset)) return entry;
    }
  }

  #hasKey(entry: number, bytes: Uint8Array, offset: number): boolean {
    const block = this.#blocks[this.#block[entry]!]!;
    const row = this.#row[entry]!;
    const own = this.#action[entry] === DELETE ? block.before[row]! : block.after[row]!;
    return this.keys.equal(block.bytes, own, bytes, offset);
  }

  /** A new entry for a key takes the place of its earlier one, at the end of the order. */
  #add(action: number, b: number, row: number, bytes: Uint8Array, offset: number, fresh: boolean, moved: Whence): void {
    if (this.#count === this.#action.length) this.#grow();
    const hash = this.keys.hash(bytes, offset);
    const entry = this.#count++;
    this.#action[entry] = action;
    this.#block[entry] = b;
    this.#row[entry] = row;
    this.#hash[entry] = hash;
    this.#alive[entry] = 1;
    this.#moved[entry] = moved;
    this.#fresh[entry] = fresh ? 1 : 0;
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const other = this.#slots[slot]! - 1;
      if (other === NONE) {
        this.#slots[slot] = entry + 1;
        return;
      }
      if (this.#hash[other] === hash && this.#hasKey(other, bytes, offset)) {
        this.#slots[slot] = entry + 1;
        if (this.#appends) return;
        // What the key was before this batch is what its first change says.
        this.#fresh[entry] = this.#fresh[other]!;
        this.#alive[other] = 0;
        return;
      }
    }
  }

  /** Takes the entries out whose key no target can hold. Before `finish`. */
  unplaced(): readonly UnplacedRow[] {
    const rows: UnplacedRow[] = [];
    if (!this.#mayLackKeyDates) return rows;
    for (let i = 0; i < this.#count; i++) {
      if (this.#alive[i] === 0) continue;
      const block = this.#blocks[this.#block[i]!]!;
      const row = this.#row[i]!;
      const isGone = this.#action[i] === DELETE;
      if (hasKeyDates(this.table, block.bytes, isGone ? block.before[row]! : block.after[row]!)) continue;
      this.#alive[i] = 0;
      rows.push({ table: this.table, block, row, isGone });
    }
    return rows;
  }

  /** `movable`: a row may be completed from the row that the sink holds under another key. */
  finish(movable: boolean): TableWrites {
    if (!this.#appends) this.#dropUnusableBases(movable);
    let count = 0;
    let deleteCount = 0;
    let patchCount = 0;
    for (let i = 0; i < this.#count; i++) {
      if (this.#alive[i] === 0) continue;
      const action = this.#action[i]!;
      if (action === DELETE) deleteCount++;
      else if (action === PATCH) patchCount++;
      this.#action[count] = action;
      this.#block[count] = this.#block[i]!;
      this.#row[count] = this.#row[i]!;
      this.#fresh[count] = action === DELETE ? 0 : this.#fresh[i]!;
      this.#moved[count] = this.#moved[i] === MOVED ? 1 : 0;
      count++;
    }
    return {
      table: this.table,
      blocks: this.#blocks,
      count,
      action: this.#action,
      block: this.#block,
      row: this.#row,
      fresh: this.#fresh,
      moved: this.#moved,
      deleteCount,
      patchCount,
    };
  }

  /** A PATCH whose base is written by another entry can't be repeated after a crash half-way: read it from the source. */
  #dropUnusableBases(movable: boolean): void {
    for (let i = 0; i < this.#count; i++) {
      if (this.#alive[i] === 0 || this.#moved[i] === STAYED) continue;
      const block = this.#blocks[this.#block[i]!]!;
      const row = this.#row[i]!;
      if (movable && (this.#moved[i] === RETURNED || this.#hasLeft(block.bytes, block.before[row]!))) continue;
      this.#alive[i] = 0;
      this.#untold.push({ table: this.table, bytes: block.bytes, offset: block.after[row]! });
    }
  }

  /** Whether the row under this key is only removed: what the sink holds there may be read as a base until then. */
  #hasLeft(bytes: Uint8Array, offset: number): boolean {
    const base = this.#latest(bytes, offset);
    invariant(base !== NONE, "a moved row's old key has an entry");
    return this.#action[base] === DELETE && this.#alive[base] === 1;
  }

  #grow(): void {
    const size = this.#action.length * 2;
    this.#action = grown(this.#action, new Uint8Array(size));
    this.#block = grown(this.#block, new Uint16Array(size));
    this.#row = grown(this.#row, new Uint32Array(size));
    this.#fresh = grown(this.#fresh, new Uint8Array(size));
    this.#moved = grown(this.#moved, new Uint8Array(size));
    this.#alive = grown(this.#alive, new Uint8Array(size));
    this.#hash = grown(this.#hash, new Int32Array(size));
    const slots = new Int32Array(size * 4);
    const mask = slots.length - 1;
    for (const taken of this.#slots) {
      if (taken === 0) continue;
      let slot = this.#hash[taken - 1]! & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = taken;
    }
    this.#slots = slots;
  }
}

function grown<T extends { set(source: T): void }>(from: T, to: T): T {
  to.set(from);
  return to;
}
