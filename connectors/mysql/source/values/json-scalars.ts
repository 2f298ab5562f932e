/** Prints scalars inside a JSON value as MySQL prints them. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { writeBase64 } from "../../../../src/core/values/byte-strings.ts";
import { writePackedDateTime, writePackedTime } from "./calendar-cells.ts";
import * as field from "../rows/field-types.ts";
import { writeDecimalText } from "./number-cells.ts";

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
export function writeDouble(out: ByteWriter, value: number): void {
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
export function writeOpaque(out: ByteWriter, type: number, bytes: Uint8Array, start: number, length: number): void {
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
