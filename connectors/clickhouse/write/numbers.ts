/** Numbers of a source's text or binary form as the little-endian bytes of RowBinary. */
import type { ByteWriter } from "../../../src/core/bytes.ts";

const DASH = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
/** Digits that a double holds exactly, whatever they are. */
const SAFE_DIGITS = 15;
const TWO_32 = 2 ** 32;

/** The lower bytes of a whole number of at most 2^53 in magnitude. */
export function writeSafeInteger(out: ByteWriter, value: number, byteCount: number): void {
  out.reserve(byteCount);
  const { bytes } = out;
  let at = out.length;
  const end = at + byteCount;
  const low = value >>> 0;
  const high = Math.floor(value / TWO_32) | 0;
  for (let shift = 0; at < end && shift < 32; shift += 8) bytes[at++] = (low >>> shift) & 0xff;
  for (let shift = 0; at < end && shift < 32; shift += 8) bytes[at++] = (high >>> shift) & 0xff;
  const sign = value < 0 ? 0xff : 0;
  while (at < end) bytes[at++] = sign;
  out.length = end;
}

/** The lower bytes of the number, in two's complement. */
export function writeBigInteger(out: ByteWriter, value: bigint, byteCount: number): void {
  out.reserve(byteCount);
  for (let at = 0; at < byteCount; at += 4) {
    const part = Number(BigInt.asUintN(32, value >> BigInt(8 * at)));
    for (let shift = 0; shift < 32 && at * 8 + shift < byteCount * 8; shift += 8) {
      out.bytes[out.length++] = (part >>> shift) & 0xff;
    }
  }
}

/** From decimal digits with an optional sign. */
export function writeIntegerText(
  out: ByteWriter,
  bytes: Uint8Array,
  start: number,
  length: number,
  byteCount: number,
): void {
  if (length > SAFE_DIGITS) return writeBigInteger(out, BigInt(asciiOf(bytes, start, length)), byteCount);
  const isNegative = bytes[start] === DASH;
  let value = 0;
  for (let at = isNegative ? start + 1 : start, end = start + length; at < end; at++) {
    value = value * 10 + (bytes[at]! - ZERO);
  }
  writeSafeInteger(out, isNegative ? -value : value, byteCount);
}

/** From a big-endian integer of two, four or eight bytes. */
export function writeIntegerBinary(
  out: ByteWriter,
  bytes: Uint8Array,
  start: number,
  length: number,
  byteCount: number,
): void {
  out.reserve(byteCount);
  const sign = bytes[start]! >= 0x80 ? 0xff : 0;
  for (let i = 0; i < byteCount; i++) out.bytes[out.length++] = i < length ? bytes[start + length - 1 - i]! : sign;
}

/**
 * A decimal's digits without the point, padded to `scale` digits behind it. False if it is no finite number, or has more
 * digits than fit: then nothing is written.
 */
export function writeDecimalText(
  out: ByteWriter,
  bytes: Uint8Array,
  start: number,
  length: number,
  { scale, digits, byteCount }: { readonly scale: number; readonly digits: number; readonly byteCount: number },
): boolean {
  const isNegative = bytes[start] === DASH;
  let value = 0;
  let count = 0;
  let behind = -1;
  const end = start + length;
  for (let at = isNegative ? start + 1 : start; at < end; at++) {
    const byte = bytes[at]!;
    if (byte === POINT) {
      behind = 0;
      continue;
    }
    if (byte < ZERO || byte > NINE) return false;
    value = value * 10 + (byte - ZERO);
    if (count > 0 || byte !== ZERO) count++;
    if (behind >= 0) behind++;
  }
  const missing = scale - Math.max(behind, 0);
  if (missing < 0 || count + missing > digits) return false;
  if (count + missing <= SAFE_DIGITS) {
    for (let i = 0; i < missing; i++) value *= 10;
    writeSafeInteger(out, isNegative ? -value : value, byteCount);
    return true;
  }
  const text = asciiOf(bytes, start, length).replace(".", "");
  writeBigInteger(out, BigInt(text + "0".repeat(missing)), byteCount);
  return true;
}

function asciiOf(bytes: Uint8Array, start: number, length: number): string {
  let text = "";
  for (let at = start, end = start + length; at < end; at++) text += String.fromCharCode(bytes[at]!);
  return text;
}
