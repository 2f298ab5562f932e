/** A cell's value as Debezium's JSON has it. Rate to hold: that of bench kafka with the format debezium. */
import { ByteWriter, withScratch } from "../../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT, CELL_UNCHANGED, readInt32 } from "../../../../src/core/model/tuple.ts";
import { writeJsonString } from "../../../../src/core/values/json-string.ts";
import { writeJson } from "../../../../src/core/values/json.ts";
import { jsonPrefixLength, writeText } from "../../../../src/core/values/text.ts";
import { writeDecimal, writeDecimalDouble, writeDecimalText, writeScaledDecimal } from "./decimals.ts";
import type { Cell, Field, Form } from "./fields.ts";
import {
  writeBits,
  writeDuration,
  writeGeometry,
  writeGeometryPoint,
  writeHstore,
  writeMoney,
  writeMoneyDouble,
  writeMoneyText,
  writePoint,
  writeZonedTime,
} from "./texts.ts";
import { clockFromText, writeEpochDays, writeEpochTime, writeTimeOfDay, writeZonedTimestamp } from "./times.ts";
import { isNullWord } from "../../../../src/core/values/array.ts";

const ZERO = 0x30;
const MINUS = 0x2d;
const HEX_PREFIX_BYTES = 2;
const MS_US = 1000;
/** Of a binary array. */
const HEADER_BYTES = 12;
const DIMENSION_BYTES = 8;
const OPEN_BRACKET = 0x5b;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const EQUALS = 0x3d;

const text = new ByteWriter(256);

type Writer = (out: ByteWriter, field: Field, cell: Cell) => void;

