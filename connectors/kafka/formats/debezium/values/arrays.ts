/** Arrays as Connect has them: of one dimension; the elements of more follow each other. */
import type { ByteWriter } from "../../../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_TEXT, readInt32 } from "../../../../../src/core/model/tuple.ts";
import { isNullWord } from "../../../../../src/core/values/array.ts";
import { withScratch } from "../../../../../src/core/values/scratch.ts";
import type { Field } from "../types/field.ts";

const HEADER_BYTES = 12;
const DIMENSION_BYTES = 8;
const OPEN_BRACKET = 0x5b;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const EQUALS = 0x3d;

type WriteElement = (
  out: ByteWriter,
  field: Field,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
) => void;

export function writeElements(
  out: ByteWriter,
  of: Field,
  kind: number,
  bytes: Uint8Array,
  start: number,
  length: number,
  write: WriteElement,
): void {
  out.ascii("[");
  if (kind === CELL_TEXT) writeFromText(out, of, bytes, start, start + length, write);
  else writeFromBinary(out, of, bytes, start, write);
  out.ascii("]");
}

function writeFromBinary(out: ByteWriter, of: Field, bytes: Uint8Array, start: number, write: WriteElement): void {
  const dimensions = readInt32(bytes, start);
  let count = dimensions === 0 ? 0 : 1;
  for (let i = 0; i < dimensions; i++) count *= readInt32(bytes, start + HEADER_BYTES + i * DIMENSION_BYTES);
  let at = start + HEADER_BYTES + dimensions * DIMENSION_BYTES;
  for (let i = 0; i < count; i++) {
    if (i > 0) out.ascii(",");
    const length = readInt32(bytes, at);
    at += 4;
    if (length < 0) out.ascii("null");
    else {
      write(out, of, CELL_BINARY, bytes, at, length);
      at += length;
    }
  }
}

/** From the text of array_out: `[0:1]={1,"a b",NULL}`. */
function writeFromText(
  out: ByteWriter,
  of: Field,
  bytes: Uint8Array,
  start: number,
  end: number,
  write: WriteElement,
): void {
  let at = start;
  if (bytes[at] === OPEN_BRACKET) while (bytes[at++] !== EQUALS);
  let isFirst = true;
  while (at < end) {
    const byte = bytes[at]!;
    if (byte === OPEN_BRACE || byte === CLOSE_BRACE || byte === COMMA) {
      at++;
      continue;
    }
    if (!isFirst) out.ascii(",");
    isFirst = false;
    at = byte === QUOTE ? writeQuoted(out, of, bytes, at + 1, write) : writeBare(out, of, bytes, at, end, write);
  }
}

/** Returns where the element ends. */
function writeBare(
  out: ByteWriter,
  of: Field,
  bytes: Uint8Array,
  start: number,
  end: number,
  write: WriteElement,
): number {
  let at = start;
  while (at < end && bytes[at] !== COMMA && bytes[at] !== CLOSE_BRACE) at++;
  if (isNullWord(bytes, start, at - start)) out.ascii("null");
  else write(out, of, CELL_TEXT, bytes, start, at - start);
  return at;
}

function writeQuoted(out: ByteWriter, of: Field, bytes: Uint8Array, start: number, write: WriteElement): number {
  let at = start;
  withScratch((scratch) => {
    for (; bytes[at] !== QUOTE; at++) {
      if (bytes[at] === BACKSLASH) at++;
      scratch.byte(bytes[at]!);
    }
    write(out, of, CELL_TEXT, scratch.bytes, 0, scratch.length);
  });
  return at + 1;
}
