/**
 * SQL over stored values (connectors/sqlite/types): how they look in a document, in which order they are, when two are
 * equal. Where SQLite's own functions would not be exact, ours take their place (`defineFunctions`).
 */
import type { SQLInputValue, SQLOutputValue } from "node:sqlite";
import { ByteWriter } from "../../src/core/bytes.ts";
import { isRecord } from "../../src/core/stored-json.ts";
import { invariant } from "../../src/core/invariant.ts";
import type { Column } from "../../src/core/model/schema.ts";
import { CELL_TEXT } from "../../src/core/model/tuple.ts";
import { sourceTextOfPlain } from "../../src/core/targets/expected-json.ts";
import type { Join } from "../../src/documents/document.ts";
import { formatFloat32, formatFloat64 } from "../../src/core/values/float.ts";
import { writeJson } from "../../src/core/values/json.ts";
import { type Family, familyOf, type Numeric, type Value } from "../../src/rules/where/values.ts";
import type { Functions } from "../sqlite/file.ts";
import { quoteText } from "../sqlite/names.ts";
import type { LayoutColumn } from "../sqlite/tables/layout.ts";
import { momentSql, momentText, uuidSql, uuidText } from "../sqlite/packed.ts";
import * as forms from "../sqlite/types.ts";

/** The value's JSON, as in an envelope; of null `null`. `row`: what names the row. */
export function jsonOf({ source, sqlName, sqlite }: LayoutColumn, row: string): string {
  const value = `${row}.${sqlName}`;
  switch (sqlite.form) {
    case forms.BOOL:
      return `CASE ${value} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE 'null' END`;
    case forms.INTEGER:
    case forms.UNSIGNED:
      return `ifnull(${value}, 'null')`;
    case forms.FLOAT:
      return `ifnull(${floatText(source, value, "json")}, 'null')`;
    case forms.BYTES:
      return `ifnull('"' || nest_base64(${value}) || '"', 'null')`;
    case forms.JSON_TEXT:
      // A raw line break in a JSON text is white space.
      return `ifnull(replace(replace(${value}, char(10), ' '), char(13), ' '), 'null')`;
    case forms.ARRAY:
      return `ifnull(${value}, 'null')`;
    case forms.PACKED_UUID:
      return `iif(typeof(${value}) = 'blob', '"' || ${uuidSql(value)} || '"', json_quote(${value}))`;
    case forms.PACKED_MOMENT:
      return `iif(typeof(${value}) = 'integer', '"' || ${momentSql(source.type, value)} || '"', json_quote(${value}))`;
    case forms.TEXT:
      return textJson(source, value);
    case forms.MOMENT:
      return `json_quote(${value})`;
    default:
      return sqlite.form satisfies never;
  }
}

function textJson(source: Column, value: string): string {
  const { type } = source;
  if (type.kind !== "array" && type.kind !== "vector") return `json_quote(${value})`;
  // The text of a vector that is not sparse is its JSON.
  const isJson = type.kind === "vector" && type.form !== "sparse";
  return `ifnull(${isJson ? value : `nest_json(${shapeOf(source)}, ${value})`}, 'null')`;
}

function floatText({ type }: Column, value: string, as: "json" | "text"): string {
  return `nest_${as}_float${type.kind === "float" ? type.bits : 64}(${value})`;
}

/** A value that the driver, or one of our functions, reads: a text that it would cut off at a NUL comes as bytes. */
export function readable({ sqlName, sqlite }: LayoutColumn, row: string): string {
  const value = `${row}.${sqlName}`;
  if (sqlite.form !== forms.TEXT) return value;
  return `CASE WHEN instr(${value}, char(0)) > 0 THEN CAST(${value} AS BLOB) ELSE ${value} END`;
}

/** The source's canonical text of what `readable` reads; of an array and of JSON, the stored text. */
export function textOf({ source, sqlite }: LayoutColumn, value: SQLOutputValue): string | null {
  if (value === null) return null;
  switch (sqlite.form) {
    case forms.BOOL:
      return value === 0 || value === 0n ? "f" : "t";
    case forms.FLOAT:
      if (typeof value !== "number") return String(value);
      return source.type.kind === "float" && source.type.bits === 32 ? formatFloat32(value) : formatFloat64(value);
    case forms.BYTES:
      return `\\x${Buffer.from(value instanceof Uint8Array ? value : []).toString("hex")}`;
    case forms.MOMENT:
    case forms.PACKED_MOMENT:
      return sourceTextOfPlain(source.type, typeof value === "bigint" ? momentText(source.type, value) : String(value));
    case forms.PACKED_UUID:
      return value instanceof Uint8Array ? uuidText(value) : String(value);
    case forms.INTEGER:
    case forms.UNSIGNED:
    case forms.JSON_TEXT:
    case forms.ARRAY:
    case forms.TEXT:
      return value instanceof Uint8Array ? Buffer.from(value).toString() : String(value);
    default:
      return sqlite.form satisfies never;
  }
}

