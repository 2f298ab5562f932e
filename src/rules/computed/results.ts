/**
 * The types that a computed column may have, and what its function may return for each: the value's canonical text
 * (core/model/tuple.ts), or what was expected. Nothing is rounded, cut or guessed.
 */
import type { DialectName } from "../../core/model/schema.ts";
import type { ColumnType } from "../../core/model/types.ts";
import { arrayElement } from "../../core/values/array.ts";
import { formatFloat32, formatFloat64 } from "../../core/values/float.ts";
import { rawText } from "../../core/values/exact-json.ts";
import { suggestion } from "../nearest.ts";
import { parseDate, parseTime } from "../where/times.ts";

/** A type as the configuration spells it. */
export interface DeclaredType {
  readonly text: string;
  readonly type: ColumnType;
  /** How each dialect spells it; null: it has no such type. */
  readonly native: Readonly<Record<DialectName, string | null>>;
}

type Natives = DeclaredType["native"];
const both = (postgres: string, mysql: string): Natives => ({ postgres, mysql });

const SCALARS: Readonly<Record<string, Omit<DeclaredType, "text">>> = {
  boolean: { type: { kind: "bool" }, native: both("boolean", "tinyint(1)") },
  smallint: { type: { kind: "int", bits: 16, signed: true }, native: both("smallint", "smallint") },
  integer: { type: { kind: "int", bits: 32, signed: true }, native: both("integer", "int") },
  bigint: { type: { kind: "int", bits: 64, signed: true }, native: both("bigint", "bigint") },
  double: { type: { kind: "float", bits: 64 }, native: both("double precision", "double") },
  decimal: { type: { kind: "decimal", precision: null, scale: null }, native: both("numeric", "decimal") },
  text: { type: { kind: "text" }, native: both("text", "longtext") },
  bytes: { type: { kind: "bytes" }, native: both("bytea", "longblob") },
  date: { type: { kind: "date" }, native: both("date", "date") },
  time: { type: { kind: "time" }, native: both("time without time zone", "time(6)") },
  timestamp: { type: { kind: "timestamp", zone: false }, native: both("timestamp without time zone", "datetime(6)") },
  timestamptz: { type: { kind: "timestamp", zone: true }, native: both("timestamp with time zone", "timestamp(6)") },
  uuid: { type: { kind: "uuid" }, native: both("uuid", "uuid") },
  json: { type: { kind: "json" }, native: both("json", "json") },
};

export const TYPE_NAMES = Object.keys(SCALARS);

const DECIMAL = /^decimal\((\d{1,4})(?:, ?(\d{1,4}))?\)$/;
const PRECISION_MAX = 1_000;

/** What is wrong with the text, or the type. */
export function declaredType(text: string): DeclaredType | string {
  const [, element] = /^(.+)\[\]$/.exec(text) ?? [];
  if (element !== undefined) {
    const of = declaredType(element);
    if (typeof of === "string") return of;
    if (of.type.kind === "array" || of.type.kind === "json") return `there are no arrays of ${element}; take json`;
    const postgres = of.native.postgres === null ? null : `${of.native.postgres}[]`;
    return { text, type: { kind: "array", of: of.type }, native: { postgres, mysql: null } };
  }
  const [, precision, scale = "0"] = DECIMAL.exec(text) ?? [];
  if (precision !== undefined) {
    const type = { kind: "decimal", precision: Number(precision), scale: Number(scale) } as const;
    const isPossible = type.precision >= 1 && type.precision <= PRECISION_MAX && type.scale <= type.precision;
    if (!isPossible) return `a decimal has 1 to ${PRECISION_MAX} digits, and no more of them behind the point`;
    const modifier = `(${type.precision},${type.scale})`;
    return { text, type, native: both(`numeric${modifier}`, `decimal${modifier}`) };
  }
  if (!Object.hasOwn(SCALARS, text)) return `unknown type; ${suggestion(text, TYPE_NAMES)}`;
  return { text, ...SCALARS[text]! };
}

