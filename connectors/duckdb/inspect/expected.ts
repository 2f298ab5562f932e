/**
 * How a value must appear in DuckDB, computed from the source's text form: lists as JSON, floats as JavaScript prints
 * them, all others as DuckDB casts them to text. A value that does not fit the column's type (forms.ts, as for writing)
 * is expected as its exact text, as in `_millrace_exact`.
 */
import type { Column } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { formatFloat32, formatFloat64 } from "../../../src/core/values/float.ts";
import { duckType, type Form, KEY_FLOAT, LIST } from "../types.ts";
import { fits } from "../write/forms.ts";

export function expectedText(column: Column, isKey: boolean, isLake: boolean, text: string): string {
  const { type } = column;
  const { form, element } = duckType(column, isKey, isLake);
  if (form === LIST && type.kind === "array") return expectedList(type.of, element, text);
  if (form === LIST) return expectedVector(element, text);
  return expectedScalar(type, form === KEY_FLOAT && text === "-0" ? "0" : text);
}

/** The source's text of a key value that is expected as `shown`. */
export function sourceText(type: ColumnType, shown: string): string {
  if (type.kind === "date") return shown.replace(/ \(BC\)$/, " BC");
  if (type.kind === "timestamp") return shown.replace(/^(\S+) \(BC\) (.*)$/, "$1 $2 BC");
  if (type.kind === "float") return type.bits === 32 ? formatFloat32(Number(shown)) : formatFloat64(Number(shown));
  return shown;
}

function expectedScalar(type: ColumnType, text: string): string {
  if (type.kind === "date") return text.replace(/ BC$/, " (BC)");
  if (type.kind === "timestamp") return text.replace(/^(\S+) (.*) BC$/, "$1 (BC) $2");
  if (type.kind !== "float" || text === "-0") return text;
  return String(type.bits === 32 ? Math.fround(Number(text)) : Number(text));
}

/**
 * An array of one dimension that starts at 1 is a list. Any other array, and an element that does not fit, is stored as
 * exact text.
 */
function expectedList(of: ColumnType, form: Form, text: string): string {
  if (text.startsWith("[") || text.startsWith("{{")) return text;
  const elements = elementsOf(text);
  if (!elements.every((element) => element === null || isFitting(form, element))) return text;
  return JSON.stringify(elements.map((element) => (element === null ? null : expectedScalar(of, element))));
}

function expectedVector(form: Form, text: string): string {
  const numbers = text.slice(1, -1).split(",");
  if (!numbers.every((number) => isFitting(form, number))) return text;
  return JSON.stringify(numbers.map((number) => expectedScalar({ kind: "float", bits: 32 }, number)));
}

function isFitting(form: Form, text: string): boolean {
  const bytes = Buffer.from(text);
  return fits(form, bytes, 0, bytes.length);
}

function elementsOf(text: string): (string | null)[] {
  const found = text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/gs);
  return [...found].map(([, quoted, bare]) => {
    if (quoted !== undefined) return quoted.replaceAll(/\\(.)/gs, "$1");
    return bare === "NULL" ? null : bare!;
  });
}
