/** How a column's cells, and the literals next to them, are compared. */
import type { Column } from "../../core/model/schema.ts";
import { CELL_FAILED, CELL_NULL, CELL_UNCHANGED, CellMap } from "../../core/model/tuple.ts";
import type { ColumnType } from "../../core/model/types.ts";
import { readText } from "../../core/values/text.ts";
import { parseDate, parseInterval, parseSignedTime, parseTime, parseTimestamp, parseZonedTime } from "./times.ts";
import { type Literal, WhereError } from "./syntax.ts";

export type Value = Numeric | string | boolean;
/** Undefined: the change does not carry the value. */
export type CarriedValue = Value | null | undefined;

/** What a condition asks of a row. */
export interface JudgedRow {
  /** The canonical text; null; or undefined if it is not known. */
  text(ordinal: number, type: ColumnType): string | null | undefined;
  isLeftOut(ordinal: number): boolean;
  /** The digit of a part (`Condition.parts`); undefined: it is not known. */
  remembered(part: number): string | undefined;
}

/** One row of a block for a condition; reused from row to row. */
export class ConditionRow implements JudgedRow {
  #bytes: Uint8Array = new Uint8Array();
  readonly #cells = new CellMap();
  #olderBytes: Uint8Array | null = null;
  readonly #older = new CellMap();
  #remembered: string | null = null;
  /** Only what is remembered is known. */
  #isBlank = false;
  /** Ordinals of the only known cells; null: all are. */
  #key: readonly number[] | null = null;

  /** A row of which only the key's cells are known. */
  setKey(bytes: Uint8Array, offset: number, key: readonly number[]): void {
    this.set(bytes, offset, -1);
    this.#key = key;
  }

  /** `older`: the offset of the row's whole old tuple, which has the cells that the new one leaves out; -1: there is none. */
  set(bytes: Uint8Array, offset: number, older: number): void {
    this.#bytes = bytes;
    this.#key = null;
    this.#cells.read(bytes, offset);
    this.#olderBytes = older < 0 ? null : bytes;
    if (older >= 0) this.#older.read(bytes, older);
    this.#remembered = null;
    this.#isBlank = false;
  }

  /** What the parts of the condition said of the row before. */
  remember(truths: string): void {
    this.#remembered = truths;
  }

  /** It is the row before, of which only this is known. */
  goBack(truths: string): void {
    this.#remembered = truths;
    this.#isBlank = true;
  }

  remembered(part: number): string | undefined {
    return this.#remembered?.[part];
  }

