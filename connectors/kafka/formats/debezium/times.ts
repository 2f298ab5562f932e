/**
 * Dates and times as numbers since 1970, as Debezium's adaptive time precision gives them. Binary cells count from 2000; text cells
 * occur for dates that do not exist, and inside arrays.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_TEXT, readInt32 } from "../../../../src/core/model/tuple.ts";
import { writeTimestampJson, writeTimestampJsonFromText } from "../../../../src/core/values/calendar.ts";
import type { Cell } from "./fields.ts";
import { isSafeInt64, readBigInt64, readSafeInt64, writeInteger } from "../../../../src/core/values/integer.ts";

const DAYS_TO_2000 = 10_957;
const US_TO_2000 = 946_684_800_000_000;
const DAY_US = 86_400_000_000;
const INFINITE_DAYS = 0x7fff_ffff;
const MINUS_INFINITE_DAYS = -0x8000_0000;
const INT64_MAX = 2n ** 63n - 1n;
/** What Debezium's Postgres connector has for infinity and -infinity. */
const INFINITE_DATE = "-2147472692";
const MINUS_INFINITE_DATE = "-2147472691";
const INFINITE_US = "9223372036825200000";
const MINUS_INFINITE_US = "-9223372036832400000";
const INFINITE_MS = "9223372036825200";
const MINUS_INFINITE_MS = "-9223372036832400";

const DASH = 0x2d;
const COLON = 0x3a;
const POINT = 0x2e;
const SPACE = 0x20;
const ZERO = 0x30;
const C = 0x43;
const LETTER_I = 0x69;

export function writeEpochDays(out: ByteWriter, { kind, bytes, start, length }: Cell): void {
  if (kind === CELL_TEXT) {
    if (isInfinity(bytes, start)) out.ascii(bytes[start] === DASH ? MINUS_INFINITE_DATE : INFINITE_DATE);
    else writeInteger(out, daysFromText(bytes, start, length));
    return;
  }
  const days = readInt32(bytes, start);
  if (days === INFINITE_DAYS) out.ascii(INFINITE_DATE);
  else if (days === MINUS_INFINITE_DAYS) out.ascii(MINUS_INFINITE_DATE);
  else writeInteger(out, days + DAYS_TO_2000);
}

/** A time of day; `unitUs`: 1 or 1000. */
export function writeTimeOfDay(out: ByteWriter, { kind, bytes, start, length }: Cell, unitUs: number): void {
  const us = kind === CELL_TEXT ? clockFromText(bytes, start, start + length) : readSafeInt64(bytes, start);
  writeInteger(out, Math.floor(us / unitUs));
}

/** `unitUs`: 1 or 1000. */
export function writeEpochTime(out: ByteWriter, { kind, bytes, start, length }: Cell, unitUs: number): void {
  const isMs = unitUs !== 1;
  if (kind === CELL_TEXT) {
    if (isInfinity(bytes, start)) {
      if (bytes[start] === DASH) out.ascii(isMs ? MINUS_INFINITE_MS : MINUS_INFINITE_US);
      else out.ascii(isMs ? INFINITE_MS : INFINITE_US);
      return;
    }
    let space = start;
    while (bytes[space] !== SPACE) space++;
    const clockUs = clockFromText(bytes, space + 1, start + length);
    return writeWide(out, BigInt(daysFromText(bytes, start, length)) * BigInt(DAY_US) + BigInt(clockUs), isMs);
  }
  const high = readInt32(bytes, start);
  const low = readInt32(bytes, start + 4);
  if (high === INFINITE_DAYS && low === -1) out.ascii(isMs ? INFINITE_MS : INFINITE_US);
  else if (high === MINUS_INFINITE_DAYS && low === 0) out.ascii(isMs ? MINUS_INFINITE_MS : MINUS_INFINITE_US);
  else if (isSafeInt64(bytes, start)) {
    const us = readSafeInt64(bytes, start) + US_TO_2000;
    if (Number.isSafeInteger(us)) writeInteger(out, Math.floor(us / unitUs));
    else writeWide(out, BigInt(readSafeInt64(bytes, start)) + BigInt(US_TO_2000), isMs);
  } else writeWide(out, readBigInt64(bytes, start) + BigInt(US_TO_2000), isMs);
}

