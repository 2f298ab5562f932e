/**
 * A row's identity outside of its table: the canonical texts of its key values joined by `:`, with `%` and `:` inside a
 * value percent-encoded and an empty value written `%`, so that no two keys share an id. An id over 512 bytes (what a
 * search engine takes) becomes `sha256:` and its digest in hex, and so does one that looks like that.
 */
import { createHash } from "node:crypto";
import { ByteWriter } from "../bytes.ts";
import { invariant } from "../invariant.ts";
import { type Dialect, DIALECTS, type TableVersion } from "./schema.ts";
import type { KeyText } from "../contracts/row-reads.ts";
import type { ColumnType } from "./types.ts";
import { CELL_BINARY, CELL_NULL, CELL_TEXT, CellMap } from "./tuple.ts";
import { readText, writeText } from "../values/text.ts";

const ID_BYTES_MAX = 512;
/** The start of the id of a long key; a key of two parts may begin like this too. */
const DIGEST_START = "sha256:";
const DIGEST_ID_LENGTH = DIGEST_START.length + 64;
const PERCENT = 0x25;
const COLON = 0x3a;

/** Texts that need no encoding and can't be too long. */
const PLAIN = /^[\w.-]+$/;
const PLAIN_LENGTH_MAX = 64;

const shared = new CellMap();
const written = new ByteWriter(256);

/** The key of the tuple at `offset` as texts. An old tuple may contain only the key columns. */
export function keyText(table: TableVersion, bytes: Uint8Array, offset: number): KeyText {
  shared.read(bytes, offset);
  return table.key.map((ordinal) => {
    const kind = keyKind(shared, ordinal);
    return readText(table.columns[ordinal]!.type, kind, bytes, shared.start[ordinal]!, shared.length[ordinal]!);
  });
}

/** Two keys of a table have the same text exactly if they are the same. Not for people. */
export function joinedKey(key: KeyText): string {
  return key.length === 1 ? key[0]! : JSON.stringify(key);
}

/** False if a column of the key is null, which is only possible in an unenforced key. */
export function hasWholeKey(table: TableVersion, bytes: Uint8Array, offset: number): boolean {
  shared.read(bytes, offset);
  return table.key.every((ordinal) => shared.kind[ordinal] !== CELL_NULL);
}

/**
 * False if a date in the key does not exist: it arrives as text where other dates are binary, and no target can hold it.
 */
export function hasKeyDates(table: TableVersion, bytes: Uint8Array, offset: number): boolean {
  shared.read(bytes, offset);
  return table.key.every((ordinal) => {
    const { type } = table.columns[ordinal]!;
    const kind = shared.kind[ordinal]!;
    if (kind !== CELL_TEXT || !isCalendar(type)) return true;
    return mayPrint(
      DIALECTS[table.dialect],
      type,
      readText(type, kind, bytes, shared.start[ordinal]!, shared.length[ordinal]!),
    );
  });
}

/** Whether keys of the table may contain dates that do not exist: see `hasKeyDates`. */
export function mayLackKeyDates({ dialect, key, columns }: TableVersion): boolean {
  return DIALECTS[dialect].hasAnyDate && key.some((ordinal) => isCalendar(columns[ordinal]!.type));
}

function isCalendar({ kind }: ColumnType): boolean {
  return kind === "date" || kind === "timestamp";
}

/** The columns of the key. A key that was stored under another shape names no row of the present table. */
export function keyShape(table: Pick<TableVersion, "key" | "columns">): string {
  return JSON.stringify(table.key.map((ordinal) => [table.columns[ordinal]!.identity, table.columns[ordinal]!.native]));
}

/** Writes the id of the tuple that `cells` maps, and returns its length in bytes. */
export function writeRowId(out: ByteWriter, table: TableVersion, bytes: Uint8Array, cells: CellMap): number {
  const at = out.length;
  const { key } = table;
  for (let k = 0; k < key.length; k++) {
    if (k > 0) out.byte(COLON);
    const ordinal = key[k]!;
    const { type } = table.columns[ordinal]!;
    const valueAt = out.length;
    writeText(out, type, keyKind(cells, ordinal), bytes, cells.start[ordinal]!, cells.length[ordinal]!);
    if (type.kind !== "int" && type.kind !== "uuid") encodeFrom(out, valueAt);
  }
  if (needsDigest(out, at)) digestFrom(out, at);
  return out.length - at;
}

/** The same id from the key's texts. */
export function rowIdOf(key: KeyText): string {
  const [only] = key;
  // A comparison needs millions of ids: most keys are numbers, and such a text is its own id.
  if (key.length === 1 && only!.length <= PLAIN_LENGTH_MAX && PLAIN.test(only!)) return only!;
  const out = written;
  out.reset();
  key.forEach((value, k) => {
    if (k > 0) out.byte(COLON);
    const valueAt = out.length;
    out.utf8(value);
    encodeFrom(out, valueAt);
  });
  if (needsDigest(out, 0)) digestFrom(out, 0);
  return out.view().toString("utf8");
}

