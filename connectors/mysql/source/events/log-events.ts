/** Bodies of the log's events that are not rows, as far as they are needed: names of transactions, next files, statements. */
import { damaged } from "../errors.ts";
import * as code from "../wire/event-header.ts";
import type { NextFile } from "../wire/position.ts";
import { GtidSet } from "./gtid-set.ts";
import { Cursor, inflated, readPackedSize, readUint, readUint32, readUint16 } from "../wire/bytes.ts";
import { kindOfStatement, xidName } from "../statements/statements.ts";
import { constants, inflateSync } from "node:zlib";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { type Charset, charsetOfCollation, writeTextOf } from "../values/charsets.ts";

export interface TransactionName {
  /** As the server spells it; empty if it has none. */
  readonly gtid: string;
  /** Microseconds since 1970; 0n if the log does not say. */
  readonly committedUs: bigint;
  /** The same at the server where it was first committed; every host passes it on. 0n if the log does not say. */
  readonly originUs: bigint;
  /** MariaDB: it begins here, and ends with an event of its own. Otherwise a BEGIN does that, or a statement stands alone. */
  readonly isBegun: boolean;
  /** Its rows count only when another transaction brings its outcome. */
  readonly isPrepared: boolean;
  /** MariaDB: its session also wrote to non-transactional tables, so it may end with a rollback. */
  readonly isMixed: boolean;
}

/** Of MySQL, whose other events say so. */
const SAYS_NO_MORE = { isBegun: false, isPrepared: false, isMixed: false };

export function readRotate(bytes: Uint8Array, start: number, end: number): NextFile {
  const at = start + code.HEADER_BYTES;
  if (end < at + 9) throw damaged("the event that names the next file is cut short");
  const offset = readUint32(bytes, at) + readUint32(bytes, at + 4) * 2 ** 32;
  return { offset, file: Buffer.from(bytes.subarray(at + 8, end)).toString("utf8") };
}

const SID_BYTES = 16;
const MYSQL_TIMES_AT = 1 + SID_BYTES + 8 + 1 + 16;
const TIME_BYTES = 7;

/**
 * MySQL's GTID and ANONYMOUS_GTID: flags, server's UUID, number, then which transactions it may run in parallel with, then
 * times.
 */
export function readMysqlGtid(bytes: Uint8Array, start: number, end: number, isAnonymous: boolean): TransactionName {
  const at = start + code.HEADER_BYTES;
  if (end < at + 1 + SID_BYTES + 8) throw damaged("the name of a transaction is cut short");
  const low = BigInt(readUint32(bytes, at + 1 + SID_BYTES));
  const number = (BigInt(readUint32(bytes, at + 5 + SID_BYTES)) << 32n) | low;
  const gtid = isAnonymous ? "" : `${uuidText(bytes, at + 1)}:${number}`;
  const timesAt = at + MYSQL_TIMES_AT;
  const committedUs = timeAt(bytes, timesAt, end);
  const isReplicated = end > timesAt + TIME_BYTES && (bytes[timesAt + TIME_BYTES - 1]! & 0x80) !== 0;
  const originUs = isReplicated ? timeAt(bytes, timesAt + TIME_BYTES, end) : committedUs;
  return { gtid, committedUs, originUs, ...SAYS_NO_MORE };
}

/** Seven bytes of microseconds; the highest bit says that the time at the first server follows. */
function timeAt(bytes: Uint8Array, at: number, end: number): bigint {
  if (end < at + TIME_BYTES) return 0n;
  const low = BigInt(readUint(bytes, at, 6));
  return low | (BigInt(bytes[at + 6]! & 0x7f) << 48n);
}

const LIST_COUNT_MASK = 0x0fff_ffff;
const STANDALONE = 1;
const TRANSACTIONAL = 4;
const PREPARED_XA = 64;

