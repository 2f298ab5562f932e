/**
 * Makes core's shapes from the catalogue and from table maps. Both must give the same shape for the same table: a shape in
 * the log is looked up among those from the catalogue.
 */
import { createHash } from "node:crypto";
import type { ChosenKey, TableName, ZeroDates } from "../../../../src/core/contracts/connector.ts";
import { type Column, tableId } from "../../../../src/core/model/schema.ts";
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { ColumnType } from "../../../../src/core/model/types.ts";
import { fatal, pages } from "../../errors.ts";
import { type CatalogColumn, type CatalogTable, VERSIONED } from "./catalog.ts";
import { bitWidth, columnsOf, nativeType as nativeOfMap } from "./columns.ts";
import type { SourceContext } from "../context.ts";
import { certainLabels, labelList } from "../values/labels.ts";
import { LONGLONG, TIMESTAMP } from "../rows/field-types.ts";
import { findKey } from "./keys.ts";
import type { TableMap } from "../rows/table-map.ts";

/** What the configuration says about a table. */
export interface ShapeRules {
  readonly zeroDates: (table: TableName) => ZeroDates;
  readonly chosenKey: (table: TableName) => ChosenKey | null;
}

/** Undefined if the table has no key, or not the chosen one. */
export function catalogShape(table: CatalogTable, rules: ShapeRules): TableShape | undefined {
  const key = findKey(table, rules.chosenKey(table));
  if (key.kind !== "own" && key.kind !== "chosen") return undefined;
  const zeroDates = rules.zeroDates(table);
  const columns = table.columns.map((column, i): Column => {
    const type: ColumnType = isCalendar(column) && zeroDates === "text" ? { kind: "text" } : columnType(column);
    const isKey = table.primary?.columns.includes(column.name) === true;
    return {
      name: column.name,
      type,
      native: nativeType(column),
      nullable: column.nullable || (!isKey && zeroDates === "null" && isCalendar(column)),
      identity: -(i + 1),
    };
  });
  return shapeOf(table.schema, table.table, columns, key.columns, key.kind === "chosen");
}

/** The shape to follow for a table of the catalogue: the log's shape, if the two are known to differ. */
export function followedShape(table: CatalogTable, context: SourceContext): TableShape | undefined {
  const shape = catalogShape(table, context);
  return shape === undefined ? undefined : context.shapes.of(table, shape);
}

/** The shape in the log. If the log names no key, the catalogue shows it; the catalogue may be ahead. */
export function mappedShape(map: TableMap, table: CatalogTable | undefined, rules: ShapeRules): TableShape {
  const { names } = map.metadata;
  const zeroDates = rules.zeroDates(map);
  if (names.length !== map.types.length)
    throw fatal("MR2103", `rows of ${map.schema}.${map.table} name no columns in the log`, pages.MR2103?.remedy ?? "");
  const columns = columnsOf(map, { zeroDates, known: knownColumns(map, table) })
    .slice(0, visibleCount(map, table))
    .map((column) => ({ ...column, identity: -column.identity }));
  const wanted = rules.chosenKey(map);
  const key = mappedKey(map, table, wanted);
  const isWhole = key.every((name) => names.includes(name));
  return shapeOf(map.schema, map.table, columns, isWhole ? key : [], wanted !== null && isChosen(wanted, key));
}

/**
 * MariaDB keeps the hashes of a unique index over texts, and the times of a history, in extra columns after all others; only
 * the log shows them.
 */
function visibleCount(map: TableMap, table: CatalogTable | undefined): number {
  const { flavour, metadata, types } = map;
  const { names } = metadata;
  if (flavour !== "mariadb") return names.length;
  const shown = new Set(table?.columns.map(({ name }) => name));
  const hasHistory = rowEndOf(map, table) !== NO_HISTORY;
  const isHash = (name: string, i: number): boolean => HASH.test(name) && types[i] === LONGLONG;
  const isTime = (name: string, i: number): boolean => hasHistory && TIMES.has(name) && isHistoryTime(map, i);
  return names.findLastIndex((name, i) => shown.has(name) || !(isHash(name, i) || isTime(name, i))) + 1;
}

