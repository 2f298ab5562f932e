import type { ByteWriter } from "../bytes.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const HEX = Buffer.from("0123456789abcdef", "latin1");
/** Up to this size a copy in the scanning loop is faster than a scan and a bulk copy. */
const SHORT_BYTES_MAX = 48;

/** 1 for each UTF-8 byte that a JSON string must escape. */
const ESCAPED = new Uint8Array(256);
ESCAPED.fill(1, 0, 0x20);
ESCAPED[QUOTE] = 1;
ESCAPED[BACKSLASH] = 1;

/** The letter of a two-character escape, or 0. */
const LETTER = new Uint8Array(256);
for (const [byte, letter] of [
  [0x08, "b"],
  [0x09, "t"],
  [0x0a, "n"],
  [0x0c, "f"],
  [0x0d, "r"],
  [QUOTE, '"'],
  [BACKSLASH, "\\"],
] as const) {
  LETTER[byte] = letter.charCodeAt(0);
}

/** UTF-8 text as a JSON string with its quotes. */
export function writeJsonString(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve(length + 2);
  out.bytes[out.length++] = QUOTE;
  const end = start + length;
  const plainEnd =
    length <= SHORT_BYTES_MAX ? copyPlain(out, bytes, start, end) : copyPlainInBulk(out, bytes, start, end);
  if (plainEnd < end) writeEscaped(out, bytes, plainEnd, end);
  out.byte(QUOTE);
}

export function writeJsonText(out: ByteWriter, text: string): void {
  const bytes = Buffer.from(text);
  writeJsonString(out, bytes, 0, bytes.length);
}

/** Copies up to the first byte that needs an escape, and returns its position. */
function copyPlain(out: ByteWriter, bytes: Uint8Array, start: number, end: number): number {
  const to = out.bytes;
  let at = out.length;
  let i = start;
  for (; i < end; i++) {
    const byte = bytes[i]!;
    if (ESCAPED[byte] === 1) break;
    to[at++] = byte;
  }
  out.length = at;
  return i;
}

function copyPlainInBulk(out: ByteWriter, bytes: Uint8Array, start: number, end: number): number {
  let i = start;
  while (i < end && ESCAPED[bytes[i]!] === 0) i++;
  out.copy(bytes, start, i - start);
  return i;
}

function writeEscaped(out: ByteWriter, bytes: Uint8Array, start: number, end: number): void {
  for (let i = start; i < end;) {
    const plainEnd = copyPlainInBulk(out, bytes, i, end);
    i = plainEnd;
    if (i < end) writeEscape(out, bytes[i++]!);
  }
}

function writeEscape(out: ByteWriter, byte: number): void {
  out.reserve(6);
  const to = out.bytes;
  to[out.length++] = BACKSLASH;
  const letter = LETTER[byte]!;
  if (letter !== 0) {
    to[out.length++] = letter;
    return;
  }
  out.ascii("u00");
  to[out.length++] = HEX[byte >> 4]!;
  to[out.length++] = HEX[byte & 15]!;
}
