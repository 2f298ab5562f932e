import type { KeyedTable } from "../../core/model/schema.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT, CELL_UNCHANGED, readInt32 } from "../../core/model/tuple.ts";

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