export function readMariadbGtid(bytes: Uint8Array, start: number, end: number, serverId: number): TransactionName {
  const at = start + code.HEADER_BYTES;
  if (end < at + 13) throw damaged("the name of a transaction is cut short");
  const flags = bytes[at + 12]!;
  const sequence = (BigInt(readUint32(bytes, at + 4)) << 32n) | BigInt(readUint32(bytes, at));
  const gtid = `${readUint32(bytes, at + 8)}-${serverId}-${sequence}`;
  const has = (flag: number): boolean => (flags & flag) !== 0;
  return {
    gtid,
    committedUs: 0n,
    originUs: 0n,
    isBegun: !has(STANDALONE),
    isPrepared: has(PREPARED_XA),
    isMixed: !has(TRANSACTIONAL),
  };
}

/** In the first and last byte of the count: each origin has a tag, which may be empty. */
const WITH_TAGS = 1;

/** MySQL: the transactions before the file. */
export function readPreviousGtids(bytes: Uint8Array, start: number, end: number): GtidSet | undefined {
  let at = start + code.HEADER_BYTES;
  const hasTags = bytes[at + 7] === WITH_TAGS;
  const originCount = hasTags ? readUint(bytes, at + 1, 6) : readUint64(bytes, at, end);
  if (originCount === undefined) return undefined;
  const set = new GtidSet();
  at += 8;
  for (let i = 0; i < originCount; i++) {
    const uuid = uuidText(bytes, at);
    const { next, tag } = hasTags ? readTag(bytes, at + SID_BYTES, end) : { next: at + SID_BYTES, tag: "" };
    const rangeCount = readUint64(bytes, next, end);
    if (rangeCount === undefined) return undefined;
    const origin = tag === "" ? uuid : `${uuid}:${tag}`;
    at = next + 8;
    for (let range = 0; range < rangeCount; range++, at += 16) {
      const first = readUint64(bytes, at, end);
      const behind = readUint64(bytes, at + 8, end);
      if (first === undefined || behind === undefined) return undefined;
      set.add(origin, first, behind - 1);
    }
  }
  return set;
}

/** MariaDB: before the file, the last transaction of every server in every domain. */
export function readGtidList(bytes: Uint8Array, start: number, end: number): GtidSet | undefined {
  let at = start + code.HEADER_BYTES;
  if (end < at + 4) return undefined;
  const set = new GtidSet();
  const count = readUint32(bytes, at) & LIST_COUNT_MASK;
  at += 4;
  for (let i = 0; i < count; i++, at += 16) {
    const last = readUint64(bytes, at + 8, end);
    if (last === undefined) return undefined;
    set.add(`${readUint32(bytes, at)}-${readUint32(bytes, at + 4)}`, 1, last);
  }
  return set;
}

/** Undefined if it is cut short, or beyond what a number holds exactly. */
function readUint64(bytes: Uint8Array, at: number, end: number): number | undefined {
  if (end < at + 8) return undefined;
  const value = readUint32(bytes, at) + readUint32(bytes, at + 4) * 2 ** 32;
  return Number.isSafeInteger(value) ? value : undefined;
}

export interface XaPrepare {
  /** Committed at once, in one phase. */
  readonly isCommit: boolean;
  /** In the form that `xidName` makes from the statement with the outcome. */
  readonly name: string;
}

const XID_AT = 1;
const XID_DATA_AT = XID_AT + 12;

/** XA_PREPARE: whether it is a commit, the format's number, the lengths of both parts of the name, both parts. */
export function readXaPrepare(bytes: Uint8Array, start: number, end: number): XaPrepare {
  const at = start + code.HEADER_BYTES;
  if (end < at + XID_DATA_AT) throw damaged("the name of a prepared transaction is cut short");
  const format = readUint32(bytes, at + XID_AT);
  const bqualAt = at + XID_DATA_AT + readUint32(bytes, at + XID_AT + 4);
  const bqualEnd = bqualAt + readUint32(bytes, at + XID_AT + 8);
  if (end < bqualEnd) throw damaged("the name of a prepared transaction is cut short");
  const hex = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString("hex");
  const name = xidName(hex(at + XID_DATA_AT, bqualAt), hex(bqualAt, bqualEnd), String(format));
  return { isCommit: bytes[at] === 1, name };
}

