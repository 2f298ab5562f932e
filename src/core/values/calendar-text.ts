import type { ByteWriter } from "../bytes.ts";
import { invariant } from "../invariant.ts";
import { writeYearJson } from "./calendar.ts";

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
