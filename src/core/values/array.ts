/**
 * Arrays in Postgres' send form: number of dimensions, null flag and element type, then size and lower bound of each
 * dimension, then the elements with their lengths (-1 is null), the last dimension running fastest.
 */
import { type ByteWriter, withScratch } from "../bytes.ts";
import { readInt32 } from "../model/tuple.ts";
import type { ColumnType } from "../model/types.ts";

const HEADER_BYTES = 12;
const DIMENSION_BYTES = 8;

type WriteBinary = (out: ByteWriter, type: ColumnType, bytes: Uint8Array, start: number, length: number) => void;

/** The text form of array_out: `{1,NULL,"a b"}`, `[0:1]={1,2}`, `{{1,2},{3,4}}`. */
export function writeBinaryArray(
  out: ByteWriter,
  of: ColumnType,
  bytes: Uint8Array,
  start: number,
  writeElement: WriteBinary,
): void {
  const dimensions = readInt32(bytes, start);
  if (dimensions === 0) return out.ascii("{}");
  writeBounds(out, bytes, start + HEADER_BYTES, dimensions);
  const quoted = mayNeedQuotes(of);
  const write = (at: number, length: number): void => {
    if (length < 0) out.ascii("NULL");
    else if (!quoted) writeElement(out, of, bytes, at, length);
    else {
      withScratch((scratch) => {
        writeElement(scratch, of, bytes, at, length);
        writeQuoted(out, scratch.bytes, scratch.length);
      });
    }
  };
  walkBinaryArray(out, bytes, start, OPEN_BRACE, CLOSE_BRACE, write);
}

export const OPEN_BRACE = 0x7b;
export const CLOSE_BRACE = 0x7d;
const COMMA = 0x2c;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** Writes brackets and commas, and calls `write` for each element (length -1: null). */
export function walkBinaryArray(
  out: ByteWriter,
  bytes: Uint8Array,
  start: number,
  open: number,
  close: number,
  write: (at: number, length: number) => void,
): void {
  const dimensions = readInt32(bytes, start);
  let at = start + HEADER_BYTES + dimensions * DIMENSION_BYTES;
  const walk = (dimension: number): void => {
    const size = readInt32(bytes, start + HEADER_BYTES + dimension * DIMENSION_BYTES);
    out.byte(open);
    for (let i = 0; i < size; i++) {
      if (i > 0) out.byte(COMMA);
      if (dimension + 1 < dimensions) {
        walk(dimension + 1);
        continue;
      }
      const length = readInt32(bytes, at);
      write(at + 4, length);
      at += 4 + Math.max(length, 0);
    }
    out.byte(close);
  };
  if (dimensions > 0) return walk(0);
  out.byte(open);
  out.byte(close);
}

/** `[2:4][1:2]=`, where a lower bound is not 1. */
function writeBounds(out: ByteWriter, bytes: Uint8Array, start: number, dimensions: number): void {
  let usual = true;
  for (let i = 0; i < dimensions; i++) usual &&= readInt32(bytes, start + i * DIMENSION_BYTES + 4) === 1;
  if (usual) return;
  for (let i = 0; i < dimensions; i++) {
    const size = readInt32(bytes, start + i * DIMENSION_BYTES);
    const lower = readInt32(bytes, start + i * DIMENSION_BYTES + 4);
    out.ascii(`[${lower}:${lower + size - 1}]`);
  }
  out.byte(0x3d); // =
}

/** False for types whose text never has a space or punctuation of arrays (a date may: ` BC`). */
function mayNeedQuotes({ kind }: ColumnType): boolean {
  return !(
    kind === "int" ||
    kind === "bool" ||
    kind === "float" ||
    kind === "decimal" ||
    kind === "uuid" ||
    kind === "time"
  );
}

function writeQuoted(out: ByteWriter, bytes: Uint8Array, length: number): void {
  if (!needsQuotes(bytes, length)) return out.copy(bytes, 0, length);
  out.reserve(2 * length + 2);
  const to = out.bytes;
  let at = out.length;
  to[at++] = QUOTE;
  for (let i = 0; i < length; i++) {
    const byte = bytes[i]!;
    if (byte === QUOTE || byte === BACKSLASH) to[at++] = BACKSLASH;
    to[at++] = byte;
  }
  to[at++] = QUOTE;
  out.length = at;
}

/** The same of an element's text. */
export function arrayElement(text: string): string {
  return /^$|^null$|[ \t\n\v\f\r"\\{},]/i.test(text) ? `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"` : text;
}

function needsQuotes(bytes: Uint8Array, length: number): boolean {
  if (length === 0 || isNullWord(bytes, 0, length)) return true;
  for (let i = 0; i < length; i++) if (SPECIAL[bytes[i]!] === 1) return true;
  return false;
}

/** Characters that array_out quotes an element for: its own punctuation and white space. */
const SPECIAL = new Uint8Array(256);
for (const character of '{},"\\ \t\n\v\f\r') SPECIAL[character.charCodeAt(0)] = 1;

/** NULL in any case. */
export function isNullWord(bytes: Uint8Array, start: number, length: number): boolean {
  return (
    length === 4 &&
    (bytes[start]! | 0x20) === 0x6e &&
    (bytes[start + 1]! | 0x20) === 0x75 &&
    (bytes[start + 2]! | 0x20) === 0x6c &&
    (bytes[start + 3]! | 0x20) === 0x6c
  );
}
