/**
 * How the values of one table's rows are stored in the log, and which cells they become: one code and two numbers per
 * column.
 */
import type { ZeroDates } from "../../../../src/core/contracts/connector.ts";
import type { Column } from "../../../../src/core/model/schema.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { fatal, pages } from "../../errors.ts";
import { bitCount, charsetOf } from "../catalog/columns.ts";
import { type Charset, writeTextOf } from "../values/charsets.ts";
import * as field from "./field-types.ts";
import type { RowPlan, TableMap } from "./table-map.ts";
import { valueEnd } from "./value-length.ts";

export const AS_INT8 = 1;
export const AS_UINT8 = 2;
export const AS_INT16 = 3;
export const AS_UINT16 = 4;
export const AS_INT24 = 5;
export const AS_UINT24 = 6;
export const AS_INT32 = 7;
export const AS_UINT32 = 8;
export const AS_INT64 = 9;
export const AS_UINT64 = 10;
export const AS_FLOAT = 11;
export const AS_DOUBLE = 12;
/** `a` digits in all, `b` of them after the point. */
export const AS_DECIMAL = 13;
export const AS_YEAR = 14;
export const AS_DATE = 15;
/** `a` digits of fraction; for calendar types `b` says what zero dates become. */
export const AS_TIME = 16;
export const AS_DATETIME = 17;
export const AS_TIMESTAMP = 18;
export const AS_OLD_TIME = 19;
export const AS_OLD_DATETIME = 20;
export const AS_OLD_TIMESTAMP = 21;
/** `a` bytes of length; the bytes themselves are the cell. */
export const AS_COPY = 22;
/** `a` bytes of length; padded with zeros to `b` bytes. */
export const AS_PADDED = 23;
/** `a` bytes of length, then text in `charsets`. */
export const AS_CHARSET = 24;
/** `a` bytes of a number into `labels`. */
export const AS_ENUM = 25;
export const AS_SET = 26;
/** `a` bits. */
export const AS_BOOL = 27;
export const AS_BITS = 28;
/** `a` bytes of length. */
export const AS_JSON = 29;
export const AS_GEOMETRY = 30;
export const AS_VECTOR = 31;
/** MariaDB's COMPRESSED; `b` as for the same column without it: AS_COPY or AS_CHARSET. */
export const AS_COMPRESSED = 32;

/** `a` bytes without a cell. */
export const AS_HIDDEN = 34;

/** `a` bytes of length; an address of `b` bytes, without its trailing zeros. */
export const AS_INET = 33;

export const ZERO_IS_NULL = 0;
export const ZERO_IS_EPOCH = 1;
export const ZERO_IS_TEXT = 2;

const ZERO_CODES: Readonly<Record<ZeroDates, number>> = {
  null: ZERO_IS_NULL,
  epoch: ZERO_IS_EPOCH,
  text: ZERO_IS_TEXT,
};

export interface PlanOptions {
  readonly zeroDates: ZeroDates;
  readonly metZeroDates?: { count: number };
  /** The columns of the table's version: the types of some are known only from the catalogue. */
  readonly columns: readonly Column[];
}

export function planOf(map: TableMap, key: readonly number[], options: PlanOptions): RowPlan {
  const columnCount = map.types.length;
  const plan = {
    columnCount,
    cellCount: Math.min(columnCount, options.columns.length),
    rowEnd: map.rowEnd,
    code: new Uint8Array(columnCount),
    a: new Uint16Array(columnCount),
    b: new Uint16Array(columnCount),
    charsets: Array.from({ length: columnCount }, (): Charset | undefined => undefined),
    labels: Array.from({ length: columnCount }, (): readonly Uint8Array[] | undefined => undefined),
    isKey: new Uint8Array(columnCount),
    tableName: `${map.schema}.${map.table}`,
    metZeroDates: options.metZeroDates ?? { count: 0 },
  };
  for (const i of key) plan.isKey[i] = 1;
  for (let i = 0; i < columnCount; i++) {
    if (i >= plan.cellCount) put(plan, i, AS_HIDDEN, valueEnd(map, i, NOTHING, 0));
    else if (!planKnown(plan, map, i, options.columns[i]?.native ?? ""))
      planColumn(plan, map, i, ZERO_CODES[options.zeroDates]);
  }
  return plan;
}

/** The server's own columns have a fixed length. */
const NOTHING = new Uint8Array(0);

interface Draft {
  readonly code: Uint8Array;
  readonly a: Uint16Array;
  readonly b: Uint16Array;
  readonly charsets: (Charset | undefined)[];
  readonly labels: (readonly Uint8Array[] | undefined)[];
}

