/**
 * TABLE_MAP events: the table of the following rows, and its columns. One comes before the rows of every statement; equal
 * ones share one object.
 */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { MillraceError } from "../../../../src/core/errors.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { damaged } from "../errors.ts";
import { HEADER_BYTES, type Flavour } from "../wire/event-header.ts";
import * as field from "../values/field-types.ts";
import { Cursor, readUint48, readUint } from "../wire/bytes.ts";
import type { RowPlan } from "../values/cell-plan.ts";

const TABLE_ID_BYTES = 6;
/** Maps that are kept although no rows refer to them now. */
const KEPT_COUNT_MAX = 4_096;

export interface TableMap {
  readonly tableId: number;
  readonly schema: string;
  readonly table: string;
  readonly flavour: Flavour;
  /** The type of each column, as in field-types.ts; ENUM and SET are already distinguished from CHAR. */
  readonly types: Uint8Array;
  /** What is needed to read the type: length, digits, or size of a length, depending on the type. */
  readonly first: Uint16Array;
  readonly second: Uint8Array;
  readonly nullable: readonly boolean[];
  readonly metadata: OptionalMetadata;
  /** The version of the rows; null: the table is not captured; undefined: it must be looked up. */
  version: TableVersion | null | undefined;
  /** Of one that is not captured, and may be since: the id under which it then flows. */
  refused: string | undefined;
  /** See `RowPlan`; looked up with the version. */
  rowEnd: number;
  /** How its rows become tuples; made for the first row. */
  plan: RowPlan | undefined;
  /** Why its next rows can't be read; their version is null. */
  fault: MillraceError | undefined;
}

interface StoredMap {
  readonly body: Uint8Array;
  readonly map: TableMap;
}

/** The maps of a stream. */
export class TableMaps {
  readonly #kept = new Map<number, StoredMap>();
  /** The maps of the present statement, by table id. */
  readonly #active = new Map<number, TableMap>();
  readonly #ofTransaction = new Set<TableMap>();

  /** Takes the event between `start` and `end`, with header but without checksum. */
  take(bytes: Uint8Array, start: number, end: number, flavour: Flavour): TableMap {
    const at = start + HEADER_BYTES;
    const tableId = readUint48(bytes, at);
    const kept = this.#kept.get(tableId);
    const map =
      kept !== undefined && isSame(kept.body, bytes, at, end) ? kept.map : this.#read(bytes, at, end, flavour);
    this.#active.set(tableId, map);
    this.#ofTransaction.add(map);
    return map;
  }

