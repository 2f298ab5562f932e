/**
 * Columns in core's terms. The log and the catalogue must give the same column for the same table: each is spelled as SHOW
 * CREATE TABLE spells it, without character set and attributes, and its type follows from that spelling alone.
 */
import type { ZeroDates } from "../../../../src/core/contracts/connector.ts";
import type { Column } from "../../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import { ByteWriter } from "../../../../src/core/bytes.ts";
import { fatal } from "../errors.ts";
import { type Charset, charsetOfCollation, writeTextOf } from "../values/charsets.ts";
import * as field from "../values/field-types.ts";
import type { TableMap } from "./table-map.ts";

interface ColumnOptions {
  /** Names of the key's columns. */
  readonly key: readonly string[];
  readonly zeroDates: ZeroDates;
  /** By ordinal, types that only the catalogue shows (MariaDB's JSON is LONGTEXT, its UUID is BINARY(16); FLOAT(7,2)). */
  readonly known?: ReadonlyMap<number, string>;
}

/** The columns of a table in the log; an error if the log has no names for them. `identity` is the ordinal, from 1. */
export function columnsOf(map: TableMap, { key, known, zeroDates }: ColumnOptions): Column[] {
  const { names } = map.metadata;
  if (names.length !== map.types.length) {
    throw fatal("MR2103", `the log does not say what the columns of ${map.schema}.${map.table} are called`);
  }
  return names.map((name, i) => {
    const described = { name, native: known?.get(i) ?? nativeType(map, i), nullable: map.nullable[i] === true };
    return columnOf({ ...described, identity: i + 1 }, key.includes(name), zeroDates);
  });
}

export function columnOf(column: Omit<Column, "type">, isKey: boolean, zeroDates: ZeroDates): Column {
  const { name, native, nullable, identity } = column;
  const isCalendar = CALENDAR.test(native);
  return {
    name,
    type: isCalendar && zeroDates === "text" ? { kind: "text" } : typeOf(native),
    native,
    // A date that does not exist becomes null, even in a NOT NULL column; in a key it is an error.
    nullable: nullable || (!isKey && zeroDates === "null" && isCalendar),
    identity,
  };
}

