/** The optional metadata of a TABLE_MAP event, as `binlog_row_metadata=FULL` writes it. */
import * as field from "./field-types.ts";
import type { Flavour } from "../log/format.ts";
import { Cursor } from "../log/little-endian.ts";

export interface OptionalMetadata {
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
  readonly visible: readonly boolean[];
  /** Ordinals, in key order; empty: the table has no primary key, or it is not given. */
  readonly primaryKey: readonly number[];
  /** True if the key holds only the beginning of a column. */
  readonly hasKeyPrefix: boolean;
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
const VISIBILITY = 12;
const DIMENSIONS = 13;

/** Reads the rest of the event: fields of type, length and value, in any order; unknown ones are skipped. */
export function readOptionalMetadata(cursor: Cursor, types: Uint8Array, flavour: Flavour): OptionalMetadata {
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
    visible: all.map(() => true),
    primaryKey: new Array<number>(),
    hasKeyPrefix: false,
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
          if (rest.packed() > 0) found.hasKeyPrefix = true;
        }
        break;
      case LABEL_DEFAULT_CHARSET:
        readDefault(rest, labelled, found.collations);
        break;
      case LABEL_COLUMN_CHARSET:
        for (const i of labelled) if (!rest.isAtEnd) found.collations[i] = rest.packed();
        break;
      case VISIBILITY:
        setBits(value, all, found.visible);
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
