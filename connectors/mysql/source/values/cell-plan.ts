/**
 * How the values of one table's rows are stored, and which cells they become: one code and two numbers per column. Rows of
 * the log are planned by their table map (rows/row-plan.ts), rows of a SELECT by the table's columns
 * (snapshot/selected-rows.ts).
 */
import type { Charset } from "./charsets.ts";

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
/** `a` bytes of length; an address of `b` bytes, without its trailing zeros. */
export const AS_INET = 33;
/** A value without a cell. */
export const AS_HIDDEN = 34;

export const ZERO_IS_NULL = 0;
export const ZERO_IS_EPOCH = 1;
export const ZERO_IS_TEXT = 2;

export interface RowPlan {
  /** Columns of the row in the log. */
  readonly columnCount: number;
  /** Columns of its tuple. */
  readonly cellCount: number;
  /** How many columns come before the last one that has a cell; those behind it are the server's own. */
  readonly cellsEnd: number;
  /** The column that says until when a row was valid; -1: the table has no history. */
  readonly rowEnd: number;
  readonly code: Uint8Array;
  readonly a: Uint16Array;
  readonly b: Uint16Array;
  readonly charsets: readonly (Charset | undefined)[];
  /** Labels in UTF-8; the one with number 0, for invalid labels, is empty. */
  readonly labels: readonly (readonly Uint8Array[] | undefined)[];
  readonly isKey: Uint8Array;
  /** Names of the key's columns, only for messages. */
  readonly tableName: string;
  /** Counts of dates that do not exist. */
  readonly metZeroDates: { count: number };
}
