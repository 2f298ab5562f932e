/**
 * Dates and times from their binary form (days and microseconds since 2000-01-01), as Postgres prints them with
 * DateStyle ISO in UTC, and in the JSON form:
 *
 *   date        2024-02-29                      infinity: "infinity", "-infinity"
 *   time        23:59:59.500000                 always six digits of fraction; 24:00:00.000000 is kept
 *   timestamp   2024-02-29T23:59:59.500000      with zone: a Z behind it
 *   year        0000 to 9999 in four digits (1 BC is 0000, as in ISO 8601 and RFC 3339); others with sign and at least
 *               six digits (2 BC is -000001, 10000 is +010000): what ECMAScript, java.time and ISO 8601 read
 */
import type { ByteWriter } from "../bytes.ts";
import { readInt32 } from "../model/tuple.ts";
import { isSafeInt64, readBigInt64, readSafeInt64, writeDigits, writeInteger } from "./integer.ts";
import { invariant } from "../invariant.ts";

const DAY_US = 86_400_000_000;
const DAYS_FROM_YEAR_0_TO_2000 = 730_425; // from 0000-03-01, where a leap day is the last of a year
const DAYS_FROM_1970_TO_2000 = 10_957;
const INFINITE_DAYS = 0x7fff_ffff;
const MINUS_INFINITE_DAYS = -0x8000_0000;

export function writeDate(out: ByteWriter, bytes: Uint8Array, start: number): void {
  const days = readInt32(bytes, start);
  if (writeInfinity(out, days)) return;
  out.reserve(32);
  writeDay(out, days);
  writeEra(out);
}

/** Without the quotes. */
export function writeDateJson(out: ByteWriter, bytes: Uint8Array, start: number): void {
  const days = readInt32(bytes, start);
  if (writeInfinity(out, days)) return;
  out.reserve(32);
  writeDayJson(out, days);
}

export function writeTime(out: ByteWriter, bytes: Uint8Array, start: number): void {
  out.reserve(32);
  writeClock(out, readSafeInt64(bytes, start), false);
}

export function writeTimeJson(out: ByteWriter, bytes: Uint8Array, start: number): void {
  out.reserve(32);
  writeClock(out, readSafeInt64(bytes, start), true);
}

export function writeTimestamp(out: ByteWriter, bytes: Uint8Array, start: number, zone: boolean): void {
  out.reserve(64);
  if (writeInfiniteTimestamp(out, bytes, start)) return;
  splitTimestamp(bytes, start);
  writeDay(out, splitDays);
  out.bytes[out.length++] = 0x20;
  writeClock(out, splitUs, false);
  if (zone) {
    writeDigits(out, 0, 3);
    out.bytes[out.length - 3] = 0x2b; // +00
  }
  writeEra(out);
}

/** Without the quotes. */
export function writeTimestampJson(out: ByteWriter, bytes: Uint8Array, start: number, zone: boolean): void {
  out.reserve(64);
  if (writeInfiniteTimestamp(out, bytes, start)) return;
  splitTimestamp(bytes, start);
  writeInstant(out, splitDays, splitUs, zone);
}

/** Microseconds since 1970-01-01 UTC as RFC 3339, without the quotes. */
export function writeUnixTimeJson(out: ByteWriter, timeUs: bigint): void {
  out.reserve(64);
  const inDay = ((timeUs % BigInt(DAY_US)) + BigInt(DAY_US)) % BigInt(DAY_US);
  const days = Number((timeUs - inDay) / BigInt(DAY_US)) - DAYS_FROM_1970_TO_2000;
  writeInstant(out, days, Number(inDay), true);
}

/** The year of a JSON date; `year` is astronomical: 0 is 1 BC. */
function writeYearJson(out: ByteWriter, year: number): void {
  out.reserve(16);
  if (year >= 0 && year <= 9999) return writeDigits(out, year, 4);
  out.bytes[out.length++] = year < 0 ? 0x2d : 0x2b;
  const magnitude = Math.abs(year);
  if (magnitude < 1_000_000) writeDigits(out, magnitude, 6);
  else writeInteger(out, magnitude);
}

