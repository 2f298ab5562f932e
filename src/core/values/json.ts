/**
 * The JSON form of a value, as envelope, documents and cache show it: the same bytes from text cells and binary cells.
 * Rate to hold: 700k rows/s of 12 columns (bench/values.ts).
 *
 *   int            number with all digits            bool       true, false
 *   float          number, shortest digits           decimal    string with exactly the source's digits
 *   NaN, Infinity  strings                           bytes      base64
 *   json           as it is, on one line             array      (nested) array; lower bounds are not shown
 *   vector         array; see vector.ts
 *   date, time, timestamp: see calendar.ts           others     string
 *
 * A JSON null in a json column and a null cell look alike here.
 */
import { type ByteWriter, withScratch } from "../bytes.ts";
import { invariant } from "../invariant.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT, CELL_UNCHANGED } from "../model/tuple.ts";
import type { ColumnType } from "../model/types.ts";
import { writeBase64, writeBase64FromHex } from "./byte-strings.ts";
import {
  writeDateJson,
  writeDateJsonFromText,
  writeTimeJson,
  writeTimeJsonFromText,
  writeTimestampJson,
  writeTimestampJsonFromText,
} from "./calendar.ts";
import { writeJsonString } from "./json-string.ts";
import { jsonPrefixLength, writeBinaryInteger, writeBinaryText } from "./text.ts";
import { writeVectorJson } from "./vector.ts";
import { CLOSE_BRACE, isNullWord, OPEN_BRACE, walkBinaryArray } from "./array.ts";

const QUOTE = 0x22;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const SPACE = 0x20;
const HEX_PREFIX_BYTES = 2;

export function writeJson(
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  if (kind === CELL_NULL) return out.ascii("null");
  invariant(kind !== CELL_UNCHANGED, "an unchanged cell is left out, it has no JSON form");
  switch (type.kind) {
    case "bool":
      return out.ascii(isTrue(kind, bytes, start) ? "true" : "false");
    case "int":
      if (kind === CELL_TEXT) out.copy(bytes, start, length);
      else writeBinaryInteger(out, bytes, start, length);
      return;
    case "float":
      return writeFloatJson(out, type, kind, bytes, start, length);
    case "text":
    case "enum":
    case "opaque":
      return writeJsonString(out, bytes, start, length);
    case "json":
      return writeOnOneLine(out, bytes, start, length);
    case "array":
      if (kind === CELL_TEXT) writeArrayJsonFromText(out, type.of, bytes, start, length, writeJson);
      else writeArrayJsonFromBinary(out, type.of, bytes, start, writeJson);
      return;
    case "vector":
      return writeVectorJson(out, type.form, kind, bytes, start, length);
    case "decimal":
    case "uuid":
    case "bytes":
    case "date":
    case "time":
    case "timestamp":
      out.byte(QUOTE);
      writeQuotable(out, type, kind, bytes, start, length);
      return out.byte(QUOTE);
    default:
      return type satisfies never;
  }
}

/** The text between the quotes, for types whose text needs no escapes. */
function writeQuotable(
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  if (type.kind === "timestamp") {
    if (kind === CELL_TEXT) writeTimestampJsonFromText(out, bytes, start, length, type.zone);
    else writeTimestampJson(out, bytes, start, type.zone);
  } else if (type.kind === "date") {
    if (kind === CELL_TEXT) writeDateJsonFromText(out, bytes, start, length);
    else writeDateJson(out, bytes, start);
  } else if (type.kind === "time") {
    if (kind === CELL_TEXT) writeTimeJsonFromText(out, bytes, start, length);
    else writeTimeJson(out, bytes, start);
  } else if (type.kind === "bytes") {
    if (kind === CELL_TEXT) writeBase64FromHex(out, bytes, start + HEX_PREFIX_BYTES, length - HEX_PREFIX_BYTES);
    else writeBase64(out, bytes, start, length);
  } else if (kind === CELL_TEXT) out.copy(bytes, start, length);
  else writeBinaryText(out, type, bytes, start, length);
}

