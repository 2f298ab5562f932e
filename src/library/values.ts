/**
 * Cells as values of JavaScript, in the forms of the envelope (docs/envelope.md) and without loss: integers of 64 bits are
 * bigint. The values outlive the block that they are read from.
 */
import { ByteWriter } from "../core/bytes.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT } from "../core/model/tuple.ts";
import type { ColumnType } from "../core/model/types.ts";
import { everyNumber, isExactly, longNumbers } from "../core/values/exact-json.ts";
import { writeJson } from "../core/values/json.ts";
import type { Value } from "./api.ts";

const scratch = new ByteWriter(1024);

export function valueOf(type: ColumnType, kind: number, bytes: Buffer, start: number, length: number): Value {
  if (kind === CELL_NULL) return null;
  const end = start + length;
  switch (type.kind) {
    case "int":
      if (kind === CELL_TEXT) {
        const text = bytes.toString("latin1", start, end);
        return type.bits === 64 ? BigInt(text) : Number(text);
      }
      return type.bits === 64 ? bytes.readBigInt64BE(start) : bytes.readIntBE(start, length);
    case "bool":
      return kind === CELL_TEXT ? bytes[start] === 0x74 : bytes[start] !== 0;
    case "text":
    case "enum":
    case "opaque":
      return bytes.toString("utf8", start, end);
    case "decimal":
    case "uuid":
      return kind === CELL_TEXT ? bytes.toString("latin1", start, end) : quoted(type, kind, bytes, start, length);
    case "bytes":
    case "date":
    case "time":
    case "timestamp":
      return quoted(type, kind, bytes, start, length);
    case "float":
      if (kind === CELL_BINARY && length === 8) {
        const value = bytes.readDoubleBE(start);
        if (Number.isFinite(value)) return value;
      }
      return JSON.parse(jsonOf(type, kind, bytes, start, length));
    case "json":
      return parseExact(jsonOf(type, kind, bytes, start, length));
    case "array":
      return arrayOf(leafOf(type), jsonOf(type, kind, bytes, start, length));
    case "vector":
      return JSON.parse(jsonOf(type, kind, bytes, start, length));
    default:
      return type satisfies never;
  }
}

function jsonOf(type: ColumnType, kind: number, bytes: Buffer, start: number, length: number): string {
  scratch.reset();
  writeJson(scratch, type, kind, bytes, start, length);
  return scratch.bytes.toString("utf8", 0, scratch.length);
}

/** Of types whose text needs no escapes. */
function quoted(type: ColumnType, kind: number, bytes: Buffer, start: number, length: number): string {
  scratch.reset();
  writeJson(scratch, type, kind, bytes, start, length);
  return scratch.bytes.toString("latin1", 1, scratch.length - 1);
}

function leafOf(type: ColumnType): ColumnType {
  return type.kind === "array" ? leafOf(type.of) : type;
}

function arrayOf(leaf: ColumnType, text: string): Value {
  if (leaf.kind === "json") return parseExact(text);
  if (leaf.kind !== "int" || leaf.bits !== 64) return JSON.parse(text);
  return everyNumber(text, BigInt);
}

/** A number that a double does not hold is a bigint, or its text if it is none. */
export function parseExact(text: string): Value {
  return longNumbers(text, (source, value) => {
    if (/^-?\d+$/.test(source)) return Number.isSafeInteger(value) ? value : BigInt(source);
    return isExactly(value, source) ? value : source;
  });
}
