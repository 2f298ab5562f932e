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
import type { ByteWriter } from "../bytes.ts";
import { invariant } from "../invariant.ts";
import { CELL_NULL, CELL_TEXT, CELL_UNCHANGED } from "../model/tuple.ts";
import type { ColumnType } from "../model/types.ts";
import { writeArrayJsonFromBinary, writeArrayJsonFromText } from "./array-json.ts";
import { writeBase64, writeBase64FromHex } from "./byte-strings.ts";
import { writeDateJsonFromText, writeTimeJsonFromText, writeTimestampJsonFromText } from "./calendar-text.ts";
import { writeDateJson, writeTimeJson, writeTimestampJson } from "./calendar.ts";
import { writeJsonString } from "./json-string.ts";
import { jsonPrefixLength, writeBinaryInteger, writeBinaryText } from "./text.ts";
import { writeVectorJson } from "./vector.ts";

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
