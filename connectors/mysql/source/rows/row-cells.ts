/**
 * Turns one row of the log into a tuple (core/model/tuple.ts). Rate to hold: 1M rows/s of 12 everyday columns (bench
 * capture-mysql), so each cell is written directly to its final place, and nothing is allocated.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_BINARY, CELL_NULL } from "../../../../src/core/model/tuple.ts";
import { damaged } from "../errors.ts";
import {
  cellCharset,
  cellCopy,
  cellEnum,
  cellGeometry,
  cellPadded,
  cellSet,
  cellVector,
  lengthAt,
  uncompressed,
  cellInet,
} from "../values/byte-cells.ts";
import {
  cellDate,
  cellDateTime,
  cellOldDateTime,
  cellOldTime,
  cellTime,
  cellTimestamp,
} from "../values/calendar-cells.ts";
import { writeJsonText } from "../values/json-text.ts";
import { readUint16, readUint24, readUint32 } from "../wire/bytes.ts";
import {
  beginCell,
  beginText,
  cell16,
  cell32,
  cellBits,
  cellDecimal,
  cellReversed,
  cellUint32,
  cellUint64,
  endText,
} from "../values/number-cells.ts";
import * as plan from "../values/cell-plan.ts";
import { decimalBytes } from "../values/field-types.ts";

const YEAR_BASE = 1900;
/** Writes the value of column `i` at `at` as a cell and returns the offset after it. */
export function writeCell(out: ByteWriter, rows: plan.RowPlan, i: number, bytes: Uint8Array, at: number): number {
  switch (rows.code[i]!) {
    case plan.AS_INT8:
      cell16(out, (bytes[at]! << 24) >> 24);
      return at + 1;
    case plan.AS_UINT8:
      cell16(out, bytes[at]!);
      return at + 1;
    case plan.AS_INT16:
      cell16(out, readUint16(bytes, at));
      return at + 2;
    case plan.AS_UINT16:
      cell32(out, readUint16(bytes, at));
      return at + 2;
    case plan.AS_INT24:
      cell32(out, (readUint24(bytes, at) << 8) >> 8);
      return at + 3;
    case plan.AS_UINT24:
      cell32(out, readUint24(bytes, at));
      return at + 3;
    case plan.AS_INT32:
    case plan.AS_FLOAT:
      return cellReversed(out, bytes, at, 4);
    case plan.AS_UINT32:
      cellUint32(out, readUint32(bytes, at));
      return at + 4;
    case plan.AS_INT64:
    case plan.AS_DOUBLE:
      return cellReversed(out, bytes, at, 8);
    case plan.AS_UINT64:
      cellUint64(out, readUint32(bytes, at + 4), readUint32(bytes, at));
      return at + 8;
    case plan.AS_DECIMAL:
      cellDecimal(out, bytes, at, rows.a[i]!, rows.b[i]!);
      return at + decimalBytes(rows.a[i]!, rows.b[i]!);
    case plan.AS_YEAR:
      cell16(out, bytes[at] === 0 ? 0 : YEAR_BASE + bytes[at]!);
      return at + 1;
    case plan.AS_BOOL:
      out.bytes[beginCell(out, CELL_BINARY, 1)] = bytes[at]! & 1;
      return at + 1;
    case plan.AS_BITS:
      return cellBits(out, bytes, at, rows.a[i]!);
    case plan.AS_ENUM:
      cellEnum(out, rows.labels[i]!, rows.a[i] === 1 ? bytes[at]! : readUint16(bytes, at));
      return at + rows.a[i]!;
    case plan.AS_SET:
      cellSet(out, rows.labels[i]!, bytes, at);
      return at + rows.a[i]!;
    default:
      return rows.code[i]! <= plan.AS_OLD_TIMESTAMP
        ? writeCalendar(out, rows, i, bytes, at)
        : writeLong(out, rows, i, bytes, at);
  }
}

function writeCalendar(out: ByteWriter, rows: plan.RowPlan, i: number, bytes: Uint8Array, at: number): number {
  switch (rows.code[i]!) {
    case plan.AS_DATE:
      return cellDate(out, rows, i, bytes, at);
    case plan.AS_TIME:
      return cellTime(out, rows, i, bytes, at);
    case plan.AS_DATETIME:
      return cellDateTime(out, rows, i, bytes, at);
    case plan.AS_TIMESTAMP:
      return cellTimestamp(out, rows, i, bytes, at, false);
    case plan.AS_OLD_TIME:
      return cellOldTime(out, bytes, at);
    case plan.AS_OLD_DATETIME:
      return cellOldDateTime(out, rows, i, bytes, at);
    case plan.AS_OLD_TIMESTAMP:
      return cellTimestamp(out, rows, i, bytes, at, true);
    default:
      throw damaged(`column ${i + 1} of ${rows.tableName} is not planned`);
  }
}

/** Values that begin with their length. */
function writeLong(out: ByteWriter, rows: plan.RowPlan, i: number, bytes: Uint8Array, at: number): number {
  const lengthBytes = rows.a[i]!;
  const length = lengthAt(bytes, at, lengthBytes);
  const from = at + lengthBytes;
  // Before anything beyond the event's end is copied.
  if (from + length > bytes.length) throw damaged(`a value of ${rows.tableName} is longer than its event`);
  switch (rows.code[i]!) {
    case plan.AS_COPY:
      cellCopy(out, bytes, from, length);
      break;
    case plan.AS_PADDED:
      cellPadded(out, bytes, from, length, rows.b[i]!);
      break;
    case plan.AS_INET:
      cellInet(out, bytes, from, length, rows.b[i]!);
      break;
    case plan.AS_CHARSET:
      cellCharset(out, rows.charsets[i]!, bytes, from, length);
      break;
    case plan.AS_JSON: {
      const text = beginText(out);
      writeJsonText(out, bytes, from, length);
      endText(out, text);
      break;
    }
    case plan.AS_GEOMETRY:
      cellGeometry(out, bytes, from, length);
      break;
    case plan.AS_VECTOR:
      cellVector(out, bytes, from, length);
      break;
    case plan.AS_COMPRESSED: {
      const plain = uncompressed(bytes, from, length);
      if (rows.b[i] === plan.AS_COPY) cellCopy(out, plain, 0, plain.length);
      else cellCharset(out, rows.charsets[i]!, plain, 0, plain.length);
      break;
    }
    default:
      throw damaged(`column ${i + 1} of ${rows.tableName} is not planned`);
  }
  return from + length;
}

/**
 * Writes all cells of a row whose image has `imageCount` columns, of which the first ones have the cells, and whose null
 * bitmap is at `nulls`; returns the offset after the last cell, where the server's own columns follow.
 */
export function writeCells(
  out: ByteWriter,
  rows: plan.RowPlan,
  bytes: Uint8Array,
  nulls: number,
  imageCount: number,
): number {
  const count = rows.cellCount;
  let at = nulls + ((imageCount + 7) >> 3);
  for (let i = 0; i < count; i++) {
    if (isNull(bytes, nulls, i)) out.byte(CELL_NULL);
    else at = writeCell(out, rows, i, bytes, at);
  }
  return at;
}

/** Whether the value is null, in an image whose null bitmap begins at `nulls`. */
export function isNull(bytes: Uint8Array, nulls: number, i: number): boolean {
  return ((bytes[nulls + (i >> 3)]! >> (i & 7)) & 1) === 1;
}
