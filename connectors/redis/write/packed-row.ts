/**
 * A row in the server's own form of a small hash: RESTORE takes it as one argument and stores it unchanged, while HSET
 * looks up each field (measured: half of the server's time per row). Redis 7.0 and newer, Valkey.
 *
 * Layout: RDB type 16, the length, a listpack of names and values, the RDB version, a CRC-64 of everything before it.
 * Sources: src/listpack.c and src/rdb.h of Redis 7.0. Every element here is a text of fewer than 64 bytes: one byte (0x80
 * plus the length), the text, and a byte with the length of the two, for walking the list backwards.
 */
import type { ByteWriter } from "../../../src/core/bytes.ts";
import { type Commands, type Connection, listOf, textOf } from "../connection.ts";
import { replyCode } from "../errors.ts";

/** The server's limits for this form: number of fields, and length of a field. */
export interface Packing {
  readonly fieldCountMax: number;
  readonly valueBytesMax: number;
}

/** The longest text whose length fits into its first byte. */
const PACKED_TEXT_BYTES_MAX = 63;
/** The list counts its elements in 16 bits; the highest value means "unknown". */
const PACKED_FIELDS_MAX = 30_000;

const FIELDS_SETTING = "hash-max-listpack-entries";
const BYTES_SETTING = "hash-max-listpack-value";
/** Clients that listen for changes of hashes expect their events; RESTORE sends another event. */
const EVENTS_SETTING = "notify-keyspace-events";

const TYPE_HASH_LISTPACK = 16;
const LENGTH_32_BITS = 0x80;
const RDB_VERSION = 10;
const LIST_AT = 6;
const LIST_HEADER_BYTES = 6;
const LIST_END = 0xff;
const FOOTER_BYTES = 10;
const TEXT = 0x80;

/** The text as an element; null if it is too long. */
export function packedText(text: string): Buffer | null {
  const bytes = Buffer.from(text);
  const { length } = bytes;
  if (length > PACKED_TEXT_BYTES_MAX) return null;
  return Buffer.concat([Buffer.from([TEXT | length]), bytes, Buffer.from([length + 1])]);
}

/** Leaves room for the header before the elements. */
export function beginPacked(out: ByteWriter): number {
  const at = out.length;
  out.reserve(LIST_AT + LIST_HEADER_BYTES);
  out.length = at + LIST_AT + LIST_HEADER_BYTES;
  return at;
}

/** Leaves room for a value's first byte. */
export function beginPackedText(out: ByteWriter): number {
  out.reserve(1);
  return out.length++;
}

/** False if the text is longer than `byteCountMax`, which is at most PACKED_TEXT_BYTES_MAX. */
export function endPackedText(out: ByteWriter, at: number, byteCountMax: number): boolean {
  const length = out.length - at - 1;
  if (length > byteCountMax) return false;
  out.bytes[at] = TEXT | length;
  out.byte(length + 1);
  return true;
}

export function endPacked(out: ByteWriter, at: number, elementCount: number): void {
  out.reserve(1 + FOOTER_BYTES);
  const to = out.bytes;
  to[out.length++] = LIST_END;
  const listBytes = out.length - at - LIST_AT;
  to[at] = TYPE_HASH_LISTPACK;
  to[at + 1] = LENGTH_32_BITS;
  to[at + 2] = listBytes >>> 24;
  to[at + 3] = listBytes >>> 16;
  to[at + 4] = listBytes >>> 8;
  to[at + 5] = listBytes;
  to[at + 6] = listBytes;
  to[at + 7] = listBytes >>> 8;
  to[at + 8] = listBytes >>> 16;
  to[at + 9] = listBytes >>> 24;
  to[at + 10] = elementCount;
  to[at + 11] = elementCount >>> 8;
  to[out.length++] = RDB_VERSION;
  to[out.length++] = 0;
  crc64(to, at, out.length, out.length);
  out.length += 8;
}

/** The CRC-64 at the end of a dumped Redis value (polynomial ad93d23594c935a9, reflected, initial value zero). */
const POLYNOMIAL = 0x95ac9329ac4bc9b5n;

