/**
 * How a value must appear in JSON (documents, cache), computed from the source's text form independently of the writers
 * in values/json, and the way back: `reconcile` compares with it. Numbers count by their digits, strings by their
 * characters. White space, escapes and the order of an object's fields do not count.
 */
import { isRecord } from "../stored-json.ts";
import type { ColumnType } from "../model/types.ts";
import { arrayElement } from "../values/array.ts";

/** One spelling for equal JSON. */
export function normalJson(text: string): string {
  return unlessTooDeep(
    () => normalOf(exactJson(text)),
    () => deepParts(text).whole,
  );
}

/** The same of what may be no JSON: that stays as it is. */
export function normalJsonOrText(text: string): string {
  try {
    return normalJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}

/**
 * The same for a value from `exactJson`. Names are sorted: the source's order changes when a sink removes a duplicate
 * name.
 */
export function normalOf(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(normalOf).join(",")}]`;
  if (!isRecord(value)) return JSON.stringify(value);
  return spelledFields(Object.entries(value).map(([name, field]) => [name, normalOf(field)]));
}

/** Built as text, because an object of the engine may reorder its names. */
function spelledFields(fields: readonly (readonly [string, string])[]): string {
  const inOrder = fields.toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `{${inOrder.map(([name, spelling]) => `${JSON.stringify(name)}:${spelling}`).join(",")}}`;
}

/**
 * The fields of a JSON object, each in that spelling, including `__proto__` and the like; null if it is not an object.
 */
export function normalFields(text: string): ReadonlyMap<string, string> | null {
  return unlessTooDeep(
    () => {
      const value = exactJson(text);
      return isRecord(value) ? new Map(Object.entries(value).map(([name, field]) => [name, normalOf(field)])) : null;
    },
    () => deepParts(text).fields,
  );
}

/**
 * Postgres accepts JSON that is nested more deeply than a reviver and `JSON.stringify` can handle: some 3,000 levels.
 */
function unlessTooDeep<T>(whole: () => T, inParts: () => T): T {
  try {
    return whole();
  } catch (error) {
    // The stack has overflowed.
    if (error instanceof RangeError) return inParts();
    throw error;
  }
}

/** A container and its content so far, in normal spelling; `name` is that of the field whose value comes next. */
interface Open {
  readonly fields: Map<string, string> | null;
  items: string;
  name: string | null;
}

/** Without commas and colons. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{}]|[^\s,:[\]{}"]+/g;

/** Builds the spelling from the inside out, without recursion. */
function deepParts(text: string): { readonly whole: string; readonly fields: ReadonlyMap<string, string> | null } {
  // Throws a SyntaxError if the text is not JSON, at any depth.
  JSON.parse(text);
  const open: Open[] = [{ fields: null, items: "", name: null }];
  let fields: ReadonlyMap<string, string> | null = null;
  for (const [token] of text.matchAll(TOKEN)) {
    const inner = open.at(-1)!;
    if (token === "[" || token === "{") {
      open.push({ fields: token === "{" ? new Map() : null, items: "", name: null });
    } else if (token === "]" || token === "}") {
      open.pop();
      fields = inner.fields;
      add(open.at(-1)!, fields === null ? `[${inner.items}]` : spelledFields([...fields]));
    } else if (inner.fields !== null && inner.name === null) {
      inner.name = String(JSON.parse(token));
    } else {
      add(inner, normalOf(exactJson(token)));
    }
  }
  return { whole: open[0]!.items, fields };
}

function add(container: Open, value: string): void {
  if (container.fields === null) container.items += container.items === "" ? value : `,${value}`;
  else container.fields.set(container.name ?? "", value);
  container.name = null;
}

/**
 * The parsed document. Numbers become `number:` and their digits; strings that look like that get the prefix `text:`.
 */
export function exactJson(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) => {
    if (typeof value === "number") return `${NUMBER}${context?.source}`;
    return typeof value === "string" ? marked(value) : value;
  });
}

const NUMBER = "number:";
const TEXT = "text:";

function marked(text: string): string {
  return text.startsWith(NUMBER) || text.startsWith(TEXT) ? TEXT + text : text;
}

/** The characters of a string from `exactJson`. */
export function unmarked(text: string): string {
  const mark = [NUMBER, TEXT].find((one) => text.startsWith(one)) ?? "";
  return text.slice(mark.length);
}

/** The digits of a number in that spelling; null if it is not a number. */
export function digitsOf(normal: string | undefined): string | null {
  const value: unknown = normal === undefined ? null : JSON.parse(normal);
  return typeof value === "string" && value.startsWith(NUMBER) ? value.slice(NUMBER.length) : null;
}

/** The normal JSON of a cell that the source prints as `text`; a JSON null in a json column looks like a null cell. */
export function expectedJson(type: ColumnType, text: string): string | null {
  if (type.kind === "json") {
    const normal = normalJson(text);
    return normal === "null" ? null : normal;
  }
  const value = expectedValue(type, text);
  return value === null ? null : normalOf(value);
}

/** The text between the quotes of a scalar's JSON, and the normal JSON of an array or a vector. */
export function expectedPlain(type: ColumnType, text: string): string {
  if (type.kind === "json") return onOneLine(text);
  const value = expectedValue(type, text);
  return type.kind === "array" || type.kind === "vector" ? normalOf(value) : unmarked(String(value));
}

/** A value from `exactJson` as text: a string's characters, a number's digits, other JSON as it is. */
export function plainText(value: unknown): string {
  return typeof value === "string" ? unmarked(value) : spelled(value);
}

/** The exact JSON in a document of Millrace, character by character; a different text may still be equal JSON. */
export function spelledJson(type: ColumnType, text: string): string {
  return type.kind === "json" ? onOneLine(text) : spelled(expectedValue(type, text));
}

function spelled(value: unknown): string {
  if (typeof value === "string") return value.startsWith(NUMBER) ? unmarked(value) : JSON.stringify(unmarked(value));
  if (typeof value !== "object" || value === null) return String(value);
  if (Array.isArray(value)) return `[${value.map(spelled).join(",")}]`;
  return `{${Object.entries(value)
    .map(([name, one]) => `${JSON.stringify(name)}:${spelled(one)}`)
    .join(",")}}`;
}

function onOneLine(json: string): string {
  return json.replaceAll(/[\r\n]/g, " ");
}

function expectedValue(type: ColumnType, text: string): unknown {
  switch (type.kind) {
    case "bool":
      return text === "t";
    case "int":
      return NUMBER + text;
    case "float":
      return /^-?(Infinity|NaN)$/.test(text) ? text : NUMBER + text;
    case "json":
      return exactJson(text);
    case "bytes":
      return Buffer.from(text.slice(2), "hex").toString("base64");
    case "date":
      return isoDate(text);
    case "time":
      return withMicroseconds(text);
    case "timestamp":
      return isoTimestamp(text);
    case "array":
      return expectedArray(type.of, text);
    case "vector":
      return exactJson(type.form === "sparse" ? text.replace(/\/\d+$/, "").replaceAll(/\d+(?=:)/g, '"$&"') : text);
    case "decimal":
    case "text":
    case "uuid":
    case "enum":
    case "opaque":
      return marked(text);
    default:
      return type satisfies never;
  }
}

/** Years before 1 and after 9999 in the ISO 8601 form; infinities unchanged. */
function isoDate(text: string): string {
  const match = /^(\d+)(-\d\d-\d\d)( BC)?$/.exec(text);
  if (match === null) return text;
  const [, digits, rest = "", era] = match;
  const year = era === undefined ? Number(digits) : 1 - Number(digits);
  if (year >= 0 && year <= 9999) return String(year).padStart(4, "0") + rest;
  return (year < 0 ? "-" : "+") + String(Math.abs(year)).padStart(6, "0") + rest;
}

function withMicroseconds(text: string): string {
  const [clock, fraction = ""] = text.split(".");
  return `${clock}.${fraction.padEnd(6, "0")}`;
}

function isoTimestamp(text: string): string {
  const match = /^(\d+-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?( BC)?$/.exec(text);
  if (match === null) return text;
  const [, date = "", time = "", zone, era = ""] = match;
  return `${isoDate(date + era)}T${withMicroseconds(time)}${zone === undefined ? "" : "Z"}`;
}

/** JSON does not show lower bounds. */
function expectedArray(of: ColumnType, text: string): unknown {
  const tokens = text.replace(/^[^{]*=/, "").match(/[{},]|"(?:[^"\\]|\\.)*"|[^{},]+/gs) ?? [];
  let at = 0;
  const next = (): unknown => {
    const token = tokens[at++]!;
    if (token === "{") {
      const items: unknown[] = [];
      while (tokens[at] !== "}") {
        if (tokens[at] === ",") at++;
        items.push(next());
      }
      at++;
      return items;
    }
    if (token === "NULL") return null;
    return expectedValue(of, token.startsWith('"') ? token.slice(1, -1).replaceAll(/\\(.)/gs, "$1") : token);
  };
  return next();
}

/**
 * The text from which `expectedJson` makes this normal JSON, as a source prints a value of a key. It may be another
 * text where JSON does not tell (the lower bound of an array, the dimensions of a sparse vector).
 */
export function sourceText(type: ColumnType, normal: string): string {
  return sourceTextOf(type, JSON.parse(normal));
}

/** The same from what `expectedPlain` makes. */
export function sourceTextOfPlain(type: ColumnType, plain: string): string {
  if (type.kind === "array" || type.kind === "vector") return sourceText(type, plain);
  return type.kind === "json" ? plain : sourceScalar(type, plain);
}

function sourceTextOf(type: ColumnType, value: unknown): string {
  if (type.kind === "json") return sourceJson(value);
  if (type.kind === "vector") return sourceVector(type.dimension, value);
  return type.kind === "array" ? sourceArray(type.of, value) : sourceScalar(type, unmarked(String(value)));
}

function sourceScalar({ kind }: ColumnType, plain: string): string {
  if (kind === "bool") return plain === "true" ? "t" : "f";
  if (kind === "bytes") return String.raw`\x${Buffer.from(plain, "base64").toString("hex")}`;
  if (kind === "time") return withoutZeros(plain);
  if (kind === "date") return withEra(plain, "");
  if (kind !== "timestamp") return plain;
  const [, date, clock = "", zone] = /^([^T]+)T([\d:.]+)(Z?)$/.exec(plain) ?? [];
  if (date === undefined) return plain;
  return withEra(date, ` ${withoutZeros(clock)}${zone === "Z" ? "+00" : ""}`);
}

function withoutZeros(clock: string): string {
  return clock.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
}

/** A year before 1 gets the era; `clock` comes before it. */
function withEra(isoDay: string, clock: string): string {
  const [, sign, digits = "", rest = ""] = /^([+-]?)(\d+)(-\d\d-\d\d)$/.exec(isoDay) ?? [];
  if (sign === undefined) return isoDay + clock;
  const year = sign === "-" ? -Number(digits) : Number(digits);
  const shown = String(year > 0 ? year : 1 - year).padStart(4, "0");
  return `${shown}${rest}${clock}${year > 0 ? "" : " BC"}`;
}

/** As pgvector prints it. */
function sourceVector(dimension: number | null, value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((number) => unmarked(String(number))).join(",")}]`;
  const entries = Object.entries(isRecord(value) ? value : {});
  const last = Number(entries.at(-1)?.[0] ?? 1);
  return `{${entries.map(([index, number]) => `${index}:${unmarked(String(number))}`).join(",")}}/${dimension ?? last}`;
}

/** As Postgres prints an array whose lower bounds are 1. */
function sourceArray(of: ColumnType, value: unknown): string {
  const items = Array.isArray(value) ? value : [];
  const texts = items.map((item: unknown) => {
    if (item === null) return "NULL";
    if (Array.isArray(item) && of.kind !== "json") return sourceArray(of, item);
    const text = sourceTextOf(of, item);
    return arrayElement(text);
  });
  return `{${texts.join(",")}}`;
}

/** As Postgres prints jsonb, the only JSON that can be a key: shorter names first. */
function sourceJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(sourceJson).join(", ")}]`;
  if (!isRecord(value)) return spelled(value);
  const inOrder = Object.entries(value)
    .map(([name, one]) => ({ name: Buffer.from(name), text: `${JSON.stringify(name)}: ${sourceJson(one)}` }))
    .toSorted((a, b) => a.name.length - b.name.length || a.name.compare(b.name));
  return `{${inOrder.map(({ text }) => text).join(", ")}}`;
}
