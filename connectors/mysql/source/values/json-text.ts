/**
 * Turns MySQL's stored form of JSON (described in the server's sql-common/json_binary.h) into the text that the server
 * prints for it, byte by byte. Rate to hold: 50 MB/s of documents, so that a table with one stays above 350k rows per CPU
 * second (bench capture-mysql).
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { writeInteger } from "../../../../src/core/values/integer.ts";
import { damaged } from "../../errors.ts";
import { writeDouble, writeOpaque, writeQuoted } from "./json-scalars.ts";
import { readUint16, readUint32 } from "../log/little-endian.ts";
import { writeUint64 } from "./number-cells.ts";

export const SMALL_OBJECT = 0;
export const LARGE_OBJECT = 1;
export const SMALL_ARRAY = 2;
export const LARGE_ARRAY = 3;
export const LITERAL = 4;
export const INT16 = 5;
export const UINT16 = 6;
export const INT32 = 7;
export const UINT32 = 8;
export const INT64 = 9;
export const UINT64 = 10;
export const DOUBLE = 11;
export const STRING = 12;
export const OPAQUE = 15;
/** The server's own limit. */
const DEPTH_MAX = 100;
const double = new DataView(new ArrayBuffer(8));
const doubleBytes = new Uint8Array(double.buffer);
const LITERALS = ["null", "true", "false"] as const;

/** Writes the document in `length` bytes from `start`. As for the server, no bytes at all mean null. */
export function writeJsonText(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (length === 0) return out.ascii("null");
  writeValue(out, bytes, bytes[start]!, start + 1, start + length, 0);
}

export function writeValue(
  out: ByteWriter,
  bytes: Uint8Array,
  type: number,
  at: number,
  end: number,
  depth: number,
): void {
  switch (type) {
    case SMALL_OBJECT:
    case LARGE_OBJECT:
    case SMALL_ARRAY:
    case LARGE_ARRAY:
      return writeContainer(out, bytes, type, at, end, depth);
    case STRING: {
      const length = variableLength(bytes, at, end);
      return writeQuoted(out, bytes, at + lengthBytes, length);
    }
    case OPAQUE: {
      const length = variableLength(bytes, at + 1, end);
      return writeOpaque(out, bytes[at]!, bytes, at + 1 + lengthBytes, length);
    }
    default:
      return writeNumber(out, bytes, type, at, end);
  }
}

function writeNumber(out: ByteWriter, bytes: Uint8Array, type: number, at: number, end: number): void {
  switch (type) {
    case LITERAL:
      need(at, 1, end);
      return out.ascii(LITERALS[bytes[at]!] ?? broken());
    case INT16:
      need(at, 2, end);
      return writeInteger(out, (readUint16(bytes, at) << 16) >> 16);
    case UINT16:
      need(at, 2, end);
      return writeInteger(out, readUint16(bytes, at));
    case INT32:
      need(at, 4, end);
      return writeInteger(out, readUint32(bytes, at) | 0);
    case UINT32:
      need(at, 4, end);
      return writeInteger(out, readUint32(bytes, at));
    case INT64:
      need(at, 8, end);
      return writeSigned64(out, readUint32(bytes, at + 4), readUint32(bytes, at));
    case UINT64:
      need(at, 8, end);
      return writeUint64(out, readUint32(bytes, at + 4), readUint32(bytes, at));
    case DOUBLE:
      need(at, 8, end);
      for (let i = 0; i < 8; i++) doubleBytes[i] = bytes[at + i]!;
      return writeDouble(out, double.getFloat64(0, true));
    default:
      return broken();
  }
}

function writeSigned64(out: ByteWriter, high: number, low: number): void {
  if (high < 0x8000_0000) return writeUint64(out, high, low);
  out.byte(0x2d);
  const negated = -low >>> 0;
  writeUint64(out, (negated === 0 ? -high : ~high) >>> 0, negated);
}

/** Objects and arrays: count and size, then offsets of keys, then types and offsets of values, then the keys and values. */
function writeContainer(
  out: ByteWriter,
  bytes: Uint8Array,
  type: number,
  start: number,
  end: number,
  depth: number,
): void {
  if (depth > DEPTH_MAX) broken();
  const isLarge = type === LARGE_OBJECT || type === LARGE_ARRAY;
  const isObject = type === SMALL_OBJECT || type === LARGE_OBJECT;
  const width = isLarge ? 4 : 2;
  need(start, width * 2, end);
  const count = isLarge ? readUint32(bytes, start) : readUint16(bytes, start);
  const keys = start + width * 2;
  const values = isObject ? keys + count * (width + 2) : keys;
  need(values, count * (width + 1), end);
  out.byte(isObject ? 0x7b : 0x5b);
  for (let i = 0; i < count; i++) {
    if (i > 0) out.ascii(", ");
    if (isObject) {
      writeKey(out, bytes, start, keys + i * (width + 2), isLarge, end);
      out.ascii(": ");
    }
    const entry = values + i * (width + 1);
    const inner = bytes[entry]!;
    if (isInline(inner, isLarge)) writeValue(out, bytes, inner, entry + 1, end, depth + 1);
    else {
      const place = isLarge ? readUint32(bytes, entry + 1) : readUint16(bytes, entry + 1);
      need(start + place, 1, end);
      writeValue(out, bytes, inner, start + place, end, depth + 1);
    }
  }
  out.byte(isObject ? 0x7d : 0x5d);
}

function writeKey(
  out: ByteWriter,
  bytes: Uint8Array,
  start: number,
  entry: number,
  isLarge: boolean,
  end: number,
): void {
  const at = start + (isLarge ? readUint32(bytes, entry) : readUint16(bytes, entry));
  const length = readUint16(bytes, entry + (isLarge ? 4 : 2));
  need(at, length, end);
  writeQuoted(out, bytes, at, length);
}

/** Whether the entry holds the value itself, not its offset. */
export function isInline(type: number, isLarge: boolean): boolean {
  return type === LITERAL || type === INT16 || type === UINT16 || (isLarge && (type === INT32 || type === UINT32));
}

/** How many bytes the last length used. */
export let lengthBytes = 0;

/** Seven bits per byte, lowest first; the highest bit says that more follow. */
export function variableLength(bytes: Uint8Array, at: number, end: number): number {
  let length = 0;
  for (let i = 0; i < 5; i++) {
    need(at + i, 1, end);
    const byte = bytes[at + i]!;
    length += (byte & 0x7f) * 2 ** (7 * i);
    if ((byte & 0x80) === 0) {
      lengthBytes = i + 1;
      need(at + lengthBytes, length, end);
      return length;
    }
  }
  return broken();
}

export function need(at: number, count: number, end: number): void {
  if (at + count > end) broken();
}

export function broken(): never {
  throw damaged("a JSON value in a row is not well formed");
}
