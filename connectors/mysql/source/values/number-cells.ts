/** Numbers of the log as cells: see core/model/tuple.ts for what a cell looks like. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT } from "../../../../src/core/model/tuple.ts";
import { writeDigits, writeInteger } from "../../../../src/core/values/integer.ts";
import { DIGITS_PER_WORD } from "./field-types.ts";

const TWO_32 = 2 ** 32;
const SAFE_HIGH = 2 ** 21;
const BILLION = 1_000_000_000;

/** Begins a cell of known length, for which there is room, and returns the offset of its value. */
export function beginCell(out: ByteWriter, kind: number, length: number): number {
  out.reserve(5 + length);
  const to = out.bytes;
  const at = out.length;
  to[at] = kind;
  to[at + 1] = length >>> 24;
  to[at + 2] = length >>> 16;
  to[at + 3] = length >>> 8;
  to[at + 4] = length;
  out.length = at + 5 + length;
  return at + 5;
}

/** Begins a text cell; `endText` sets its length. The caller makes room for its bytes. */
export function beginText(out: ByteWriter): number {
  out.reserve(5);
  out.bytes[out.length] = CELL_TEXT;
  out.length += 5;
  return out.length;
}

export function endText(out: ByteWriter, at: number): void {
  const length = out.length - at;
  const to = out.bytes;
  to[at - 4] = length >>> 24;
  to[at - 3] = length >>> 16;
  to[at - 2] = length >>> 8;
  to[at - 1] = length;
}

export function cell16(out: ByteWriter, value: number): void {
  const at = beginCell(out, CELL_BINARY, 2);
  out.bytes[at] = value >> 8;
  out.bytes[at + 1] = value;
}

export function cell32(out: ByteWriter, value: number): void {
  const at = beginCell(out, CELL_BINARY, 4);
  const to = out.bytes;
  to[at] = value >> 24;
  to[at + 1] = value >> 16;
  to[at + 2] = value >> 8;
  to[at + 3] = value;
}

/** Writes `count` bytes in reverse order, for integers and IEEE floats. */
export function cellReversed(out: ByteWriter, bytes: Uint8Array, from: number, count: 4 | 8): number {
  const at = beginCell(out, CELL_BINARY, count);
  const to = out.bytes;
  for (let i = 0, last = from + count - 1; i < count; i++) to[at + i] = bytes[last - i]!;
  return from + count;
}

/** An unsigned number of 32 bits has no binary form in core: text. */
export function cellUint32(out: ByteWriter, value: number): void {
  const at = beginText(out);
  writeInteger(out, value);
  endText(out, at);
}

export function cellUint64(out: ByteWriter, high: number, low: number): void {
  const at = beginText(out);
  writeUint64(out, high, low);
  endText(out, at);
}

/** Unsigned and exact: above 2^53 by long division in parts that a Number holds. */
export function writeUint64(out: ByteWriter, high: number, low: number): void {
  if (high < SAFE_HIGH) return writeInteger(out, high * TWO_32 + low);
  const top = Math.floor(high / BILLION);
  const upper = (high % BILLION) * 65_536 + (low >>> 16);
  const middle = Math.floor(upper / BILLION);
  const lower = (upper - middle * BILLION) * 65_536 + (low & 0xffff);
  const bottom = Math.floor(lower / BILLION);
  writeInteger(out, top * TWO_32 + middle * 65_536 + bottom);
  out.reserve(9);
  writeDigits(out, lower - bottom * BILLION, 9);
}

/**
 * The position of the point among `digits`; a multiple of four. A column has up to 65 digits, a literal inside JSON up to
 * 81.
 */
const POINT = 84;
const digits = new Uint8Array(POINT * 2 + 8);
const LEADING_BYTES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4] as const;
const NEGATIVE = 0x4000;

/** Reads the digits of the DECIMAL at `at`, around `POINT`; true if it is negative. */
function readDigits(bytes: Uint8Array, at: number, precision: number, scale: number): boolean {
  const integral = precision - scale;
  digits.fill(0);
  // The highest bit is the sign, inverted; a negative number has all bits inverted.
  const mask = (bytes[at]! & 0x80) === 0 ? 0xff : 0;
  let end = POINT - integral;
  let isFirst = true;
  let rest = integral % DIGITS_PER_WORD;
  for (let left = integral; left > 0; rest = DIGITS_PER_WORD) {
    if (rest === 0) rest = DIGITS_PER_WORD;
    const count = LEADING_BYTES[rest]!;
    end += rest;
    spread(wordAt(bytes, at, count, mask, isFirst), end, rest);
    isFirst = false;
    at += count;
    left -= rest;
  }
  for (let left = scale; left > 0;) {
    const taken = Math.min(left, DIGITS_PER_WORD);
    const count = LEADING_BYTES[taken]!;
    end += taken;
    spread(wordAt(bytes, at, count, mask, isFirst), end, taken);
    isFirst = false;
    at += count;
    left -= taken;
  }
  return mask !== 0;
}