/** Whether two values show different JSON. SQL takes both zeros for one. */
export function differs(column: LayoutColumn): string {
  const { source, sqlName, sqlite } = column;
  const [before, after] = [`old.${sqlName}`, `new.${sqlName}`];
  if (sqlite.form !== forms.FLOAT) return `${before} IS NOT ${after}`;
  return `${floatText(source, before, "text")} IS NOT ${floatText(source, after, "text")}`;
}

export interface OrderTerm {
  readonly sql: string;
  /** An index may have it: it consists of SQLite's own functions. */
  readonly isIndexable: boolean;
}

/** Expressions that sort like the values at the source; texts by their characters. Null stays null. */
export function orderOf({ source, sqlName, sqlite }: LayoutColumn, row: string): readonly OrderTerm[] {
  const value = row === "" ? sqlName : `${row}.${sqlName}`;
  const term = (sql: string): OrderTerm => ({ sql, isIndexable: true });
  const { type } = source;
  if (sqlite.form === forms.UNSIGNED)
    return [term(`CASE typeof(${value}) WHEN 'text' THEN substr('0' || ${value}, -20) ELSE ${value} END`)];
  if (sqlite.form === forms.MOMENT) return [term(momentOrder(value))];
  if (sqlite.form === forms.PACKED_MOMENT) {
    const isText = `typeof(${value}) = 'text'`;
    // What is no integer is before all of them, or behind.
    const rank = `iif(${value} IS NULL, NULL, iif(${isText}, iif(substr(${value}, 1, 1) = '-', -1, 1), 0))`;
    return [term(rank), term(`iif(${isText}, ${momentOrder(value)}, ${value})`)];
  }
  const family = familyOf(source);
  if (family === null || type.kind === "int" || type.kind === "float" || type.kind === "bool") return [term(value)];
  if (type.kind === "text" && family.name === "text") return [term(isPadded(source) ? `rtrim(${value}, ' ')` : value)];
  if (type.kind === "uuid" || family.name === "text") return [term(value)];
  if (type.kind === "enum") {
    const ranks = type.labels.map((label, i) => `WHEN ${quoteText(label)} THEN ${i}`);
    const rank = `CASE ${value} ${ranks.join(" ")} ELSE iif(${value} IS NULL, NULL, ${ranks.length}) END`;
    return ranks.length === 0 ? [term(value)] : [term(rank), term(value)];
  }
  return [{ sql: `nest_rank(${shapeOf(source)}, ${value})`, isIndexable: false }];
}

