/** Turns the columns of a table map into canonical types, and into the types as the server spells them. */
import type { ZeroDates } from "../../../../src/core/contracts/connector.ts";
import type { Column } from "../../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { fatal, pages } from "../../errors.ts";
import { type Charset, charsetOfCollation, writeTextOf } from "../values/charsets.ts";
import * as field from "../rows/field-types.ts";
import { certainLabels, labelList, shownLabel } from "../values/labels.ts";
import type { TableMap } from "../rows/table-map.ts";

export interface ColumnOptions {
  readonly zeroDates: ZeroDates;
  /** By ordinal, what only the catalogue shows (MariaDB's JSON is LONGTEXT, its UUID is BINARY(16)). */
  readonly known?: ReadonlyMap<number, Pick<Column, "type" | "native">>;
}

/** The columns of a table in the log; an error if the log has no names for them. `identity` is the ordinal, from 1. */
export function columnsOf(map: TableMap, options: ColumnOptions): Column[] {
  if (map.metadata.names.length !== map.types.length) {
    throw fatal(
      "MR2103",
      `the log does not say what the columns of ${map.schema}.${map.table} are called`,
      pages.MR2103?.remedy ?? "",
    );
  }
  return Array.from(map.types, (_, i): Column => {
    const known = options.known?.get(i);
    const isKey = map.metadata.primaryKey.includes(i);
    return {
      name: map.metadata.names[i] ?? "",
      type: known?.type ?? columnType(map, i, options.zeroDates),
      native: known?.native ?? nativeType(map, i),
      // A date that does not exist becomes null, even in a NOT NULL column; in a key it is an error.
      nullable: map.nullable[i] === true || (!isKey && options.zeroDates === "null" && isCalendar(map.types[i]!)),
      identity: i + 1,
    };
  });
}

export function columnType(map: TableMap, i: number, zeroDates: ZeroDates): ColumnType {
  const type = map.types[i]!;
  if (isCalendar(type) && zeroDates === "text") return { kind: "text" };
  switch (type) {
    case field.TINY:
    case field.SHORT:
    case field.INT24:
    case field.LONG:
    case field.LONGLONG:
      return { kind: "int", bits: integerBits(type), signed: map.metadata.unsigned[i] !== true };
    case field.YEAR:
      return { kind: "int", bits: 16, signed: true };
    case field.FLOAT:
      return { kind: "float", bits: 32 };
    case field.DOUBLE:
      return { kind: "float", bits: 64 };
    case field.NEWDECIMAL:
      return { kind: "decimal", precision: map.first[i]!, scale: map.second[i]! };
    case field.DATE:
    case field.NEWDATE:
      return { kind: "date" };
    case field.DATETIME:
    case field.DATETIME_OLD:
      return { kind: "timestamp", zone: false };
    case field.TIMESTAMP:
    case field.TIMESTAMP_OLD:
      return { kind: "timestamp", zone: true };
    case field.BIT:
      return bitCount(map, i) === 1
        ? { kind: "bool" }
        : { kind: "int", bits: bitWidth(bitCount(map, i)), signed: false };
    case field.ENUM:
      return { kind: "enum", labels: certainLabels(labelTexts(map, i)) };
    case field.JSON_TYPE:
      return { kind: "json" };
    case field.GEOMETRY:
      return { kind: "bytes" };
    case field.VECTOR:
      return { kind: "array", of: { kind: "float", bits: 32 } };
    case field.STRING:
    case field.VAR_STRING:
    case field.VARCHAR:
    case field.BLOB:
    case field.VARCHAR_COMPRESSED:
    case field.BLOB_COMPRESSED:
      return charsetOf(map, i).kind === "bytes" ? { kind: "bytes" } : { kind: "text" };
    // No other type holds 838 hours, or a negative time of day; a set's text is the server's own list.
    case field.TIME:
    case field.TIME_OLD:
    case field.SET:
    case field.NULL_TYPE:
      return { kind: "opaque" };
    default:
      throw fatal(
        "MR2105",
        `column ${columnName(map, i)} of ${map.schema}.${map.table} has type ${type}, which is unknown`,
        pages.MR2105?.remedy ?? "",
      );
  }
}

export function isCalendar(type: number): boolean {
  switch (type) {
    case field.DATE:
    case field.NEWDATE:
    case field.DATETIME:
    case field.DATETIME_OLD:
    case field.TIMESTAMP:
    case field.TIMESTAMP_OLD:
      return true;
    default:
      return false;
  }
}

