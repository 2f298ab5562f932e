/** Types of Postgres that come as its output text, in Debezium's forms. They are rare: strings are made on the way. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { writeJsonText } from "../../../../src/core/values/json-string.ts";
import { writeDouble, writeNumber } from "./decimals.ts";
import { clockFromText } from "./times.ts";

const INT64_MAX = 2n ** 63n - 1n;
const INT64_MIN = -(2n ** 63n);
const DAY_US = 86_400_000_000n;
/** 365.25 days by 12. */
const MONTH_US = 2_629_800_000_000n;
const MONTHS: Readonly<Record<string, bigint>> = { year: 12n, years: 12n, mon: 1n, mons: 1n };

/** `1 year 2 mons -3 days +04:05:06.789` as microseconds, a month as 30.4375 days. */
export function writeDuration(out: ByteWriter, text: string): void {
  let us = 0n;
  for (const [, count, unit] of text.matchAll(/([-+]?\d+) (year|mon|day)s?/g)) {
    us += BigInt(count!.replace("+", "")) * (unit === "day" ? DAY_US : MONTHS[unit!]! * MONTH_US);
  }
  const clock = /[-+]?\d+:\d\d:\d\d(\.\d+)?$/.exec(text)?.[0].replace("+", "");
  if (clock !== undefined) us += BigInt(clockFromText(Buffer.from(clock), 0, clock.length));
  out.ascii(String(us > INT64_MAX ? INT64_MAX : us < INT64_MIN ? INT64_MIN : us));
}

const DAY_OF_SECONDS = 86_400;

/** `12:00:00.5-08` in UTC. */
export function writeZonedTime(out: ByteWriter, text: string): void {
  const [, clock = "", fraction = "", sign, hours, minutes, seconds] =
    /^(\d+:\d\d:\d\d)(\.\d+)?([-+])(\d\d)(?::(\d\d))?(?::(\d\d))?$/.exec(text) ?? [];
  const offset = (Number(hours ?? 0) * 60 + Number(minutes ?? 0)) * 60 + Number(seconds ?? 0);
  const local = clockFromText(Buffer.from(clock), 0, clock.length) / 1_000_000;
  const shifted = sign === "-" ? local + offset : local - offset;
  const isEnd = shifted === DAY_OF_SECONDS && offset === 0;
  const inDay = isEnd ? shifted : (shifted + 2 * DAY_OF_SECONDS) % DAY_OF_SECONDS;
  const parts = [Math.floor(inDay / 3600), Math.floor(inDay / 60) % 60, inDay % 60];
  out.ascii(`"${parts.map((part) => String(part).padStart(2, "0")).join(":")}${fraction}Z"`);
}

/** Hundredths of `-$1,234.50`, however the server's lc_monetary spells it. */
function hundredths(text: string): bigint {
  const cents = /[.,](\d\d)\D*$/.exec(text)?.[1];
  const digits = BigInt(text.replaceAll(/\D/g, "") || "0");
  const value = cents === undefined ? digits * 100n : digits;
  return /[-(]/.test(text) ? -value : value;
}

export function writeMoney(out: ByteWriter, text: string): void {
  writeNumber(out, hundredths(text));
}

export function writeMoneyText(out: ByteWriter, text: string): void {
  out.ascii(`"${moneyText(text)}"`);
}

export function writeMoneyDouble(out: ByteWriter, text: string): void {
  writeDouble(out, Number(moneyText(text)));
}

function moneyText(text: string): string {
  const value = hundredths(text);
  const digits = String(value < 0n ? -value : value).padStart(3, "0");
  return `${value < 0n ? "-" : ""}${digits.slice(0, -2)}.${digits.slice(-2)}`;
}

/** `10101`: the last bit is the lowest one of the first byte; bytes of zeros at the end are left out. */
export function writeBits(out: ByteWriter, text: string): void {
  const first = text.indexOf("1");
  const bytes = Buffer.alloc(first < 0 ? 0 : Math.ceil((text.length - first) / 8));
  for (let i = 0; i < bytes.length * 8 && i < text.length; i++) {
    if (text[text.length - 1 - i] === "1") bytes[i >> 3]! |= 1 << (i & 7);
  }
  out.ascii(`"${bytes.toString("base64")}"`);
}

/** `"a"=>"1", "b"=>NULL` as an object in JSON text. */
export function writeHstore(out: ByteWriter, text: string): void {
  const pairs: string[] = [];
  for (const [, key = "", value] of text.matchAll(/"((?:[^"\\]|\\.)*)"=>(?:NULL|"((?:[^"\\]|\\.)*)")/gs)) {
    pairs.push(`${JSON.stringify(unescaped(key))}:${value === undefined ? "null" : JSON.stringify(unescaped(value))}`);
  }
  writeJsonText(out, `{${pairs.join(",")}}`);
}

function unescaped(text: string): string {
  return text.replaceAll(/\\(.)/gs, "$1");
}

/** `(1.5,-2)` */
export function writePoint(out: ByteWriter, text: string): void {
  const [x = 0, y = 0] = text.slice(1, -1).split(",").map(Number);
  writePointOf(out, x, y, wkbOf(x, y).toString("base64"), null);
}

function writePointOf(out: ByteWriter, x: number, y: number, wkb: string, srid: number | null): void {
  out.ascii('{"x":');
  writeDouble(out, x);
  out.ascii(',"y":');
  writeDouble(out, y);
  out.ascii(`,"wkb":"${wkb}","srid":${srid}}`);
}

const WKB_POINT = 1;
const LITTLE_ENDIAN = 1;

function wkbOf(x: number, y: number): Buffer {
  const wkb = Buffer.alloc(21);
  wkb.writeUInt8(LITTLE_ENDIAN, 0);
  wkb.writeUInt32LE(WKB_POINT, 1);
  wkb.writeDoubleLE(x, 5);
  wkb.writeDoubleLE(y, 13);
  return wkb;
}

const HAS_SRID = 0x2000_0000;
const HEADER_BYTES = 5;
const SRID_BYTES = 4;

/** Geometries arrive as EWKB; Debezium has well-known binary, and the number of the reference system beside it. */
export function writeGeometry(out: ByteWriter, ewkb: Buffer): void {
  const { wkb, srid } = split(ewkb);
  out.ascii(`{"wkb":"${wkb.toString("base64")}","srid":${srid}}`);
}

export function writeGeometryPoint(out: ByteWriter, ewkb: Buffer): void {
  const { wkb, srid } = split(ewkb);
  writePointOf(out, wkb.readDoubleLE(HEADER_BYTES), wkb.readDoubleLE(HEADER_BYTES + 8), wkb.toString("base64"), srid);
}

function split(ewkb: Buffer): { readonly wkb: Buffer; readonly srid: number | null } {
  const type = ewkb.readUInt32LE(1);
  if ((type & HAS_SRID) === 0) return { wkb: ewkb, srid: null };
  const header = Buffer.from(ewkb.subarray(0, HEADER_BYTES));
  header.writeUInt32LE((type & ~HAS_SRID) >>> 0, 1);
  const wkb = Buffer.concat([header, ewkb.subarray(HEADER_BYTES + SRID_BYTES)]);
  return { wkb, srid: ewkb.readUInt32LE(HEADER_BYTES) };
}