function isPadded({ type, native }: Column): boolean {
  return type.kind === "text" && (type.padded === true || /^char(\(|$)/.test(native));
}

/** Years before 1 and above 9999 begin with a sign, and the infinities with a letter or a minus. */
function momentOrder(value: string): string {
  const year = `CAST(substr(${value}, 1, instr(substr(${value}, 2), '-')) AS INTEGER)`;
  const rest = `substr(${value}, 1 + instr(substr(${value}, 2), '-'))`;
  return (
    `CASE WHEN ${value} >= '0' THEN ${value} WHEN ${value} = '-infinity' THEN '' ` +
    `WHEN ${value} < '.' AND ${value} >= '-' THEN '!' || format('%07d', 9999999 + ${year}) || ${rest} ` +
    `WHEN ${value} < '-' THEN ':' || format('%08d', ${year}) || ${rest} END`
  );
}

/** Null: the two can't be equal. Else the expressions whose values are equal if and only if the columns' are. */
export function joinOf(
  one: LayoutColumn,
  other: LayoutColumn,
  { alike }: Pick<Join, "alike">,
): ((row: string) => string)[] | null {
  const forms = [one, other].map(joinForm);
  const [a, b] = forms;
  const isNumeric = forms.every((form) => form === "integer" || form === "decimal");
  const isUuidText = forms.includes("uuid") && forms.includes("text");
  const isFloat = forms.every((form) => form === "integer" || form === "float");
  if (a !== b && !isNumeric && !isFloat && !isUuidText) return null;
  const isDecimal = isNumeric && forms.includes("decimal");
  return [one, other].map((column) => (row) => {
    const value = row === "" ? column.sqlName : `${row}.${column.sqlName}`;
    if (joinForm(column) === "decimal")
      return `CASE WHEN instr(${value}, '.') > 0 THEN rtrim(rtrim(${value}, '0'), '.') ELSE ${value} END`;
    if (isDecimal) return `CAST(${value} AS TEXT)`;
    if (isUuidText && joinForm(column) === "uuid") return `iif(typeof(${value}) = 'blob', ${uuidSql(value)}, ${value})`;
    const unpadded = alike?.isPadded === true || isPadded(column.source) ? `rtrim(${value}, ' ')` : value;
    return alike?.isFolded === true ? `lower(${unpadded})` : unpadded;
  });
}

function joinForm({ source: { type }, sqlite }: LayoutColumn): string {
  switch (sqlite.form) {
    case forms.INTEGER:
    case forms.UNSIGNED:
      return "integer";
    case forms.FLOAT:
      return "float";
    case forms.MOMENT:
    case forms.PACKED_MOMENT:
      return type.kind === "timestamp" ? `timestamp ${type.zone}` : type.kind;
    case forms.TEXT:
      return type.kind === "decimal" ? "decimal" : "text";
    case forms.PACKED_UUID:
      return "uuid";
    case forms.BOOL:
    case forms.BYTES:
    case forms.JSON_TEXT:
    case forms.ARRAY:
      return String(sqlite.form);
    default:
      return sqlite.form satisfies never;
  }
}

/** Makes the functions known that the expressions above call. */
export function defineFunctions(database: Functions): void {
  const one = (name: string, of: (value: SQLOutputValue) => SQLInputValue): void =>
    database.function(name, { deterministic: true }, (value: SQLOutputValue) => (value === null ? null : of(value)));
  for (const [bits, format] of [
    [32, formatFloat32],
    [64, formatFloat64],
  ] as const) {
    const text = (value: SQLOutputValue): string => (typeof value === "number" ? format(value) : String(value));
    one(`nest_text_float${bits}`, text);
    one(`nest_json_float${bits}`, (value) => {
      const shown = text(value);
      return /[a-z]$/i.test(shown) ? `"${shown}"` : shown;
    });
  }
  one("nest_base64", (value) => Buffer.from(value instanceof Uint8Array ? value : []).toString("base64"));
  const out = new ByteWriter(1024);
  const shapes = new Map<SQLOutputValue, Shape>();
  database.function("nest_json", { deterministic: true }, (shape: SQLOutputValue, value: SQLOutputValue) => {
    if (value === null) return null;
    const bytes = Buffer.from(String(value));
    out.reset();
    writeJson(out, kept(shapes, shape).column.type, CELL_TEXT, bytes, 0, bytes.length);
    return out.bytes.toString("utf8", 0, out.length);
  });
  database.function("nest_rank", { deterministic: true }, (shape: SQLOutputValue, value: SQLOutputValue) => {
    if (value === null) return null;
    const read = kept(shapes, shape).family?.read(String(value));
    return read === undefined ? String(value) : ranked(read);
  });
}

interface Shape {
  readonly column: Pick<Column, "type" | "native">;
  readonly family: Family | null;
}

/** What a function is told of a column, as SQL. */
function shapeOf({ type, native }: Column): string {
  return quoteText(JSON.stringify({ type, native }));
}

function kept(shapes: Map<SQLOutputValue, Shape>, text: SQLOutputValue): Shape {
  let shape = shapes.get(text);
  if (shape === undefined) {
    const column: unknown = JSON.parse(String(text));
    invariant(isShape(column), "a function of the nest gets what a statement of the nest says");
    shapes.set(text, (shape = { column, family: familyOf(column) }));
  }
  return shape;
}

function isShape(value: unknown): value is Shape["column"] {
  return isRecord(value) && isRecord(value["type"]) && typeof value["native"] === "string";
}

/** Sorts in SQLite as the value does: numbers of any kind become texts. */
function ranked(value: Value): string {
  if (typeof value === "string") return value;
  if (typeof value === "boolean") return value ? "1" : "0";
  return rankedNumber(value);
}

const EXPONENT_ZERO = 500_000;

/** `2`, the exponent, the digits; below zero `0` and the complement of each digit. */
function rankedNumber(value: Numeric): string {
  if (typeof value === "number" && !Number.isInteger(value)) {
    if (Number.isNaN(value)) return "4";
    return value > 0 ? "3" : "/";
  }
  const { digits, scale } = typeof value === "object" ? value : { digits: BigInt(value), scale: 0 };
  if (digits === 0n) return "1";
  const magnitude = String(digits < 0n ? -digits : digits);
  const exponent = String(EXPONENT_ZERO + magnitude.length - scale).padStart(6, "0");
  const text = exponent + magnitude.replace(/0+$/, "");
  if (digits > 0n) return `2${text}`;
  return `0${text.replaceAll(/\d/g, (digit) => String(9 - Number(digit)))}~`;
}
