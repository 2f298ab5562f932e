/** How a value lands in DuckDB, worked out from Postgres' text form alone: the expectation that files are compared with. */
import type { Column } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";

/** The spelling of a value: lists as JSON, floats as JavaScript prints them, all others as DuckDB casts them to text. */
export function landed({ type, native }: Pick<Column, "type" | "native">, text: string): string {
  if (type.kind === "array" && native !== "box[]") return landedArray(type.of, text);
  if (!isDense(type)) return landedScalar(type, text);
  const numbers = text.slice(1, -1).split(",");
  if (numbers.includes("-0")) return text;
  return JSON.stringify(numbers.map((number) => landedScalar({ kind: "float", bits: 32 }, number)));
}

export function isDense(type: ColumnType): boolean {
  return type.kind === "vector" && type.form !== "sparse";
}

function landedScalar(type: ColumnType, text: string): string {
  if (type.kind === "date") return text.replace(/ BC$/, " (BC)");
  if (type.kind === "timestamp") return text.replace(/^(\S+) (.*) BC$/, "$1 (BC) $2");
  if (type.kind !== "float" || text === "-0") return text;
  return String(type.bits === 32 ? Math.fround(Number(text)) : Number(text));
}

/** One dimension from 1 is a list; everything else, and what an element's type can't hold, stands as text beside it. */
function landedArray(of: ColumnType, text: string): string {
  if (text.startsWith("[") || text.startsWith("{{")) return text;
  const elements = elementsOf(text);
  if (of.kind === "float" && elements.includes("-0")) return text;
  if (of.kind === "decimal" && of.precision !== null && elements.includes("NaN")) return text;
  return JSON.stringify(elements.map((element) => (element === null ? null : landedScalar(of, element))));
}

function elementsOf(text: string): (string | null)[] {
  const found = text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/gs);
  return [...found].map(([, quoted, bare]) => {
    if (quoted !== undefined) return quoted.replaceAll(/\\(.)/gs, "$1");
    return bare === "NULL" ? null : bare!;
  });
}
