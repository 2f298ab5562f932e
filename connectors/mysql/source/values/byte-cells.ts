/** Text and bytes of the log as cells. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_BINARY } from "../../../../src/core/model/tuple.ts";
import { VECTOR_HEADER_BYTES } from "../../../../src/core/values/vector.ts";
import { damaged } from "../errors.ts";
import { type Charset, writeTextOf } from "./charsets.ts";
import { inflated, readUint, readUint32 } from "../wire/bytes.ts";
import { beginCell, beginText, endText } from "./number-cells.ts";

const EWKB_HAS_SRID = 0x2000_0000;
const SRID_BYTES = 4;
/** The bytes of byte order and type. */
const WKB_HEADER_BYTES = 5;
/**
 * MariaDB's header of a compressed value: the method in the high four bits, whether zlib's own header is missing, and how
 * many bytes of length follow, highest first.
 */
const METHOD_NONE = 0;
const METHOD_ZLIB = 8;
const WITHOUT_ZLIB_HEADER = 0x08;

export function cellCopy(out: ByteWriter, bytes: Uint8Array, from: number, length: number): void {
  out.reserve(5 + length);
  const to = out.bytes;
  const at = out.length;
  to[at] = CELL_BINARY;
  to[at + 1] = length >>> 24;
  to[at + 2] = length >>> 16;
  to[at + 3] = length >>> 8;
  to[at + 4] = length;
  out.length = at + 5;
  out.copy(bytes, from, length);
}

/** BINARY(n): the log leaves out trailing zeros. */
export function cellPadded(out: ByteWriter, bytes: Uint8Array, from: number, length: number, padded: number): void {
  const at = beginCell(out, CELL_BINARY, padded);
  out.bytes.set(bytes.subarray(from, from + length), at);
  out.bytes.fill(0, at + length, at + padded);
}

export function cellCharset(out: ByteWriter, charset: Charset, bytes: Uint8Array, from: number, length: number): void {
  const at = beginText(out);
  writeTextOf(out, charset, bytes, from, length);
  endText(out, at);
}

/** ENUM: a number from 1; 0 is an invalid label, which is shown as an empty text. */
export function cellEnum(out: ByteWriter, labels: readonly Uint8Array[], number: number): void {
  const label = labels[number];
  if (label === undefined) throw damaged("a value of an ENUM has no label");
  const at = beginText(out);
  out.copy(label, 0, label.length);
  endText(out, at);
}

/** SET: a bit for each label, the first one lowest. The text has commas between the labels, as the server prints them. */
export function cellSet(out: ByteWriter, labels: readonly Uint8Array[], bytes: Uint8Array, from: number): void {
  const at = beginText(out);
  for (let i = 0; i < labels.length; i++) {
    if (((bytes[from + (i >> 3)]! >> (i & 7)) & 1) === 0) continue;
    if (out.length > at) out.byte(0x2c);
    out.copy(labels[i]!, 0, labels[i]!.length);
  }
  endText(out, at);
}

/**
 * Geometry: the number of its reference system, then well-known binary. EWKB has that number inside the outermost geometry,
 * or leaves it out if it is 0. Coordinates keep the server's order, longitude first. MariaDB stores an empty value where a
 * NOT NULL column is given none, which is empty here, too.
 */
export function cellGeometry(out: ByteWriter, bytes: Uint8Array, from: number, length: number): void {
  if (length < SRID_BYTES + WKB_HEADER_BYTES) return cellCopy(out, bytes, from, length);
  const srid = readUint32(bytes, from);
  const wkb = from + SRID_BYTES;
  if (srid === 0) return cellCopy(out, bytes, wkb, length - SRID_BYTES);
  const at = beginCell(out, CELL_BINARY, length);
  const to = out.bytes;
  // The server writes little-endian only.
  to[at] = bytes[wkb]!;
  to.writeUInt32LE((readUint32(bytes, wkb + 1) | EWKB_HAS_SRID) >>> 0, at + 1);
  to.writeUInt32LE(srid, at + WKB_HEADER_BYTES);
  to.set(bytes.subarray(wkb + WKB_HEADER_BYTES, from + length), at + WKB_HEADER_BYTES + SRID_BYTES);
}

