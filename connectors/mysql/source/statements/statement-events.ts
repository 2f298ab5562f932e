/**
 * Texts of statements in the log: from QUERY events, compressed or not, and from those that load a file
 * (EXECUTE_LOAD_QUERY).
 */
import { constants, inflateSync } from "node:zlib";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { damaged } from "../../errors.ts";
import { type Charset, charsetOfCollation, writeTextOf } from "../values/charsets.ts";
import * as code from "../log/events.ts";
import { readUint16 } from "../log/little-endian.ts";

export interface Statement {
  /** The database that was in use. */
  readonly schema: string;
  readonly sql: string;
  /** False: it has characters of an unknown character set, each of which is U+FFFD here. */
  readonly isLegible: boolean;
  /** False: it is longer than what is examined. */
  readonly isWhole: boolean;
}

const SCHEMA_LENGTH_AT = 8;
const STATUS_LENGTH_AT = 11;
const HEADER_BYTES = 13;
/** The file's number, the position of its name in the statement, and what to do with duplicates. */
const LOAD_HEADER_BYTES = HEADER_BYTES + 13;
/** How much of a statement is examined: a whole one may be megabytes long. */
const SQL_BYTES_MAX = 64 * 1024;
/** If some packed bytes were too few, twice as many can't bring more than this. */
const UNPACKED_BYTES_MAX = 128 * 1024 * 1024;
const COMPRESSED_ZLIB = 0x80;

export function readStatement(type: number, bytes: Uint8Array, start: number, end: number): Statement {
  const at = start + code.HEADER_BYTES;
  const statusAt = at + (type === code.EXECUTE_LOAD_QUERY ? LOAD_HEADER_BYTES : HEADER_BYTES);
  if (end < statusAt) throw damaged("a statement is cut short");
  const schemaLength = bytes[at + SCHEMA_LENGTH_AT]!;
  const schemaAt = statusAt + readUint16(bytes, at + STATUS_LENGTH_AT);
  const sqlAt = schemaAt + schemaLength + 1;
  if (sqlAt > end) throw damaged("a statement is cut short");
  const schema = Buffer.from(bytes.subarray(schemaAt, schemaAt + schemaLength)).toString("utf8");
  const whole = type === code.MARIADB_QUERY_COMPRESSED ? inflated(bytes, sqlAt, end) : bytes.subarray(sqlAt, end);
  const sql = whole.subarray(0, SQL_BYTES_MAX);
  const collation = clientCollation(bytes, statusAt, schemaAt);
  const charset = collation === undefined ? UTF8 : charsetOfCollation(collation);
  return {
    schema,
    sql: textOf(charset ?? ASCII, sql),
    isLegible: charset !== undefined || isAscii(sql),
    isWhole: sql.length === whole.length,
  };
}

/**
 * Unpacks its beginning. MariaDB: a byte with the number of length bytes, the length, highest byte first, then zlib's
 * output.
 */
function inflated(bytes: Uint8Array, at: number, end: number): Uint8Array {
  const first = bytes[at] ?? 0;
  if ((first & 0xf8) !== COMPRESSED_ZLIB) throw damaged("a compressed statement has an unknown form");
  const packed = bytes.subarray(at + 1 + (first & 7), end);
  for (let byteCount = SQL_BYTES_MAX / 16; ; byteCount *= 2) {
    const options = { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: UNPACKED_BYTES_MAX };
    const plain = inflateSync(packed.subarray(0, byteCount), options);
    if (plain.length >= SQL_BYTES_MAX || byteCount >= packed.length) return plain;
  }
}

const CHARSETS = 4;
const CATALOG = 2;
const TIME_ZONE = 5;
const CATALOG_WITHOUT_END = 6;
/** Lengths of the status variables with a fixed length. Servers write the character sets before the others. */
const LENGTHS: Readonly<Record<number, number>> = { 0: 4, 1: 8, 3: 4, 7: 2, 8: 2, 9: 8, 10: 4 };

/** The session's `character_set_client`, as the number of one of its collations; undefined if the event does not have it. */
function clientCollation(bytes: Uint8Array, start: number, end: number): number | undefined {
  for (let at = start; at < end;) {
    const kind = bytes[at++]!;
    if (kind === CHARSETS) return at + 2 <= end ? readUint16(bytes, at) : undefined;
    if (kind === TIME_ZONE || kind === CATALOG_WITHOUT_END) at += 1 + (bytes[at] ?? 0);
    else if (kind === CATALOG) at += 2 + (bytes[at] ?? 0);
    else if (LENGTHS[kind] === undefined) return undefined;
    else at += LENGTHS[kind];
  }
  return undefined;
}

const UTF8: Charset = { name: "utf8mb4", kind: "utf8", byteCountMax: 4 };
const ASCII: Charset = { name: "ascii", kind: "utf8", byteCountMax: 1 };
const ASCII_MAX = 0x7f;
/** Replaces an unknown character. */
export const ILLEGIBLE = "\ufffd";

function textOf(charset: Charset, bytes: Uint8Array): string {
  if (charset === ASCII)
    return Array.from(bytes, (byte) => (byte > ASCII_MAX ? ILLEGIBLE : String.fromCharCode(byte))).join("");
  // A client that says `binary` sends names in UTF-8.
  if (charset.kind === "utf8" || charset.kind === "bytes") return Buffer.from(bytes).toString("utf8");
  const out = new ByteWriter(bytes.length);
  writeTextOf(out, charset, bytes, 0, bytes.length);
  return out.view().toString("utf8");
}

function isAscii(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte <= ASCII_MAX);
}