/** MariaDB's types that look like others in the log. */
function planKnown(draft: Draft, map: TableMap, i: number, native: string): boolean {
  if (native.startsWith("vector(") && map.types[i] === field.VARCHAR) {
    put(draft, i, AS_VECTOR, map.first[i]! > 255 ? 2 : 1);
    return true;
  }
  switch (native) {
    case "inet4":
    case "inet6":
      put(draft, i, AS_INET, 1, native === "inet4" ? 4 : 16);
      return true;
    case "json":
      if (map.types[i] === field.JSON_TYPE || map.types[i] === field.BLOB_COMPRESSED) return false;
      draft.charsets[i] = charsetOf(map, i);
      put(draft, i, AS_CHARSET, map.first[i]);
      return true;
    default:
      return false;
  }
}

/** Fixed-width signed numbers; the unsigned ones have the next code. */
const INTEGERS = new Map<number, number>([
  [field.TINY, AS_INT8],
  [field.SHORT, AS_INT16],
  [field.INT24, AS_INT24],
  [field.LONG, AS_INT32],
  [field.LONGLONG, AS_INT64],
]);

const CALENDAR = new Map<number, number>([
  [field.DATE, AS_DATE],
  [field.NEWDATE, AS_DATE],
  [field.TIME, AS_TIME],
  [field.DATETIME, AS_DATETIME],
  [field.TIMESTAMP, AS_TIMESTAMP],
  [field.TIME_OLD, AS_OLD_TIME],
  [field.DATETIME_OLD, AS_OLD_DATETIME],
  [field.TIMESTAMP_OLD, AS_OLD_TIMESTAMP],
]);

function planColumn(draft: Draft, map: TableMap, i: number, zeroDates: number): void {
  const type = map.types[i]!;
  const first = map.first[i]!;
  const integer = INTEGERS.get(type);
  if (integer !== undefined) return put(draft, i, integer + (map.metadata.unsigned[i] === true ? 1 : 0));
  const calendar = CALENDAR.get(type);
  if (calendar !== undefined) return put(draft, i, calendar, first, zeroDates);
  switch (type) {
    case field.FLOAT:
      return put(draft, i, AS_FLOAT);
    case field.DOUBLE:
      return put(draft, i, AS_DOUBLE);
    case field.NEWDECIMAL:
      return put(draft, i, AS_DECIMAL, first, map.second[i]);
    case field.YEAR:
      return put(draft, i, AS_YEAR);
    case field.BIT: {
      const count = bitCount(map, i);
      return put(draft, i, count === 1 ? AS_BOOL : AS_BITS, count);
    }
    case field.ENUM:
    case field.SET:
      put(draft, i, type === field.ENUM ? AS_ENUM : AS_SET, first);
      draft.labels[i] = labelBytes(map, i, type === field.ENUM);
      return undefined;
    case field.JSON_TYPE:
      return put(draft, i, AS_JSON, first);
    case field.GEOMETRY:
      return put(draft, i, AS_GEOMETRY, first);
    case field.VECTOR:
      return put(draft, i, AS_VECTOR, first);
    default:
      return planString(draft, map, i, type, first);
  }
}

function planString(draft: Draft, map: TableMap, i: number, type: number, first: number): void {
  const charset = charsetOf(map, i);
  draft.charsets[i] = charset;
  const code = charset.kind === "bytes" || charset.kind === "utf8" ? AS_COPY : AS_CHARSET;
  switch (type) {
    case field.STRING: {
      const padded = charset.kind === "bytes";
      return put(draft, i, padded ? AS_PADDED : code, first > 255 ? 2 : 1, padded ? first : 0);
    }
    case field.VARCHAR:
    case field.VAR_STRING:
      return put(draft, i, code, first > 255 ? 2 : 1);
    case field.BLOB:
      return put(draft, i, code, first);
    case field.VARCHAR_COMPRESSED:
      return put(draft, i, AS_COMPRESSED, first > 255 ? 2 : 1, code);
    case field.BLOB_COMPRESSED:
      return put(draft, i, AS_COMPRESSED, first, code);
    default:
      throw fatal(
        "MR2105",
        `column ${i + 1} of ${map.schema}.${map.table} has type ${type}, which is unknown`,
        pages.MR2105?.remedy ?? "",
      );
  }
}

function put(draft: Draft, i: number, code: number, a = 0, b = 0): void {
  draft.code[i] = code;
  draft.a[i] = a;
  draft.b[i] = b;
}

function labelBytes(map: TableMap, i: number, isEnum: boolean): readonly Uint8Array[] {
  const charset = charsetOf(map, i);
  const out = new ByteWriter(64);
  const labels = (map.metadata.labels[i] ?? []).map((label) => {
    out.reset();
    writeTextOf(out, charset, label, 0, label.length);
    return Uint8Array.from(out.view());
  });
  return isEnum ? [new Uint8Array(0), ...labels] : labels;
}