/** Years beyond 294246 do not fit into 64 bits of microseconds since 1970. */
function writeWide(out: ByteWriter, us: bigint, isMs: boolean): void {
  if (isMs) out.ascii(String((us - (((us % 1000n) + 1000n) % 1000n)) / 1000n));
  else out.ascii(String(us > INT64_MAX ? INT64_MAX : us));
}

const shown = new ByteWriter(64);
/** `-MM-DDTHH:MM:SS` */
const AFTER_YEAR = 15;

/** Quoted, in UTC, with so many digits of a fraction. */
export function writeZonedTimestamp(out: ByteWriter, { kind, bytes, start, length }: Cell, digits: number): void {
  shown.reset();
  if (kind === CELL_TEXT) writeTimestampJsonFromText(shown, bytes, start, length, true);
  else writeTimestampJson(shown, bytes, start, true);
  out.ascii('"');
  if (isInfinity(shown.bytes, 0)) out.copy(shown.bytes, 0, shown.length);
  else {
    const dash = shown.length - AFTER_YEAR - ".000000Z".length;
    writeYear(out, dash);
    out.copy(shown.bytes, dash, AFTER_YEAR);
    if (digits > 0) out.copy(shown.bytes, dash + AFTER_YEAR, 1 + digits);
    out.ascii("Z");
  }
  out.ascii('"');
}

/** As java.time prints it: four digits at least, a sign where there are more. */
function writeYear(out: ByteWriter, dash: number): void {
  const sign = shown.bytes[0]!;
  if (sign >= ZERO) return out.copy(shown.bytes, 0, dash);
  let from = 1;
  while (dash - from > 4 && shown.bytes[from] === ZERO) from++;
  out.byte(sign);
  out.copy(shown.bytes, from, dash - from);
}

/** `infinity` and `-infinity`. */
function isInfinity(bytes: Uint8Array, start: number): boolean {
  return bytes[start] === LETTER_I || bytes[start + 1] === LETTER_I;
}

/** Days since 1970 of `2024-02-29 …`, maybe with ` BC` at the end. */
function daysFromText(bytes: Uint8Array, start: number, length: number): number {
  let at = start;
  let year = 0;
  for (; bytes[at] !== DASH; at++) year = year * 10 + bytes[at]! - ZERO;
  const month = twoDigits(bytes, at + 1);
  const day = twoDigits(bytes, at + 4);
  if (bytes[start + length - 1] === C) year = 1 - year;
  return daysFromCivil(year, month, day);
}

/** Of the proleptic Gregorian calendar. */
function daysFromCivil(year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year;
  const era = Math.floor(shifted / 400);
  const yearOfEra = shifted - era * 400;
  const dayOfYear = Math.floor((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  return era * 146_097 + dayOfEra - 719_468;
}

/** Microseconds of `12:30:00.25`, also with a sign or more hours; ends at the first other character. */
export function clockFromText(bytes: Uint8Array, start: number, end: number): number {
  const isNegative = bytes[start] === DASH;
  let at = isNegative ? start + 1 : start;
  let seconds = 0;
  for (let part = 0; part < 3; part++) {
    let value = 0;
    for (; at < end && isDigit(bytes[at]!); at++) value = value * 10 + bytes[at]! - ZERO;
    seconds = seconds * 60 + value;
    if (part < 2 && bytes[at] === COLON) at++;
  }
  let us = seconds * 1_000_000;
  if (at < end && bytes[at] === POINT) {
    for (let unit = 100_000; ++at < end && isDigit(bytes[at]!); unit = Math.floor(unit / 10)) {
      us += (bytes[at]! - ZERO) * unit;
    }
  }
  return isNegative ? -us : us;
}

function twoDigits(bytes: Uint8Array, at: number): number {
  return (bytes[at]! - ZERO) * 10 + bytes[at + 1]! - ZERO;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= ZERO + 9;
}
