/**
 * How a value must appear in DuckDB, computed from the source's text form: lists as JSON, floats as JavaScript prints
 * them, all others as DuckDB casts them to text. A value that does not fit the column's type (forms.ts, as for writing)
 * is expected as its exact text, as in `_millrace_exact`.
 */
import type { Column } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { formatFloat } from "../../../src/core/values/float.ts";
import { duckType, type Form, KEY_FLOAT, LIST } from "../types.ts";
import { fits } from "../write/forms.ts";

/** Of a vector's numbers. */
export const REAL: ColumnType = { kind: "float", bits: 32 };

export function expectedText(column: Column, isKey: boolean, isLake: boolean, text: string): string {
  const { type } = column;
  const { form, element } = duckType(column, isKey, isLake);
  if (form === LIST) return expectedList(type, element, text);
  return expectedScalar(type, form === KEY_FLOAT && text === "-0" ? "0" : text);
}

/** What a column outside the key shows beside this exact text, in the spelling of `expectedText`: README, `_millrace_exact`. */
export function expectedBeside(column: Column, isLake: boolean, text: string): string | null {
  const { type } = column;
  const { form, element } = duckType(column, false, isLake);
  if (form !== LIST) return type.kind === "float" ? "0" : null;
  const of: ColumnType = type.kind === "array" ? type.of : REAL;
  const shown = (part: string): string | null => {
    if (isFitting(element, part)) return expectedScalar(of, part);
    return of.kind === "float" ? "0" : null;
  };
  return JSON.stringify(elementsOf(type, text).map((part) => (part === null ? null : shown(part))));
}

/** The source's text of a key value that is expected as `shown`. */
export function sourceText(type: ColumnType, shown: string): string {
  if (type.kind === "date") return shown.replace(/ \(BC\)$/, " BC");
  if (type.kind === "timestamp") return shown.replace(/^(\S+) \(BC\) (.*)$/, "$1 $2 BC");
  if (type.kind === "float") return formatFloat(type.bits, Number(shown));
  return shown;
}

function expectedScalar(type: ColumnType, text: string): string {
  if (type.kind === "date") return text.replace(/ BC$/, " (BC)");
  if (type.kind === "timestamp") return text.replace(/^(\S+) (.*) BC$/, "$1 (BC) $2");
  if (type.kind !== "float" || text === "-0") return text;
  return String(type.bits === 32 ? Math.fround(Number(text)) : Number(text));
}

/**
 * An array of one dimension that starts at 1, and a vector, is a list. Any other array, and an element that does not fit,
 * is stored as exact text.
 */
function expectedList(type: ColumnType, form: Form, text: string): string {
  if (type.kind === "array" && (text.startsWith("[") || text.startsWith("{{"))) return text;
  const of: ColumnType = type.kind === "array" ? type.of : REAL;
  const elements = elementsOf(type, text);
  if (!elements.every((element) => element === null || isFitting(form, element))) return text;
  return JSON.stringify(elements.map((element) => (element === null ? null : expectedScalar(of, element))));
}

function isFitting(form: Form, text: string): boolean {
  const bytes = Buffer.from(text);
  return fits(form, bytes, 0, bytes.length);
}

/** In order, whatever the dimensions and bounds. */
function elementsOf({ kind }: ColumnType, text: string): (string | null)[] {
  if (kind === "vector") return text.slice(1, -1).split(",");
  const found = text.replace(/^\[[^=]*=/, "").matchAll(/"((?:[^"\\]|\\.)*)"|([^,{}]+)/gs);
  return [...found].map(([, quoted, bare]) => {
    if (quoted !== undefined) return quoted.replaceAll(/\\(.)/gs, "$1");
    return bare === "NULL" ? null : bare!;
  });
}