/** What a function returned does not fit its column. The message names types, and no value. */
export class WrongResult extends Error {}

/** The canonical text of what a function returned. Throws a WrongResult. */
export function resultText(type: ColumnType, value: unknown): string {
  const text = textOf(type, value);
  if (text === undefined) throw new WrongResult(`returned ${described(value)}; expected ${EXPECTED[type.kind]}`);
  return text;
}

const EXPECTED: Readonly<Record<ColumnType["kind"], string>> = {
  bool: "a boolean",
  int: "a whole number of the type's range",
  float: "a number",
  decimal: "a text of digits, a bigint or a whole number, within the type's digits",
  text: "a text (no NUL, no half of a character)",
  bytes: "a Uint8Array",
  date: "a text such as 2024-02-29",
  time: "a text such as 13:05:00.5",
  timestamp: "a text such as 2024-02-29T13:05:00.5 (timestamptz: with Z, or a Date)",
  uuid: "a text of 36 characters",
  json: "a JSON text, or an object, list, number or boolean that JSON can show as it is",
  array: "a list of such values or nulls",
  enum: "one of the labels",
  vector: "the vector as it was",
  opaque: "the value as it was",
};

function textOf(type: ColumnType, value: unknown): string | undefined {
  switch (type.kind) {
    case "bool":
      return typeof value === "boolean" ? (value ? "t" : "f") : undefined;
    case "int":
      return integerText(type.bits, type.signed, value);
    case "float":
      return typeof value === "number" ? floatText(type.bits, value) : undefined;
    case "decimal":
      return decimalText(type.precision, type.scale ?? 0, value);
    case "text":
      return typeof value === "string" && value.isWellFormed() && !value.includes("\0") ? value : undefined;
    case "bytes":
      return value instanceof Uint8Array
        ? `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("hex")}`
        : undefined;
    case "date":
      return typeof value === "string" && isDate(value) ? value : undefined;
    case "time":
      return typeof value === "string" ? timeText(value) : undefined;
    case "timestamp":
      return timestampText(type.zone, value);
    case "uuid":
      return typeof value === "string" && UUID.test(value) ? value.toLowerCase() : undefined;
    case "json":
      return jsonText(value);
    case "array":
      return arrayText(type.of, value);
    case "enum":
      return type.labels.find((label) => label === value);
    // No column is declared as these.
    case "vector":
    case "opaque":
      return undefined;
    default:
      return type satisfies never;
  }
}

function isWhole(value: unknown): value is bigint | number {
  return typeof value === "bigint" || Number.isSafeInteger(value);
}

function integerText(bits: number, signed: boolean, value: unknown): string | undefined {
  if (!isWhole(value)) return undefined;
  const whole = BigInt(value);
  const held = signed ? BigInt.asIntN(bits, whole) : BigInt.asUintN(bits, whole);
  return held === whole ? String(whole) : undefined;
}

function floatText(bits: 32 | 64, value: number): string | undefined {
  if (bits === 64) return formatFloat64(value);
  const text = formatFloat32(value);
  return Object.is(Number(text), value) ? text : undefined;
}

const DIGITS = /^([+-]?)(\d{1,1000})(?:\.(\d{1,1000}))?$/;

function decimalText(precision: number | null, scale: number, value: unknown): string | undefined {
  const [, sign, digits, fraction = ""] =
    DIGITS.exec(isWhole(value) || typeof value === "string" ? String(value) : "") ?? [];
  if (digits === undefined) return undefined;
  const whole = digits.replace(/^0+(?=\d)/, "");
  const minus = sign === "-" && /[1-9]/.test(whole + fraction) ? "-" : "";
  if (precision === null) return `${minus}${whole}${fraction === "" ? "" : `.${fraction}`}`;
  if (/[^0]/.test(fraction.slice(scale))) return undefined;
  if (whole !== "0" && whole.length > precision - scale) return undefined;
  return `${minus}${whole}${scale === 0 ? "" : `.${fraction.slice(0, scale).padEnd(scale, "0")}`}`;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const DATE = /^\d{4}-\d{2}-\d{2}$/;
const TIME = /^(\d{2}:\d{2}:\d{2})(?:\.(\d{1,6}))?$/;
const TIMESTAMP = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?)(Z|\+00(?::?00)?)?$/;