/** Sources complete the key columns of every new tuple, and of every old one that they pass on. */
function keyKind(cells: CellMap, ordinal: number): number {
  const kind = cells.kind[ordinal]!;
  invariant(kind === CELL_TEXT || kind === CELL_BINARY, "a key column has a value");
  return kind;
}

/**
 * Percent-encodes what was written from `start` on. Moves bytes from the end, and only if there is something to encode.
 */
function encodeFrom(out: ByteWriter, start: number): void {
  if (out.length === start) return out.byte(PERCENT);
  let special = 0;
  for (let i = start; i < out.length; i++) if (out.bytes[i] === PERCENT || out.bytes[i] === COLON) special++;
  if (special === 0) return;
  out.reserve(special * 2);
  const to = out.bytes;
  let from = out.length;
  out.length += special * 2;
  for (let at = out.length; from > start;) {
    const byte = to[--from]!;
    if (byte !== PERCENT && byte !== COLON) {
      to[--at] = byte;
      continue;
    }
    to[--at] = byte === PERCENT ? 0x35 : 0x41; // %25, %3A
    to[--at] = byte === PERCENT ? 0x32 : 0x33;
    to[--at] = PERCENT;
  }
}

/** Too long, or of two parts that look like the digest of another key. */
function needsDigest(out: ByteWriter, start: number): boolean {
  const length = out.length - start;
  if (length !== DIGEST_ID_LENGTH) return length > ID_BYTES_MAX;
  for (let i = 0; i < DIGEST_START.length; i++) if (out.bytes[start + i] !== DIGEST_START.charCodeAt(i)) return false;
  return true;
}

function digestFrom(out: ByteWriter, start: number): void {
  const digest = createHash("sha256").update(out.bytes.subarray(start, out.length)).digest("hex");
  out.length = start;
  out.ascii(DIGEST_START);
  out.ascii(digest);
}

const DIGEST_ID = new RegExp(`^${DIGEST_START}[0-9a-f]{64}$`);

/** Whether the id does not contain its key. No other id looks like that: see `needsDigest`. */
export function isDigestId(id: string): boolean {
  return DIGEST_ID.test(id);
}

/** The key in an id that `rowIdOf` made; null if the id is a digest, or not the id of a row of this table. */
export function keyOfRowId(table: TableVersion, id: string): KeyText | null {
  const parts = id.split(":");
  if (parts.length !== table.key.length || isDigestId(id)) return null;
  const key = parts.map((part) => (part === "%" ? "" : part.replaceAll("%3A", ":").replaceAll("%25", "%")));
  return isPossibleKey(table, key) && rowIdOf(key) === id ? key : null;
}

/** Whether a source could print such a key for this table. A source may refuse to parse other texts. */
export function isPossibleKey(table: TableVersion, key: KeyText): boolean {
  const dialect = DIALECTS[table.dialect];
  return key.every((text, i) => mayPrint(dialect, table.columns[table.key[i]!]!.type, text));
}

/** Numbers with this many digits always fit. */
const DIGITS_IN_32_BITS = 9;
const INTEGER = /^-?(?:0|[1-9]\d*)$/;
const PRINTED: Partial<Readonly<Record<ColumnType["kind"], RegExp>>> = {
  bool: /^[tf]$/,
  float: /^(?:-?Infinity|NaN|-?\d+(?:\.\d+)?(?:e[+-]\d+)?)$/,
  decimal: /^(?:-?Infinity|NaN|-?\d+(?:\.\d+)?)$/,
  bytes: /^\\x(?:[0-9a-f]{2})*$/,
  uuid: /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
  date: /^(?:-?infinity|\d{4,}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?: BC)?)$/,
  time: /^(?:[01]\d|2[0-4]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?$/,
  timestamp:
    /^(?:-?infinity|\d{4,}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]) (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:\+00)?(?: BC)?)$/,
};

function mayPrint({ hasEmptyLabel, hasNul }: Dialect, type: ColumnType, text: string): boolean {
  if (type.kind === "enum")
    return type.labels.length === 0 || type.labels.includes(text) || (hasEmptyLabel && text === "");
  if (isCalendar(type)) return PRINTED[type.kind]!.test(text) && isDay(text);
  if (type.kind !== "int") return PRINTED[type.kind]?.test(text) ?? (hasNul || !text.includes("\0"));
  if (!INTEGER.test(text)) return false;
  if (type.bits >= 32 && text.length <= DIGITS_IN_32_BITS && (type.signed || !text.startsWith("-"))) return true;
  const value = BigInt(text);
  const limit = 1n << BigInt(type.signed ? type.bits - 1 : type.bits);
  return value < limit && value >= (type.signed ? -limit : 0n);
}

/** Whether the day exists, in the years that a server prints. */
function isDay(text: string): boolean {
  const [, yearText, month, day] = /^(\d+)-(\d\d)-(\d\d)/.exec(text) ?? [];
  if (yearText === undefined) return true;
  const year = Number(yearText);
  // Leap years repeat. 1 BC, the year 0, is a leap year.
  const alike = 2000 + ((((text.endsWith(" BC") ? 1 - year : year) % 400) + 400) % 400);
  return year > 0 && Number(day) <= new Date(Date.UTC(alike, Number(month), 0)).getUTCDate();
}
