/**
 * Text of every character set of MySQL and MariaDB as UTF-8, byte for byte as the servers send it: rows of the log and rows
 * that are read must be the same. A character without a counterpart in Unicode is a question mark to them, and the halves of
 * a pair in a ucs2 column are characters, whose form is no UTF-8.
 */
import { brotliDecompressSync } from "node:zlib";
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { COLLATIONS, TABLES } from "./charset-data.ts";

const REPLACEMENT = 0xfffd;
const QUESTION_MARK = 0x3f;
const SINGLE_COUNT = 256;
const TWO_BYTE_COUNT = 128 * 256;
/** In EUC-JP these bytes begin a character of two bytes, and one of three. */
const KANA_LEAD = 0x8e;
const THREE_BYTE_LEAD = 0x8f;
const LINEAR_LEAD = 0x90;

export interface Charset {
  readonly name: string;
  readonly kind: "bytes" | "utf8" | "ascii" | "ucs2" | "utf16be" | "utf16le" | "utf32" | "table";
  /** Bytes of its longest character: lengths in bytes are divided by this. */
  readonly byteCountMax: number;
}

const COMPUTED: Readonly<Record<string, Charset>> = {
  binary: { name: "binary", kind: "bytes", byteCountMax: 1 },
  ascii: { name: "ascii", kind: "ascii", byteCountMax: 1 },
  utf8mb3: { name: "utf8mb3", kind: "utf8", byteCountMax: 3 },
  utf8mb4: { name: "utf8mb4", kind: "utf8", byteCountMax: 4 },
  ucs2: { name: "ucs2", kind: "ucs2", byteCountMax: 2 },
  utf16: { name: "utf16", kind: "utf16be", byteCountMax: 4 },
  utf16le: { name: "utf16le", kind: "utf16le", byteCountMax: 4 },
  utf32: { name: "utf32", kind: "utf32", byteCountMax: 4 },
};

const LONGER: Readonly<Record<string, number>> = {
  big5: 2,
  cp932: 2,
  eucjpms: 3,
  euckr: 2,
  gb18030: 4,
  gb2312: 2,
  gbk: 2,
  sjis: 2,
  ujis: 3,
};

const byCollation = new Map<number, Charset>();
for (const [name, ranges] of Object.entries(COLLATIONS)) {
  const charset = COMPUTED[name] ?? { name, kind: "table" as const, byteCountMax: LONGER[name] ?? 1 };
  for (const range of ranges.split(",")) {
    const [first = "", last = first] = range.split("-");
    for (let id = Number(first); id <= Number(last); id++) byCollation.set(id, charset);
  }
}

/** The character set of a collation by its id; undefined if neither server had it when this was written. */
export function charsetOfCollation(id: number): Charset | undefined {
  return byCollation.get(id);
}

/** Writes text of any character set as UTF-8. `utf8` is unchanged, so the caller can copy it instead. */
export function writeTextOf(out: ByteWriter, charset: Charset, bytes: Uint8Array, start: number, length: number): void {
  switch (charset.kind) {
    case "bytes":
    case "utf8":
      return out.copy(bytes, start, length);
    case "ascii":
      return writeAscii(out, bytes, start, length);
    case "ucs2":
      return writeUcs2(out, bytes, start, length);
    case "utf16be":
      return writeUtf16(out, bytes, start, length, 0);
    case "utf16le":
      return writeUtf16(out, bytes, start, length, 1);
    case "utf32":
      return writeUtf32(out, bytes, start, length);
    case "table":
      return writeByTable(out, tableOf(charset.name), bytes, start, length);
    default:
      return charset.kind satisfies never;
  }
}

const tables = new Map<string, Uint16Array>();

/** Unpacked at first use: code points by code, in the layout that scripts/services/servers/mysql/mysql-conversions.ts describes. */
function tableOf(name: string): Uint16Array {
  const known = tables.get(name);
  if (known !== undefined) return known;
  const planes = brotliDecompressSync(Buffer.from(TABLES[name] ?? "", "base64"));
  const count = planes.length / 2;
  const table = new Uint16Array(count);
  let last = 0;
  for (let i = 0; i < count; i++) {
    last = (last + ((planes[i]! << 8) | planes[count + i]!)) & 0xffff;
    table[i] = last;
  }
  tables.set(name, table);
  return table;
}

/** Rate to hold: 100 MB/s of single-byte text, so that a latin1 column costs little more than a UTF-8 one. */
function writeByTable(out: ByteWriter, table: Uint16Array, bytes: Uint8Array, start: number, length: number): void {
  // A character takes at most three bytes for each of its own, except those of four bytes, which take four.
  out.reserve(length * 3);
  const to = out.bytes;
  let at = out.length;
  const end = start + length;
  for (let i = start; i < end;) {
    const byte = bytes[i]!;
    const codePoint = table[byte]!;
    if (codePoint !== 0 || byte === 0) {
      i++;
      if (codePoint < 0x80) to[at++] = codePoint;
      else at = putCodePoint(to, at, codePoint);
    } else {
      at = putCodePoint(to, at, longer(table, bytes, i, end));
      i += taken;
    }
  }
  out.length = at;
}