const HASH = /^DB_ROW_HASH_\d+$/;
/** What the server calls columns that nobody named. */
const TIMES: ReadonlySet<string> = new Set(["row_start", "row_end"]);
const NO_HISTORY = -1;

/**
 * The column of the log that says until when a row was valid; -1: the table has no history. If the catalogue does not know
 * of a history, the log shows one by the column's place in the primary key: the table was altered since, or is gone.
 */
export function rowEndOf(map: TableMap, table: CatalogTable | undefined): number {
  if (map.flavour !== "mariadb") return NO_HISTORY;
  const { names, primaryKey } = map.metadata;
  const own = table?.history?.rowEnd;
  const i = names.lastIndexOf(own ?? "row_end");
  if (i < 0 || !isHistoryTime(map, i)) return NO_HISTORY;
  if (own !== undefined) return i;
  const isShown = table?.columns.some(({ name }) => name === "row_end") === true;
  const isHidden = !isShown && names[i - 1] === "row_start" && isHistoryTime(map, i - 1);
  return isHidden && (table?.type === VERSIONED || primaryKey.includes(i)) ? i : NO_HISTORY;
}

const MICROSECOND_DIGITS = 6;

function isHistoryTime({ first, nullable, types }: TableMap, i: number): boolean {
  return types[i] === TIMESTAMP && first[i] === MICROSECOND_DIGITS && nullable[i] === false;
}

function mappedKey(map: TableMap, table: CatalogTable | undefined, wanted: ChosenKey | null): readonly string[] {
  const { names } = map.metadata;
  const rowEnd = rowEndOf(map, table);
  const primaryKey = map.metadata.primaryKey.filter((i) => i !== rowEnd);
  const found = table === undefined ? undefined : findKey(table, wanted);
  if (found?.kind === "unknown" || found?.kind === "unfit") return [];
  if (found?.kind === "chosen") return found.columns;
  // For a table that is gone, the log is the only source.
  if (table === undefined && wanted?.columns.every((name) => names.includes(name)) === true) return wanted.columns;
  if (primaryKey.length > 0) return primaryKey.map((i) => names[i]!);
  return found?.kind === "own" ? found.columns : [];
}

function isChosen({ columns }: ChosenKey, key: readonly string[]): boolean {
  return columns.length === key.length && columns.every((name, i) => name === key[i]);
}

/** Columns whose exact type the log does not show; a catalogue that is ahead may have another type for them. */
function knownColumns(map: TableMap, table: CatalogTable | undefined): ReadonlyMap<number, KnownColumn> {
  const known = new Map<number, KnownColumn>();
  if (map.flavour !== "mariadb" || table === undefined) return known;
  const columns = new Map(table.columns.map((column) => [column.name, column]));
  map.metadata.names.forEach((name, i) => {
    const column = columns.get(name);
    if (column !== undefined && layoutOf(column) === nativeOfMap(map, i))
      known.set(i, { type: columnType(column), native: nativeType(column) });
  });
  return known;
}

function shapeOf(
  schema: string,
  table: string,
  columns: readonly Column[],
  names: readonly string[],
  keyChosen: boolean,
): TableShape {
  const key = names.map((name) => columns.findIndex((column) => column.name === name));
  const fingerprint = createHash("sha256")
    .update(JSON.stringify([schema, table, columns, key]))
    .digest("hex");
  const id = tableId(schema, table);
  const shape: TableShape = {
    id,
    schema,
    table,
    dialect: "mysql",
    relation: 1,
    columns,
    key,
    deferrableKey: false,
    fingerprint,
  };
  return keyChosen ? { ...shape, keyChosen } : shape;
}

type KnownColumn = Pick<Column, "type" | "native">;

const CALENDAR = new Set(["date", "datetime", "timestamp"]);

/** A date that does not exist becomes null, whatever the column says. */
function isCalendar({ dataType }: CatalogColumn): boolean {
  return CALENDAR.has(dataType);
}

