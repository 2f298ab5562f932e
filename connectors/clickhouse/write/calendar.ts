/** Dates and times as the numbers of RowBinary: days and microseconds since 1970. ClickHouse has the years 1900 to 2299. */
import type { ByteWriter } from "../../../src/core/bytes.ts";
import { readInt32 } from "../../../src/core/model/tuple.ts";
import { isSafeInt64, readBigInt64, readSafeInt64 } from "../../../src/core/values/integer.ts";
import { writeBigInteger, writeSafeInteger } from "./numbers.ts";

const ZERO = 0x30;
const NINE = 0x39;
const DASH = 0x2d;
const POINT = 0x2e;
const DAYS_1970_TO_2000 = 10_957;
const DAY_US = 86_400_000_000;
const DAYS_MIN = -25_567; // 1900-01-01
const DAYS_MAX = 120_529; // 2299-12-31
/** Up to the year 2255 a double holds every microsecond. */
const DAYS_SAFE = 104_000;
const BIG_DAY_US = BigInt(DAY_US);
const DATE_BYTES = 10;
const CLOCK_BYTES = 19;

/** False if the date does not fit: then nothing is written. A text of another length has another era, or is infinity. */
export function writeDateText(out: ByteWriter, bytes: Uint8Array, start: number, length: number): boolean {
  return length === DATE_BYTES && writeDays(out, dayNumber(bytes, start));
}

export function writeDateBinary(out: ByteWriter, bytes: Uint8Array, start: number): boolean {
  return writeDays(out, readInt32(bytes, start) + DAYS_1970_TO_2000);
}

/** From `2026-11-20 06:43:15.123456`, with a zone's `+00` behind it or not. */
export function writeTimestampText(out: ByteWriter, bytes: Uint8Array, start: number, length: number): boolean {
  const end = start + length;
  // BC is the last word of an earlier era.
  if (length < CLOCK_BYTES || bytes[start + 4] !== DASH || bytes[end - 1]! > NINE) return false;
  const seconds = two(bytes, start + 11) * 3600 + two(bytes, start + 14) * 60 + two(bytes, start + 17);
  let us = 0;
  let at = start + CLOCK_BYTES;
  if (at < end && bytes[at] === POINT) {
    let digits = 0;
    for (at++; at < end && digits < 6 && isDigit(bytes[at]!); at++, digits++) us = us * 10 + (bytes[at]! - ZERO);
    for (; digits < 6; digits++) us *= 10;
  }
  return writeInstant(out, dayNumber(bytes, start), seconds * 1_000_000 + us);
}

export function writeTimestampBinary(out: ByteWriter, bytes: Uint8Array, start: number): boolean {
  if (isSafeInt64(bytes, start)) {
    const value = readSafeInt64(bytes, start);
    const days = Math.floor(value / DAY_US);
    return writeInstant(out, days + DAYS_1970_TO_2000, value - days * DAY_US);
  }
  const value = readBigInt64(bytes, start);
  const inDay = ((value % BIG_DAY_US) + BIG_DAY_US) % BIG_DAY_US;
  return writeInstant(out, Number((value - inDay) / BIG_DAY_US) + DAYS_1970_TO_2000, Number(inDay));
}

function writeDays(out: ByteWriter, days: number): boolean {
  if (days < DAYS_MIN || days > DAYS_MAX) return false;
  writeSafeInteger(out, days, 4);
  return true;
}

function writeInstant(out: ByteWriter, days: number, us: number): boolean {
  if (days < DAYS_MIN || days > DAYS_MAX) return false;
  if (days < DAYS_SAFE) writeSafeInteger(out, days * DAY_US + us, 8);
  else writeBigInteger(out, BigInt(days) * BIG_DAY_US + BigInt(us), 8);
  return true;
}

/** Days since 1970 of a date in the Gregorian calendar: years begin in March, so that a leap day is the last of one. */
function dayNumber(bytes: Uint8Array, start: number): number {
  const month = two(bytes, start + 5);
  const year = two(bytes, start) * 100 + two(bytes, start + 2) - (month < 3 ? 1 : 0);
  const dayOfYear = Math.floor((153 * (month + (month < 3 ? 9 : -3)) + 2) / 5) + two(bytes, start + 8) - 1;
  return year * 365 + Math.floor(year / 4) - Math.floor(year / 100) + Math.floor(year / 400) + dayOfYear - 719_468;
}

function two(bytes: Uint8Array, at: number): number {
  return (bytes[at]! - ZERO) * 10 + bytes[at + 1]! - ZERO;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= NINE;
}
