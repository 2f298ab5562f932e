/**
 * What functions get: the value of a cell as JavaScript has it, without loss (the table in docs/rules.md). A value that
 * JavaScript's own types would round stays a text.
 */
import { ByteWriter } from "../../core/bytes.ts";
import { type CellMap, CELL_BINARY, CELL_NULL, readInt32 } from "../../core/model/tuple.ts";
import type { ColumnType } from "../../core/model/types.ts";
import { writeJson } from "../../core/values/json.ts";
import { readText } from "../../core/values/text.ts";
import type { Value } from "../rules.d.ts";

const json = new ByteWriter(256);

/** Of cell `i`, which is none of those that the log left out. */
export function readValue(type: ColumnType, bytes: Uint8Array, cells: CellMap, i: number): Value {
  const kind = cells.kind[i]!;
  if (kind === CELL_NULL) return null;
  const start = cells.start[i]!;
  const length = cells.length[i]!;
  switch (type.kind) {
    case "bool":
      return kind === CELL_BINARY ? bytes[start] !== 0 : bytes[start] === 0x74;
    case "int":
      if (kind === CELL_BINARY && length === 4) return readInt32(bytes, start);
      return type.bits === 64
        ? BigInt(readText(type, kind, bytes, start, length))
        : Number(readText(type, kind, bytes, start, length));
    case "float":
      return Number(readText(type, kind, bytes, start, length));
    case "bytes":
      if (kind === CELL_BINARY) return Uint8Array.from(bytes.subarray(start, start + length));
      return Uint8Array.from(
        Buffer.from(Buffer.from(bytes.buffer, bytes.byteOffset + start + 2, length - 2).toString("latin1"), "hex"),
      );
    case "date":
    case "time":
    case "timestamp":
      json.reset();
      writeJson(json, type, kind, bytes, start, length);
      return json.bytes.toString("latin1", 1, json.length - 1);
    case "array":
      return readArray(type.of, kind, bytes, start, length);
    case "vector": {
      const text = readText(type, kind, bytes, start, length);
      return type.form === "sparse" ? text : text.slice(1, -1).split(",").map(Number);
    }
    case "decimal":
    case "text":
    case "uuid":
    case "json":
    case "enum":
    case "opaque":
      return readText(type, kind, bytes, start, length);
    default:
      return type satisfies never;
  }
}

/** JSON has the dimensions; each element is then what it is alone. Of arrays of JSON and of other arrays the text. */
function readArray(of: ColumnType, kind: number, bytes: Uint8Array, start: number, length: number): Value {
  if (of.kind === "json" || of.kind === "array") return readText({ kind: "array", of }, kind, bytes, start, length);
  json.reset();
  writeJson(json, { kind: "array", of }, kind, bytes, start, length);
  return JSON.parse(
    json.bytes.toString("utf8", 0, json.length),
    (_key, value: unknown, context?: { readonly source?: string }) => elementOf(of, value, context?.source),
  );
}

/** `source`: of a number, as it is written. */
function elementOf(of: ColumnType, value: unknown, source: string | undefined): unknown {
  if (of.kind === "int" && of.bits === 64 && typeof value === "number") return BigInt(source!);
  if (typeof value !== "string") return value;
  if (of.kind === "float") return Number(value);
  return of.kind === "bytes" ? Uint8Array.from(Buffer.from(value, "base64")) : value;
}
