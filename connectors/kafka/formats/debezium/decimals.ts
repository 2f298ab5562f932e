/**
 * Decimals as Connect's Decimal has them: the digits without the point as a big-endian two's complement number, in base64. From the
 * canonical text, which both forms of a cell have.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import { writeBase64 } from "../../../../src/core/values/byte-strings.ts";
import { writeText } from "../../../../src/core/values/text.ts";
import type { Cell } from "./fields.ts";

const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
/** So many digits are a safe integer. */
const SAFE_DIGITS = 15;
/** A longer number is easier to read with an exponent, and is no integer for a reader that has them. */
const LONG = 1e15;

const text = new ByteWriter(256);
/** The digits of `text`, without sign and point. */
const digits = new ByteWriter(256);
const number = new ByteWriter(64);

/** The cell's text is in `text` then. False: it is no number (NaN, Infinity). */
function readDecimal(type: ColumnType, { kind, bytes, start, length }: Cell): boolean {
  text.reset();
  writeText(text, type, kind, bytes, start, length);
  const last = text.bytes[text.length - 1]!;
  return last >= ZERO && last <= NINE;
}

/** Quoted; `scale`: digits behind the point, of which the text may show fewer. False and nothing written: it is no number. */
export function writeDecimal(out: ByteWriter, type: ColumnType, cell: Cell, scale: number): boolean {
  if (!readDecimal(type, cell)) return false;
  const shown = takeDigits();
  for (let i = shown; i < scale; i++) digits.byte(ZERO);
  // A scale below zero leaves out digits that are zero.
  if (scale < shown) digits.length = Math.max(0, digits.length - (shown - scale));
  writeUnscaled(out);
  return true;
}

/** With the scale that its own digits need. */
export function writeScaledDecimal(out: ByteWriter, type: ColumnType, cell: Cell): boolean {
  if (!readDecimal(type, cell)) return false;
  let scale = takeDigits();
  while (scale > 0 && digits.bytes[digits.length - 1] === ZERO) {
    digits.length--;
    scale--;
  }
  out.ascii(`{"scale":${scale},"value":`);
  writeUnscaled(out);
  out.ascii("}");
  return true;
}

/** Debezium's words for what is no number. */
export function writeDecimalText(out: ByteWriter, type: ColumnType, cell: Cell): void {
  const isNumber = readDecimal(type, cell);
  out.ascii('"');
  if (isNumber) out.copy(text.bytes, 0, text.length);
  else out.ascii(text.bytes[0] === MINUS ? "NEGATIVE_INFINITY" : text.bytes[0] === 0x4e ? "NAN" : "POSITIVE_INFINITY");
  out.ascii('"');
}

export function writeDecimalDouble(out: ByteWriter, type: ColumnType, cell: Cell): void {
  const isNumber = readDecimal(type, cell);
  const value = text.bytes.toString("latin1", 0, text.length);
  writeDouble(out, isNumber ? Number(value) : Number.NaN, isNumber ? null : value);
}

/** `word`: for what is no number. */
export function writeDouble(out: ByteWriter, value: number, word: string | null = null): void {
  if (word !== null || !Number.isFinite(value)) out.ascii(`"${word ?? String(value)}"`);
  else if (Object.is(value, -0)) out.ascii("-0.0");
  else out.ascii(Math.abs(value) >= LONG ? value.toExponential() : String(value));
}

/** The digits of a text without its point go to `digits`; returns how many of them are behind the point. */
function takeDigits(): number {
  digits.reset();
  let point = -1;
  for (let i = text.bytes[0] === MINUS ? 1 : 0; i < text.length; i++) {
    const byte = text.bytes[i]!;
    if (byte === POINT) point = i;
    else digits.byte(byte);
  }
  return point < 0 ? 0 : text.length - point - 1;
}

function writeUnscaled(out: ByteWriter): void {
  const isNegative = text.bytes[0] === MINUS;
  if (digits.length <= SAFE_DIGITS) {
    let value = 0;
    for (let i = 0; i < digits.length; i++) value = value * 10 + digits.bytes[i]! - ZERO;
    writeSafeNumber(out, isNegative ? -value : value);
  } else {
    const value = BigInt(digits.bytes.toString("latin1", 0, digits.length));
    writeNumber(out, isNegative ? -value : value);
  }
}

/** A quoted number of at most 2^53 in magnitude, in as few bytes as its sign needs. */
function writeSafeNumber(out: ByteWriter, value: number): void {
  let byteCount = 1;
  for (let limit = 128; value >= limit || value < -limit; limit *= 256) byteCount++;
  number.reset();
  number.reserve(byteCount);
  for (let rest = value, at = byteCount - 1; at >= 0; at--) {
    const low = ((rest % 256) + 256) % 256;
    number.bytes[at] = low;
    rest = (rest - low) / 256;
  }
  number.length = byteCount;
  writeQuoted(out);
}

/** The same for numbers of any size. */
export function writeNumber(out: ByteWriter, value: bigint): void {
  let bits = 8;
  while (BigInt.asIntN(bits, value) !== value) bits *= 2;
  while (bits > 8 && BigInt.asIntN(bits - 8, value) === value) bits -= 8;
  const hex = BigInt.asUintN(bits, value)
    .toString(16)
    .padStart(bits / 4, "0");
  number.reset();
  number.reserve(bits / 8);
  number.length = number.bytes.write(hex, 0, "hex");
  writeQuoted(out);
}

function writeQuoted(out: ByteWriter): void {
  out.ascii('"');
  writeBase64(out, number.bytes, 0, number.length);
  out.ascii('"');
}