/** How many bytes the last character of `longer` had. */
let taken = 0;

/** Reads the multibyte character at `at`. */
function longer(table: Uint16Array, bytes: Uint8Array, at: number, end: number): number {
  taken = 1;
  if (at + 1 >= end) return QUESTION_MARK;
  const lead = bytes[at]!;
  const second = bytes[at + 1]!;
  const found = table[SINGLE_COUNT + ((lead & 0x7f) << 8) + second]!;
  if (found !== 0) {
    taken = 2;
    return found;
  }
  const rest = SINGLE_COUNT + TWO_BYTE_COUNT;
  if (table.length > rest + 128 * 128) return linear(table, bytes, at, end);
  if (lead === THREE_BYTE_LEAD && table.length > rest && at + 2 < end) {
    taken = 3;
    return table[rest + ((second & 0x7f) << 7) + (bytes[at + 2]! & 0x7f)]! || QUESTION_MARK;
  }
  const isEuc = table.length > rest;
  if (isEuc ? lead !== KANA_LEAD && second >= 0xa1 : second >= 0x40) taken = 2;
  return QUESTION_MARK;
}

/** gb18030's four bytes: by table up to U+FFFF, sequential above. */
function linear(table: Uint16Array, bytes: Uint8Array, at: number, end: number): number {
  if (at + 3 >= end) return QUESTION_MARK;
  taken = 4;
  const lead = bytes[at]!;
  const low = (bytes[at + 1]! - 0x30) * 1260 + (bytes[at + 2]! - 0x81) * 10 + (bytes[at + 3]! - 0x30);
  const above = 0x1_0000 + (lead - LINEAR_LEAD) * 12_600 + low;
  if (lead >= LINEAR_LEAD) return above > 0x10_ffff ? QUESTION_MARK : above;
  return table[SINGLE_COUNT + TWO_BYTE_COUNT + (lead - 0x81) * 12_600 + low] || QUESTION_MARK;
}

function writeAscii(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve(length);
  const to = out.bytes;
  const at = out.length;
  for (let i = 0; i < length; i++) to[at + i] = bytes[start + i]! < 0x80 ? bytes[start + i]! : QUESTION_MARK;
  out.length = at + length;
}

function writeUcs2(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve((length >> 1) * 3);
  let at = out.length;
  for (let i = start; i + 1 < start + length; i += 2)
    at = putCodePoint(out.bytes, at, (bytes[i]! << 8) | bytes[i + 1]!);
  out.length = at;
}

function writeUtf16(out: ByteWriter, bytes: Uint8Array, start: number, length: number, highAt: 0 | 1): void {
  out.reserve((length >> 1) * 3 + 3);
  const to = out.bytes;
  let at = out.length;
  const end = start + (length & ~1);
  for (let i = start; i < end; i += 2) {
    let unit = (bytes[i + highAt]! << 8) | bytes[i + 1 - highAt]!;
    if ((unit & 0xf800) === 0xd800) {
      const next = i + 2 < end ? (bytes[i + 2 + highAt]! << 8) | bytes[i + 3 - highAt]! : 0;
      const isPair = unit < 0xdc00 && (next & 0xfc00) === 0xdc00;
      unit = isPair ? 0x1_0000 + ((unit & 0x3ff) << 10) + (next & 0x3ff) : REPLACEMENT;
      if (isPair) i += 2;
    }
    at = putCodePoint(to, at, unit);
  }
  out.length = at;
}

function writeUtf32(out: ByteWriter, bytes: Uint8Array, start: number, length: number): void {
  out.reserve(length + 4);
  let at = out.length;
  for (let i = start; i + 3 < start + length; i += 4) {
    const codePoint = ((bytes[i]! << 24) | (bytes[i + 1]! << 16) | (bytes[i + 2]! << 8) | bytes[i + 3]!) >>> 0;
    at = putCodePoint(out.bytes, at, codePoint > 0x10_ffff ? REPLACEMENT : codePoint);
  }
  out.length = at;
}

/** Writes one character and returns where the next goes; there must be room. */
function putCodePoint(to: Uint8Array, at: number, codePoint: number): number {
  if (codePoint < 0x80) {
    to[at++] = codePoint;
  } else if (codePoint < 0x800) {
    to[at++] = 0xc0 | (codePoint >> 6);
    to[at++] = 0x80 | (codePoint & 0x3f);
  } else if (codePoint < 0x1_0000) {
    to[at++] = 0xe0 | (codePoint >> 12);
    to[at++] = 0x80 | ((codePoint >> 6) & 0x3f);
    to[at++] = 0x80 | (codePoint & 0x3f);
  } else {
    to[at++] = 0xf0 | (codePoint >> 18);
    to[at++] = 0x80 | ((codePoint >> 12) & 0x3f);
    to[at++] = 0x80 | ((codePoint >> 6) & 0x3f);
    to[at++] = 0x80 | (codePoint & 0x3f);
  }
  return at;
}