/** By form; `writeValue` itself has the forms that lack a value. */
const WRITERS: Readonly<Record<Exclude<Form, "decimal" | "scaled-decimal">, Writer>> = {
  plain: (out, { type }, { kind, bytes, start, length }) => writeJson(out, type, kind, bytes, start, length),
  float: writeFloat,
  text: writeString,
  date: (out, _, cell) => writeEpochDays(out, cell),
  "time-ms": (out, _, cell) => writeTimeOfDay(out, cell, MS_US),
  "time-us": (out, _, cell) => writeTimeOfDay(out, cell, 1),
  "timestamp-ms": (out, _, cell) => writeEpochTime(out, cell, MS_US),
  "timestamp-us": (out, _, cell) => writeEpochTime(out, cell, 1),
  "zoned-timestamp": (out, { digits }, cell) => writeZonedTimestamp(out, cell, digits),
  "decimal-text": (out, { type }, cell) => writeDecimalText(out, type, cell),
  "decimal-double": (out, { type }, cell) => writeDecimalDouble(out, type, cell),
  array: (out, field, cell) => writeElements(out, field.of!, cell),
  geometry: (out, _, cell) => writeGeometry(out, bytesOf(cell)),
  "geometry-point": (out, _, cell) => writeGeometryPoint(out, bytesOf(cell)),
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
export function writeValue(out: ByteWriter, field: Field, cell: Cell): boolean {
  const { form, type, digits } = field;
  const { kind } = cell;
  if (kind === CELL_NULL) out.ascii("null");
  else if (kind === CELL_UNCHANGED) out.ascii(field.unavailable);
  else if (form === "decimal") return writeDecimal(out, type, cell, digits);
  else if (form === "scaled-decimal") return writeScaledDecimal(out, type, cell);
  else WRITERS[form](out, field, cell);
  return true;
}

/** For types of which values are few: through a string. */
function fromText(write: (out: ByteWriter, value: string, field: Field) => void): Writer {
  return (out, field, { kind, bytes, start, length }) => {
    text.reset();
    writeText(text, field.type, kind, bytes, start, length);
    write(out, text.bytes.toString("utf8", 0, text.length), field);
  };
}

/** One object, which the next element of an array replaces. */
const element: Cell = { kind: CELL_NULL, bytes: Buffer.alloc(0), start: 0, length: 0 };

function writeElement(
  out: ByteWriter,
  of: Field,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  element.kind = kind;
  element.bytes = bytes;
  element.start = start;
  element.length = length;
  if (!writeValue(out, of, element)) out.ascii("null");
}

/** Without a point, JSON's -0 would be read as the integer 0. */
function writeFloat(out: ByteWriter, { type }: Field, { kind, bytes, start, length }: Cell): void {
  const at = out.length;
  writeJson(out, type, kind, bytes, start, length);
  if (out.length === at + 2 && out.bytes[at] === MINUS && out.bytes[at + 1] === ZERO) out.ascii(".0");
}

function writeString(out: ByteWriter, { type }: Field, { kind, bytes, start, length }: Cell): void {
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

function bytesOf({ kind, bytes, start, length }: Cell): Buffer {
  if (kind !== CELL_TEXT) return Buffer.from(bytes.subarray(start, start + length));
  return Buffer.from(Buffer.from(bytes.subarray(start + HEX_PREFIX_BYTES, start + length)).toString("latin1"), "hex");
}

function writeLittleEndian(out: ByteWriter, value: bigint, byteCount: number): void {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  out.ascii(`"${bytes.toString("base64", 0, byteCount)}"`);
}

/** Arrays as Connect has them: of one dimension; the elements of more follow each other. */
function writeElements(out: ByteWriter, of: Field, { kind, bytes, start, length }: Cell): void {
  out.ascii("[");
  if (kind === CELL_TEXT) writeFromText(out, of, bytes, start, start + length);
  else writeFromBinary(out, of, bytes, start);
  out.ascii("]");
}

function writeFromBinary(out: ByteWriter, of: Field, bytes: Uint8Array, start: number): void {
  const dimensions = readInt32(bytes, start);
  let count = dimensions === 0 ? 0 : 1;
  for (let i = 0; i < dimensions; i++) count *= readInt32(bytes, start + HEADER_BYTES + i * DIMENSION_BYTES);
  let at = start + HEADER_BYTES + dimensions * DIMENSION_BYTES;
  for (let i = 0; i < count; i++) {
    if (i > 0) out.ascii(",");
    const length = readInt32(bytes, at);
    at += 4;
    if (length < 0) out.ascii("null");
    else {
      writeElement(out, of, CELL_BINARY, bytes, at, length);
      at += length;
    }
  }
}

/** From the text of array_out: `[0:1]={1,"a b",NULL}`. */
function writeFromText(out: ByteWriter, of: Field, bytes: Uint8Array, start: number, end: number): void {
  let at = start;
  if (bytes[at] === OPEN_BRACKET) while (bytes[at++] !== EQUALS);
  let isFirst = true;
  while (at < end) {
    const byte = bytes[at]!;
    if (byte === OPEN_BRACE || byte === CLOSE_BRACE || byte === COMMA) {
      at++;
      continue;
    }
    if (!isFirst) out.ascii(",");
    isFirst = false;
    at = byte === QUOTE ? writeQuoted(out, of, bytes, at + 1) : writeBare(out, of, bytes, at, end);
  }
}

/** Returns where the element ends. */
function writeBare(out: ByteWriter, of: Field, bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== COMMA && bytes[at] !== CLOSE_BRACE) at++;
  if (isNullWord(bytes, start, at - start)) out.ascii("null");
  else writeElement(out, of, CELL_TEXT, bytes, start, at - start);
  return at;
}

function writeQuoted(out: ByteWriter, of: Field, bytes: Uint8Array, start: number): number {
  let at = start;
  withScratch((scratch) => {
    for (; bytes[at] !== QUOTE; at++) {
      if (bytes[at] === BACKSLASH) at++;
      scratch.byte(bytes[at]!);
    }
    writeElement(out, of, CELL_TEXT, scratch.bytes, 0, scratch.length);
  });
  return at + 1;
}
