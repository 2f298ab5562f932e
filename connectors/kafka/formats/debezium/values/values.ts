/** A cell's value as Debezium's JSON has it. Rate to hold: that of bench kafka with the format debezium. */
import { ByteWriter } from "../../../../../src/core/bytes.ts";
import { CELL_NULL, CELL_TEXT, CELL_UNCHANGED } from "../../../../../src/core/model/tuple.ts";
import { writeJsonString } from "../../../../../src/core/values/json-string.ts";
import { writeJson } from "../../../../../src/core/values/json.ts";
import { jsonPrefixLength, writeText } from "../../../../../src/core/values/text.ts";
import { writeElements } from "./arrays.ts";
import { writeDecimal, writeDecimalDouble, writeDecimalText, writeScaledDecimal } from "./decimals.ts";
import type { Field, Form } from "../types/field.ts";
import { writeGeometry, writeGeometryPoint } from "./geometry.ts";
import {
  writeBits,
  writeDuration,
  writeHstore,
  writeMoney,
  writeMoneyDouble,
  writeMoneyText,
  writePoint,
  writeZonedTime,
} from "./postgres-texts.ts";
import { clockFromText, writeEpochDays, writeEpochTime, writeTimeOfDay, writeZonedTimestamp } from "./times.ts";

const ZERO = 0x30;
const MINUS = 0x2d;
const HEX_PREFIX_BYTES = 2;
const MS_US = 1000;

const text = new ByteWriter(256);

type Cell = (out: ByteWriter, field: Field, kind: number, bytes: Uint8Array, start: number, length: number) => void;

/** By form; `writeValue` itself has the forms that lack a value. */
const WRITERS: Readonly<Record<Exclude<Form, "decimal" | "scaled-decimal">, Cell>> = {
  plain: (out, { type }, kind, bytes, start, length) => writeJson(out, type, kind, bytes, start, length),
  float: writeFloat,
  text: writeString,
  date: (out, _, kind, bytes, start, length) => writeEpochDays(out, kind, bytes, start, length),
  "time-ms": (out, _, kind, bytes, start, length) => writeTimeOfDay(out, kind, bytes, start, length, MS_US),
  "time-us": (out, _, kind, bytes, start, length) => writeTimeOfDay(out, kind, bytes, start, length, 1),
  "timestamp-ms": (out, _, kind, bytes, start, length) => writeEpochTime(out, kind, bytes, start, length, MS_US),
  "timestamp-us": (out, _, kind, bytes, start, length) => writeEpochTime(out, kind, bytes, start, length, 1),
  "zoned-timestamp": (out, { digits }, kind, bytes, start, length) =>
    writeZonedTimestamp(out, kind, bytes, start, length, digits),
  "decimal-text": (out, { type }, kind, bytes, start, length) =>
    writeDecimalText(out, type, kind, bytes, start, length),
  "decimal-double": (out, { type }, kind, bytes, start, length) =>
    writeDecimalDouble(out, type, kind, bytes, start, length),
  array: (out, field, kind, bytes, start, length) =>
    writeElements(out, field.of!, kind, bytes, start, length, writeElement),
  geometry: (out, _, kind, bytes, start, length) => writeGeometry(out, bytesOf(kind, bytes, start, length)),
  "geometry-point": (out, _, kind, bytes, start, length) =>
    writeGeometryPoint(out, bytesOf(kind, bytes, start, length)),
  "unsigned-long": fromText((out, value) => out.ascii(String(BigInt.asIntN(64, BigInt(value))))),
  "little-endian": fromText((out, value, { digits }) => writeLittleEndian(out, BigInt(value), Math.ceil(digits / 8))),
  "time-of-mysql": fromText((out, value) => out.ascii(String(clockFromText(Buffer.from(value), 0, value.length)))),
  bit: fromText((out, value) => out.ascii(value.endsWith("1") ? "true" : "false")),
  bits: fromText(writeBits),
  duration: fromText(writeDuration),
  "zoned-time": fromText(writeZonedTime),
  money: fromText(writeMoney),
  "money-text": fromText(writeMoneyText),
  "money-double": fromText(writeMoneyDouble),
  hstore: fromText(writeHstore),
  point: fromText(writePoint),
};

/** False and nothing written: Debezium's type has no such value (NaN in a decimal). */
export function writeValue(
  out: ByteWriter,
  field: Field,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): boolean {
  const { form, type, digits } = field;
  if (kind === CELL_NULL) out.ascii("null");
  else if (kind === CELL_UNCHANGED) out.ascii(field.unavailable);
  else if (form === "decimal") return writeDecimal(out, type, kind, bytes, start, length, digits);
  else if (form === "scaled-decimal") return writeScaledDecimal(out, type, kind, bytes, start, length);
  else WRITERS[form](out, field, kind, bytes, start, length);
  return true;
}

/** For types of which values are few: through a string. */
function fromText(write: (out: ByteWriter, value: string, field: Field) => void): Cell {
  return (out, field, kind, bytes, start, length) => {
    text.reset();
    writeText(text, field.type, kind, bytes, start, length);
    write(out, text.bytes.toString("utf8", 0, text.length), field);
  };
}

function writeElement(
  out: ByteWriter,
  field: Field,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  if (!writeValue(out, field, kind, bytes, start, length)) out.ascii("null");
}

/** Without a point, JSON's -0 would be read as the integer 0. */
function writeFloat(
  out: ByteWriter,
  { type }: Field,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  const at = out.length;
  writeJson(out, type, kind, bytes, start, length);
  if (out.length === at + 2 && out.bytes[at] === MINUS && out.bytes[at + 1] === ZERO) out.ascii(".0");
}

function writeString(
  out: ByteWriter,
  { type }: Field,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  if (kind === CELL_TEXT || type.kind === "text" || type.kind === "enum") {
    return writeJsonString(out, bytes, start, length);
  }
  if (type.kind === "json") {
    const skipped = jsonPrefixLength(bytes, start, length);
    return writeJsonString(out, bytes, start + skipped, length - skipped);
  }
  text.reset();
  writeText(text, type, kind, bytes, start, length);
  writeJsonString(out, text.bytes, 0, text.length);
}

function bytesOf(kind: number, bytes: Uint8Array, start: number, length: number): Buffer {
  if (kind !== CELL_TEXT) return Buffer.from(bytes.subarray(start, start + length));
  return Buffer.from(Buffer.from(bytes.subarray(start + HEX_PREFIX_BYTES, start + length)).toString("latin1"), "hex");
}

function writeLittleEndian(out: ByteWriter, value: bigint, byteCount: number): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  out.ascii(`"${bytes.toString("base64", 0, byteCount)}"`);
}