const FIELD_UUID = 1;
const FIELD_NUMBER = 2;
const FIELD_TAG = 3;
const FIELD_COMMITTED = 6;
const FIELD_ORIGIN = 7;

/**
 * MySQL's names of transactions with tags. Their event is a list of numbered fields. An integer has one to nine bytes: one
 * more than the first byte has set bits at its low end.
 */
export function readTaggedGtid(bytes: Uint8Array, start: number, end: number): TransactionName {
  const fields = new Fields(bytes, start + code.HEADER_BYTES, end);
  // The form's version, the size, and the last field that a reader must know.
  for (let i = 0; i < 3; i++) fields.integer();
  let [uuid, number, tag] = ["", 0, ""];
  let committedUs = 0n;
  let originUs: bigint | undefined;
  while (fields.at < end) {
    const field = fields.integer();
    if (field > FIELD_ORIGIN) break;
    if (field === FIELD_UUID) uuid = fields.uuid();
    else if (field === FIELD_TAG) tag = fields.text();
    else {
      const value = fields.integer();
      // Its sign is the lowest bit.
      if (field === FIELD_NUMBER) number = Math.floor(value / 2);
      else if (field === FIELD_COMMITTED) committedUs = BigInt(value);
      else if (field === FIELD_ORIGIN) originUs = BigInt(value);
    }
  }
  if (uuid === "" || number === 0) throw damaged("the name of a transaction is cut short");
  return {
    gtid: `${tag === "" ? uuid : `${uuid}:${tag}`}:${number}`,
    committedUs,
    originUs: originUs ?? committedUs,
    ...SAYS_NO_MORE,
  };
}

/** A tag as it is stored in lists of names: its length, then its letters. */
function readTag(bytes: Uint8Array, at: number, end: number): { readonly tag: string; readonly next: number } {
  const fields = new Fields(bytes, at, end);
  const tag = fields.text();
  return { tag, next: fields.at };
}

