/** How the rows of a SELECT become tuples: like the same table's rows in the log, but planned from its columns alone. */
import type { ByteWriter } from "../../../../src/core/bytes.ts";
import type { Column, TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_NULL } from "../../../../src/core/model/tuple.ts";
import { damaged } from "../../errors.ts";
import { quoteName } from "../../quote.ts";
import type { SourceContext } from "../context.ts";
import { Cursor } from "../log/little-endian.ts";
import * as plan from "../rows/row-plan.ts";
import type { RowPlan } from "../rows/table-map.ts";
import { sqlExpression, writeSqlCell } from "./sql-cells.ts";

const NULL_MARK = 0xfb;
const GEOMETRY = /^(geometry|point|linestring|polygon|multi)/;

/** The source's settings for dates that do not exist. */
export type DateChoice = Pick<SourceContext, "zeroDates" | "metZeroDates">;

export function selectPlan(table: TableVersion, { metZeroDates, zeroDates }: DateChoice): RowPlan {
  const { columns } = table;
  const choice = zeroDates(table) === "epoch" ? plan.ZERO_IS_EPOCH : plan.ZERO_IS_NULL;
  const planned = columns.map((column) => planOfColumn(column, choice));
  return {
    columnCount: columns.length,
    cellCount: columns.length,
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

/** The expressions to select, column by column. */
export function selectList(table: TableVersion, rows: RowPlan): string {
  return table.columns
    .map(({ name, native }, i) => {
      const expression = sqlExpression(rows, i, quoteName(name));
      // ZEROFILL only affects display: a sum has no leading zeros.
      return /^(int|bigint) unsigned/.test(native) ? `${expression} + 0` : expression;
    })
    .join(", ");
}

/** Writes the row between `start` and `end`: for each value its packed length and its bytes, or a mark for null. */
export function writeSelected(out: ByteWriter, rows: RowPlan, bytes: Buffer, start: number, end: number): void {
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
    case "array":
      return as(plan.AS_VECTOR);
    case "uuid":
      return as(plan.AS_PADDED, 0, 16);
    case "text":
    case "time":
    case "json":
    case "enum":
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
