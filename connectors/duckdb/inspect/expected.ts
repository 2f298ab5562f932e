/**
 * How a value must appear in DuckDB, computed from the source's text form and the table of types in README.md,
 * independently of the code that writes rows (cells.ts): lists as JSON, floats as JavaScript prints them, all others as
 * DuckDB casts them to text. A value that does not fit the column's type is expected as its exact text, as in
 * `_millrace_exact`.
 */
import type { Column } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { formatFloat32, formatFloat64 } from "../../../src/core/values/float.ts";

export function expectedText({ type, native }: Column, isKey: boolean, text: string): string {
  if (isKey) {
    if (type.kind === "array") return text;
    // A zero in a key has no sign.
    return expectedScalar(type, type.kind === "float" && text === "-0" ? "0" : text);
  }
  return type.kind === "array" && native !== "box[]" ? expectedList(type.of, text) : expectedScalar(type, text);
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
function expectedList(of: ColumnType, text: string): string {
  if (text.startsWith("[") || text.startsWith("{{")) return text;
  const elements = elementsOf(text);
  if (of.kind === "float" && elements.includes("-0")) return text;
  if (of.kind === "decimal" && of.precision !== null && elements.includes("NaN")) return text;
  return JSON.stringify(elements.map((element) => (element === null ? null : expectedScalar(of, element))));
}

function elementsOf(text: string): (string | null)[] {
  const found = text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/gs);
  return [...found].map(([, quoted, bare]) => {
    if (quoted !== undefined) return quoted.replaceAll(/\\(.)/gs, "$1");
    return bare === "NULL" ? null : bare!;
  });
}