function wordAt(bytes: Uint8Array, at: number, count: number, mask: number, isFirst: boolean): number {
  let value = (bytes[at]! ^ mask ^ (isFirst ? 0x80 : 0)) & 0xff;
  for (let i = 1; i < count; i++) value = value * 256 + ((bytes[at + i]! ^ mask) & 0xff);
  return value;
}

function spread(value: number, end: number, count: number): void {
  for (let i = 1; i <= count; i++) {
    const quotient = (value / 10) | 0;
    digits[end - i] = value - quotient * 10;
    value = quotient;
  }
}

/** A DECIMAL as Postgres' numeric in its send form (core/values/text.ts). */
export function cellDecimal(out: ByteWriter, bytes: Uint8Array, from: number, precision: number, scale: number): void {
  const isNegative = readDigits(bytes, from, precision, scale);
  decimalCell(out, isNegative, precision - scale, scale);
}

/** The same from its text, which has all digits of its fraction. */
export function cellDecimalText(
  out: ByteWriter,
  bytes: Uint8Array,
  from: number,
  length: number,
  precision: number,
  scale: number,
): void {
  digits.fill(0);
  const isNegative = bytes[from] === 0x2d;
  const end = from + length;
  const whole = end - (scale > 0 ? scale + 1 : 0);
  for (let i = whole - 1, to = POINT - 1; i >= from + (isNegative ? 1 : 0); i--) digits[to--] = bytes[i]! - 0x30;
  for (let i = end - scale, to = POINT; i < end; i++) digits[to++] = bytes[i]! - 0x30;
  decimalCell(out, isNegative, precision - scale, scale);
}

/** Writes the digits around `POINT` as a cell. */
function decimalCell(out: ByteWriter, isNegative: boolean, integral: number, scale: number): void {
  let first = POINT - ((integral + 3) & ~3);
  let last = POINT + ((scale + 3) & ~3);
  while (first < last && groupAt(first) === 0) first += 4;
  while (last > first && groupAt(last - 4) === 0) last -= 4;
  const count = (last - first) >> 2;
  const at = beginCell(out, CELL_BINARY, 8 + count * 2);
  const to = out.bytes;
  put16(to, at, count);
  put16(to, at + 2, count === 0 ? 0 : ((POINT - first) >> 2) - 1);
  put16(to, at + 4, isNegative && count > 0 ? NEGATIVE : 0);
  put16(to, at + 6, scale);
  for (let i = 0; i < count; i++) put16(to, at + 8 + i * 2, groupAt(first + i * 4));
}

function groupAt(at: number): number {
  return digits[at]! * 1000 + digits[at + 1]! * 100 + digits[at + 2]! * 10 + digits[at + 3]!;
}

function put16(to: Uint8Array, at: number, value: number): void {
  to[at] = value >> 8;
  to[at + 1] = value;
}

/** The same as text with all its digits, as the server prints it inside JSON. */
export function writeDecimalText(
  out: ByteWriter,
  bytes: Uint8Array,
  from: number,
  precision: number,
  scale: number,
): void {
  const isNegative = readDigits(bytes, from, precision, scale);
  let first = POINT - (precision - scale);
  while (first < POINT - 1 && digits[first] === 0) first++;
  out.reserve(precision + 4);
  const to = out.bytes;
  if (isNegative) to[out.length++] = 0x2d;
  if (first >= POINT) to[out.length++] = 0x30;
  for (let i = first; i < POINT; i++) to[out.length++] = 0x30 + digits[i]!;
  if (scale > 0) to[out.length++] = 0x2e;
  for (let i = POINT; i < POINT + scale; i++) to[out.length++] = 0x30 + digits[i]!;
}

/** BIT(n): the highest byte first. */
export function cellBits(out: ByteWriter, bytes: Uint8Array, from: number, bitCount: number): number {
  const count = (bitCount + 7) >> 3;
  let high = 0;
  let low = 0;
  for (let i = 0; i < count; i++) {
    const byte = bytes[from + i]!;
    if (count - i > 4) high = high * 256 + byte;
    else low = low * 256 + byte;
  }
  if (bitCount <= 8) cell16(out, low);
  else if (bitCount <= 24) cell32(out, low);
  else cellUint64(out, high, low);
  return from + count;
}
