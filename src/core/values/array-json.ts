/**
 * Arrays in JSON: nested arrays of the elements' JSON forms. JSON does not show lower bounds other than 1; the
 * canonical text does.
 */
import type { ByteWriter } from "../bytes.ts";
import { CELL_BINARY, CELL_TEXT } from "../model/tuple.ts";
import type { ColumnType } from "../model/types.ts";
import { CLOSE_BRACE, isNullWord, OPEN_BRACE, walkBinaryArray } from "./array.ts";
import { withScratch } from "./scratch.ts";

const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const EQUALS = 0x3d;

export type WriteValue = (
  out: ByteWriter,
  type: ColumnType,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
) => void;

export function writeArrayJsonFromBinary(
  out: ByteWriter,
  of: ColumnType,
  bytes: Uint8Array,
  start: number,
  writeElement: WriteValue,
): void {
  walkBinaryArray(out, bytes, start, OPEN_BRACKET, CLOSE_BRACKET, (at, length) => {
    if (length < 0) out.ascii("null");
    else writeElement(out, of, CELL_BINARY, bytes, at, length);
  });
}

/** From the text of array_out, whose elements are separated by commas (all types but box). */
export function writeArrayJsonFromText(
  out: ByteWriter,
  of: ColumnType,
  bytes: Uint8Array,
  start: number,
  length: number,
  writeElement: WriteValue,
): void {
  const end = start + length;
  let at = start;
  if (bytes[at] === OPEN_BRACKET) while (at < end && bytes[at++] !== EQUALS);
  while (at < end) {
    const byte = bytes[at]!;
    if (byte === OPEN_BRACE) out.byte(OPEN_BRACKET);
    else if (byte === CLOSE_BRACE) out.byte(CLOSE_BRACKET);
    else if (byte === COMMA) out.byte(COMMA);
    else if (byte === QUOTE) {
      const close = closingQuote(bytes, at + 1, end);
      writeQuotedElement(out, of, bytes, at + 1, close, writeElement);
      at = close;
    } else {
      const behind = elementEnd(bytes, at, end);
      if (isNullWord(bytes, at, behind - at)) out.ascii("null");
      else writeElement(out, of, CELL_TEXT, bytes, at, behind - at);
      at = behind;
      continue;
    }
    at++;
  }
}

function elementEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== COMMA && bytes[at] !== CLOSE_BRACE) at++;
  return at;
}

function closingQuote(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  while (at < end && bytes[at] !== QUOTE) at += bytes[at] === BACKSLASH ? 2 : 1;
  return at;
}

function writeQuotedElement(
  out: ByteWriter,
  of: ColumnType,
  bytes: Uint8Array,
  start: number,
  end: number,
  writeElement: WriteValue,
): void {
  let escape = start;
  while (escape < end && bytes[escape] !== BACKSLASH) escape++;
  if (escape === end) return writeElement(out, of, CELL_TEXT, bytes, start, end - start);
  withScratch((scratch) => {
    unescape(scratch, bytes, start, end);
    writeElement(out, of, CELL_TEXT, scratch.bytes, 0, scratch.length);
  });
}

function unescape(scratch: ByteWriter, bytes: Uint8Array, start: number, end: number): void {
  scratch.reserve(end - start);
  const to = scratch.bytes;
  let length = 0;
  for (let at = start; at < end; at++) {
    if (bytes[at] === BACKSLASH) at++;
    to[length++] = bytes[at]!;
  }
  scratch.length = length;
}
