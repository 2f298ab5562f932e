/**
 * Dates and times of the log as cells: binary ones of days or microseconds since 2000-01-01, or the text that the server
 * prints. A date that does not exist has no binary form (the server can store 0000-00-00, months and days of zero, and with
 * ALLOW_INVALID_DATES 02-31).
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_NULL } from "../../../../src/core/model/tuple.ts";
import { writeDigits, writeInteger } from "../../../../src/core/values/integer.ts";
import { readUint24, readUint32 } from "../wire/bytes.ts";
import { beginCell, beginText, cell32, endText } from "./number-cells.ts";
import { AS_OLD_TIMESTAMP, AS_TIMESTAMP, ZERO_IS_EPOCH, ZERO_IS_TEXT, type RowPlan } from "./cell-plan.ts";
import { fractionBytes } from "./field-types.ts";

const DAYS_TO_2000 = 730_425; // from 0000-03-01
const DAYS_1970 = -10_957;
const SECONDS_1970 = DAYS_1970 * 86_400;
const TWO_26 = 2 ** 26;
const TWO_32 = 2 ** 32;
const MONTH_DAYS = [0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const;
const FRACTION_UNIT = [0, 10_000, 100, 1] as const;
const POWERS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000] as const;
const TIME_ZERO = 0x80_0000;
const DIGITS_MAX = 6;
const UTC = "+00";
/** `2024-02-29` and `2024-02-29 12:34:56`, which a point and a fraction may follow. */
const DATE_BYTES = 10;
const CLOCK_BYTES = 19;

let year = 0;
let month = 0;
let day = 0;
let hour = 0;
let minute = 0;
let second = 0;
let microsecond = 0;

export function cellDate(out: ByteWriter, plan: RowPlan, i: number, bytes: Uint8Array, at: number): number {
  const packed = readUint24(bytes, at);
  year = packed >> 9;
  month = (packed >> 5) & 15;
  day = packed & 31;
  date(out, plan, i);
  return at + 3;
}

function date(out: ByteWriter, plan: RowPlan, i: number): void {
  if (plan.b[i] === ZERO_IS_TEXT) dayCell(out);
  else if (exists()) cell32(out, daysSince2000());
  else if (isPrinted(plan, i)) dayCell(out);
  else if (plan.b[i] === ZERO_IS_EPOCH) cell32(out, DAYS_1970);
  else out.byte(CELL_NULL);
}

/** DATETIME: 17 bits of year × 13 + month, then day, hour, minute, second; then the fraction. */
export function cellDateTime(out: ByteWriter, plan: RowPlan, i: number, bytes: Uint8Array, at: number): number {
  const digits = plan.a[i]!;
  const yearMonth = ((bytes[at]! & 0x7f) << 10) | (bytes[at + 1]! << 2) | (bytes[at + 2]! >> 6);
  const rest = ((bytes[at + 2]! & 0x3f) << 16) | (bytes[at + 3]! << 8) | bytes[at + 4]!;
  year = (yearMonth / 13) | 0;
  month = yearMonth - year * 13;
  day = rest >> 17;
  hour = (rest >> 12) & 31;
  minute = (rest >> 6) & 63;
  second = rest & 63;
  microsecond = readFraction(bytes, at + 5, digits);
  dateTime(out, plan, i, digits);
  return at + 5 + fractionBytes(digits);
}

/** DATETIME of old tables: a decimal number YYYYMMDDhhmmss. */
export function cellOldDateTime(out: ByteWriter, plan: RowPlan, i: number, bytes: Uint8Array, at: number): number {
  const value = readUint32(bytes, at) + readUint32(bytes, at + 4) * TWO_32;
  const date = Math.floor(value / POWERS[6]);
  const clock = value - date * POWERS[6];
  year = Math.floor(date / 10_000);
  month = Math.floor(date / 100) % 100;
  day = date % 100;
  hour = Math.floor(clock / 10_000);
  minute = Math.floor(clock / 100) % 100;
  second = clock % 100;
  microsecond = 0;
  dateTime(out, plan, i, 0);
  return at + 8;
}

function dateTime(out: ByteWriter, plan: RowPlan, i: number, digits: number): void {
  if (plan.b[i] === ZERO_IS_TEXT) textCell(out, digits);
  else if (exists()) cellInstant(out, daysSince2000() * 86_400 + hour * 3600 + minute * 60 + second, microsecond);
  else noInstant(out, plan, i, digits);
}

