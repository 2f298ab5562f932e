/**
 * How a companion's file stores uuids, dates and times in few bytes: as what they are, not as text. A value that has no such form
 * (infinity, a year above 9999, a time of 100 hours) stays text, and a value has one form only, so that equal ones are equal.
 *
 *     uuid    16 bytes in place of 36
 *     moment  an integer of the digits, which sorts as the moments do: year, month, day; hour, minute, second, microsecond
 */
import type { ColumnType } from "../../src/core/model/types.ts";

const UUID_BYTES = 16;
const UUID_LENGTH = 36;
const DASHES = [8, 13, 18, 23];
const DASH = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;
const LOWER_A = 0x61;
const LOWER_F = 0x66;

/** Null: these bytes are no uuid as sources print it. */
export function packedUuid(bytes: Uint8Array, start: number, length: number): Buffer | null {
  if (length !== UUID_LENGTH) return null;
  for (const at of DASHES) if (bytes[start + at] !== DASH) return null;
  const packed = Buffer.allocUnsafe(UUID_BYTES);
  for (let i = 0, at = start; i < UUID_BYTES; i++, at += 2) {
    if (bytes[at] === DASH) at++;
    const [high, low] = [hexDigit(bytes[at]!), hexDigit(bytes[at + 1]!)];
    if (high < 0 || low < 0) return null;
    packed[i] = (high << 4) | low;
  }
  return packed;
}

function hexDigit(code: number): number {
  if (code >= ZERO && code <= NINE) return code - ZERO;
  return code >= LOWER_A && code <= LOWER_F ? code - LOWER_A + 10 : -1;
}

export function uuidText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The text of `value`, which is 16 bytes. */
export function uuidSql(value: string): string {
  const part = (from: number, length: number): string => `hex(substr(${value}, ${from}, ${length}))`;
  const parts = [part(1, 4), part(5, 2), part(7, 2), part(9, 2), part(11, 6)];
  return `lower(format('%s-%s-%s-%s-%s', ${parts.join(", ")}))`;
}

/** Digits of a moment: how many, in how many bits, what is before them, and how large they may be. */
interface Field {
  readonly digits: number;
  readonly bits: number;
  readonly before: string;
  readonly max: number;
}

const DATE: readonly Field[] = [
  { digits: 4, bits: 14, before: "", max: 9_999 },
  { digits: 2, bits: 4, before: "-", max: 12 },
  { digits: 2, bits: 5, before: "-", max: 31 },
];
const TIME: readonly Field[] = [
  { digits: 2, bits: 7, before: "", max: 99 },
  { digits: 2, bits: 6, before: ":", max: 59 },
  { digits: 2, bits: 6, before: ":", max: 59 },
  { digits: 6, bits: 20, before: ".", max: 999_999 },
];
const TIMESTAMP: readonly Field[] = [...DATE, { ...TIME[0]!, before: "T" }, ...TIME.slice(1)];

function fieldsOf({ kind }: ColumnType): readonly Field[] {
  return kind === "date" ? DATE : kind === "time" ? TIME : TIMESTAMP;
}

function endOf(type: ColumnType): string {
  return type.kind === "timestamp" && type.zone ? "Z" : "";
}

/** `bytes`: in the JSON form, without quotes. Null: it has digits that do not fit. */
export function packedMoment(type: ColumnType, bytes: Uint8Array, start: number, length: number): bigint | null {
  // What is before the fraction, and the fraction: each exact as a number.
  let whole = 0;
  let fraction = 0;
  let at = start;
  for (const { digits, bits, before, max } of fieldsOf(type)) {
    if (before !== "" && bytes[at++] !== before.charCodeAt(0)) return null;
    let value = 0;
    for (const end = at + digits; at < end; at++) {
      const digit = bytes[at]! - ZERO;
      if (!(digit >= 0 && digit <= 9)) return null;
      value = value * 10 + digit;
    }
    if (value > max) return null;
    if (before === ".") fraction = value;
    else whole = whole * 2 ** bits + value;
  }
  const end = endOf(type);
  if (at + end.length !== start + length || (end !== "" && bytes[at] !== end.charCodeAt(0))) return null;
  return type.kind === "date" ? BigInt(whole) : (BigInt(whole) << 20n) | BigInt(fraction);
}

export function momentText(type: ColumnType, packed: bigint): string {
  let text = endOf(type);
  let left = packed;
  for (const { digits, bits, before } of fieldsOf(type).toReversed()) {
    text = before + String(BigInt.asUintN(bits, left)).padStart(digits, "0") + text;
    left >>= BigInt(bits);
  }
  return text;
}

/** The same in SQL. */
export function momentSql(type: ColumnType, value: string): string {
  const terms: string[] = [];
  let format = endOf(type);
  let shift = 0;
  for (const { digits, bits, before } of fieldsOf(type).toReversed()) {
    format = `${before}%0${digits}d${format}`;
    terms.unshift(`${value} >> ${shift} & ${2 ** bits - 1}`);
    shift += bits;
  }
  return `format('${format}', ${terms.join(", ")})`;
}

/** What `text` is stored as, in a form of types.ts. */
export function packedText(type: ColumnType, text: string): Buffer | bigint | string {
  const bytes = Buffer.from(text);
  const packed = type.kind === "uuid" ? packedUuid : packedMoment.bind(null, type);
  return packed(bytes, 0, bytes.length) ?? text;
}
