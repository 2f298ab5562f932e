/**
 * How values land. Format json: the JSON form of src/core/values/json.ts. Format hash: a field's value is that same text,
 * without quotes and escapes where JSON has a string:
 *
 *   int            42, all digits                      bool        true, false
 *   float          1.5, NaN, Infinity, -Infinity       decimal     12.50, the source's digits; NaN, Infinity
 *   text, enum     as it is                            bytes       base64
 *   date           2026-11-20, infinity                time        06:43:15.123456
 *   timestamp      2026-11-20T06:43:15.123456          with zone   2026-11-20T06:43:15.123456Z
 *   uuid           as it is, lower case                json        the JSON text, on one line (a JSON string keeps its quotes)
 *   array          JSON text: [1,null,3]               vector      float32 numbers, lowest byte first, as a search index
 *                                                                  takes them; a sparse one is the source's text
 *   others         the source's own text form
 *
 * A null has no field; the JSON null of a json column is the text `null`.
 */
import type { ByteWriter } from "../../src/core/bytes.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { writeJson } from "../../src/core/values/json.ts";
import { writeText } from "../../src/core/values/text.ts";
import { writeFloats } from "../../src/core/values/vector.ts";

const QUOTE = 0x22;

/** Writes the text of a hash field; the cell is neither null nor unchanged. */
export function writeFieldText(
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  switch (type.kind) {
    case "vector":
      if (type.form === "sparse") return writeText(out, type, kind, bytes, start, length);
      return writeFloats(out, type.form, kind, bytes, start, length);
    case "text":
    case "enum":
    case "opaque":
    case "uuid":
    case "decimal":
      return writeText(out, type, kind, bytes, start, length);
    case "bool":
    case "int":
    case "json":
    case "array":
      return writeJson(out, type, kind, bytes, start, length);
    case "float":
    case "bytes":
    case "date":
    case "time":
    case "timestamp":
      return writeUnquoted(out, type, kind, bytes, start, length);
    default:
      return type satisfies never;
  }
}

/** For types whose JSON string has no escapes: the text between the quotes. */
function writeUnquoted(
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): void {
  const at = out.length;
  writeJson(out, type, kind, bytes, start, length);
  if (out.bytes[at] !== QUOTE) return;
  out.bytes.copyWithin(at, at + 1, out.length - 1);
  out.length -= 2;
}
