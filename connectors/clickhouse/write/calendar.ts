/**
 * Dates and times as the numbers of RowBinary: days and microseconds since 1970. ClickHouse has the years 1900 to 2299;
 * for other values these return NaN.
 */
import { readInt32 } from "../../../src/core/model/tuple.ts";
import { isSafeInt64, readSafeInt64 } from "../../../src/core/values/integer.ts";

const ZERO = 0x30;
const DASH = 0x2d;
const POINT = 0x2e;
const DAYS_1970_TO_2000 = 10_957;
const DAY_US = 86_400_000_000;
const DAYS_MIN = -25_567; // 1900-01-01
const DAYS_MAX = 120_529; // 2299-12-31
const US_MIN = DAYS_MIN * DAY_US;
const US_END = (DAYS_MAX + 1) * DAY_US;
const DATE_BYTES = 10;
const CLOCK_BYTES = 19;

/** From `2026-11-20`; a longer or shorter text is a year of another length, another era, or an infinity. */
export function daysOfText(bytes: Uint8Array, start: number, length: number): number {
  return length === DATE_BYTES ? withinDays(dayNumber(bytes, start)) : NaN;
}

export function daysOfBinary(bytes: Uint8Array, start: number): number {
  return withinDays(readInt32(bytes, start) + DAYS_1970_TO_2000);
}

/** From `2026-11-20 06:43:15.123456`, with a zone's `+00` behind it or not. */
export function microsecondsOfText(bytes: Uint8Array, start: number, length: number): number {
  const end = start + length;
  // BC is the last word of an earlier era.
  if (length < CLOCK_BYTES || bytes[start + 4] !== DASH || bytes[end - 1]! > 0x39) return NaN;
  const days = dayNumber(bytes, start);
  const seconds = two(bytes, start + 11) * 3600 + two(bytes, start + 14) * 60 + two(bytes, start + 17);
  let us = 0;
  let at = start + CLOCK_BYTES;
  if (at < end && bytes[at] === POINT) {
    let digits = 0;
    for (at++; at < end && digits < 6 && isDigit(bytes[at]!); at++, digits++) us = us * 10 + (bytes[at]! - ZERO);
    for (; digits < 6; digits++) us *= 10;
  }
  return withinTime(days * DAY_US + seconds * 1_000_000 + us);
}

export function microsecondsOfBinary(bytes: Uint8Array, start: number): number {
  return isSafeInt64(bytes, start) ? withinTime(readSafeInt64(bytes, start) + DAYS_1970_TO_2000 * DAY_US) : NaN;
}

function withinDays(days: number): number {
  return days >= DAYS_MIN && days <= DAYS_MAX ? days : NaN;
}

function withinTime(us: number): number {
  return us >= US_MIN && us < US_END ? us : NaN;
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
  return byte >= ZERO && byte <= 0x39;
}
