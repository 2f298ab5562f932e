import type { ByteWriter } from "../bytes.ts";
import { writeDigits, writeInteger } from "./integer.ts";

const HEADER_BYTES = 8;
const NEGATIVE = 0x4000;
const NAN = 0xc000;
const PLUS_INFINITY = 0xd000;
const MINUS_INFINITY = 0xf000;

/**
 * Postgres' numeric in its send form: four 16-bit numbers (count of digits, weight of the first, sign, digits shown
 * behind the point), then base-10,000 digits. Prints exactly the digits that the server prints, trailing zeros included.
 */
export function writeDecimal(out: ByteWriter, bytes: Uint8Array, start: number): void {
  const digitCount = readUint16(bytes, start);
  const weight = (readUint16(bytes, start + 2) << 16) >> 16;
  const sign = readUint16(bytes, start + 4);
  const scale = readUint16(bytes, start + 6);
  if (sign === NAN) return out.ascii("NaN");
  if (sign === PLUS_INFINITY) return out.ascii("Infinity");
  if (sign === MINUS_INFINITY) return out.ascii("-Infinity");
  out.reserve((Math.max(weight, 0) + 1) * 4 + scale + 8);
  if (sign === NEGATIVE) out.byte(0x2d); // -
  const digits = start + HEADER_BYTES;
  if (weight < 0) out.byte(0x30);
  for (let i = 0; i <= weight; i++) {
    const digit = i < digitCount ? readUint16(bytes, digits + 2 * i) : 0;
    if (i === 0) writeInteger(out, digit);
    else writeDigits(out, digit, 4);
  }
  if (scale > 0) writeFraction(out, bytes, digits, digitCount, weight, scale);
}

function writeFraction(
  out: ByteWriter,
  bytes: Uint8Array,
  digits: number,
  digitCount: number,
  weight: number,
  scale: number,
): void {
  out.byte(0x2e); // .
  const end = out.length + scale;
  for (let i = weight + 1; out.length < end; i++) {
    writeDigits(out, i >= 0 && i < digitCount ? readUint16(bytes, digits + 2 * i) : 0, 4);
  }
  out.length = end;
}

function readUint16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}
