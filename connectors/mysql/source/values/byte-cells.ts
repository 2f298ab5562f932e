/** Text and bytes of the log as cells. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_BINARY } from "../../../../src/core/model/tuple.ts";
import { damaged } from "../../errors.ts";
import { type Charset, writeTextOf } from "./charsets.ts";
import { inflated } from "../log/inflate.ts";
import { readUint, readUint32 } from "../log/little-endian.ts";
import { beginCell, beginText, endText } from "./number-cells.ts";

const FLOAT32_OID = 700;
const EWKB_HAS_SRID = 0x2000_0000;
const SRID_BYTES = 4;
/** The bytes of byte order and type. */
const WKB_HEADER_BYTES = 5;
const ARRAY_HEADER_BYTES = 20;
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
 * or leaves it out if it is 0. Coordinates keep the server's order, longitude first.
 */
export function cellGeometry(out: ByteWriter, bytes: Uint8Array, from: number, length: number): void {
  if (length < SRID_BYTES + WKB_HEADER_BYTES) throw damaged("a geometry is cut short");
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

/** VECTOR: little-endian floats, written as a Postgres array in its binary form. */
export function cellVector(out: ByteWriter, bytes: Uint8Array, from: number, length: number): void {
  const count = length >> 2;
  const at = beginCell(out, CELL_BINARY, ARRAY_HEADER_BYTES + count * 8);
  const to = out.bytes;
  to.writeInt32BE(1, at);
  to.writeInt32BE(0, at + 4);
  to.writeInt32BE(FLOAT32_OID, at + 8);
  to.writeInt32BE(count, at + 12);
  to.writeInt32BE(1, at + 16);
  for (let i = 0; i < count; i++) {
    const write = at + ARRAY_HEADER_BYTES + i * 8;
    to.writeInt32BE(4, write);
    for (let k = 0; k < 4; k++) to[write + 4 + k] = bytes[from + i * 4 + 3 - k]!;
  }
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
