/**
 * How a value lands in JSON by CONTRACT 2, worked out from Postgres' text form alone and by other means than the
 * product's: the expectation that documents and cache rows are compared with. Numbers are compared by their digits.
 */
import type { ColumnType } from "../../src/core/model/types.ts";

/** One spelling for equal JSON: white space and escapes don't count, every digit does. */
export function normalJson(text: string): string {
  return JSON.stringify(exactJson(text));
}

/** The parsed document with numbers as `number:` and their source text. */
export function exactJson(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) =>
    typeof value === "number" ? `number:${context?.source}` : value,
  );
}

/** The fields of a JSON object, `__proto__` and its like included. */
export function exactFields(text: string): Map<string, unknown> {
  const value = exactJson(text);
  if (typeof value !== "object" || value === null) throw new Error("expected a JSON object");
  return new Map(Object.entries(value));
}

/** The normal JSON of a cell whose text form is `text`. */
export function jsonLanding(type: ColumnType, text: string): string {
  return JSON.stringify(landingOf(type, text));
}

function landingOf(type: ColumnType, text: string): unknown {
  switch (type.kind) {
    case "bool":
      return text === "t";
    case "int":
      return `number:${text}`;
    case "float":
      return /^-?(Infinity|NaN)$/.test(text) ? text : `number:${text}`;
    case "json":
      return exactJson(text);
    case "bytes":
      return Buffer.from(text.slice(2), "hex").toString("base64");
    case "date":
      return dateLanding(text);
    case "time":
      return timeLanding(text);
    case "timestamp":
      return timestampLanding(text);
    case "array":
      return arrayLanding(type.of, text);
    case "decimal":
    case "text":
    case "uuid":
    case "enum":
    case "opaque":
      return text;
    default:
      return type satisfies never;
  }
}

function dateLanding(text: string): string {
  const match = /^(\d+)(-\d\d-\d\d)( BC)?$/.exec(text);
  if (match === null) return text;
  const [, digits, rest, era] = match;
  const year = era === undefined ? Number(digits) : 1 - Number(digits);
  if (year >= 0 && year <= 9999) return String(year).padStart(4, "0") + rest;
  return (year < 0 ? "-" : "+") + String(Math.abs(year)).padStart(6, "0") + rest;
}

function timeLanding(text: string): string {
  const [clock, fraction = ""] = text.split(".");
  return `${clock}.${fraction.padEnd(6, "0")}`;
}

function timestampLanding(text: string): string {
  const match = /^(\d+-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?( BC)?$/.exec(text);
  if (match === null) return text;
  const [, date, time, zone, era] = match;
  return `${dateLanding(`${date}${era ?? ""}`)}T${timeLanding(time!)}${zone === undefined ? "" : "Z"}`;
}

function arrayLanding(of: ColumnType, text: string): unknown {
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
    return landingOf(of, token.startsWith('"') ? token.slice(1, -1).replaceAll(/\\(.)/gs, "$1") : token);
  };
  return next();
}
