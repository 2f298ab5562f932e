/**
 * One spelling for values that two databases hold in types of their own: 1.50 and 1.5, `t` and 1, a JSON object whose fields
 * have another order. Both sides are spelled by the same rules, so that equal values are equal texts.
 */
import type { Column } from "../model/schema.ts";
import type { ColumnType } from "../model/types.ts";
import { normalJson, spelledJson } from "../targets/expected-json.ts";

/** What may be compared with each other. */
type Family = "number" | "text" | "date" | "time" | "timestamp" | "json" | "bytes" | "vector";

/** Of numbers that are written out. Postgres' own have up to 131,072 digits, and no exponent. */
const EXPONENT_MAX = 1_000;
const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

export type Spelling = (text: string) => string;

/** How the values of two columns are spelled for a comparison; null: they are not of one kind. */
export function spellings(a: Column["type"], b: Column["type"]): readonly [Spelling, Spelling] | null {
  const [ofA, ofB] = [familyOf(a), familyOf(b)];
  // Tools write JSON into columns of text.
  if (ofA === "json" && ofB === "text") return [spellingOf(a), jsonOrText];
  if (ofA === "text" && ofB === "json") return [jsonOrText, spellingOf(b)];
  return ofA === ofB ? [spellingOf(a), spellingOf(b)] : null;
}

function familyOf(type: ColumnType): Family {
  switch (type.kind) {
    case "bool":
    case "int":
    case "float":
    case "decimal":
      return "number";
    case "text":
    case "uuid":
    case "enum":
    case "opaque":
      return "text";
    case "json":
    case "array":
      return "json";
    case "date":
    case "time":
    case "timestamp":
    case "bytes":
    case "vector":
      return type.kind;
    default:
      return type satisfies never;
  }
}

function spellingOf(type: ColumnType): Spelling {
  switch (type.kind) {
    case "bool":
      return (text) => (text === "t" ? "1" : "0");
    case "int":
    case "bytes":
    case "date":
    case "enum":
    case "opaque":
    case "vector":
      return (text) => text;
    case "float":
    case "decimal":
      return plainNumber;
    case "text":
      return type.padded === true ? (text) => text.trimEnd() : (text) => text;
    case "uuid":
      return (text) => text.toLowerCase();
    case "json":
      return plainJson;
    case "array":
      return (text) => plainJson(spelledJson(type, text));
    case "time":
    case "timestamp":
      return (text) => withoutZeros(text.replace(/\+00$/, ""));
    default:
      return type satisfies never;
  }
}

/** Equal numbers are one text there too. */
function plainJson(text: string): string {
  return normalJson(text.replaceAll(STRING_OR_NUMBER, (token) => (token.startsWith('"') ? token : plainNumber(token))));
}

function jsonOrText(text: string): string {
  try {
    return plainJson(text);
  } catch {
    return text;
  }
}

/** Of a fraction of a second. */
function withoutZeros(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** Without an exponent, a leading zero that says nothing, or zeros at the end. */
function plainNumber(text: string): string {
  const match = /^(-?)(\d+)(?:\.(\d*))?(?:e([+-]?\d+))?$/i.exec(text);
  // NaN and infinities.
  if (match === null || Math.abs(Number(match[4] ?? 0)) > EXPONENT_MAX) return text;
  const [, sign, whole = "", fraction = "", exponent = "0"] = match;
  const point = whole.length + Number(exponent);
  const digits = whole + fraction;
  const left = (point <= 0 ? "" : digits.slice(0, point).padEnd(point, "0")).replace(/^0+/, "");
  const right = (point <= 0 ? "0".repeat(-point) + digits : digits.slice(point)).replace(/0+$/, "");
  if (left === "" && right === "") return "0";
  return `${sign}${left === "" ? "0" : left}${right === "" ? "" : `.${right}`}`;
}
