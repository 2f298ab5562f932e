/** Events of the log that are not rows, as far as they are needed: names of transactions, next files. */
import { damaged } from "../../errors.ts";
import { HEADER_BYTES } from "./events.ts";
import { GtidSet } from "../transactions/gtid-set.ts";
import { readUint, readUint32 } from "./little-endian.ts";
import { xidName } from "../statements/statements.ts";
import type { TransactionName } from "../transactions/transaction-name.ts";
import { readTag, uuidText } from "../transactions/tagged-gtid.ts";

export interface RotateEvent {
  readonly file: string;
  readonly offset: number;
}

export function readRotate(bytes: Uint8Array, start: number, end: number): RotateEvent {
  const at = start + HEADER_BYTES;
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
  const at = start + HEADER_BYTES;
  if (end < at + 1 + SID_BYTES + 8) throw damaged("the name of a transaction is cut short");
  const low = BigInt(readUint32(bytes, at + 1 + SID_BYTES));
  const number = (BigInt(readUint32(bytes, at + 5 + SID_BYTES)) << 32n) | low;
  const gtid = isAnonymous ? "" : `${uuidText(bytes, at + 1)}:${number}`;
  const timesAt = at + MYSQL_TIMES_AT;
  const committedUs = timeAt(bytes, timesAt, end);
  const isReplicated = end > timesAt + TIME_BYTES && (bytes[timesAt + TIME_BYTES - 1]! & 0x80) !== 0;
  const originUs = isReplicated ? timeAt(bytes, timesAt + TIME_BYTES, end) : committedUs;
  return { gtid, committedUs, originUs, isAlone: false, isPrepared: false, isMixed: false };
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
  const at = start + HEADER_BYTES;
  if (end < at + 13) throw damaged("the name of a transaction is cut short");
  const flags = bytes[at + 12]!;
  const sequence = (BigInt(readUint32(bytes, at + 4)) << 32n) | BigInt(readUint32(bytes, at));
  const gtid = `${readUint32(bytes, at + 8)}-${serverId}-${sequence}`;
  const has = (flag: number): boolean => (flags & flag) !== 0;
  return {
    gtid,
    committedUs: 0n,
    originUs: 0n,
    isAlone: has(STANDALONE),
    isPrepared: has(PREPARED_XA),
    isMixed: !has(TRANSACTIONAL),
  };
}

/** In the first and last byte of the count: each origin has a tag, which may be empty. */
const WITH_TAGS = 1;

/** MySQL: the transactions before the file. */
export function readPreviousGtids(bytes: Uint8Array, start: number, end: number): GtidSet | undefined {
  let at = start + HEADER_BYTES;
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
  let at = start + HEADER_BYTES;
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
  const at = start + HEADER_BYTES;
  if (end < at + XID_DATA_AT) throw damaged("the name of a prepared transaction is cut short");
  const format = readUint32(bytes, at + XID_AT);
  const bqualAt = at + XID_DATA_AT + readUint32(bytes, at + XID_AT + 4);
  const bqualEnd = bqualAt + readUint32(bytes, at + XID_AT + 8);
  if (end < bqualEnd) throw damaged("the name of a prepared transaction is cut short");
  const hex = (from: number, to: number): string => Buffer.from(bytes.subarray(from, to)).toString("hex");
  const name = xidName(hex(at + XID_DATA_AT, bqualAt), hex(bqualAt, bqualEnd), String(format));
  return { isCommit: bytes[at] === 1, name };
}
