/**
 * Turns values of a SELECT into exactly the cells that the log's rows have, because rows read beside the stream are
 * compared with those of the stream byte by byte. They come by the text protocol, in a session with time zone UTC and
 * character set utf8mb4, in the form that `sqlExpression` requests.
 */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import { CELL_BINARY } from "../../../../src/core/model/tuple.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import { cellCopy, cellGeometry, cellVector } from "../values/byte-cells.ts";
import { cellCalendarText } from "../values/calendar-cells.ts";
import { beginCell, beginText, cell16, cell32, cellBits, cellDecimalText, endText } from "../values/number-cells.ts";
import * as plan from "../rows/row-plan.ts";
import type { RowPlan } from "../rows/table-map.ts";

const MINUS = 0x2d;
const TWO_32 = 2 ** 32;
const floats = new DataView(new ArrayBuffer(8));

/** The expression for column `i`; `quoted` is its name in the server's quotes. */
export function sqlExpression(rows: RowPlan, i: number, quoted: string): string {
  // A float is printed with only six digits, and DOUBLE(M,D) with D decimals although it may hold more.
  if (rows.code[i] === plan.AS_FLOAT || rows.code[i] === plan.AS_DOUBLE) return `cast(${quoted} as double)`;
  // MariaDB's addresses and UUIDs are bytes in the log and texts in an answer; for BINARY(n) this changes nothing.
  return rows.code[i] === plan.AS_PADDED ? `cast(${quoted} as binary(${rows.b[i]}))` : quoted;
}

/** Writes the value of `length` bytes at `from`; the caller writes nulls. */
export function writeSqlCell(
  out: ByteWriter,
  rows: RowPlan,
  i: number,
  bytes: Uint8Array,
  from: number,
  length: number,
): void {
  switch (rows.code[i]!) {
    case plan.AS_INT8:
    case plan.AS_UINT8:
    case plan.AS_INT16:
    case plan.AS_YEAR:
      return cell16(out, integerAt(bytes, from, length));
    case plan.AS_UINT16:
    case plan.AS_INT24:
    case plan.AS_UINT24:
    case plan.AS_INT32:
      return cell32(out, integerAt(bytes, from, length));
    case plan.AS_INT64:
      return cell64(out, bytes, from, length);
    case plan.AS_FLOAT:
    case plan.AS_DOUBLE:
      return cellFloat(out, rows.code[i] === plan.AS_FLOAT ? 4 : 8, bytes, from, length);
    case plan.AS_DECIMAL:
      return cellDecimalText(out, bytes, from, length, rows.a[i]!, rows.b[i]!);
    case plan.AS_DATE:
    case plan.AS_DATETIME:
    case plan.AS_TIMESTAMP:
    case plan.AS_OLD_DATETIME:
    case plan.AS_OLD_TIMESTAMP:
      return cellCalendarText(out, rows, i, bytes, from, length);
    case plan.AS_BOOL:
      out.bytes[beginCell(out, CELL_BINARY, 1)] = bytes[from]! & 1;
      return undefined;
    case plan.AS_BITS:
      invariant(length === (rows.a[i]! + 7) >> 3, "BIT(n) comes as its bytes");
      cellBits(out, bytes, from, rows.a[i]!);
      return undefined;
    case plan.AS_GEOMETRY:
      return cellGeometry(out, bytes, from, length);
    case plan.AS_VECTOR:
      return cellVector(out, bytes, from, length);
    case plan.AS_COPY:
    case plan.AS_PADDED:
      return cellCopy(out, bytes, from, length);
    case plan.AS_COMPRESSED:
      return rows.b[i] === plan.AS_COPY ? cellCopy(out, bytes, from, length) : cellText(out, bytes, from, length);
    // Values that the log gives as text too: unsigned numbers of 32 and 64 bits, times, labels, JSON, converted text.
    default:
      return cellText(out, bytes, from, length);
  }
}

function cellText(out: ByteWriter, bytes: Uint8Array, from: number, length: number): void {
  const at = beginText(out);
  out.copy(bytes, from, length);
  endText(out, at);
}

function integerAt(bytes: Uint8Array, from: number, length: number): number {
  const isNegative = bytes[from] === MINUS;
  let value = 0;
  for (let i = from + (isNegative ? 1 : 0); i < from + length; i++) value = value * 10 + bytes[i]! - 0x30;
  return isNegative ? -value : value;
}

/** In two halves, because a Number can hold each of them. */
function cell64(out: ByteWriter, bytes: Uint8Array, from: number, length: number): void {
  const isNegative = bytes[from] === MINUS;
  let high = 0;
  let low = 0;
  for (let i = from + (isNegative ? 1 : 0); i < from + length; i++) {
    low = low * 10 + bytes[i]! - 0x30;
    const carry = Math.floor(low / TWO_32);
    low -= carry * TWO_32;
    high = high * 10 + carry;
  }
  if (isNegative) {
    low = -low >>> 0;
    high = low === 0 ? -high : ~high;
  }
  const at = beginCell(out, CELL_BINARY, 8);
  out.bytes.writeInt32BE(high | 0, at);
  out.bytes.writeInt32BE(low | 0, at + 4);
}

function cellFloat(out: ByteWriter, byteCount: 4 | 8, bytes: Uint8Array, from: number, length: number): void {
  const value = Number(Buffer.from(bytes.buffer, bytes.byteOffset + from, length).toString("latin1"));
  if (byteCount === 4) floats.setFloat32(0, value);
  else floats.setFloat64(0, value);
  const at = beginCell(out, CELL_BINARY, byteCount);
  for (let i = 0; i < byteCount; i++) out.bytes[at + i] = floats.getUint8(i);
}