/** Eight tables of 256 entries, each as its low and high half: eight independent lookups at once. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 512);
  const entries = Array.from({ length: 256 }, (_, byte) => {
    let crc = BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1n) === 1n ? (crc >> 1n) ^ POLYNOMIAL : crc >> 1n;
    return crc;
  });
  let previous = entries;
  for (let t = 0; t < 8; t++) {
    for (const [byte, crc] of previous.entries()) {
      tables[t * 512 + byte * 2] = Number(BigInt.asIntN(32, crc));
      tables[t * 512 + byte * 2 + 1] = Number(BigInt.asIntN(32, crc >> 32n));
    }
    previous = previous.map((crc) => (crc >> 8n) ^ entries[Number(crc & 255n)]!);
  }
  return tables;
}

/** Writes the CRC of the bytes from `start` to `end` at `at`, lowest byte first. Rate to hold: 1 GB/s. */
function crc64(bytes: Uint8Array, start: number, end: number, at: number): void {
  const T = TABLES;
  let low = 0;
  let high = 0;
  let i = start;
  for (const last = end - 7; i < last; i += 8) {
    const a = low ^ (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
    const b = high ^ (bytes[i + 4]! | (bytes[i + 5]! << 8) | (bytes[i + 6]! << 16) | (bytes[i + 7]! << 24));
    const p7 = 3584 + ((a & 255) << 1);
    const p6 = 3072 + ((a >>> 7) & 510);
    const p5 = 2560 + ((a >>> 15) & 510);
    const p4 = 2048 + ((a >>> 23) & 510);
    const p3 = 1536 + ((b & 255) << 1);
    const p2 = 1024 + ((b >>> 7) & 510);
    const p1 = 512 + ((b >>> 15) & 510);
    const p0 = (b >>> 23) & 510;
    low = T[p7]! ^ T[p6]! ^ T[p5]! ^ T[p4]! ^ T[p3]! ^ T[p2]! ^ T[p1]! ^ T[p0]!;
    high = T[p7 + 1]! ^ T[p6 + 1]! ^ T[p5 + 1]! ^ T[p4 + 1]! ^ T[p3 + 1]! ^ T[p2 + 1]! ^ T[p1 + 1]! ^ T[p0 + 1]!;
  }
  for (; i < end; i++) {
    const p = ((low ^ bytes[i]!) & 255) << 1;
    low = ((low >>> 8) | (high << 24)) ^ T[p]!;
    high = (high >>> 8) ^ T[p + 1]!;
  }
  for (let b = 0; b < 4; b++) {
    bytes[at + b] = low >>> (8 * b);
    bytes[at + 4 + b] = high >>> (8 * b);
  }
}

/**
 * Null if rows must be written by HSET: the server is too old, does not let us read its settings or use RESTORE, or
 * notifies clients of changes. `existing` is an existing key.
 */
export async function findPacking(connection: Connection, existing: Buffer): Promise<Packing | null> {
  if (!(await mayRestore(connection, existing))) return null;
  let fieldCountMax = PACKED_FIELDS_MAX;
  let valueBytesMax = PACKED_TEXT_BYTES_MAX;
  for (const primary of connection.primaries()) {
    const settings = await settingsOf(primary);
    if (settings === null || settings.get(EVENTS_SETTING) !== "") return null;
    fieldCountMax = Math.min(fieldCountMax, Number(settings.get(FIELDS_SETTING) ?? 0));
    valueBytesMax = Math.min(valueBytesMax, Number(settings.get(BYTES_SETTING) ?? 0));
  }
  return { fieldCountMax, valueBytesMax };
}

/** Asks with an existing key, which is not overwritten, so nothing changes. */
async function mayRestore(connection: Commands, existing: Buffer): Promise<boolean> {
  try {
    await connection.command("restore", existing, "0", "");
    return false;
  } catch (error) {
    if (error instanceof Error && replyCode(error.message) === "BUSYKEY") return true;
    if (isRefusal(error)) return false;
    throw error;
  }
}

async function settingsOf(primary: Commands): Promise<Map<string, string> | null> {
  const settings = new Map<string, string>();
  try {
    for (const name of [FIELDS_SETTING, BYTES_SETTING, EVENTS_SETTING]) {
      const [, value] = listOf(await primary.command("config", "get", name)) ?? [];
      const text = textOf(value);
      if (text !== null) settings.set(name, text);
    }
  } catch (error) {
    if (isRefusal(error)) return null;
    throw error;
  }
  return settings;
}

/** The server answered with an error: the command is unknown, renamed or not allowed. */
function isRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === "ReplyError";
}