function writeInstant(out: ByteWriter, days: number, us: number, zone: boolean): void {
  writeDayJson(out, days);
  out.bytes[out.length++] = 0x54; // T
  writeClock(out, us, true);
  if (zone) out.bytes[out.length++] = 0x5a; // Z
}

let civilDays = Number.NaN;
let year = 0;
let month = 0;
let day = 0;

/** Proleptic Gregorian date of a day. Cached, because neighbouring rows mostly have the same one. */
function setCivil(days: number): void {
  if (days === civilDays) return;
  civilDays = days;
  const shifted = days + DAYS_FROM_YEAR_0_TO_2000;
  const era = Math.floor(shifted / 146_097); // 400 years
  const dayOfEra = shifted - era * 146_097;
  const leapDays = ((dayOfEra / 1_460) | 0) - ((dayOfEra / 36_524) | 0) + ((dayOfEra / 146_096) | 0);
  const yearOfEra = ((dayOfEra - leapDays) / 365) | 0;
  const dayOfYear = dayOfEra - (365 * yearOfEra + (yearOfEra >> 2) - ((yearOfEra / 100) | 0));
  const marchMonth = ((5 * dayOfYear + 2) / 153) | 0;
  day = dayOfYear - (((153 * marchMonth + 2) / 5) | 0) + 1;
  month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9;
  year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0);
}

function writeDay(out: ByteWriter, days: number): void {
  setCivil(days);
  const shown = year > 0 ? year : 1 - year;
  if (shown <= 9999) writeDigits(out, shown, 4);
  else writeInteger(out, shown);
  writeMonthAndDay(out);
}

function writeDayJson(out: ByteWriter, days: number): void {
  setCivil(days);
  writeYearJson(out, year);
  writeMonthAndDay(out);
}

function writeMonthAndDay(out: ByteWriter): void {
  const to = out.bytes;
  to[out.length++] = 0x2d;
  writeDigits(out, month, 2);
  to[out.length++] = 0x2d;
  writeDigits(out, day, 2);
}

/** ` BC` after the last written date. */
function writeEra(out: ByteWriter): void {
  if (year <= 0) out.ascii(" BC");
}

/**
 * `whole`: all six digits of the fraction; else without trailing zeros, and without a point if there is no fraction.
 */
function writeClock(out: ByteWriter, us: number, whole: boolean): void {
  const to = out.bytes;
  const seconds = Math.floor(us / 1_000_000);
  const fraction = us - seconds * 1_000_000;
  const minutes = (seconds / 60) | 0;
  const hours = (minutes / 60) | 0;
  writeDigits(out, hours, 2);
  to[out.length++] = 0x3a;
  writeDigits(out, minutes - hours * 60, 2);
  to[out.length++] = 0x3a;
  writeDigits(out, seconds - minutes * 60, 2);
  if (!whole && fraction === 0) return;
  to[out.length++] = 0x2e;
  writeDigits(out, fraction, 6);
  if (!whole) while (to[out.length - 1] === 0x30) out.length--;
}

let splitDays = 0;
let splitUs = 0;

/** Days and microseconds in the day of a timestamp; years 1715 to 2285 without BigInt. */
function splitTimestamp(bytes: Uint8Array, start: number): void {
  if (isSafeInt64(bytes, start)) {
    const us = readSafeInt64(bytes, start);
    splitDays = Math.floor(us / DAY_US);
    splitUs = us - splitDays * DAY_US;
    return;
  }
  const us = readBigInt64(bytes, start);
  const inDay = ((us % BigInt(DAY_US)) + BigInt(DAY_US)) % BigInt(DAY_US);
  splitDays = Number((us - inDay) / BigInt(DAY_US));
  splitUs = Number(inDay);
}