function isTrue(kind: number, bytes: Uint8Array, start: number): boolean {
  return kind === CELL_TEXT ? bytes[start] === 0x74 : bytes[start] !== 0;
}

/** The text of a finite float is a valid JSON number; NaN and infinities get quotes. */
function writeFloatJson(
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  out.reserve(length + 2);
  const at = out.length++;
  if (kind === CELL_TEXT) out.copy(bytes, start, length);
  else writeBinaryText(out, type, bytes, start, length);
  const to = out.bytes;
  if (to[out.length - 1]! < 0x40) {
    to.copyWithin(at, at + 1, out.length);
    out.length--;
  } else {
    to[at] = QUOTE;
    out.byte(QUOTE);
  }
}

/**
 * In a JSON text a raw line break can only be white space; a space replaces it, so that the document stays on one line.
 */
function writeOnOneLine(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  const skipped = jsonPrefixLength(bytes, start, length);
  const at = out.length;
  out.copy(bytes, start + skipped, length - skipped);
  const to = out.bytes;
  for (let i = at; i < out.length; i++) if (to[i] === NEWLINE || to[i] === RETURN) to[i] = SPACE;
}

/**
 * Arrays in JSON: nested arrays of the elements' JSON forms. JSON does not show lower bounds other than 1; the
 * canonical text does.
 */
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const EQUALS = 0x3d;

export type WriteValue = (
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
) => void;

function writeArrayJsonFromBinary(
  out: ByteWriter,
  of: ColumnType,
  bytes: Uint8Array,
  start: number,
  writeElement: WriteValue,
): void {
  walkBinaryArray(out, bytes, start, OPEN_BRACKET, CLOSE_BRACKET, (at, length) => {
    if (length < 0) out.ascii("null");
    else writeElement(out, of, CELL_BINARY, bytes, at, length);
  });
}

/** From the text of array_out, whose elements are separated by commas (all types but box). */
export function writeArrayJsonFromText(
  out: ByteWriter,
  of: ColumnType,
  bytes: Uint8Array,
  start: number,
  length: number,
  writeElement: WriteValue,
): void {
  const end = start + length;
  let at = start;
  if (bytes[at] === OPEN_BRACKET) while (at < end && bytes[at++] !== EQUALS);
  while (at < end) {
    const byte = bytes[at]!;
    if (byte === OPEN_BRACE) out.byte(OPEN_BRACKET);
    else if (byte === CLOSE_BRACE) out.byte(CLOSE_BRACKET);
    else if (byte === COMMA) out.byte(COMMA);
    else if (byte === QUOTE) {
      const close = closingQuote(bytes, at + 1, end);
      writeQuotedElement(out, of, bytes, at + 1, close, writeElement);
      at = close;
    } else {
      const behind = elementEnd(bytes, at, end);
      if (isNullWord(bytes, at, behind - at)) out.ascii("null");
      else writeElement(out, of, CELL_TEXT, bytes, at, behind - at);
      at = behind;
      continue;
    }
    at++;
  }
}

function elementEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== COMMA && bytes[at] !== CLOSE_BRACE) at++;
  return at;
}

function closingQuote(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}

function writeQuotedElement(
  out: ByteWriter,
  of: ColumnType,
  bytes: Uint8Array,
  start: number,
  end: number,
  writeElement: WriteValue,
): void {
  let escape = start;
  while (escape < end && bytes[escape] !== BACKSLASH) escape++;
  if (escape === end) return writeElement(out, of, CELL_TEXT, bytes, start, end - start);
  withScratch((scratch) => {
    unescape(scratch, bytes, start, end);
    writeElement(out, of, CELL_TEXT, scratch.bytes, 0, scratch.length);
  });
}

function unescape(scratch: ByteWriter, bytes: Uint8Array, start: number, end: number): void {
  scratch.reserve(end - start);
  const to = scratch.bytes;
  let length = 0;
  for (let at = start; at < end; at++) {
    if (bytes[at] === BACKSLASH) at++;
    to[length++] = bytes[at]!;
  }
  scratch.length = length;
}