/** TIMESTAMP: seconds since 1970, 0 for the zero date. `isOld`: little-endian and without a fraction. */
export function cellTimestamp(
  out: ByteWriter,
  plan: RowPlan,
  i: number,
  bytes: Uint8Array,
  at: number,
  isOld: boolean,
): number {
  const digits = isOld ? 0 : plan.a[i]!;
  const seconds = isOld
    ? readUint32(bytes, at)
    : bytes[at]! * 0x100_0000 + ((bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!);
  microsecond = readFraction(bytes, at + 4, digits);
  const isZero = seconds === 0 && microsecond === 0;
  if (isZero || plan.b[i] === ZERO_IS_TEXT) setInstant(seconds, isZero);
  if (plan.b[i] === ZERO_IS_TEXT) textCell(out, digits);
  else if (!isZero) cellInstant(out, SECONDS_1970 + seconds, microsecond);
  else noInstant(out, plan, i, digits);
  return at + 4 + fractionBytes(digits);
}

/** DATE, DATETIME or TIMESTAMP from the text that a session with time zone UTC gets: the same cell as from the log. */
export function cellCalendarText(
  out: ByteWriter,
  plan: RowPlan,
  i: number,
  bytes: Uint8Array,
  from: number,
  length: number,
): void {
  year = digitsAt(bytes, from, 4);
  month = digitsAt(bytes, from + 5, 2);
  day = digitsAt(bytes, from + 8, 2);
  if (length === DATE_BYTES) return date(out, plan, i);
  hour = digitsAt(bytes, from + 11, 2);
  minute = digitsAt(bytes, from + 14, 2);
  second = digitsAt(bytes, from + 17, 2);
  const digits = Math.max(0, length - CLOCK_BYTES - 1);
  microsecond = digitsAt(bytes, from + CLOCK_BYTES + 1, digits) * POWERS[DIGITS_MAX - digits]!;
  dateTime(out, plan, i, digits);
}

function digitsAt(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = at; i < at + count; i++) value = value * 10 + bytes[i]! - 0x30;
  return value;
}

/**
 * TIME: an offset from 0x800000 followed by the fraction, both with the same sign. As text, because no type holds 838
 * hours.
 */
export function cellTime(out: ByteWriter, plan: RowPlan, i: number, bytes: Uint8Array, at: number): number {
  const digits = plan.a[i]!;
  const count = fractionBytes(digits);
  let whole = ((bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!) - TIME_ZERO;
  let fraction = 0;
  for (let k = 0; k < count; k++) fraction = (fraction << 8) | bytes[at + 3 + k]!;
  const isNegative = whole < 0;
  if (isNegative) {
    // Two's complement over both parts.
    if (fraction > 0) {
      whole++;
      fraction = 2 ** (8 * count) - fraction;
    }
    whole = -whole;
  }
  hour = (whole >> 12) & 0x3ff;
  minute = (whole >> 6) & 63;
  second = whole & 63;
  microsecond = fraction * FRACTION_UNIT[count]!;
  timeCell(out, isNegative, digits);
  return at + 3 + count;
}

/** TIME of old tables: a decimal number hhmmss with a sign. */
export function cellOldTime(out: ByteWriter, bytes: Uint8Array, at: number): number {
  const value = (readUint24(bytes, at) << 8) >> 8;
  const clock = Math.abs(value);
  hour = Math.floor(clock / 10_000);
  minute = Math.floor(clock / 100) % 100;
  second = clock % 100;
  microsecond = 0;
  timeCell(out, value < 0, 0);
  return at + 3;
}

function timeCell(out: ByteWriter, isNegative: boolean, digits: number): void {
  const text = beginText(out);
  out.reserve(20);
  if (isNegative) out.bytes[out.length++] = 0x2d;
  if (hour > 99) writeInteger(out, hour);
  else writeDigits(out, hour, 2);
  writeMinutes(out, digits);
  endText(out, text);
}

/** The text that the server prints for its packed times inside JSON: `value` has the time above 24 bits of microseconds. */
export function writePackedTime(out: ByteWriter, value: bigint): void {
  const absolute = value < 0n ? -value : value;
  const clock = Number(absolute >> 24n);
  microsecond = Number(absolute & 0xff_ffffn);
  hour = (clock >> 12) & 0x3ff;
  minute = (clock >> 6) & 63;
  second = clock & 63;
  out.reserve(20);
  if (value < 0n) out.bytes[out.length++] = 0x2d;
  if (hour > 99) writeInteger(out, hour);
  else writeDigits(out, hour, 2);
  writeMinutes(out, DIGITS_MAX);
}

export function writePackedDateTime(out: ByteWriter, value: bigint, isDate: boolean): void {
  const clock = Number((value >> 24n) & 0x1_ffffn);
  const yearMonth = Number(value >> 46n);
  year = Math.floor(yearMonth / 13);
  month = yearMonth % 13;
  day = Number((value >> 41n) & 31n);
  hour = clock >> 12;
  minute = (clock >> 6) & 63;
  second = clock & 63;
  microsecond = Number(value & 0xff_ffffn);
  out.reserve(32);
  writeDay(out);
  if (!isDate) writeClock(out, DIGITS_MAX);
}

function noInstant(out: ByteWriter, plan: RowPlan, i: number, digits: number): void {
  const code = plan.code[i];
  if (isPrinted(plan, i)) textCell(out, digits, code === AS_TIMESTAMP || code === AS_OLD_TIMESTAMP ? UTC : "");
  else if (plan.b[i] === ZERO_IS_EPOCH) cellInstant(out, SECONDS_1970, 0);
  else out.byte(CELL_NULL);
}

/**
 * Counts a date that does not exist. In a key it stays unchanged: replaced by another date, two rows could have the same
 * key. See `hasKeyDates`.
 */
function isPrinted(plan: RowPlan, i: number): boolean {
  plan.metZeroDates.count++;
  return plan.isKey[i] === 1;
}

function readFraction(bytes: Uint8Array, at: number, digits: number): number {
  const count = fractionBytes(digits);
  let value = 0;
  for (let i = 0; i < count; i++) value = (value << 8) | bytes[at + i]!;
  return value * FRACTION_UNIT[count]!;
}

function exists(): boolean {
  if (month < 1 || month > 12 || day < 1) return false;
  if (day <= MONTH_DAYS[month]!) return true;
  // The server does not count 0000 as a leap year, but other calendars do.
  return month === 2 && day === 29 && year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) && year !== 0;
}

