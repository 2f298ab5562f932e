/**
 * The canonical text form of a value: exactly what Postgres prints under the settings named in tuple.ts. Text cells are
 * copied, binary cells are decoded, and both give the same bytes.
 */
import { ByteWriter } from "../bytes.ts";
import { invariant } from "../invariant.ts";
import { CELL_TEXT, readInt32 } from "../model/tuple.ts";
import type { ColumnType } from "../model/types.ts";
import { writeBinaryArray } from "./array.ts";
import { writeHex, writeUuid } from "./byte-strings.ts";
import { writeDate, writeTime, writeTimestamp } from "./calendar.ts";
import { formatFloat32, formatFloat64, readFloat32, readFloat64 } from "./float.ts";
import { writeDigits, writeInt64, writeInteger } from "./integer.ts";
import { writeVector } from "./vector.ts";

const TRUE = 0x74; // t
const FALSE = 0x66; // f
const JSONB_VERSION = 1;

/** `kind` is CELL_TEXT or CELL_BINARY. Null and unchanged cells have no text; the caller handles them before. */
export function writeText(
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  if (kind === CELL_TEXT) out.copy(bytes, start, length);
  else writeBinaryText(out, type, bytes, start, length);
}

const shared = new ByteWriter(256);

/** The canonical text form as a string: for keys and messages, not for rows. */
export function readText(type: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): string {
  shared.reset();
  writeText(shared, type, kind, bytes, start, length);
  return shared.bytes.toString("utf8", 0, shared.length);
}

export function writeBinaryText(
  out: ByteWriter,
  type: ColumnType,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  switch (type.kind) {
    case "bool":
      return out.byte(bytes[start] === 0 ? FALSE : TRUE);
    case "int":
      return writeBinaryInteger(out, bytes, start, length);
    case "float":
      return out.ascii(
        type.bits === 64 ? formatFloat64(readFloat64(bytes, start)) : formatFloat32(readFloat32(bytes, start)),
      );
    case "decimal":
      return writeDecimal(out, bytes, start);
    case "text":
    case "enum":
      return out.copy(bytes, start, length);
    case "bytes":
      out.byte(0x5c);
      out.byte(0x78); // \x
      return writeHex(out, bytes, start, length);
    case "date":
      return writeDate(out, bytes, start);
    case "time":
      return writeTime(out, bytes, start);
    case "timestamp":
      return writeTimestamp(out, bytes, start, type.zone);
    case "uuid":
      return writeUuid(out, bytes, start);
    case "json": {
      const skipped = jsonPrefixLength(bytes, start, length);
      return out.copy(bytes, start + skipped, length - skipped);
    }
    case "array":
      return writeBinaryArray(out, type.of, bytes, start, writeBinaryText);
    case "vector":
      return writeVector(out, type.form, bytes, start, length);
    case "opaque":
      return invariant(false, "opaque types have no binary form");
    default:
      return type satisfies never;
  }
}

/** Signed and big-endian, of two, four or eight bytes. */
export function writeBinaryInteger(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (length === 8) writeInt64(out, bytes, start);
  else if (length === 4) writeInteger(out, readInt32(bytes, start));
  else writeInteger(out, ((bytes[start]! << 24) >> 16) | bytes[start + 1]!);
}

/** jsonb sends a version byte before its text; json doesn't, and no JSON text begins with that byte. */
export function jsonPrefixLength(bytes: Uint8Array, start: number, length: number): number {
  return length > 0 && bytes[start] === JSONB_VERSION ? 1 : 0;
}

const HEADER_BYTES = 8;
const NEGATIVE = 0x4000;
const NAN = 0xc000;
const PLUS_INFINITY = 0xd000;
const MINUS_INFINITY = 0xf000;

/**
 * Postgres' numeric in its send form: four 16-bit numbers (count of digits, weight of the first, sign, digits shown
 * behind the point), then base-10,000 digits. Prints exactly the digits that the server prints, trailing zeros included.
 */
function writeDecimal(out: ByteWriter, bytes: Uint8Array, start: number): void {
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
