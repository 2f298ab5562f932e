import { DELETE } from "../../core/model/batch.ts";
import type { Block } from "../../core/model/block.ts";
import type { KeyedTable } from "../../core/model/schema.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT, CELL_UNCHANGED, readInt32 } from "../../core/model/tuple.ts";

/** Small, because most tables of a batch have few rows, and there may be thousands of tables. */
const ROWS_MIN = 16;

/** No entry. */
export const NONE = -1;

/** Entries of one table in one batch as vectors, and the hash table that finds a key's latest one. */
export class CompactedEntries {
  readonly #keys: KeyColumns;
  count = 0;
  action = new Uint8Array(ROWS_MIN);
  block = new Uint16Array(ROWS_MIN);
  row = new Uint32Array(ROWS_MIN);
  fresh = new Uint8Array(ROWS_MIN);
  moved = new Uint8Array(ROWS_MIN);
  /** 0: a later entry replaced it, or its key was given up. */
  alive = new Uint8Array(ROWS_MIN);
  /** The number of its change: see CommitOrder. */
  number = new Uint32Array(ROWS_MIN);
  #hash = new Int32Array(ROWS_MIN);
  /** Open addressing, linear probing: entry ordinal + 1, 0 where free. At least twice the entries. */
  #slots = new Int32Array(4 * ROWS_MIN);
  #blocks: readonly Block[] = [];

  constructor(keys: KeyColumns) {
    this.#keys = keys;
  }

  /** The rows that this instance has room for, and keeps when it is used again. */
  get capacity(): number {
    return this.action.length;
  }

  begin(blocks: readonly Block[]): void {
    this.#clearSlots();
    this.#blocks = blocks;
    this.count = 0;
  }

  end(): void {
    this.#blocks = [];
  }

  /** After a large batch the hash table is large: a small batch clears only the parts that it filled. */
  #clearSlots(): void {
    const slots = this.#slots;
    if (this.count * 8 > slots.length) {
      slots.fill(0);
      return;
    }
    const mask = slots.length - 1;
    for (let i = 0; i < this.count; i++) {
      for (let slot = this.#hash[i]! & mask; slots[slot] !== 0; slot = (slot + 1) & mask) slots[slot] = 0;
    }
  }

  /** Adds an entry, the latest of its key. Returns the previous latest one, or NONE. */
  add(action: number, b: number, row: number, bytes: Uint8Array, offset: number): number {
    if (this.count === this.action.length) this.#grow();
    const hash = this.#keys.hash(bytes, offset);
    const entry = this.count++;
    this.action[entry] = action;
    this.block[entry] = b;
    this.row[entry] = row;
    this.alive[entry] = 1;
    this.#hash[entry] = hash;
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const other = this.#slots[slot]! - 1;
      if (other !== NONE && (this.#hash[other] !== hash || !this.#hasKey(other, bytes, offset))) continue;
      this.#slots[slot] = entry + 1;
      return other;
    }
  }

  /** The latest entry of a key, or NONE. It is not alive if the key was given up. */
  latest(bytes: Uint8Array, offset: number): number {
    const hash = this.#keys.hash(bytes, offset);
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot]! - 1;
      if (entry === NONE) return NONE;
      if (this.#hash[entry] === hash && this.#hasKey(entry, bytes, offset)) return entry;
    }
  }

  #hasKey(entry: number, bytes: Uint8Array, offset: number): boolean {
    const block = this.#blocks[this.block[entry]!]!;
    const row = this.row[entry]!;
    const own = this.action[entry] === DELETE ? block.before[row]! : block.after[row]!;
    return this.#keys.equal(block.bytes, own, bytes, offset);
  }

  /**
   * Moves the entries that are alive to the front of the vectors, and returns their number. Keys can't be looked up
   * afterwards.
   */
  compact(): number {
    let count = 0;
    for (let i = 0; i < this.count; i++) {
      if (this.alive[i] === 0) continue;
      this.action[count] = this.action[i]!;
      this.block[count] = this.block[i]!;
      this.row[count] = this.row[i]!;
      this.fresh[count] = this.fresh[i]!;
      this.moved[count] = this.moved[i]!;
      this.number[count] = this.number[i]!;
      count++;
    }
    return count;
  }

  #grow(): void {
    const size = this.action.length * 2;
    this.action = grown(this.action, new Uint8Array(size));
    this.block = grown(this.block, new Uint16Array(size));
    this.row = grown(this.row, new Uint32Array(size));
    this.fresh = grown(this.fresh, new Uint8Array(size));
    this.moved = grown(this.moved, new Uint8Array(size));
    this.alive = grown(this.alive, new Uint8Array(size));
    this.number = grown(this.number, new Uint32Array(size));
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

/**
 * Compares keys as bytes in tuples, without decoding. In one stream, tuples with the same key have the same bytes for it.
 * Values that are equal but have different bytes (numeric 1.0 and 1.00) count as two keys, as they do in the source's own
 * log.
 */
export class KeyColumns {
  /** 1 at the ordinals of key columns. */
  readonly #mask: Uint8Array;
  readonly #last: number;

  constructor(table: KeyedTable) {
    this.#last = Math.max(...table.key);
    this.#mask = new Uint8Array(this.#last + 1);
    for (const ordinal of table.key) this.#mask[ordinal] = 1;
  }

  /** 32-bit FNV-1a over the key cells. */
  hash(bytes: Uint8Array, offset: number): number {
    const mask = this.#mask;
    const last = this.#last;
    let hash = 0x811c9dc5;
    let at = offset + 2;
    for (let i = 0; i <= last; i++) {
      const kind = bytes[at++]!;
      if (kind !== CELL_TEXT && kind !== CELL_BINARY) continue;
      const end = at + 4 + readInt32(bytes, at);
      at += 4;
      if (mask[i] === 1) for (; at < end; at++) hash = Math.imul(hash ^ bytes[at]!, 0x01000193);
      else at = end;
    }
    return hash ^ (hash >>> 15);
  }

  /** The key cells as a string: two tuples have the same string exactly if their keys have the same bytes. Not for people. */
  text(bytes: Uint8Array, offset: number): string {
    let text = "";
    let at = offset + 2;
    for (let i = 0; i <= this.#last; i++) {
      const length = cellLength(bytes, at);
      if (this.#mask[i] === 1) text += Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString("latin1");
      at += length;
    }
    return text;
  }

  equal(a: Uint8Array, aOffset: number, b: Uint8Array, bOffset: number): boolean {
    const last = this.#last;
    let p = aOffset + 2;
    let q = bOffset + 2;
    for (let i = 0; i <= last; i++) {
      const pLength = cellLength(a, p);
      const qLength = cellLength(b, q);
      if (this.#mask[i] === 1) {
        if (pLength !== qLength) return false;
        for (let k = 0; k < pLength; k++) if (a[p + k] !== b[q + k]) return false;
      }
      p += pLength;
      q += qLength;
    }
    return true;
  }
}

function cellLength(bytes: Uint8Array, at: number): number {
  const kind = bytes[at]!;
  return kind === CELL_NULL || kind === CELL_UNCHANGED ? 1 : 5 + readInt32(bytes, at + 1);
}
