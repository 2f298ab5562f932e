/** Plans how the values of one table's rows in the log become cells. */
import type { ZeroDates } from "../../../../src/core/contracts/connector.ts";
import type { Column } from "../../../../src/core/model/schema.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { fatal } from "../errors.ts";
import { bitCount, charsetOf } from "./columns.ts";
import { type Charset, writeTextOf } from "../values/charsets.ts";
import * as field from "../values/field-types.ts";
import type { TableMap } from "./table-map.ts";
import * as cell from "../values/cell-plan.ts";

const ZERO_CODES: Readonly<Record<ZeroDates, number>> = {
  null: cell.ZERO_IS_NULL,
  epoch: cell.ZERO_IS_EPOCH,
  text: cell.ZERO_IS_TEXT,
};

interface PlanOptions {
  readonly zeroDates: ZeroDates;
  readonly metZeroDates?: { count: number };
  /** The columns of the table's version: the types of some are known only from the catalogue. */
  readonly columns: readonly Column[];
}

export function planOf(map: TableMap, key: readonly number[], options: PlanOptions): cell.RowPlan {
  const columnCount = map.types.length;
  // A column's identity is its ordinal in the log, from 1.
  const columns = new Map(options.columns.map((column) => [Math.abs(column.identity) - 1, column]));
  const plan = {
    columnCount,
    cellCount: options.columns.length,
    cellsEnd: Math.max(0, ...columns.keys()) + 1,
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
  for (const ordinal of key) plan.isKey[Math.abs(options.columns[ordinal]!.identity) - 1] = 1;
  for (let i = 0; i < columnCount; i++) {
    const column = columns.get(i);
    if (column === undefined) put(plan, i, cell.AS_HIDDEN);
    else if (!planKnown(plan, map, i, column.native)) planColumn(plan, map, i, ZERO_CODES[options.zeroDates]);
  }
  return plan;
}

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
    put(draft, i, cell.AS_VECTOR, map.first[i]! > 255 ? 2 : 1);
    return true;
  }
  switch (native) {
    case "inet4":
    case "inet6":
      put(draft, i, cell.AS_INET, 1, native === "inet4" ? 4 : 16);
      return true;
    case "json":
      if (map.types[i] === field.JSON_TYPE || map.types[i] === field.BLOB_COMPRESSED) return false;
      draft.charsets[i] = charsetOf(map, i);
      put(draft, i, cell.AS_CHARSET, map.first[i]);
      return true;
    default:
      return false;
  }
}

/** Fixed-width signed numbers; the unsigned ones have the next code. */
const INTEGERS = new Map<number, number>([
  [field.TINY, cell.AS_INT8],
  [field.SHORT, cell.AS_INT16],
  [field.INT24, cell.AS_INT24],
  [field.LONG, cell.AS_INT32],
  [field.LONGLONG, cell.AS_INT64],
]);

const CALENDAR = new Map<number, number>([
  [field.DATE, cell.AS_DATE],
  [field.NEWDATE, cell.AS_DATE],
  [field.TIME, cell.AS_TIME],
  [field.DATETIME, cell.AS_DATETIME],
  [field.TIMESTAMP, cell.AS_TIMESTAMP],
  [field.TIME_OLD, cell.AS_OLD_TIME],
  [field.DATETIME_OLD, cell.AS_OLD_DATETIME],
  [field.TIMESTAMP_OLD, cell.AS_OLD_TIMESTAMP],
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
      return put(draft, i, cell.AS_FLOAT);
    case field.DOUBLE:
      return put(draft, i, cell.AS_DOUBLE);
    case field.NEWDECIMAL:
      return put(draft, i, cell.AS_DECIMAL, first, map.second[i]);
    case field.YEAR:
      return put(draft, i, cell.AS_YEAR);
    case field.BIT: {
      const count = bitCount(map, i);
      return put(draft, i, count === 1 ? cell.AS_BOOL : cell.AS_BITS, count);
    }
    case field.ENUM:
    case field.SET:
      put(draft, i, type === field.ENUM ? cell.AS_ENUM : cell.AS_SET, first);
      draft.labels[i] = labelBytes(map, i, type === field.ENUM);
      return undefined;
    case field.JSON_TYPE:
      return put(draft, i, cell.AS_JSON, first);
    case field.GEOMETRY:
      return put(draft, i, cell.AS_GEOMETRY, first);
    case field.VECTOR:
      return put(draft, i, cell.AS_VECTOR, first);
    default:
      return planString(draft, map, i, type, first);
  }
}

function planString(draft: Draft, map: TableMap, i: number, type: number, first: number): void {
  const charset = charsetOf(map, i);
  draft.charsets[i] = charset;
  const code = charset.kind === "bytes" || charset.kind === "utf8" ? cell.AS_COPY : cell.AS_CHARSET;
  switch (type) {
    case field.STRING: {
      const padded = charset.kind === "bytes";
      return put(draft, i, padded ? cell.AS_PADDED : code, first > 255 ? 2 : 1, padded ? first : 0);
    }
    case field.VARCHAR:
    case field.VAR_STRING:
      return put(draft, i, code, first > 255 ? 2 : 1);
    case field.BLOB:
      return put(draft, i, code, first);
    case field.VARCHAR_COMPRESSED:
      return put(draft, i, cell.AS_COMPRESSED, first > 255 ? 2 : 1, code);
    case field.BLOB_COMPRESSED:
      return put(draft, i, cell.AS_COMPRESSED, first, code);
    default:
      throw fatal("MR2105", `column ${i + 1} of ${map.schema}.${map.table} has type ${type}, which is unknown`);
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
