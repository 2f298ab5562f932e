/** The length of a value in the log, by its type alone: for rows that are not needed but must be counted. */
import { damaged } from "../../errors.ts";
import * as field from "./field-types.ts";
import { readUint } from "../log/little-endian.ts";
import type { TableMap } from "./table-map.ts";

const DIGIT_BYTES = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4] as const;
export const DIGITS_PER_WORD = 9;

/** Bytes of a DECIMAL. */
export function decimalBytes(precision: number, scale: number): number {
  return digitBytes(precision - scale) + digitBytes(scale);
}

function digitBytes(count: number): number {
  return Math.floor(count / DIGITS_PER_WORD) * 4 + DIGIT_BYTES[count % DIGITS_PER_WORD]!;
}

/** Bytes of a fraction of that many digits. */
export function fractionBytes(digits: number): number {
  return (digits + 1) >> 1;
}

/** The offset after the value of column `i` at `at`. */
export function valueEnd(map: TableMap, i: number, bytes: Uint8Array, at: number): number {
  const first = map.first[i]!;
  switch (map.types[i]!) {
    case field.TINY:
    case field.YEAR:
      return at + 1;
    case field.SHORT:
      return at + 2;
    case field.INT24:
    case field.DATE:
    case field.NEWDATE:
    case field.TIME_OLD:
      return at + 3;
    case field.LONG:
    case field.FLOAT:
    case field.TIMESTAMP_OLD:
      return at + 4;
    case field.LONGLONG:
    case field.DOUBLE:
    case field.DATETIME_OLD:
      return at + 8;
    case field.NEWDECIMAL:
      return at + decimalBytes(first, map.second[i]!);
    case field.TIMESTAMP:
      return at + 4 + fractionBytes(first);
    case field.DATETIME:
      return at + 5 + fractionBytes(first);
    case field.TIME:
      return at + 3 + fractionBytes(first);
    case field.BIT:
      return at + map.second[i]! + (first > 0 ? 1 : 0);
    case field.ENUM:
    case field.SET:
      return at + first;
    case field.STRING:
    case field.VARCHAR:
    case field.VAR_STRING:
    case field.VARCHAR_COMPRESSED: {
      const lengthBytes = first > 255 ? 2 : 1;
      return at + lengthBytes + readUint(bytes, at, lengthBytes);
    }
    case field.BLOB:
    case field.BLOB_COMPRESSED:
    case field.JSON_TYPE:
    case field.GEOMETRY:
    case field.VECTOR:
      return at + first + readUint(bytes, at, first);
    default:
      throw damaged(`a row of ${map.schema}.${map.table} has a value of the unknown type ${map.types[i]}`);
  }
}