  begin(): void {
    if (this.#ofTransaction.size > 0) this.#ofTransaction.clear();
  }

  /** The tables that the present transaction has named before rows of them. */
  get named(): readonly TableName[] {
    return [...this.#ofTransaction];
  }

  find(tableId: number): TableMap | undefined {
    return this.#active.get(tableId);
  }

  /** The statement is over: its table ids mean nothing any more. */
  endStatement(): void {
    this.#active.clear();
  }

  /** Every table must be looked up again: the catalogue, or the captured tables, have changed. */
  forgetVersions(): void {
    for (const { map } of this.#kept.values()) {
      map.version = undefined;
      map.plan = undefined;
    }
  }

  #read(bytes: Uint8Array, at: number, end: number, flavour: Flavour): TableMap {
    let map: TableMap;
    try {
      map = readTableMap(new Cursor(bytes, at, end), flavour);
    } catch (error) {
      if (error instanceof RangeError) throw damaged("a table map is cut short", error);
      throw error;
    }
    if (this.#kept.size >= KEPT_COUNT_MAX) this.#kept.clear();
    this.#kept.set(map.tableId, { body: Uint8Array.prototype.slice.call(bytes, at, end), map });
    return map;
  }
}

function isSame(body: Uint8Array, bytes: Uint8Array, at: number, end: number): boolean {
  if (body.length !== end - at) return false;
  for (let i = 0; i < body.length; i++) if (body[i] !== bytes[at + i]) return false;
  return true;
}

function readTableMap(cursor: Cursor, flavour: Flavour): TableMap {
  const tableId = cursor.uint(TABLE_ID_BYTES);
  cursor.uint(2);
  const schema = readName(cursor);
  const table = readName(cursor);
  const columnCount = cursor.packed();
  const types = Uint8Array.from(cursor.span(columnCount));
  const first = new Uint16Array(columnCount);
  const second = new Uint8Array(columnCount);
  const meta = cursor.span(cursor.packed());
  readTypeMetadata(new Cursor(meta, 0, meta.length), types, first, second);
  const nullBits = cursor.span((columnCount + 7) >> 3);
  const nullable = Array.from(types, (_, i) => ((nullBits[i >> 3]! >> (i & 7)) & 1) === 1);
  const metadata = readOptionalMetadata(cursor, types, flavour);
  return {
    tableId,
    schema,
    table,
    flavour,
    types,
    first,
    second,
    nullable,
    metadata,
    version: undefined,
    rowEnd: -1,
    plan: undefined,
    fault: undefined,
    refused: undefined,
  };
}

/** Length, characters in UTF-8, a zero. */
function readName(cursor: Cursor): string {
  const name = Buffer.from(cursor.span(cursor.byte())).toString("utf8");
  cursor.byte();
  return name;
}

/** The metadata after the types: one or two bytes for types that need it. */
function readTypeMetadata(meta: Cursor, types: Uint8Array, first: Uint16Array, second: Uint8Array): void {
  for (let i = 0; i < types.length; i++) {
    switch (types[i]!) {
      case field.FLOAT:
      case field.DOUBLE:
      case field.BLOB:
      case field.BLOB_COMPRESSED:
      case field.GEOMETRY:
      case field.JSON_TYPE:
      case field.VECTOR:
      case field.TIMESTAMP:
      case field.DATETIME:
      case field.TIME:
        first[i] = meta.byte();
        break;
      case field.VARCHAR:
      case field.VAR_STRING:
      case field.VARCHAR_COMPRESSED:
        first[i] = meta.uint(2);
        break;
      case field.NEWDECIMAL:
      case field.BIT:
        first[i] = meta.byte();
        second[i] = meta.byte();
        break;
      case field.ENUM:
      case field.SET:
      case field.STRING:
        readStringMetadata(meta, types, first, i);
        break;
      case field.TYPED_ARRAY:
        throw new RangeError("an array type, which no column has");
      default:
        break;
    }
  }
}

/**
 * ENUM and SET come as CHAR with their own type in the first byte and the size of their number in the second. CHAR itself
 * has two more bits of its length, inverted, in the first byte.
 */
function readStringMetadata(meta: Cursor, types: Uint8Array, first: Uint16Array, i: number): void {
  const type = meta.byte();
  const length = meta.byte();
  if (type === field.ENUM || type === field.SET) {
    types[i] = type;
    first[i] = length;
  } else {
    types[i] = field.STRING;
    first[i] = (((type & 0x30) ^ 0x30) << 4) | length;
  }
}

/** The offset after the value of column `i` at `at`, by its type alone. */
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
      return at + field.decimalBytes(first, map.second[i]!);
    case field.TIMESTAMP:
      return at + 4 + field.fractionBytes(first);
    case field.DATETIME:
      return at + 5 + field.fractionBytes(first);
    case field.TIME:
      return at + 3 + field.fractionBytes(first);
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

/** The optional metadata, as `binlog_row_metadata=FULL` writes it. */
interface OptionalMetadata {
  /** Bit by column: whether a numeric one is unsigned. */
  readonly unsigned: readonly boolean[];
  /** Empty if `binlog_row_metadata` is not FULL. */
  readonly names: readonly string[];
  /** Collation id of each text, ENUM and SET column; 0 if there is none or it is not given. */
  readonly collations: readonly number[];
  /** Labels of ENUM and SET columns, in their column's character set. */
  readonly labels: readonly (readonly Uint8Array[] | undefined)[];
  /** Subtype of geometry columns (0: any). */
  readonly geometries: readonly (number | undefined)[];
  readonly dimensions: readonly (number | undefined)[];
  /** Ordinals, in key order; empty: the table has no primary key, or it is not given. */
  readonly primaryKey: readonly number[];
}

const SIGNEDNESS = 1;
const DEFAULT_CHARSET = 2;
const COLUMN_CHARSET = 3;
const COLUMN_NAME = 4;
const SET_LABELS = 5;
const ENUM_LABELS = 6;
const GEOMETRY_TYPE = 7;
const SIMPLE_PRIMARY_KEY = 8;
const PRIMARY_KEY_WITH_PREFIX = 9;
const LABEL_DEFAULT_CHARSET = 10;
const LABEL_COLUMN_CHARSET = 11;
const DIMENSIONS = 13;

/** Reads the rest of the event: fields of type, length and value, in any order; unknown ones are skipped. */
function readOptionalMetadata(cursor: Cursor, types: Uint8Array, flavour: Flavour): OptionalMetadata {
  const all = Array.from(types, (_, i) => i);
  const where = (accept: (type: number) => boolean): number[] => all.filter((i) => accept(types[i]!));
  const textual = where((type) => hasCollation(type, flavour));
  const labelled = where((type) => type === field.ENUM || type === field.SET);
  const found = {
    unsigned: all.map(() => false),
    names: new Array<string>(),
    collations: all.map(() => 0),
    labels: all.map((): readonly Uint8Array[] | undefined => undefined),
    geometries: all.map((): number | undefined => undefined),
    dimensions: all.map((): number | undefined => undefined),
    primaryKey: new Array<number>(),
  };
  while (!cursor.isAtEnd) {
    const kind = cursor.byte();
    const value = cursor.span(cursor.packed());
    const rest = new Cursor(value, 0, value.length);
    switch (kind) {
      case SIGNEDNESS:
        setBits(value, where(field.isNumeric), found.unsigned);
        break;
      case DEFAULT_CHARSET:
        readDefault(rest, textual, found.collations);
        break;
      case COLUMN_CHARSET:
        for (const i of textual) if (!rest.isAtEnd) found.collations[i] = rest.packed();
        break;
      case COLUMN_NAME:
        while (!rest.isAtEnd) found.names.push(Buffer.from(rest.span(rest.packed())).toString("utf8"));
        break;
      case SET_LABELS:
        for (const i of where((type) => type === field.SET)) found.labels[i] = readLabels(rest);
        break;
      case ENUM_LABELS:
        for (const i of where((type) => type === field.ENUM)) found.labels[i] = readLabels(rest);
        break;
      case GEOMETRY_TYPE:
        for (const i of where((type) => type === field.GEOMETRY)) found.geometries[i] = rest.packed();
        break;
      case SIMPLE_PRIMARY_KEY:
        while (!rest.isAtEnd) found.primaryKey.push(rest.packed());
        break;
      case PRIMARY_KEY_WITH_PREFIX:
        while (!rest.isAtEnd) {
          found.primaryKey.push(rest.packed());
          // How much of the column.
          rest.packed();
        }
        break;
      case LABEL_DEFAULT_CHARSET:
        readDefault(rest, labelled, found.collations);
        break;
      case LABEL_COLUMN_CHARSET:
        for (const i of labelled) if (!rest.isAtEnd) found.collations[i] = rest.packed();
        break;
      case DIMENSIONS:
        for (const i of where((type) => type === field.VECTOR)) found.dimensions[i] = rest.packed();
        break;
      default:
        break;
    }
  }
  return found;
}

/** Which columns the lists of collations are about. The servers differ for columns that are text in neither of them. */
function hasCollation(type: number, flavour: Flavour): boolean {
  switch (type) {
    case field.STRING:
    case field.VAR_STRING:
    case field.VARCHAR:
    case field.BLOB:
      return true;
    case field.VECTOR:
      return flavour === "mysql";
    case field.GEOMETRY:
    case field.VARCHAR_COMPRESSED:
    case field.BLOB_COMPRESSED:
      return flavour === "mariadb";
    default:
      return false;
  }
}

/** Bits from the highest of each byte on, one for each of `columns`. */
function setBits(value: Uint8Array, columns: readonly number[], into: boolean[]): void {
  columns.forEach((column, i) => {
    into[column] = ((value[i >> 3] ?? 0) & (0x80 >> (i & 7))) !== 0;
  });
}

/** The most frequent collation, then the columns (counted among these) that have another one. */
function readDefault(rest: Cursor, columns: readonly number[], into: number[]): void {
  const usual = rest.packed();
  for (const i of columns) into[i] = usual;
  while (!rest.isAtEnd) {
    const column = columns[rest.packed()];
    const collation = rest.packed();
    if (column !== undefined) into[column] = collation;
  }
}

function readLabels(rest: Cursor): readonly Uint8Array[] {
  return Array.from({ length: rest.packed() }, () => Uint8Array.from(rest.span(rest.packed())));
}