function uuidText(bytes: Uint8Array, at: number): string {
  const hex = Buffer.from(bytes.subarray(at, at + SID_BYTES)).toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

class Fields {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  at: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  integer(): number {
    const first = this.#bytes[this.at] ?? 0;
    let more = 0;
    while (more < 8 && (first & (1 << more)) !== 0) more++;
    if (this.at + more >= this.#end) throw damaged("the name of a transaction is cut short");
    const rest = this.#uint(this.at + 1, more);
    this.at += 1 + more;
    const value = more >= 7 ? rest : rest * 2 ** (7 - more) + (first >> (more + 1));
    if (!Number.isSafeInteger(value)) throw damaged("the name of a transaction has a number that is too large");
    return value;
  }

  text(): string {
    const length = this.integer();
    if (this.at + length > this.#end) throw damaged("the name of a transaction is cut short");
    const text = Buffer.from(this.#bytes.subarray(this.at, this.at + length)).toString("latin1");
    this.at += length;
    return text;
  }

  /** Each of its bytes is an integer. */
  uuid(): string {
    return uuidText(
      Uint8Array.from({ length: SID_BYTES }, () => this.integer()),
      0,
    );
  }

  #uint(at: number, count: number): number {
    const low = Math.min(count, 6);
    return readUint(this.#bytes, at, low) + readUint(this.#bytes, at + low, count - low) * 2 ** 48;
  }
}

/** The text of a statement in the log. */
export interface Statement {
  /** The database that was in use. */
  readonly schema: string;
  readonly sql: string;
  /** The number of its session; on a replica, that at the source. */
  readonly thread: number;
  /** False: it has characters of an unknown character set, each of which is U+FFFD here. */
  readonly isLegible: boolean;
  /** False: it is longer than what is examined. */
  readonly isWhole: boolean;
  /** It failed, or was killed, when it had changed some rows. */
  readonly isCutShort: boolean;
}

const SCHEMA_LENGTH_AT = 8;
const ERROR_AT = 9;
const STATUS_LENGTH_AT = 11;
const QUERY_HEADER_BYTES = 13;
/** The file's number, the position of its name in the statement, and what to do with duplicates. */
const LOAD_HEADER_BYTES = QUERY_HEADER_BYTES + 13;
/** How much is examined of a statement that only names rows: a whole one may be megabytes long. */
const SQL_BYTES_MAX = 64 * 1024;
/** If some packed bytes were too few, twice as many can't bring more than this. */
const UNPACKED_BYTES_MAX = 128 * 1024 * 1024;

/**
 * From a QUERY event, compressed or not, or one that loads a file (EXECUTE_LOAD_QUERY). Of one that is too large for memory only
 * the beginning is here.
 */
export function readStatement(type: number, bytes: Uint8Array, start: number, end: number): Statement {
  const at = start + code.HEADER_BYTES;
  const statusAt = at + (type === code.EXECUTE_LOAD_QUERY ? LOAD_HEADER_BYTES : QUERY_HEADER_BYTES);
  if (end < statusAt) throw damaged("a statement is cut short");
  const schemaLength = bytes[at + SCHEMA_LENGTH_AT]!;
  const schemaAt = statusAt + readUint16(bytes, at + STATUS_LENGTH_AT);
  const sqlAt = schemaAt + schemaLength + 1;
  if (sqlAt > end) throw damaged("a statement is cut short");
  const schema = Buffer.from(bytes.subarray(schemaAt, schemaAt + schemaLength)).toString("utf8");
  const collation = clientCollation(bytes, statusAt, schemaAt);
  const charset = collation === undefined ? UTF8 : charsetOfCollation(collation);
  const isPacked = type === code.MARIADB_QUERY_COMPRESSED;
  const said = (text: Uint8Array, isWhole: boolean): Statement => ({
    schema,
    sql: textOf(charset ?? ASCII, text),
    thread: readUint32(bytes, at),
    isLegible: charset !== undefined || isAscii(text),
    isWhole,
    isCutShort: readUint16(bytes, at + ERROR_AT) !== 0,
  });
  const text = isPacked ? unpackedBeginning(bytes, sqlAt, end) : bytes.subarray(sqlAt, end);
  if (text.length <= SQL_BYTES_MAX) return said(text, true);
  const beginning = said(text.subarray(0, SQL_BYTES_MAX), false);
  const isHeld = readUint32(bytes, start + code.SIZE_AT) <= end - start + code.CHECKSUM_BYTES;
  const isDefinition = kindOfStatement(beginning.sql, schema).kind === "definition";
  if (!isHeld || !isDefinition) return beginning;
  // What it renames may stand at its end.
  return said(isPacked ? unpacked(bytes, sqlAt, end) : text, true);
}

const PACKED = "compressed statements";

function unpacked(bytes: Uint8Array, at: number, end: number): Uint8Array {
  const cursor = new Cursor(bytes, at, end);
  const size = readPackedSize(cursor, PACKED);
  return inflated(cursor.span(end - cursor.at), "zlib", size, PACKED);
}

function unpackedBeginning(bytes: Uint8Array, at: number, end: number): Uint8Array {
  const cursor = new Cursor(bytes, at, end);
  readPackedSize(cursor, PACKED);
  const packed = cursor.span(end - cursor.at);
  for (let byteCount = SQL_BYTES_MAX / 16; ; byteCount *= 2) {
    const options = { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: UNPACKED_BYTES_MAX };
    const plain = inflateSync(packed.subarray(0, byteCount), options);
    if (plain.length > SQL_BYTES_MAX || byteCount >= packed.length) return plain;
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
