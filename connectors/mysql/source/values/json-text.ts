/**
 * Turns MySQL's stored form of JSON (described in the server's sql-common/json_binary.h) into the text that the server
 * prints for it, byte by byte. Rate to hold: 50 MB/s of documents, so that a table with one stays above 350k rows per CPU
 * second (bench capture-mysql).
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { writeInteger } from "../../../../src/core/values/integer.ts";
import { damaged } from "../errors.ts";
import { readUint16, readUint32 } from "../wire/bytes.ts";
import { writeUint64, writeDecimalText } from "./number-cells.ts";
import { writeBase64 } from "../../../../src/core/values/byte-strings.ts";
import { writePackedDateTime, writePackedTime } from "./calendar-cells.ts";
import * as field from "./field-types.ts";

export const SMALL_OBJECT = 0;
export const LARGE_OBJECT = 1;
export const SMALL_ARRAY = 2;
export const LARGE_ARRAY = 3;
const LITERAL = 4;
const INT16 = 5;
const UINT16 = 6;
const INT32 = 7;
const UINT32 = 8;
const INT64 = 9;
const UINT64 = 10;
const DOUBLE = 11;
const STRING = 12;
const OPAQUE = 15;
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
function variableLength(bytes: Uint8Array, at: number, end: number): number {
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

function broken(): never {
  throw damaged("a JSON value in a row is not well formed");
}

/** A number whose point is within this many digits of its first is printed without an exponent. */
const PLAIN_DIGITS_MAX = 15;
/** 76 characters of base64. */
const LINE_BYTES = 57;
const QUOTE = 0x22;
const HEX = Buffer.from("0123456789abcdef", "latin1");

/** The character after the backslash; 0: no escape; 1: as \u00XX. */
const ESCAPES = new Uint8Array(256);
ESCAPES.fill(1, 0, 0x20);
ESCAPES[0x08] = 0x62;
ESCAPES[0x09] = 0x74;
ESCAPES[0x0a] = 0x6e;
ESCAPES[0x0c] = 0x66;
ESCAPES[0x0d] = 0x72;
ESCAPES[QUOTE] = QUOTE;
ESCAPES[0x5c] = 0x5c;

/** Text with its quotes. */
export function writeQuoted(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve(length * 6 + 2);
  const to = out.bytes;
  let at = out.length;
  to[at++] = QUOTE;
  for (let i = start, end = start + length; i < end; i++) {
    const byte = bytes[i]!;
    const escape = ESCAPES[byte]!;
    if (escape === 0) {
      to[at++] = byte;
      continue;
    }
    to[at++] = 0x5c;
    if (escape !== 1) {
      to[at++] = escape;
      continue;
    }
    to[at++] = 0x75;
    to[at++] = 0x30;
    to[at++] = 0x30;
    to[at++] = HEX[byte >> 4]!;
    to[at++] = HEX[byte & 15]!;
  }
  to[at++] = QUOTE;
  out.length = at;
}

/** The shortest digits that read back as the same number; always with a point or an exponent. */
function writeDouble(out: ByteWriter, value: number): void {
  if (value === 0) return out.ascii(Object.is(value, -0) ? "-0.0" : "0.0");
  const magnitude = Math.abs(value);
  // Between these bounds JavaScript prints the same, but for the point.
  if (magnitude >= 1e-6 && magnitude < 1e15) {
    out.ascii(String(value));
    if (Number.isInteger(value)) out.ascii(".0");
    return;
  }
  const [mantissa = "", exponent = ""] = magnitude.toExponential().split("e");
  const digits = mantissa.replace(".", "");
  /** Digits before the point. */
  const point = Number(exponent) + 1;
  out.ascii(value < 0 ? "-" : "");
  // If there is a fraction, the server still prints it without an exponent.
  const isLarge = point > PLAIN_DIGITS_MAX && digits.length <= point;
  if (isLarge || point < 1 - PLAIN_DIGITS_MAX) {
    out.ascii(`${digits[0]}${digits.length > 1 ? `.${digits.slice(1)}` : ""}e${point - 1}`);
  } else if (point <= 0) {
    out.ascii(`0.${"0".repeat(-point)}${digits}`);
  } else if (digits.length <= point) {
    out.ascii(`${digits.padEnd(point, "0")}.0`);
  } else {
    out.ascii(`${digits.slice(0, point)}.${digits.slice(point)}`);
  }
}

/** A value of an SQL type that JSON itself does not have. */
function writeOpaque(out: ByteWriter, type: number, bytes: Uint8Array, start: number, length: number): void {
  if (type === field.NEWDECIMAL) return writeDecimalText(out, bytes, start + 2, bytes[start]!, bytes[start + 1]!);
  out.byte(QUOTE);
  if (isTime(type) && length === 8) {
    const packed = new DataView(bytes.buffer, bytes.byteOffset + start, 8).getBigInt64(0, true);
    if (type === field.TIME_OLD) writePackedTime(out, packed);
    else writePackedDateTime(out, packed, type === field.DATE);
  } else {
    out.ascii(`base64:type${type}:`);
    writeLines(out, bytes, start, length);
  }
  out.byte(QUOTE);
}

/** Base64 in the same lines as the server's. */
function writeLines(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  for (let at = 0; at < length; at += LINE_BYTES) {
    if (at > 0) out.ascii("\\n");
    writeBase64(out, bytes, start + at, Math.min(LINE_BYTES, length - at));
  }
}

function isTime(type: number): boolean {
  return type === field.DATE || type === field.TIME_OLD || type === field.DATETIME_OLD || type === field.TIMESTAMP_OLD;
}
