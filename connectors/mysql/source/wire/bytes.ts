/**
 * Bytes of the protocol and the log: numbers (little-endian, lengths in one to nine bytes), compressed parts, and buffers
 * that are given back.
 */
import { inflateRawSync, inflateSync, zstdDecompressSync } from "node:zlib";
import { damaged } from "../errors.ts";

export function readUint16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function readUint24(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
}

export function readUint32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Table ids have 48 bits. */
export function readUint48(bytes: Uint8Array, at: number): number {
  return readUint32(bytes, at) + readUint16(bytes, at + 4) * 2 ** 32;
}

/** A number of `count` bytes, at most six. */
export function readUint(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = count - 1; i >= 0; i--) value = value * 256 + bytes[at + i]!;
  return value;
}

/** A cursor in a range of bytes that it must not leave. */
export class Cursor {
  readonly bytes: Uint8Array;
  readonly end: number;
  at: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  get isAtEnd(): boolean {
    return this.at >= this.end;
  }

  byte(): number {
    this.need(1);
    return this.bytes[this.at++]!;
  }

  uint(count: number): number {
    this.need(count);
    const value = readUint(this.bytes, this.at, count);
    this.at += count;
    return value;
  }

  /** A length-encoded integer. */
  packed(): number {
    const first = this.byte();
    if (first < 0xfb) return first;
    if (first === 0xfc) return this.uint(2);
    if (first === 0xfd) return this.uint(3);
    if (first !== 0xfe) throw new RangeError("no length begins like this");
    const value = this.uint(6);
    if (this.uint(2) !== 0) throw new RangeError("a length beyond 48 bits");
    return value;
  }

  /** The next bytes, not copied. */
  span(count: number): Uint8Array {
    this.need(count);
    const from = this.at;
    this.at += count;
    return this.bytes.subarray(from, this.at);
  }

  need(count: number): void {
    if (count > this.end - this.at) throw new RangeError("the event ends before its content does");
  }
}

/** Frees the memory of an unused buffer at once: the garbage collector would run only a hundred megabytes later. */
export function giveBack({ buffer, length }: Buffer): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === length) buffer.transfer(0);
}

const COMPRESSED_ZLIB = 0x80;

/**
 * What stands in front of MariaDB's compressed rows and statements: a byte with the method and the number of length bytes, then
 * the unpacked length, highest byte first, which is returned.
 */
export function readPackedSize(cursor: Cursor, what: string): number {
  const first = cursor.isAtEnd ? 0 : cursor.byte();
  const isKnown = (first & 0xf8) === COMPRESSED_ZLIB && cursor.end - cursor.at >= (first & 7);
  if (!isKnown) throw damaged(`${what} have an unknown form`);
  let size = 0;
  for (let i = first & 7; i > 0; i--) size = size * 256 + cursor.byte();
  return size;
}

export type Packing = "zlib" | "raw" | "zstd";

/**
 * Unpacks a compressed part of the log. It states its unpacked length, and never gets more memory than that. `what` is for
 * the error: "compressed rows".
 */
export function inflated(packed: Uint8Array, packing: Packing, byteCount: number, what: string): Uint8Array {
  const options = { maxOutputLength: Math.max(byteCount, 1) };
  let plain: Uint8Array;
  try {
    if (packing === "zstd") plain = zstdDecompressSync(packed, options);
    else plain = packing === "raw" ? inflateRawSync(packed, options) : inflateSync(packed, options);
  } catch (error) {
    throw damaged(`${what} can't be unpacked`, error);
  }
  if (plain.length !== byteCount) throw damaged(`${what} have another length than they say`);
  return plain;
}
