import type { ByteWriter } from "../bytes.ts";
import { invariant } from "../invariant.ts";

const HEX = Buffer.from("0123456789abcdef", "latin1");
const BASE64 = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", "latin1");
const PAD = 0x3d;

const HEX_VALUE = new Uint8Array(256);
for (let i = 0; i < 16; i++) {
  HEX_VALUE[HEX[i]!] = i;
  HEX_VALUE["0123456789ABCDEF".charCodeAt(i)] = i;
}

export function writeHex(out: ByteWriter, bytes: Uint8Array, start: number, count: number): void {
  out.reserve(count * 2);
  const to = out.bytes;
  let at = out.length;
  for (let i = start, end = start + count; i < end; i++) {
    const byte = bytes[i]!;
    to[at++] = HEX[byte >> 4]!;
    to[at++] = HEX[byte & 15]!;
  }
  out.length = at;
}

export function writeUuid(out: ByteWriter, bytes: Uint8Array, start: number): void {
  writeHex(out, bytes, start, 4);
  for (let at = start + 4; at < start + 10; at += 2) {
    out.byte(0x2d);
    writeHex(out, bytes, at, 2);
  }
  out.byte(0x2d);
  writeHex(out, bytes, start + 10, 6);
}

/** Base64 of RFC 4648 section 4, padded. */
export function writeBase64(out: ByteWriter, bytes: Uint8Array, start: number, count: number): void {
  out.reserve(Math.ceil(count / 3) * 4);
  const end = start + count;
  const whole = end - (count % 3);
  for (let i = start; i < whole; i += 3) writeTriple(out, (bytes[i]! << 16) | (bytes[i + 1]! << 8) | bytes[i + 2]!);
  if (whole < end) writeTail(out, bytes[whole]!, whole + 1 < end ? bytes[whole + 1]! : -1);
}

/** Base64 of bytes that arrive as hex digits, without the `\x`. */
export function writeBase64FromHex(out: ByteWriter, hex: Uint8Array, start: number, length: number): void {
  invariant(length % 2 === 0, "bytes are written with two hex digits each");
  const count = length / 2;
  out.reserve(Math.ceil(count / 3) * 4);
  const end = start + length;
  const whole = end - (count % 3) * 2;
  for (let i = start; i < whole; i += 6) {
    writeTriple(out, (hexByte(hex, i) << 16) | (hexByte(hex, i + 2) << 8) | hexByte(hex, i + 4));
  }
  if (whole < end) writeTail(out, hexByte(hex, whole), whole + 2 < end ? hexByte(hex, whole + 2) : -1);
}

function hexByte(hex: Uint8Array, at: number): number {
  return (HEX_VALUE[hex[at]!]! << 4) | HEX_VALUE[hex[at + 1]!]!;
}

function writeTriple(out: ByteWriter, triple: number): void {
  const to = out.bytes;
  const at = out.length;
  to[at] = BASE64[triple >> 18]!;
  to[at + 1] = BASE64[(triple >> 12) & 63]!;
  to[at + 2] = BASE64[(triple >> 6) & 63]!;
  to[at + 3] = BASE64[triple & 63]!;
  out.length = at + 4;
}

/** The last one or two bytes; `second` is -1 if there is only one. */
function writeTail(out: ByteWriter, first: number, second: number): void {
  writeTriple(out, (first << 16) | (second < 0 ? 0 : second << 8));
  out.bytes[out.length - 1] = PAD;
  if (second < 0) out.bytes[out.length - 2] = PAD;
}