  isLeftOut(ordinal: number): boolean {
    if (this.#isBlank) return true;
    return this.#cells.kind[ordinal] === CELL_UNCHANGED && this.#olderBytes === null;
  }

  text(ordinal: number, type: ColumnType): string | null | undefined {
    if (this.#isBlank || this.#key?.includes(ordinal) === false) return undefined;
    let cells = this.#cells;
    let bytes = this.#bytes;
    if (cells.kind[ordinal] === CELL_UNCHANGED && this.#olderBytes !== null) {
      cells = this.#older;
      bytes = this.#olderBytes;
    }
    const kind = cells.kind[ordinal]!;
    // A computed column of the daemon that captures, whose function failed: what is unknown does not match.
    if (kind === CELL_NULL || kind === CELL_FAILED) return null;
    if (kind === CELL_UNCHANGED) return undefined;
    return readText(type, kind, bytes, cells.start[ordinal]!, cells.length[ordinal]!);
  }
}

/** Only columns of one name are compared with each other. */
export type FamilyName =
  | "number"
  | "text"
  | "bool"
  | "date"
  | "timestamp"
  | "timestamptz"
  | "time"
  | "timetz"
  | "interval"
  | "address"
  | "hardware address"
  | "bits"
  | `enum ${string}`;

/** How the values of one kind of column are read and compared. */
export interface Family {
  readonly name: FamilyName;
  /** From the canonical text; undefined if the text is invalid. */
  readonly read: (text: string) => Value | undefined;
  /** The same for a literal, where more than the canonical spelling is valid, or less than any text. */
  readonly readLiteral?: (text: string) => Value | undefined;
  readonly compare: (a: Value, b: Value) => number;
}

/** Null if columns of this type can't be compared. */
export function familyOf({ type, native }: Pick<Column, "type" | "native">): Family | null {
  switch (type.kind) {
    case "bool":
      return { name: "bool", read: (text) => text === "t", compare: compareScalars };
    case "int":
    case "decimal":
      return { name: "number", read: parseNumeric, compare: compareAsNumbers };
    case "float": {
      const places = decimalsOf(native);
      if (places !== null) return decimalFloat(places);
      return {
        name: "number",
        read: type.bits === 32 ? (text) => Math.fround(Number(text)) : Number,
        compare: compareAsFloats,
      };
    }
    case "text":
      if (/^inet[46]$/.test(native)) return MARIADB_ADDRESS;
      // The blanks that pad a character(n) do not count, as in SQL.
      return { name: "text", read: isPadded(type, native) ? withoutBlanks : asItIs, compare: compareTexts };
    case "uuid":
      return { name: "text", read: asItIs, readLiteral: canonicalUuid, compare: compareTexts };
    case "enum":
      return enumFamily(type.labels, native);
    case "opaque":
      return opaqueFamily(native);
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
    case "vector":
      return null;
    default:
      return type satisfies never;
  }
}

/** MySQL's `float(7,2)` has decimals, and is compared by them; null: a float as the others. */
function decimalsOf(native: string): number | null {
  const places = /^(?:float|double)\(\d+,(\d+)\)/.exec(native)?.[1];
  return places === undefined ? null : Number(places);
}

function decimalFloat(places: number): Family {
  return { name: "number", read: (text) => parseNumeric(Number(text).toFixed(places)), compare: compareAsNumbers };
}

/** MySQL compares labels as texts, Postgres in their order. */
function enumFamily(labels: readonly string[], native: string): Family {
  const isMysql = native.startsWith("enum(");
  // MySQL has an empty text in place of a wrong value. No labels: they are not certain.
  const valid = new Set(isMysql ? ["", ...labels] : labels);
  const readLiteral = (text: string) => (labels.length === 0 || valid.has(text) ? text : undefined);
  if (isMysql) return { name: "text", read: asItIs, readLiteral, compare: compareTexts };
  const ranks = new Map<Value, number>(labels.map((label, i) => [label, i]));
  // A row may have a label that was added a moment ago.
  const rankOf = (value: Value) => ranks.get(value) ?? labels.length;
  const compare = (a: Value, b: Value) => rankOf(a) - rankOf(b) || compareTexts(a, b);
  return { name: `enum ${native}`, read: asItIs, readLiteral, compare };
}

const MARIADB_ADDRESS: Family = {
  name: "address",
  // A domain of Postgres may have the name too.
  read: (text) => parseAddress(text) ?? text,
  readLiteral: parseAddress,
  compare: compareTexts,
};

/** By the type's name, without its modifiers. Text says nothing of the other types' values: `'$10'` is below `'$9'`. */
function opaqueFamily(native: string): Family | null {
  // A set is the text that the server prints, and compares so.
  if (native.startsWith("set(")) return { name: "text", read: asItIs, compare: compareTexts };
  // Which fields an interval has does not matter.
  switch (native.replace(/^interval .*/, "interval").replace(/\(\d+\)/, "")) {
    case "time":
      return { name: "time", read: parseSignedTime, compare: compareScalars };
    case "time with time zone":
      return { name: "timetz", read: parseZonedTime, compare: compareScalars };
    case "interval":
      return { name: "interval", read: parseInterval, compare: compareScalars };
    case "inet":
    case "cidr":
      return { name: "address", read: parseAddress, compare: compareTexts };
    case "macaddr":
      return hardwareAddress(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
    case "macaddr8":
      return hardwareAddress(/^([0-9a-f]{2}:){7}[0-9a-f]{2}$/);
    case "bit":
    case "bit varying":
      return { name: "bits", read: (text) => (/^[01]*$/.test(text) ? text : undefined), compare: compareTexts };
    default:
      return null;
  }
}

function hardwareAddress(form: RegExp): Family {
  const read = (text: string) => (form.test(text) ? text : undefined);
  return {
    name: "hardware address",
    read,
    readLiteral: (text) => read(text.toLowerCase().replaceAll("-", ":")),
    compare: compareTexts,
  };
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
    return literal.kind === "text" ? (family.readLiteral ?? family.read)(literal.text) : undefined;
  }
  const exact = parseNumeric(literal.text.trim());
  // To MySQL, two digits mean a year of the last or of this century.
  if (isMysqlYear(column) && typeof exact === "number" && exact > 0 && exact < 100) return undefined;
  if (exact === undefined || column.type.kind !== "float" || family.compare === compareAsNumbers) return exact;
  // A float is compared as the double that it is. Postgres takes a text for a value of the column's type, MySQL for a double.
  const double = Number(literal.text);
  const isOfColumn = literal.kind === "text" && column.type.bits === 32 && !isMysqlFloat(column);
  return isOfColumn ? Math.fround(double) : double;
}

/** Postgres calls it `real`. */
function isMysqlFloat({ native }: Column): boolean {
  return /^float\b/.test(native);
}

/** A domain of Postgres of that name has more bits. */
function isMysqlYear({ native, type }: Column): boolean {
  return native === "year" && type.kind === "int" && type.bits === 16;
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

/** IP addresses and networks as texts that compare as Postgres orders them: network, length of its mask, address. */

const ADDRESS = /^([0-9A-Fa-f.:]+)(?:\/(\d{1,3}))?$/;

/** Undefined if the text is no address. Without a mask it is one host. */
function parseAddress(text: string): string | undefined {
  const [, address = "", mask] = ADDRESS.exec(text) ?? [];
  const isV6 = address.includes(":");
  const bits = isV6 ? bitsOfV6(address) : bitsOfV4(address);
  const length = mask === undefined ? bits?.length : Number(mask);
  if (bits === undefined || length === undefined || length > bits.length) return undefined;
  // A blank is below every bit: a shorter network comes before those inside it.
  return `${isV6 ? 6 : 4}${bits.slice(0, length)} ${bits.slice(length)}`;
}

function bitsOfV4(text: string): string | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return undefined;
  return parts.map((part) => Number(part).toString(2).padStart(8, "0")).join("");
}

function bitsOfV6(text: string): string | undefined {
  const halves = text.split("::");
  const [left, right] = halves.map((half) => (half === "" ? "" : groupsOf(half)));
  if (left === undefined || halves.length > 2 || (halves.length === 2 && right === undefined)) return undefined;
  const missing = 128 - left.length - (right?.length ?? 0);
  if (halves.length === 1 ? missing !== 0 : missing < 16) return undefined;
  return left + "0".repeat(missing) + (right ?? "");
}

/** Groups of 16 bits; the last two may be written as an address of version 4. */
function groupsOf(text: string): string | undefined {
  const groups = text.split(":").map((group, i, all) => {
    if (i === all.length - 1 && group.includes(".")) return bitsOfV4(group);
    return /^[0-9A-Fa-f]{1,4}$/.test(group) ? Number.parseInt(group, 16).toString(2).padStart(16, "0") : undefined;
  });
  return groups.includes(undefined) ? undefined : groups.join("");
}

/** Exact comparison of numbers: whole ones of any size, decimals of any digits. */

/** `digits` divided by ten to the power of `scale`. */
interface Decimal {
  readonly digits: bigint;
  readonly scale: number;
}

/** Whole numbers that a double holds exactly, larger ones, decimals; NaN and the infinities as numbers. */
export type Numeric = number | bigint | Decimal;

const NUMBER = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?$/;
const EXACT_DIGITS = 15;

/** Undefined if the text is no number. */
function parseNumeric(text: string): Numeric | undefined {
  if (text.length <= EXACT_DIGITS && /^-?\d+$/.test(text)) return Number(text);
  if (text === "NaN" || text === "Infinity" || text === "-Infinity") return Number(text);
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = NUMBER.exec(text) ?? [];
  if (whole === "" && fraction === "") return undefined;
  const magnitude = BigInt(whole + fraction);
  const digits = sign === "-" ? -magnitude : magnitude;
  const scale = fraction.length - Number(exponent);
  if (scale > 0) return { digits, scale };
  return digits * 10n ** BigInt(-scale);
}

/** Below, at or above zero. NaN equals itself and is above everything else, as in Postgres. */
function compareNumerics(a: Numeric, b: Numeric): number {
  if (typeof a === "object" || typeof b === "object") return compareDecimals(a, b);
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The same if one of the two is a float: both are compared as doubles, as in Postgres. */
function compareAsDoubles(a: Numeric, b: Numeric): number {
  return compareNumerics(asDouble(a), asDouble(b));
}

function asDouble(value: Numeric): number {
  return typeof value === "object" ? Number(`${value.digits}e${-value.scale}`) : Number(value);
}

function compareDecimals(a: Numeric, b: Numeric): number {
  if (typeof a === "number" && !Number.isInteger(a)) return beyondAll(a);
  if (typeof b === "number" && !Number.isInteger(b)) return -beyondAll(b);
  const left = asDecimal(a);
  const right = asDecimal(b);
  const scale = Math.max(left.scale, right.scale);
  const difference = scaled(left, scale) - scaled(right, scale);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** Values that are not whole numbers here: NaN and the infinities. */
function beyondAll(value: number): number {
  return value === -Infinity ? -1 : 1;
}

function asDecimal(value: Numeric): Decimal {
  return typeof value === "object" ? value : { digits: BigInt(value), scale: 0 };
}

function scaled({ digits, scale }: Decimal, to: number): bigint {
  return digits * 10n ** BigInt(to - scale);
}
