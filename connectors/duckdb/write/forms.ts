/** Converts single values between Postgres' text forms and DuckDB's, byte by byte. */
import type { ByteWriter } from "../../../src/core/bytes.ts";
import type { Form } from "../types.ts";
import * as forms from "../types.ts";

const QUOTE = 0x22;
const DASH = 0x2d;
const SPACE = 0x20;
const ZERO = 0x30;
const LETTER_C = 0x43;
const LETTER_I = 0x49;
const LETTER_N = 0x4e;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;

/** DuckDB's latest timestamp; Postgres counts from 2000 and so reaches 30 years further. */
const LATEST = Buffer.from("294247-01-10 04:00:54.775806");
const LATEST_INSTANT = Buffer.from("287396-10-12 08:59:00.991999");
const ERA = Buffer.from(" (BC)");

/** Whether DuckDB's type can hold the value, whose source text this is. In a list each element counts. */
export function fits(form: Form, bytes: Uint8Array, start: number, length: number): boolean {
  switch (form) {
    case forms.FLOAT:
      return !isMinusZero(bytes, start, length);
    case forms.DECIMAL:
      return fitsDecimal(bytes, start);
    case forms.TIMESTAMP:
      return !isLater(LATEST, bytes, start, length);
    case forms.INSTANT:
      return !isLater(LATEST_INSTANT, bytes, start, length);
    case forms.JSON_TEXT:
      return !hasLoneSurrogate(bytes, start, length);
    case forms.PLAIN:
    case forms.DATE:
    case forms.TEXT:
    case forms.HEX:
    case forms.LIST:
    case forms.KEY_FLOAT:
      return true;
    default:
      return form satisfies never;
  }
}

export function isMinusZero(bytes: Uint8Array, start: number, length: number): boolean {
  return length === 2 && bytes[start] === DASH && bytes[start + 1] === ZERO;
}

/** False for NaN, Infinity and -Infinity. */
function fitsDecimal(bytes: Uint8Array, start: number): boolean {
  const first = bytes[start];
  return first !== LETTER_N && first !== LETTER_I && !(first === DASH && bytes[start + 1] === LETTER_I);
}

/** `0044-03-15 BC` is `0044-03-15 (BC)` in DuckDB, which would read the former as a date AD. */
export function writeDate(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (bytes[start + length - 1] !== LETTER_C) return out.copy(bytes, start, length);
  out.copy(bytes, start, length - 3);
  out.copy(ERA, 0, ERA.length);
}

/** DuckDB has the era after the day, Postgres at the end. */
export function writeTimestamp(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  if (bytes[start + length - 1] !== LETTER_C) return out.copy(bytes, start, length);
  let day = start;
  while (bytes[day] !== SPACE) day++;
  out.copy(bytes, start, day - start);
  out.copy(ERA, 0, ERA.length);
  out.copy(bytes, day, start + length - 3 - day);
}

function isLater(than: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean {
  // A year of six digits. All other years are early enough, and infinities have no dash here.
  if (bytes[start + 6] !== DASH) return false;
  for (let i = 0; i < length && i < than.length; i++) {
    const difference = bytes[start + i]! - than[i]!;
    if (difference !== 0) return difference > 0;
  }
  return false;
}

/** Postgres' type `json` accepts a lone `\ud800`, which is not a character; DuckDB's JSON refuses it. */
function hasLoneSurrogate(bytes: Uint8Array, start: number, length: number): boolean {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset + start, length);
  let wantsLow = false;
  for (let at = view.indexOf(BACKSLASH), next = 0; at >= 0; at = view.indexOf(BACKSLASH, next)) {
    const unit = view[at + 1] === 0x75 ? Number.parseInt(view.toString("latin1", at + 2, at + 6), 16) : 0;
    const isLow = unit >= 0xdc00 && unit <= 0xdfff;
    if (wantsLow ? !(isLow && at === next) : isLow) return true;
    wantsLow = unit >= 0xd800 && unit <= 0xdbff;
    next = at + (unit === 0 ? 2 : 6);
  }
  return wantsLow;
}

/** `[[1,2],[3]]` becomes `[1,2,3]`, as unnest shows an array of several dimensions. */
export function keepOutermostBrackets(list: ByteWriter): void {
  const { bytes, length } = list;
  let to = 1;
  let inString = false;
  for (let i = 1; i < length - 1; i++) {
    const byte = bytes[i]!;
    if (inString) {
      if (byte === BACKSLASH) bytes[to++] = bytes[i++]!;
      else if (byte === QUOTE) inString = false;
    } else if (byte === OPEN_BRACKET || byte === CLOSE_BRACKET) continue;
    else if (byte === QUOTE) inString = true;
    bytes[to++] = bytes[i]!;
  }
  bytes[to++] = CLOSE_BRACKET;
  list.length = to;
}