const INTEGER_BITS: Readonly<Record<string, 8 | 16 | 24 | 32 | 64>> = {
  tinyint: 8,
  smallint: 16,
  mediumint: 24,
  int: 32,
  bigint: 64,
};

function isUnsigned({ columnType: type }: CatalogColumn): boolean {
  return / unsigned/i.test(type) || / zerofill/i.test(type);
}

export function columnType(column: CatalogColumn): ColumnType {
  if (column.isJson) return { kind: "json" };
  const bits = INTEGER_BITS[column.dataType];
  if (bits !== undefined) return { kind: "int", bits, signed: !isUnsigned(column) };
  switch (column.dataType) {
    case "year":
      return { kind: "int", bits: 16, signed: true };
    case "float":
      return { kind: "float", bits: 32 };
    case "double":
      return { kind: "float", bits: 64 };
    case "decimal":
      return { kind: "decimal", precision: column.precision, scale: column.scale };
    case "date":
      return { kind: "date" };
    case "datetime":
      return { kind: "timestamp", zone: false };
    case "timestamp":
      return { kind: "timestamp", zone: true };
    case "bit":
      return column.precision === 1
        ? { kind: "bool" }
        : { kind: "int", bits: bitWidth(column.precision), signed: false };
    case "enum":
      return { kind: "enum", labels: certainLabels(labelsOf(column.columnType)) };
    case "json":
      return { kind: "json" };
    case "vector":
      return { kind: "array", of: { kind: "float", bits: 32 } };
    case "time":
    case "set":
      return { kind: "opaque" };
    case "uuid":
      return { kind: "uuid" };
    case "inet4":
    case "inet6":
      return { kind: "text" };
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

/** `enum('a','it''s')`: the server escapes a backslash, NUL, and the ends of lines, whatever the sql_mode. */
function labelsOf(type: string): readonly string[] {
  return Array.from(type.matchAll(/'((?:[^'\\]|\\.|'')*)'/gs), ([, label = ""]) =>
    label.replaceAll(/''|\\./gs, (escaped) => LABEL_ESCAPES[escaped] ?? escaped.slice(1)),
  );
}

const LABEL_ESCAPES: Readonly<Record<string, string>> = { "''": "'", "\\0": "\0", "\\n": "\n", "\\r": "\r" };

/** What MariaDB's own types look like in the log. */
const LAYOUTS: Readonly<Record<string, string>> = { uuid: "binary(16)", inet6: "binary(16)", inet4: "binary(4)" };

const VECTOR_DIMENSION_BYTES = 4;

function layoutOf(column: CatalogColumn): string | undefined {
  if (column.dataType === "vector") {
    const dimensions = Number(/\((\d+)\)/.exec(column.columnType)?.[1] ?? 0);
    return `varbinary(${dimensions * VECTOR_DIMENSION_BYTES})`;
  }
  if (!column.isJson) return LAYOUTS[column.dataType];
  return isCompressed(column) ? `${column.dataType} compressed` : column.dataType;
}

function isCompressed({ columnType: type }: CatalogColumn): boolean {
  return type.includes("COMPRESSED");
}

function nativeType(column: CatalogColumn): string {
  const { dataType, digits, length, precision, scale } = column;
  const compressed = isCompressed(column) ? " compressed" : "";
  const sign = isUnsigned(column) ? " unsigned" : "";
  switch (dataType) {
    case "tinyint":
    case "smallint":
    case "mediumint":
    case "int":
    case "bigint":
    case "float":
    case "double":
      return `${dataType}${sign}`;
    case "decimal":
      return `decimal(${precision},${scale})${sign}`;
    case "time":
    case "datetime":
    case "timestamp":
      return digits === 0 ? dataType : `${dataType}(${digits})`;
    case "bit":
      return `bit(${precision})`;
    case "char":
    case "varchar":
    case "binary":
    case "varbinary":
      return `${dataType}(${length})${compressed}`;
    case "enum":
    case "set":
      return labelList(dataType, labelsOf(column.columnType));
    case "vector":
      return column.columnType.toLowerCase();
    case "geomcollection":
      return "geometrycollection";
    default:
      return column.isJson ? "json" : `${dataType}${compressed}`;
  }
}