export function bitCount(map: TableMap, i: number): number {
  return map.second[i]! * 8 + map.first[i]!;
}

export function bitWidth(count: number): 8 | 16 | 24 | 32 | 64 {
  if (count <= 8) return 8;
  if (count <= 16) return 16;
  if (count <= 24) return 24;
  return count <= 32 ? 32 : 64;
}

export function charsetOf(map: TableMap, i: number): Charset {
  const collation = map.metadata.collations[i]!;
  const charset = charsetOfCollation(collation);
  if (charset !== undefined) return charset;
  throw fatal(
    "MR2106",
    `column ${columnName(map, i)} of ${map.schema}.${map.table} has the collation with number ${collation}, which is unknown`,
    pages.MR2106?.remedy ?? "",
  );
}

/** The labels of an ENUM or SET as the catalogue shows them, in their order. */
export function labelTexts(map: TableMap, i: number): readonly string[] {
  const charset = charsetOf(map, i);
  const out = new ByteWriter(64);
  return (map.metadata.labels[i] ?? []).map((label) => {
    out.reset();
    writeTextOf(out, charset, label, 0, label.length);
    return shownLabel(out.view().toString("utf8"));
  });
}

function columnName(map: TableMap, i: number): string {
  return map.metadata.names[i] ?? `${i + 1}`;
}

function integerBits(type: number): 8 | 16 | 24 | 32 | 64 {
  switch (type) {
    case field.TINY:
      return 8;
    case field.SHORT:
      return 16;
    case field.INT24:
      return 24;
    default:
      return type === field.LONG ? 32 : 64;
  }
}

const GEOMETRIES = [
  "geometry",
  "point",
  "linestring",
  "polygon",
  "multipoint",
  "multilinestring",
  "multipolygon",
  "geometrycollection",
];
const BLOBS = ["", "tiny", "", "medium", "long"];

/** As SHOW CREATE TABLE spells it, without character set and attributes. */
export function nativeType(map: TableMap, i: number): string {
  const type = map.types[i]!;
  const first = map.first[i]!;
  const sign = map.metadata.unsigned[i] === true ? " unsigned" : "";
  switch (type) {
    case field.TINY:
      return `tinyint${sign}`;
    case field.SHORT:
      return `smallint${sign}`;
    case field.INT24:
      return `mediumint${sign}`;
    case field.LONG:
      return `int${sign}`;
    case field.LONGLONG:
      return `bigint${sign}`;
    case field.FLOAT:
      return `float${sign}`;
    case field.DOUBLE:
      return `double${sign}`;
    case field.NEWDECIMAL:
      return `decimal(${first},${map.second[i]})${sign}`;
    case field.YEAR:
      return "year";
    case field.DATE:
    case field.NEWDATE:
      return "date";
    case field.TIME:
    case field.TIME_OLD:
      return fractional("time", first);
    case field.DATETIME:
    case field.DATETIME_OLD:
      return fractional("datetime", first);
    case field.TIMESTAMP:
    case field.TIMESTAMP_OLD:
      return fractional("timestamp", first);
    case field.BIT:
      return `bit(${bitCount(map, i)})`;
    case field.JSON_TYPE:
      return "json";
    case field.VECTOR:
      return `vector(${map.metadata.dimensions[i] ?? 2048})`;
    case field.GEOMETRY:
      return GEOMETRIES[map.metadata.geometries[i] ?? 0] ?? "geometry";
    case field.ENUM:
      return labelList("enum", labelTexts(map, i));
    case field.SET:
      return labelList("set", labelTexts(map, i));
    default:
      return stringType(map, i, type, first);
  }
}

function stringType(map: TableMap, i: number, type: number, first: number): string {
  const { kind, byteCountMax } = charsetOf(map, i);
  const isBytes = kind === "bytes";
  const compressed = type === field.BLOB_COMPRESSED || type === field.VARCHAR_COMPRESSED ? " compressed" : "";
  if (type === field.BLOB || type === field.BLOB_COMPRESSED) {
    return `${BLOBS[first] ?? ""}${isBytes ? "blob" : "text"}${compressed}`;
  }
  // A value that is kept compressed has one more byte.
  const byteCount = type === field.VARCHAR_COMPRESSED ? first - 1 : first;
  const length = Math.floor(byteCount / byteCountMax);
  if (type === field.STRING) return `${isBytes ? "binary" : "char"}(${length})`;
  return `${isBytes ? "varbinary" : "varchar"}(${length})${compressed}`;
}

function fractional(name: string, digits: number): string {
  return digits === 0 ? name : `${name}(${digits})`;
}
