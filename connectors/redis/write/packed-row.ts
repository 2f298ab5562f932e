/**
 * A row in the server's own form of a small hash: RESTORE takes it as one argument and stores it unchanged, while HSET
 * looks up each field (measured: half of the server's time per row). Redis 7.0 and newer, Valkey.
 *
 * Layout: RDB type 16, the length, a listpack of names and values, the RDB version, a CRC-64 of everything before it.
 * Sources: src/listpack.c and src/rdb.h of Redis 7.0. Every element here is a text of fewer than 64 bytes: one byte (0x80
 * plus the length), the text, and a byte with the length of the two, for walking the list backwards.
 */
import type { ByteWriter } from "../../../src/core/bytes.ts";
import { crc64 } from "./crc64.ts";

/** The server's limits for this form: number of fields, and length of a field. */
export interface Packing {
  readonly fieldCountMax: number;
  readonly valueBytesMax: number;
}

/** The longest text whose length fits into its first byte. */
export const PACKED_TEXT_BYTES_MAX = 63;
/** The list counts its elements in 16 bits; the highest value means "unknown". */
export const PACKED_FIELDS_MAX = 30_000;

const TYPE_HASH_LISTPACK = 16;
const LENGTH_32_BITS = 0x80;
const RDB_VERSION = 10;
const LIST_AT = 6;
const LIST_HEADER_BYTES = 6;
const LIST_END = 0xff;
const FOOTER_BYTES = 10;
const TEXT = 0x80;

/** The text as an element; null if it is too long. */
export function packedText(text: string): Buffer | null {
  const bytes = Buffer.from(text);
  const { length } = bytes;
  if (length > PACKED_TEXT_BYTES_MAX) return null;
  return Buffer.concat([Buffer.from([TEXT | length]), bytes, Buffer.from([length + 1])]);
}

/** Leaves room for the header before the elements. */
export function beginPacked(out: ByteWriter): number {
  const at = out.length;
  out.reserve(LIST_AT + LIST_HEADER_BYTES);
  out.length = at + LIST_AT + LIST_HEADER_BYTES;
  return at;
}

/** Leaves room for a value's first byte. */
export function beginPackedText(out: ByteWriter): number {
  out.reserve(1);
  return out.length++;
}

/** False if the text is longer than `byteCountMax`, which is at most PACKED_TEXT_BYTES_MAX. */
export function endPackedText(out: ByteWriter, at: number, byteCountMax: number): boolean {
  const length = out.length - at - 1;
  if (length > byteCountMax) return false;
  out.bytes[at] = TEXT | length;
  out.byte(length + 1);
  return true;
}

export function endPacked(out: ByteWriter, at: number, elementCount: number): void {
  out.reserve(1 + FOOTER_BYTES);
  const to = out.bytes;
  to[out.length++] = LIST_END;
  const listBytes = out.length - at - LIST_AT;
  to[at] = TYPE_HASH_LISTPACK;
  to[at + 1] = LENGTH_32_BITS;
  to[at + 2] = listBytes >>> 24;
  to[at + 3] = listBytes >>> 16;
  to[at + 4] = listBytes >>> 8;
  to[at + 5] = listBytes;
  to[at + 6] = listBytes;
  to[at + 7] = listBytes >>> 8;
  to[at + 8] = listBytes >>> 16;
  to[at + 9] = listBytes >>> 24;
  to[at + 10] = elementCount;
  to[at + 11] = elementCount >>> 8;
  to[out.length++] = RDB_VERSION;
  to[out.length++] = 0;
  crc64(to, at, out.length, out.length);
  out.length += 8;
}
