/**
 * How a value must appear in ClickHouse, computed from the source's text form and the table of types in README.md,
 * independently of the code that writes rows (write/cells.ts). A value that does not fit the column's type is expected as
 * its exact text, as in `_millrace_exact`.
 */
import type { Column } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { expectedJson, normalJsonOrText } from "../../../src/core/targets/expected-json.ts";
import { formatFloat } from "../../../src/core/values/float.ts";
import { clickhouseType } from "../types.ts";

const YEARS = /^(19|2[0-2])\d\d-/;

export function expectedText(column: Pick<Column, "type" | "native">, isKey: boolean, text: string): string {
  const { type } = column;
  const { form } = clickhouseType(column, isKey);
  switch (form.kind) {
    case "float":
      return shownFloat(type, isKey && text === "-0" ? "0" : text);
    case "decimal":
      return /^-?\d/.test(text) ? shownDecimal(text) : text;
    case "timestamp":
      return fitsCalendar(text) ? withMicroseconds(text.replace(/\+00$/, "")) : text;
    case "array":
      // Bounds other than 1 stay in the exact text alone.
      return text.startsWith("[") ? text : (expectedJson(type, text) ?? text);
    case "vector":
      return shownVector(text);
    case "bool":
    case "int":
    case "date":
    case "text":
    case "json":
    case "bytes":
    case "uuid":
      return text;
    default:
      return form satisfies never;
  }
}

/** The value as ClickHouse's `toString` gave it, in the spelling of `expectedText`. */
export function shownText(column: Pick<Column, "type" | "native">, isKey: boolean, text: string): string {
  const { form } = clickhouseType(column, isKey);
  if (form.kind === "bool") return text === "true" ? "t" : "f";
  if (form.kind === "float") return shownFloat(column.type, text);
  if (form.kind === "decimal") return shownDecimal(text);
  if (form.kind === "array") return normalJsonOrText(text);
  if (form.kind === "vector") return shownVector(text);
  return text;
}

/** The source's text of a value of a key that is shown so. */
export function sourceText({ type }: Pick<Column, "type">, shown: string): string {
  if (type.kind === "float") return formatFloat(type.bits, Number(shown));
  if (type.kind === "decimal") {
    const [whole = "", behind = ""] = shown.split(".");
    const scale = Math.max(type.scale ?? 0, 0);
    return type.precision === null || scale === 0 ? shown : `${whole}.${behind.padEnd(scale, "0")}`;
  }
  if (type.kind === "timestamp")
    return `${shown.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "")}${type.zone ? "+00" : ""}`;
  return shown;
}

/** Whether a key's value fits the column's type; a row with another one is not in the target. */
export function fitsKey({ type }: Pick<Column, "type">, text: string): boolean {
  if (type.kind === "date" || type.kind === "timestamp") return fitsCalendar(text);
  return type.kind !== "decimal" || type.precision === null || /^-?\d/.test(text);
}

function fitsCalendar(text: string): boolean {
  return YEARS.test(text) && !text.endsWith(" BC");
}

function withMicroseconds(text: string): string {
  const [clock = "", behind = ""] = text.split(".");
  return `${clock}.${behind.padEnd(6, "0")}`;
}

function shownFloat(type: ColumnType, text: string): string {
  const value = type.kind === "float" && type.bits === 32 ? Math.fround(Number(spelt(text))) : Number(spelt(text));
  return Object.is(value, -0) ? "-0" : String(value);
}

/** Both spellings have brackets and commas. */
function shownVector(text: string): string {
  const numbers = text.slice(1, -1).split(",");
  return numbers.map((number) => shownFloat({ kind: "float", bits: 32 }, number)).join(",");
}

/** ClickHouse's words for values that are no numbers. */
function spelt(text: string): string {
  return text === "inf" ? "Infinity" : text === "-inf" ? "-Infinity" : text;
}

/** Without the zeros at the end, which ClickHouse does not print. */
function shownDecimal(text: string): string {
  const short = text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  return short === "-0" ? "0" : short;
}