const CALENDAR = /^(?:date|datetime|timestamp)(?:\(|$)/;
const INTEGER_BITS: Readonly<Record<string, 8 | 16 | 24 | 32 | 64>> = {
  tinyint: 8,
  smallint: 16,
  mediumint: 24,
  int: 32,
  bigint: 64,
};

function typeOf(native: string): ColumnType {
  const [, name = "", first, second] = /^(\w+)(?:\((\d+)(?:,(\d+))?\))?/.exec(native) ?? [];
  const bits = INTEGER_BITS[name];
  if (bits !== undefined) return { kind: "int", bits, signed: !native.endsWith(" unsigned") };
  switch (name) {
    case "year":
      return { kind: "int", bits: 16, signed: true };
    case "float":
      return { kind: "float", bits: 32 };
    case "double":
      return { kind: "float", bits: 64 };
    case "decimal":
      return { kind: "decimal", precision: Number(first), scale: Number(second) };
    case "date":
      return { kind: "date" };
    case "datetime":
      return { kind: "timestamp", zone: false };
    case "timestamp":
      return { kind: "timestamp", zone: true };
    case "bit":
      return first === "1" ? { kind: "bool" } : { kind: "int", bits: bitWidth(Number(first)), signed: false };
    case "enum":
      return { kind: "enum", labels: certainLabels(native) };
    case "json":
      return { kind: "json" };
    case "vector":
      return { kind: "vector", form: "single", dimension: Number(first), isUpTo: true };
    // No other type holds 838 hours, or a negative time of day; a set's text is the server's own list.
    case "time":
    case "set":
      return { kind: "opaque" };
    case "uuid":
      return { kind: "uuid" };
    case "inet4":
    case "inet6":
    case "char":
    case "varchar":
    case "tinytext":
    case "text":
    case "mediumtext":
    case "longtext":
      return { kind: "text" };
    default:
      return { kind: "bytes" };
  }
}

function bitWidth(count: number): 8 | 16 | 24 | 32 | 64 {
  if (count <= 8) return 8;
  if (count <= 16) return 16;
  if (count <= 24) return 24;
  return count <= 32 ? 32 : 64;
}

/** Types whose name says all. */
const PLAIN = new Map<number, string>([
  [field.YEAR, "year"],
  [field.DATE, "date"],
  [field.NEWDATE, "date"],
  [field.JSON_TYPE, "json"],
]);
/** Numbers that may be unsigned. */
const NUMBERS = new Map<number, string>([
  [field.TINY, "tinyint"],
  [field.SHORT, "smallint"],
  [field.INT24, "mediumint"],
  [field.LONG, "int"],
  [field.LONGLONG, "bigint"],
  [field.FLOAT, "float"],
  [field.DOUBLE, "double"],
]);
const WITH_FRACTION = new Map<number, string>([
  [field.TIME, "time"],
  [field.TIME_OLD, "time"],
  [field.DATETIME, "datetime"],
  [field.DATETIME_OLD, "datetime"],
  [field.TIMESTAMP, "timestamp"],
  [field.TIMESTAMP_OLD, "timestamp"],
]);
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

/** The spelling of a column in the log. */
export function nativeType(map: TableMap, i: number): string {
  const type = map.types[i]!;
  const first = map.first[i]!;
  const { dimensions, geometries, unsigned } = map.metadata;
  const sign = unsigned[i] === true ? " unsigned" : "";
  const plain = PLAIN.get(type);
  if (plain !== undefined) return plain;
  const number = NUMBERS.get(type);
  if (number !== undefined) return `${number}${sign}`;
  const timed = WITH_FRACTION.get(type);
  if (timed !== undefined) return withFraction(timed, first);
  switch (type) {
    case field.NEWDECIMAL:
      return `decimal(${first},${map.second[i]})${sign}`;
    case field.BIT:
      return `bit(${bitCount(map, i)})`;
    case field.VECTOR:
      return `vector(${dimensions[i] ?? 2048})`;
    case field.GEOMETRY:
      return GEOMETRIES[geometries[i] ?? 0] ?? "geometry";
    case field.ENUM:
      return labelList("enum", labelTexts(map, i));
    case field.SET:
      return labelList("set", labelTexts(map, i));
    case field.STRING:
    case field.VAR_STRING:
    case field.VARCHAR:
    case field.BLOB:
    case field.VARCHAR_COMPRESSED:
    case field.BLOB_COMPRESSED:
      return stringType(map, i, type, first);
    default:
      throw fatal(
        "MR2105",
        `column ${columnName(map, i)} of ${map.schema}.${map.table} has type ${type}, which is unknown`,
      );
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

/** `digits`: of seconds. */
export function withFraction(name: string, digits: number): string {
  return digits === 0 ? name : `${name}(${digits})`;
}

export function bitCount(map: TableMap, i: number): number {
  return map.second[i]! * 8 + map.first[i]!;
}

export function charsetOf(map: TableMap, i: number): Charset {
  const collation = map.metadata.collations[i]!;
  const charset = charsetOfCollation(collation);
  if (charset !== undefined) return charset;
  throw fatal(
    "MR2105",
    `column ${columnName(map, i)} of ${map.schema}.${map.table} has the collation with number ${collation}, which is unknown`,
  );
}

function columnName(map: TableMap, i: number): string {
  return map.metadata.names[i] ?? `${i + 1}`;
}

/**
 * Labels of ENUM and SET are compared in a form that both the catalogue and the log can show: the catalogue has a question
 * mark for each character beyond the first plane of Unicode.
 */
const BEYOND = /[\u{10000}-\u{10ffff}]/gu;
const UNKNOWN = "?";

/** The labels of an ENUM or SET as the catalogue shows them, in their order. */
function labelTexts(map: TableMap, i: number): readonly string[] {
  const charset = charsetOf(map, i);
  const out = new ByteWriter(64);
  return (map.metadata.labels[i] ?? []).map((label) => {
    out.reset();
    writeTextOf(out, charset, label, 0, label.length);
    return out.view().toString("utf8").replaceAll(BEYOND, UNKNOWN);
  });
}

/** `enum('a','it''s')`, with nothing else escaped. */
export function labelList(name: string, labels: readonly string[]): string {
  return `${name}(${labels.map((label) => `'${label.replaceAll("'", "''")}'`).join(",")})`;
}

/** The labels of an ENUM, from what `labelList` made; none if one of them may be ambiguous. */
function certainLabels(native: string): readonly string[] {
  const labels = Array.from(native.matchAll(/'((?:[^']|'')*)'/gs), ([, label = ""]) => label.replaceAll("''", "'"));
  return labels.some((label) => label.includes(UNKNOWN)) ? [] : labels;
}