function isDate(text: string): boolean {
  if (!DATE.test(text) || text.startsWith("0000")) return text === "infinity" || text === "-infinity";
  return parseDate(text) !== undefined;
}

function timeText(text: string): string | undefined {
  const [, clock, fraction = ""] = TIME.exec(text) ?? [];
  if (clock === undefined || parseTime(text) === undefined) return undefined;
  const digits = fraction.replace(/0+$/, "");
  return `${clock}${digits === "" ? "" : `.${digits}`}`;
}

function timestampText(zone: boolean, value: unknown): string | undefined {
  const given = zone && value instanceof Date && !Number.isNaN(value.getTime()) ? value.toISOString() : value;
  if (typeof given !== "string") return undefined;
  if (given === "infinity" || given === "-infinity") return given;
  const [, date, clock, offset] = TIMESTAMP.exec(given) ?? [];
  if (date === undefined || clock === undefined || zone !== (offset !== undefined) || !isDate(date)) return undefined;
  const time = timeText(clock);
  return time === undefined ? undefined : `${date} ${time}${zone ? "+00" : ""}`;
}

/** A text is JSON already, as the texts of json columns are. Of all else every part must be one that JSON has. */
function jsonText(value: unknown): string | undefined {
  if (typeof value !== "string") return spelledValue(value);
  try {
    JSON.parse(value);
    return value.isWellFormed() ? value : undefined;
  } catch {
    return undefined;
  }
}

const DEPTH_MAX = 100;

/** The JSON of a value; undefined: a part of it has none. */
export function spelledValue(value: unknown): string | undefined {
  return jsonOf(value, 0);
}

function jsonOf(value: unknown, depth: number): string | undefined {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") return Number.isFinite(value) ? JSON.stringify(value) : undefined;
  if (typeof value === "bigint") return String(value);
  if (typeof value === "string") return value.isWellFormed() ? JSON.stringify(value) : undefined;
  if (typeof value !== "object" || depth > DEPTH_MAX) return undefined;
  if (Array.isArray(value)) {
    const parts = Array.from(value, (one: unknown) => jsonOf(one, depth + 1));
    return parts.includes(undefined) ? undefined : `[${parts.join(",")}]`;
  }
  const raw = rawText(value);
  if (raw !== null) return raw;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return undefined;
  const fields: string[] = [];
  for (const [key, field] of Object.entries(value)) {
    const text = jsonOf(field, depth + 1);
    if (text === undefined || !key.isWellFormed()) return undefined;
    fields.push(`${JSON.stringify(key)}:${text}`);
  }
  return `{${fields.join(",")}}`;
}

/** Every element is quoted but numbers, booleans and nulls; the sinks read both. */
function arrayText(of: ColumnType, value: unknown): string | undefined {
  if (!Array.isArray(value)) return undefined;
  const elements: string[] = [];
  for (const one of value as readonly unknown[]) {
    const text = one === null ? "NULL" : textOf(of, one);
    if (text === undefined) return undefined;
    elements.push(one === null ? text : arrayElement(text));
  }
  return `{${elements.join(",")}}`;
}

function described(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "nothing";
  if (isPromise(value)) return "a promise";
  if (Array.isArray(value)) return "a list";
  if (value instanceof Date) return "a Date";
  if (value instanceof Uint8Array) return "a Uint8Array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** Its failure later is nobody's: it would end the process. */
function isPromise(value: unknown): boolean {
  if (!(value instanceof Promise)) return typeof value === "object" && value !== null && "then" in value;
  value.catch(() => {});
  return true;
}
