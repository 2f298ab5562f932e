/** The three forms of MessagePack that the script's rows need: text of up to 4 GB and arrays of known length. */
import type { ByteWriter } from "../../../src/core/bytes.ts";

const STR32 = 0xdb;
const ARRAY16 = 0xdc;
const ARRAY32 = 0xdd;
const TEXT_HEADER_BYTES = 5;

/** Leaves room for a text's header; `endText` fills it in, given the result. */
export function beginText(out: ByteWriter): number {
  out.reserve(TEXT_HEADER_BYTES);
  const at = out.length;
  out.bytes[at] = STR32;
  out.length = at + TEXT_HEADER_BYTES;
  return at;
}

export function endText(out: ByteWriter, at: number): void {
  writeUint32(out, at + 1, out.length - at - TEXT_HEADER_BYTES);
}

export function textBytes(text: string): Buffer {
  const bytes = Buffer.from(text);
  const header = Buffer.alloc(TEXT_HEADER_BYTES);
  header[0] = STR32;
  header.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([header, bytes]);
}

/** An array of fewer than 65,536 elements; `setArrayCount` may set the count later. */
export function beginArray(out: ByteWriter, count = 0): number {
  out.reserve(3);
  const at = out.length;
  out.bytes[at] = ARRAY16;
  out.length = at + 3;
  setArrayCount(out, at, count);
  return at;
}

export function setArrayCount(out: ByteWriter, at: number, count: number): void {
  out.bytes[at + 1] = count >>> 8;
  out.bytes[at + 2] = count;
}

/** The outermost array. */
export function beginRows(out: ByteWriter): void {
  out.reserve(5);
  out.bytes[out.length] = ARRAY32;
  out.length += 5;
}

export function endRows(out: ByteWriter, count: number): void {
  writeUint32(out, 1, count);
}

function writeUint32(out: ByteWriter, at: number, value: number): void {
  const to = out.bytes;
  to[at] = value >>> 24;
  to[at + 1] = value >>> 16;
  to[at + 2] = value >>> 8;
  to[at + 3] = value;
}
