/** How a column's cells, and the literals next to them, are compared. */
import type { Column } from "../../core/model/schema.ts";
import { CELL_NULL, CELL_UNCHANGED, CellMap } from "../../core/model/tuple.ts";
import type { ColumnType } from "../../core/model/types.ts";
import { readText } from "../../core/values/text.ts";
import { compareAsDoubles, compareNumerics, type Numeric, parseNumeric } from "./numbers.ts";
import { parseDate, parseTime, parseTimestamp } from "./times.ts";
import { type Literal, WhereError } from "./syntax.ts";

export type Value = Numeric | string | boolean;
/** Undefined: the change does not carry the value. */
export type Known = Value | null | undefined;

/** One row for a condition; reused from row to row. */
export class ConditionRow {
  #bytes: Uint8Array = new Uint8Array();
  readonly #cells = new CellMap();
  #olderBytes: Uint8Array | null = null;
  readonly #older = new CellMap();

  /** `older`: the offset of the row's whole old tuple, which has the cells that the new one leaves out; -1: there is none. */
  set(bytes: Uint8Array, offset: number, older: number): void {
    this.#bytes = bytes;
    this.#cells.read(bytes, offset);
    this.#olderBytes = older < 0 ? null : bytes;
    if (older >= 0) this.#older.read(bytes, older);
  }

  /** The canonical text; null; or undefined if it is not known. */
  text(ordinal: number, type: ColumnType): string | null | undefined {
    let cells = this.#cells;
    let bytes = this.#bytes;
    if (cells.kind[ordinal] === CELL_UNCHANGED && this.#olderBytes !== null) {
      cells = this.#older;
      bytes = this.#olderBytes;
    }
    const kind = cells.kind[ordinal]!;
    if (kind === CELL_NULL) return null;
    if (kind === CELL_UNCHANGED) return undefined;
    return readText(type, kind, bytes, cells.start[ordinal]!, cells.length[ordinal]!);
  }
}

export type FamilyName = "number" | "text" | "bool" | "date" | "timestamp" | "timestamptz" | "time";

/** How the values of one kind of column are read and compared. */
export interface Family {
  readonly name: FamilyName;
  /** From the canonical text; undefined if the text is invalid. */
  readonly read: (text: string) => Value | undefined;
  readonly compare: (a: Value, b: Value) => number;
}

/** Null if columns of this type can't be compared. */
export function familyOf({ type, native }: Column): Family | null {
  switch (type.kind) {
    case "bool":
      return { name: "bool", read: (text) => text === "t", compare: compareScalars };
    case "int":
    case "decimal":
      return { name: "number", read: parseNumeric, compare: compareAsNumbers };
    case "float":
      return {
        name: "number",
        read: type.bits === 32 ? (text) => Math.fround(Number(text)) : Number,
        compare: compareAsFloats,
      };
    case "text":
      // The blanks that pad a character(n) do not count, as in SQL.
      return { name: "text", read: isPadded(type, native) ? withoutBlanks : asItIs, compare: compareTexts };
    case "uuid":
    case "enum":
    case "opaque":
      return { name: "text", read: asItIs, compare: compareTexts };
    case "date":
      return { name: "date", read: parseDate, compare: compareScalars };
    case "time":
      return { name: "time", read: parseTime, compare: compareScalars };
    case "timestamp": {
      const { zone } = type;
      const name = zone ? "timestamptz" : "timestamp";
      return { name, read: (text) => parseTimestamp(text, zone), compare: compareScalars };
    }
    case "bytes":
    case "json":
    case "array":
      return null;
    default:
      return type satisfies never;
  }
}

/** For two columns of one family: compared as floats if one is a float. */
export function comparisonOf(a: Family, b: Family): Family["compare"] {
  return a.compare === compareAsFloats ? a.compare : b.compare;
}

/** The literal as a value that compares with this column's; null for `null`. */
export function literalValue(literal: Literal, column: Column, family: Family): Value | null {
  if (literal.kind === "null") return null;
  if (literal.kind === "bool") {
    if (family.name === "bool") return literal.value;
    throw new WhereError(literal.at, `${wanted(column)}, found a truth value`);
  }
  const value = family.name === "bool" ? undefined : valueOf(literal, column, family);
  if (value !== undefined) return value;
  throw new WhereError(literal.at, `${wanted(column)}, this ${literal.kind} is none`);
}

function valueOf(literal: Literal & { readonly text: string }, column: Column, family: Family): Value | undefined {
  if (family.name !== "number") {
    if (literal.kind !== "text") return undefined;
    return column.type.kind === "uuid" ? canonicalUuid(literal.text) : family.read(literal.text);
  }
  const exact = parseNumeric(literal.text.trim());
  // A float is compared as the double that it is.
  return exact !== undefined && column.type.kind === "float" ? Number(literal.text) : exact;
}

function wanted({ name, native }: Column): string {
  return `column ${JSON.stringify(name)} is ${native}; expected a value of that type`;
}

/** Only MySQL shows this in the type's name. */
function isPadded(type: ColumnType & { readonly kind: "text" }, native: string): boolean {
  return type.padded === true || /^char(\(|$)/.test(native);
}

function asItIs(text: string): string {
  return text;
}

/** From any spelling that Postgres accepts: capitals, braces, hyphens elsewhere or none. */
function canonicalUuid(text: string): string | undefined {
  const digits = text
    .replace(/^\{(.*)\}$/, "$1")
    .replaceAll("-", "")
    .toLowerCase();
  if (!/^[0-9a-f]{32}$/.test(digits)) return undefined;
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function withoutBlanks(text: string): string {
  return text.replace(/ +$/, "");
}

/** Numbers, bigints included, and booleans. */
function compareScalars(a: Value, b: Value): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function compareAsNumbers(a: Value, b: Value): number {
  return compareNumerics(numericOf(a), numericOf(b));
}

function compareAsFloats(a: Value, b: Value): number {
  return compareAsDoubles(numericOf(a), numericOf(b));
}

function numericOf(value: Value): Numeric {
  return typeof value === "string" || typeof value === "boolean" ? Number(value) : value;
}

/** By code point, which is also the order of the bytes in UTF-8. */
function compareTexts(left: Value, right: Value): number {
  if (left === right) return 0;
  if (typeof left !== "string" || typeof right !== "string") return compareScalars(left, right);
  const length = Math.min(left.length, right.length);
  for (let i = 0; i < length; i++) {
    const [x, y] = [left.charCodeAt(i), right.charCodeAt(i)];
    if (x !== y) return rank(x) - rank(y);
  }
  return left.length - right.length;
}

/** Surrogates encode characters above all others. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
