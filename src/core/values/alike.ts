/**
 * One spelling for values that two databases hold in types of their own: 1.50 and 1.5, `t` and 1, a JSON object whose fields
 * have another order. Both sides are spelled by the same rules, so that equal values are equal texts.
 */
import type { Alike } from "../contracts/catalog.ts";
import type { Untyped } from "../contracts/readable.ts";
import type { ColumnType } from "../model/types.ts";
import { exactJson, normalJson, plainText, spelledJson } from "../targets/expected-json.ts";

/** What may be compared with each other. */
type Family = "number" | "text" | "date" | "time" | "timestamp" | "json" | "bytes" | "vector";

/** Of numbers that are written out. Postgres' own have up to 131,072 digits, and no exponent. */
const EXPONENT_MAX = 1_000;
const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

export type Spelling = (text: string) => string;

/** Null: the value says as much as a null. */
export type SaidSpelling = (text: string) => string | null;

/** How the values of two columns are spelled for a comparison; null: they are not of one kind. */
export function spellings(a: ColumnType, b: ColumnType): readonly [Spelling, Spelling] | null;
export function spellings(
  a: ColumnType | Untyped,
  b: ColumnType | Untyped,
): readonly [SaidSpelling, SaidSpelling] | null;
export function spellings(
  a: ColumnType | Untyped,
  b: ColumnType | Untyped,
): readonly [SaidSpelling, SaidSpelling] | null {
  if (b.kind === "untyped") return a.kind === "untyped" ? null : bothAs(a, b);
  if (a.kind === "untyped") return null;
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
      return type.padded === true ? withoutPadding : (text) => text;
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

export function spelledAlike(text: string, { isPadded, isFolded }: Alike): string {
  const kept = isPadded ? withoutPadding(text) : text;
  return isFolded ? kept.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : kept;
}

function withoutPadding(text: string): string {
  return text.replace(/(?<! ) +$/, "");
}

/** Where one side's texts don't tell their type they are read as the other side's, and both sides by one rule. */
function bothAs(type: ColumnType, { hasNulls }: Untyped): readonly [SaidSpelling, SaidSpelling] {
  const isText = type.kind === "text" || type.kind === "opaque" || type.kind === "bytes";
  const spell: SaidSpelling = (text) => {
    const said = asSaid(type, text);
    if (said === "" && !(hasNulls && isText)) return null;
    return type.kind === "json" && said === "null" ? null : said;
  };
  return [spell, spell];
}

function asSaid(type: ColumnType, text: string): string {
  switch (type.kind) {
    case "bool":
    case "int":
    case "float":
    case "decimal":
      return plainNumber(TRUTHS.get(text) ?? text);
    case "bytes":
      return asBytes(text);
    case "date":
      return asMoment(DAYS.test(text) ? inDays(text) : text).replace(/ 00:00:00$/, "");
    case "timestamp":
      return asMoment(text);
    case "json":
      return asJson(text);
    case "array":
      return asArray(type, text);
    case "vector":
      return jsonOrText(text);
    case "text":
    case "uuid":
    case "enum":
    case "opaque":
    case "time":
      return spellingOf(type)(text);
    default:
      return type satisfies never;
  }
}

const TRUTHS: ReadonlyMap<string, string> = new Map([
  ["t", "1"],
  ["true", "1"],
  ["f", "0"],
  ["false", "0"],
]);

/** JSON that is written into a string is the JSON that it holds. */
function asJson(text: string): string {
  if (/^\s*"/.test(text)) {
    try {
      return asJson(String(JSON.parse(text)));
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return jsonOrText(text);
}

/** From JSON, or from the source's text. */
function asArray(type: ColumnType & { readonly kind: "array" }, text: string): string {
  try {
    const json = /^(\{|\[-?\d+:)/.test(text) ? spelledJson(type, text) : text;
    const spelled = (value: unknown): unknown => {
      if (value === null) return null;
      return Array.isArray(value) && type.of.kind !== "json" ? value.map(spelled) : asSaid(type.of, plainText(value));
    };
    return JSON.stringify(spelled(exactJson(json)));
  } catch {
    return text;
  }
}

/** Hexadecimal digits: of base64, of the source's own text, or of other text's bytes. */
function asBytes(text: string): string {
  if (/^\\x([0-9a-f]{2})*$/i.test(text)) return text.slice(2).toLowerCase();
  const isBase64 = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
  return Buffer.from(text, isBase64 ? "base64" : "utf8").toString("hex");
}

const MOMENT =
  /^([+-]?\d{4,})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)? ?(Z|[+-]\d\d(?::?\d\d)?)?( BC)?$/;
const DAYS = /^-?\d{1,6}$/;
const DAY_MS = 86_400_000;

function inDays(text: string): string {
  return new Date(Number(text) * DAY_MS).toISOString();
}

/** In UTC, with a year of any sign. A number counts seconds, milli-, micro- or nanoseconds, by its size. */
function asMoment(text: string): string {
  if (/^-?\d{9,20}$/.test(text)) return asMoment(sinceEpoch(BigInt(text)));
  const match = MOMENT.exec(text);
  if (match === null) return text;
  const [, digits, month, day, hour = "00", minute = "00", second = "00", fraction = "", zone = "", era] = match;
  const year = era === undefined ? Number(digits) : 1 - Number(digits);
  const [, sign, hours = "0", minutes = "0"] = /^([+-])(\d\d):?(\d\d)?$/.exec(zone) ?? [];
  const at = new Date(Date.UTC(2000, Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second)));
  at.setUTCFullYear(year, Number(month) - 1, Number(day));
  // Later than this clock goes.
  if (Number.isNaN(at.getTime())) return text;
  const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000 * (sign === "-" ? -1 : 1);
  const utc = new Date(at.getTime() - offsetMs).toISOString();
  return withoutZeros(`${utc.slice(0, -5).replace("T", " ")}${fraction === "" ? "" : `.${fraction}`}`);
}

function sinceEpoch(number: bigint): string {
  const size = number < 0n ? -number : number;
  const perSecond = size < 10n ** 11n ? 1n : size < 10n ** 14n ? 1_000n : size < 10n ** 17n ? 1_000_000n : 10n ** 9n;
  const fraction = ((number % perSecond) + perSecond) % perSecond;
  const seconds = new Date(Number((number - fraction) / perSecond) * 1_000).toISOString().slice(0, 19);
  return perSecond === 1n ? seconds : `${seconds}.${String(fraction).padStart(String(perSecond).length - 1, "0")}`;
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