/** VECTOR: little-endian floats, written in the binary form of core/values/vector. */
export function cellVector(out: ByteWriter, bytes: Uint8Array, from: number, length: number): void {
  const count = length >> 2;
  const at = beginCell(out, CELL_BINARY, VECTOR_HEADER_BYTES + count * 4);
  const to = out.bytes;
  to.writeUInt32BE(count * 0x1_0000, at);
  for (let i = 0; i < count * 4; i++) to[at + VECTOR_HEADER_BYTES + i] = bytes[from + (i ^ 3)]!;
}

/** The plain value of a COMPRESSED value of MariaDB. */
export function uncompressed(bytes: Uint8Array, from: number, length: number): Uint8Array {
  if (length === 0) return new Uint8Array(0);
  const header = bytes[from]!;
  const method = header >> 4;
  if (method === METHOD_NONE) return bytes.subarray(from + 1, from + length);
  const lengthBytes = header & 7;
  if (method !== METHOD_ZLIB || lengthBytes === 0) throw damaged("a compressed column has an unknown form");
  const packed = bytes.subarray(from + 1 + lengthBytes, from + length);
  let size = 0;
  for (let i = 1; i <= lengthBytes; i++) size = size * 256 + bytes[from + i]!;
  return inflated(packed, (header & WITHOUT_ZLIB_HEADER) === 0 ? "zlib" : "raw", size, "compressed values");
}

export function lengthAt(bytes: Uint8Array, at: number, lengthBytes: number): number {
  return lengthBytes === 1 ? bytes[at]! : readUint(bytes, at, lengthBytes);
}

/**  MariaDB's INET4 and INET6, which are bytes in the log, as the text that the server prints. */

const address = new Uint8Array(16);
const WORDS = 8;
const COLON = 0x3a;
const DOT = 0x2e;

/** The address of `width` bytes is stored in `length` bytes at `from`: the log leaves out trailing zeros. */
export function cellInet(out: ByteWriter, bytes: Uint8Array, from: number, length: number, width: number): void {
  address.fill(0);
  for (let i = 0; i < Math.min(length, width); i++) address[i] = bytes[from + i]!;
  const text = beginText(out);
  if (width === 4) writeInet4(out, 0);
  else writeInet6(out);
  endText(out, text);
}

function writeInet4(out: ByteWriter, at: number): void {
  for (let i = 0; i < 4; i++) {
    if (i > 0) out.byte(DOT);
    out.ascii(String(address[at + i]!));
  }
}

/**
 * The first of the longest runs of zeros is left out; after one of 96 bits, or of 80 bits and ffff, an IPv4 address
 * follows.
 */
function writeInet6(out: ByteWriter): void {
  const gap = longestGap();
  for (let i = 0; i < WORDS; i++) {
    if (i === gap.at) {
      if (i === 0) out.byte(COLON);
      out.byte(COLON);
      i += gap.count - 1;
    } else if (i === 6 && gap.at === 0 && (gap.count === 6 || (gap.count === 5 && word(5) === 0xffff))) {
      return writeInet4(out, 12);
    } else {
      out.ascii(word(i).toString(16));
      if (i < WORDS - 1) out.byte(COLON);
    }
  }
  return undefined;
}

function word(i: number): number {
  return (address[2 * i]! << 8) | address[2 * i + 1]!;
}

function longestGap(): { readonly at: number; readonly count: number } {
  let longest = { at: -1, count: 0 };
  let count = 0;
  for (let i = 0; i < WORDS; i++) {
    count = word(i) === 0 ? count + 1 : 0;
    if (count > longest.count) longest = { at: i - count + 1, count };
  }
  return longest;
}