function writeInfiniteTimestamp(out: ByteWriter, bytes: Uint8Array, start: number): boolean {
  const high = readInt32(bytes, start);
  const low = readInt32(bytes, start + 4);
  if (high === INFINITE_DAYS && low === -1) return writeInfinity(out, INFINITE_DAYS);
  return high === MINUS_INFINITE_DAYS && low === 0 && writeInfinity(out, MINUS_INFINITE_DAYS);
}

function writeInfinity(out: ByteWriter, days: number): boolean {
  if (days !== INFINITE_DAYS && days !== MINUS_INFINITE_DAYS) return false;
  out.ascii(days > 0 ? "infinity" : "-infinity");
  return true;
}

/** The JSON forms of calendar.ts without quotes, from the text that Postgres prints with DateStyle ISO in UTC. */

const DASH = 0x2d;
const POINT = 0x2e;
const DATE_LENGTH = 10;
const CLOCK_LENGTH = 8;

export function writeDateJsonFromText(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (length === DATE_LENGTH && bytes[start + 4] === DASH) return out.copy(bytes, start, DATE_LENGTH);
  if (isInfinity(bytes, start)) return out.copy(bytes, start, length);
  const dash = writeYear(out, bytes, start, length);
  out.copy(bytes, dash, 6);
}

export function writeTimeJsonFromText(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  let point = start;
  const end = start + length;
  while (point < end && bytes[point] !== POINT) point++;
  out.copy(bytes, start, point - start);
  writeFraction(out, bytes, point, end);
}

export function writeTimestampJsonFromText(
  out: ByteWriter,
  bytes: Uint8Array,
  start: number,
  length: number,
  zone: boolean,
): void {
  if (isInfinity(bytes, start)) return out.copy(bytes, start, length);
  let dash = start + 4;
  let end = start + length;
  if (bytes[dash] === DASH && bytes[end - 1] !== 0x43) {
    out.copy(bytes, start, 4);
  } else {
    dash = writeYear(out, bytes, start, length);
    if (bytes[end - 1] === 0x43) end -= 3; // " BC"
  }
  out.copy(bytes, dash, 6);
  out.byte(0x54); // T
  const clock = dash + 7;
  out.copy(bytes, clock, CLOCK_LENGTH);
  const behind = writeFraction(out, bytes, clock + CLOCK_LENGTH, end);
  if (!zone) return;
  const isUtc =
    end - behind === 3 && bytes[behind] === 0x2b && bytes[behind + 1] === 0x30 && bytes[behind + 2] === 0x30;
  invariant(isUtc, "timestamps with zone come as text in UTC");
  out.byte(0x5a); // Z
}

/** `infinity` and `-infinity`; no date begins with either character. */
function isInfinity(bytes: Uint8Array, start: number): boolean {
  return bytes[start] === 0x69 || bytes[start] === DASH;
}

/** Writes the year and returns the position of the dash after it. */
function writeYear(out: ByteWriter, bytes: Uint8Array, start: number, length: number): number {
  let year = 0;
  let at = start;
  for (; bytes[at] !== DASH; at++) {
    invariant(at < start + length, "a date has a dash behind its year");
    year = year * 10 + bytes[at]! - 0x30;
  }
  writeYearJson(out, bytes[start + length - 1] === 0x43 ? 1 - year : year);
  return at;
}

/** A point and six digits, from a fraction at `at` that may be short or missing; returns where it ended. */
function writeFraction(out: ByteWriter, bytes: Uint8Array, at: number, end: number): number {
  out.reserve(7);
  const to = out.bytes;
  let length = out.length;
  const full = length + 7;
  to[length++] = POINT;
  if (at < end && bytes[at] === POINT) {
    at++;
    while (at < end && length < full && isDigit(bytes[at]!)) to[length++] = bytes[at++]!;
  }
  while (length < full) to[length++] = 0x30;
  out.length = length;
  return at;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
