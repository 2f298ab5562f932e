/**
 * Turns rows of a SELECT into exactly the tuples that the log's rows become, because rows read beside the stream are compared
 * with those of the stream byte by byte. They are planned from the table's columns alone, and come by the text protocol, in a
 * session with time zone UTC and character set utf8mb4, in the form that `sqlExpression` requests.
 */
import { ByteWriter } from "../../../../src/core/bytes.ts";
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_BINARY, CELL_NULL } from "../../../../src/core/model/tuple.ts";
import { damaged } from "../errors.ts";
import { quoteName } from "../../quote.ts";
import { Cursor } from "../wire/bytes.ts";
import * as plan from "../values/cell-plan.ts";
import { addRead, type Block, finishRead, readBlock } from "../../../../src/core/model/block.ts";
import type { Position } from "../../../../src/core/model/position.ts";
import { keyText } from "../../../../src/core/model/row-id.ts";
import type { KeyText } from "../../../../src/core/contracts/row-reads.ts";
import type { SourceRules } from "../catalog/source-tables.ts";
import { invariant } from "../../../../src/core/invariant.ts";
import { cellCopy, cellGeometry, cellVector } from "../values/byte-cells.ts";
import { cellCalendarText } from "../values/calendar-cells.ts";
import { beginCell, beginText, cell16, cell32, cellBits, cellDecimalText, endText } from "../values/number-cells.ts";

const NULL_MARK = 0xfb;
const GEOMETRY = /^(geometry|point|linestring|polygon|multi)/;

export function selectPlan(table: TableVersion, { metZeroDates, zeroDates }: SourceRules): plan.RowPlan {
  const { columns } = table;
  const choice = zeroDates(table) === "epoch" ? plan.ZERO_IS_EPOCH : plan.ZERO_IS_NULL;
  const planned = columns.map((column) => planOfColumn(column, choice));
  return {
    columnCount: columns.length,
    cellCount: columns.length,
    cellsEnd: columns.length,
    rowEnd: -1,
    code: Uint8Array.from(planned, ({ code }) => code),
    a: Uint16Array.from(planned, ({ a }) => a),
    b: Uint16Array.from(planned, ({ b }) => b),
    charsets: columns.map(() => undefined),
    labels: columns.map(() => undefined),
    isKey: Uint8Array.from(columns, (_, i) => (table.key.includes(i) ? 1 : 0)),
    tableName: `${table.schema}.${table.table}`,
    metZeroDates,
  };
}

export function selectList(table: TableVersion, rows: plan.RowPlan): string {
  return table.columns
    .map(({ name, native }, i) => {
      const expression = sqlExpression(rows, i, quoteName(name));
      // ZEROFILL only affects display: a sum has no leading zeros.
      return /^(int|bigint) unsigned/.test(native) ? `${expression} + 0` : expression;
    })
    .join(", ");
}

/** Writes the row between `start` and `end`: for each value its packed length and its bytes, or a mark for null. */
function writeSelected(out: ByteWriter, rows: plan.RowPlan, bytes: Buffer, start: number, end: number): void {
  const cursor = new Cursor(bytes, start, end);
  for (let i = 0; i < rows.columnCount; i++) {
    if (cursor.at < end && bytes[cursor.at] === NULL_MARK) {
      cursor.at++;
      out.byte(CELL_NULL);
      continue;
    }
    const length = cursor.packed();
    if (cursor.at + length > end) throw damaged("a row that was read is cut short");
    writeSqlCell(out, rows, i, bytes, cursor.at, length);
    cursor.at += length;
  }
}

interface Planned {
  readonly code: number;
  readonly a: number;
  readonly b: number;
}