function daysSince2000(): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const ofEra = shifted - era * 400;
  const dayOfYear = (((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) | 0) + day - 1;
  return era * 146_097 + ofEra * 365 + (ofEra >> 2) - ((ofEra / 100) | 0) + dayOfYear - DAYS_TO_2000;
}

/**
 * Microseconds since 2000 in eight bytes. For years up to 9999 they exceed what a Number holds exactly, so they are written
 * in two halves.
 */
function cellInstant(out: ByteWriter, seconds: number, us: number): void {
  const upper = Math.floor(seconds / TWO_26);
  const a = upper * 1_000_000;
  const low = (a & 63) * TWO_26 + (seconds - upper * TWO_26) * 1_000_000 + us;
  const carry = Math.floor(low / TWO_32);
  const high = Math.floor(a / 64) + carry;
  const rest = low - carry * TWO_32;
  const at = beginCell(out, CELL_BINARY, 8);
  const to = out.bytes;
  to[at] = high >> 24;
  to[at + 1] = high >> 16;
  to[at + 2] = high >> 8;
  to[at + 3] = high;
  to[at + 4] = rest >>> 24;
  to[at + 5] = rest >>> 16;
  to[at + 6] = rest >>> 8;
  to[at + 7] = rest;
}

function setInstant(seconds: number, isZero: boolean): void {
  const at = new Date(seconds * 1000);
  year = isZero ? 0 : at.getUTCFullYear();
  month = isZero ? 0 : at.getUTCMonth() + 1;
  day = isZero ? 0 : at.getUTCDate();
  hour = isZero ? 0 : at.getUTCHours();
  minute = isZero ? 0 : at.getUTCMinutes();
  second = isZero ? 0 : at.getUTCSeconds();
}

function dayCell(out: ByteWriter): void {
  const text = beginText(out);
  out.reserve(10);
  writeDay(out);
  endText(out, text);
}

function textCell(out: ByteWriter, digits: number, zone = ""): void {
  const text = beginText(out);
  out.reserve(32);
  writeDay(out);
  writeClock(out, digits);
  out.ascii(zone);
  endText(out, text);
}

function writeDay(out: ByteWriter): void {
  writeDigits(out, year, 4);
  out.bytes[out.length++] = 0x2d;
  writeDigits(out, month, 2);
  out.bytes[out.length++] = 0x2d;
  writeDigits(out, day, 2);
}

function writeClock(out: ByteWriter, digits: number): void {
  out.bytes[out.length++] = 0x20;
  writeDigits(out, hour, 2);
  writeMinutes(out, digits);
}

function writeMinutes(out: ByteWriter, digits: number): void {
  const to = out.bytes;
  to[out.length++] = 0x3a;
  writeDigits(out, minute, 2);
  to[out.length++] = 0x3a;
  writeDigits(out, second, 2);
  if (digits === 0) return;
  to[out.length++] = 0x2e;
  writeDigits(out, Math.floor(microsecond / POWERS[DIGITS_MAX - digits]!), digits);
}
