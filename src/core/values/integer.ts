import type { ByteWriter } from "../bytes.ts";
import { readInt32 } from "../model/tuple.ts";

const SAFE_HIGH = 2 ** 21;
const TWO_32 = 2 ** 32;
const BILLION = 1_000_000_000;

/** A whole number of at most 2^53 in magnitude, in decimal. */
export function writeInteger(out: ByteWriter, value: number): void {
  out.reserve(17);
  if (value < 0) {
    out.bytes[out.length++] = 0x2d; // -
    value = -value;
  }
  if (value < BILLION) return writeDigits(out, value, digitCount(value));
  const high = Math.floor(value / BILLION);
  writeDigits(out, high, digitCount(high));
  writeDigits(out, value - high * BILLION, 9);
}

/** The signed 64-bit big-endian number at `at`; never converted to an imprecise Number. */
export function writeInt64(out: ByteWriter, bytes: Uint8Array, at: number): void {
  const high = readInt32(bytes, at);
  const low = readInt32(bytes, at + 4) >>> 0;
  if (high >= -SAFE_HIGH && high < SAFE_HIGH) writeInteger(out, high * TWO_32 + low);
  else writeWide(out, high, low);
}

/** The signed 64-bit big-endian number at `at`; the caller knows that it lies within ±2^53. */
export function readSafeInt64(bytes: Uint8Array, at: number): number {
  return readInt32(bytes, at) * TWO_32 + (readInt32(bytes, at + 4) >>> 0);
}

/** Whether the 64-bit number at `at` is within ±2^53. */
export function isSafeInt64(bytes: Uint8Array, at: number): boolean {
  const high = readInt32(bytes, at);
  return high >= -SAFE_HIGH && high < SAFE_HIGH;
}

export function readBigInt64(bytes: Uint8Array, at: number): bigint {
  return (BigInt(readInt32(bytes, at)) << 32n) | BigInt(readInt32(bytes, at + 4) >>> 0);
}

/** Writes `width` decimal digits of `value`, which must not have more; the caller has reserved room. */
export function writeDigits(out: ByteWriter, value: number, width: number): void {
  const to = out.bytes;
  const end = out.length + width;
  for (let at = end - 1, rest = value | 0; at >= out.length; at--) {
    const quotient = (rest / 10) | 0;
    to[at] = 0x30 + rest - quotient * 10;
    rest = quotient;
  }
  out.length = end;
}

/** Long division of the four 16-bit limbs by 10,000, so that a snowflake id allocates no BigInt. */
function writeWide(out: ByteWriter, high: number, low: number): void {
  out.reserve(21);
  if (high < 0) {
    out.bytes[out.length++] = 0x2d; // -
    low = -low >>> 0;
    high = low === 0 ? -high : ~high;
  }
  let a = high >>> 16;
  let b = high & 0xffff;
  let c = low >>> 16;
  let d = low & 0xffff;
  const end = out.length + 20;
  let at = end;
  for (let round = 0; round < 5; round++) {
    let rest = a;
    a = (rest / 10_000) | 0;
    rest = ((rest - a * 10_000) << 16) | b;
    b = (rest / 10_000) | 0;
    rest = ((rest - b * 10_000) << 16) | c;
    c = (rest / 10_000) | 0;
    rest = ((rest - c * 10_000) << 16) | d;
    d = (rest / 10_000) | 0;
    rest -= d * 10_000;
    for (let i = 0; i < 4; i++) {
      const quotient = (rest / 10) | 0;
      out.bytes[--at] = 0x30 + rest - quotient * 10;
      rest = quotient;
    }
  }
  while (out.bytes[at] === 0x30) at++;
  out.bytes.copyWithin(out.length, at, end);
  out.length += end - at;
}

function digitCount(value: number): number {
  if (value < 10) return 1;
  if (value < 100) return 2;
  if (value < 1_000) return 3;
  if (value < 10_000) return 4;
  if (value < 100_000) return 5;
  if (value < 1_000_000) return 6;
  if (value < 10_000_000) return 7;
  return value < 100_000_000 ? 8 : 9;
}