function planOfColumn(column: Column, zeroDates: number): Planned {
  const { type, native } = column;
  const length = Number(/\((\d+)/.exec(native)?.[1] ?? 0);
  const as = (code: number, a = 0, b = 0): Planned => ({ code, a, b });
  switch (type.kind) {
    case "int":
      if (native.startsWith("bit(")) return as(plan.AS_BITS, length);
      return as(native === "year" ? plan.AS_YEAR : integerCode(type.bits, type.signed));
    case "float":
      return as(type.bits === 32 ? plan.AS_FLOAT : plan.AS_DOUBLE);
    case "bool":
      return as(plan.AS_BOOL);
    case "decimal":
      return as(plan.AS_DECIMAL, type.precision ?? 0, type.scale ?? 0);
    case "date":
      return as(plan.AS_DATE, 0, zeroDates);
    case "timestamp":
      return as(type.zone ? plan.AS_TIMESTAMP : plan.AS_DATETIME, length, zeroDates);
    case "bytes":
      if (GEOMETRY.test(native)) return as(plan.AS_GEOMETRY);
      return native.startsWith("binary(") ? as(plan.AS_PADDED, 0, length) : as(plan.AS_COPY);
    case "vector":
      return as(plan.AS_VECTOR);
    case "uuid":
      return as(plan.AS_PADDED, 0, 16);
    case "text":
    case "time":
    case "json":
    case "enum":
    case "array":
    case "opaque":
      return as(plan.AS_CHARSET);
    default:
      return type satisfies never;
  }
}

function integerCode(bits: 8 | 16 | 24 | 32 | 64, signed: boolean): number {
  switch (bits) {
    case 8:
      return signed ? plan.AS_INT8 : plan.AS_UINT8;
    case 16:
      return signed ? plan.AS_INT16 : plan.AS_UINT16;
    case 24:
      return signed ? plan.AS_INT24 : plan.AS_UINT24;
    case 32:
      return signed ? plan.AS_INT32 : plan.AS_UINT32;
    case 64:
      return signed ? plan.AS_INT64 : plan.AS_UINT64;
    default:
      return bits satisfies never;
  }
}

export const BLOCK_BYTES = 1024 * 1024;

/** Fills one block of OP_READ with rows that were read by SQL (core/model/block). */
export class RowBlock {
  readonly #out = new ByteWriter(64 * 1024);
  readonly #block: Block;
  readonly #plan: plan.RowPlan;
  readonly table: TableVersion;

  constructor(table: TableVersion, epoch: number, rules: SourceRules) {
    this.table = table;
    this.#plan = selectPlan(table, rules);
    this.#block = readBlock(table, epoch, this.#out);
  }

  get count(): number {
    return this.#block.count;
  }

  get byteCount(): number {
    return this.#out.length;
  }

  /** Adds the row of a text result between `start` and `end`. */
  append(bytes: Buffer, start: number, end: number): void {
    const out = this.#out;
    const offset = out.length;
    const { columnCount } = this.#plan;
    out.byte(columnCount >> 8);
    out.byte(columnCount & 0xff);
    writeSelected(out, this.#plan, bytes, start, end);
    addRead(this.#block, offset);
  }

  lastKey(): KeyText {
    return keyText(this.table, this.#out.bytes, this.#block.after[this.#block.count - 1]!);
  }

  /** Returns the block, which belongs to the caller from now on. */
  finish(until: Position): Block {
    return finishRead(this.#block, this.#out, until);
  }
}

const MINUS = 0x2d;
const TWO_32 = 2 ** 32;
const floats = new DataView(new ArrayBuffer(8));

/** The expression for column `i`; `quoted` is its name in the server's quotes. */
export function sqlExpression(rows: plan.RowPlan, i: number, quoted: string): string {
  // A float is printed with only six digits, and DOUBLE(M,D) with D decimals although it may hold more.
  if (rows.code[i] === plan.AS_FLOAT || rows.code[i] === plan.AS_DOUBLE) return `cast(${quoted} as double)`;
  // MariaDB's addresses and UUIDs are bytes in the log and texts in an answer; for BINARY(n) this changes nothing.
  return rows.code[i] === plan.AS_PADDED ? `cast(${quoted} as binary(${rows.b[i]}))` : quoted;
}

/** Writes the value of `length` bytes at `from`; the caller writes nulls. */
export function writeSqlCell(
  out: ByteWriter,
  rows: plan.RowPlan,
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
