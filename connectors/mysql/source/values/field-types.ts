/** Types of columns as the log numbers them, and how many bytes their values take. */
const DECIMAL_OLD = 0;
export const TINY = 1;
export const SHORT = 2;
export const LONG = 3;
export const FLOAT = 4;
export const DOUBLE = 5;
export const NULL_TYPE = 6;
export const TIMESTAMP_OLD = 7;
export const LONGLONG = 8;
export const INT24 = 9;
export const DATE = 10;
export const TIME_OLD = 11;
export const DATETIME_OLD = 12;
export const YEAR = 13;
export const NEWDATE = 14;
export const VARCHAR = 15;
export const BIT = 16;
export const TIMESTAMP = 17;
export const DATETIME = 18;
export const TIME = 19;
export const TYPED_ARRAY = 20;
/** MariaDB's columns with COMPRESSED. */
export const BLOB_COMPRESSED = 140;
export const VARCHAR_COMPRESSED = 141;
export const VECTOR = 242;
export const JSON_TYPE = 245;
export const NEWDECIMAL = 246;
export const ENUM = 247;
export const SET = 248;
export const BLOB = 252;
export const VAR_STRING = 253;
export const STRING = 254;
export const GEOMETRY = 255;

/** The types that have a bit in the signedness bitmap. */
export function isNumeric(type: number): boolean {
  switch (type) {
    case TINY:
    case SHORT:
    case INT24:
    case LONG:
    case LONGLONG:
    case NEWDECIMAL:
    case DECIMAL_OLD:
    case FLOAT:
    case DOUBLE:
    case YEAR:
      return true;
    default:
      return false;
  }
}

const DIGIT_BYTES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4] as const;
export const DIGITS_PER_WORD = 9;

export function decimalBytes(precision: number, scale: number): number {
  return digitBytes(precision - scale) + digitBytes(scale);
}

function digitBytes(count: number): number {
  return Math.floor(count / DIGITS_PER_WORD) * 4 + DIGIT_BYTES[count % DIGITS_PER_WORD]!;
}

export function fractionBytes(digits: number): number {
  return (digits + 1) >> 1;
}
