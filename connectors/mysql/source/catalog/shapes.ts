/**
 * Makes core's shapes from the catalogue and from table maps. Both must give the same shape for the same table: a shape in
 * the log is looked up among those from the catalogue.
 */
import { createHash } from "node:crypto";
import type { ChosenKey, TableName, ZeroDates } from "../../../../src/core/contracts/connector.ts";
import { type Column, type Origins, tableId } from "../../../../src/core/model/schema.ts";
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import { type CatalogColumn, type CatalogTable, VERSIONED } from "./catalog.ts";
import { columnOf, columnsOf, labelList, nativeType as nativeOfMap, withFraction } from "../rows/columns.ts";
import { DATETIME_OLD, LONGLONG, TIME_OLD, TIMESTAMP, TIMESTAMP_OLD } from "../values/field-types.ts";
import { fatal } from "../errors.ts";
import type { TableMap } from "../rows/table-map.ts";
import { quoteName, quoteTable, unquoted } from "../../quote.ts";

/** What the configuration says about tables. */
export interface TableRules {
  readonly zeroDates: (table: TableName) => ZeroDates;
  readonly chosenKey: (table: TableName) => ChosenKey | null;
}

/** Undefined if the table has no key, or not the chosen one. */
export function catalogShape(table: CatalogTable, rules: TableRules): TableShape | undefined {
  const key = findKey(table, rules.chosenKey(table));
  if (key.kind !== "own" && key.kind !== "chosen") return undefined;
  const zeroDates = rules.zeroDates(table);
  const columns = table.columns.flatMap((column, i) => {
    const { isLogged, name, nullable } = column;
    if (!isLogged) return [];
    const described = { name, native: nativeType(column), nullable, identity: -(i + 1) };
    return columnOf(described, key.columns.includes(name), zeroDates);
  });
  return { ...shapeOf(table.schema, table.table, columns, key.columns, key.kind === "chosen"), ...originsOf(table) };
}

export function unloggedColumns(table: CatalogTable | undefined): readonly CatalogColumn[] {
  return table?.columns.filter(({ isLogged }) => !isLogged) ?? [];
}

/** The columns from which generated ones are made, those behind other generated ones too. */
function originsOf({ columns }: CatalogTable): { readonly origins?: Origins } {
  const names = new Set(columns.map(({ name }) => name));
  const generated = columns.filter(({ expression }) => expression !== "");
  const inputs = new Map(
    generated.map(({ name, expression }) => {
      const quoted = Array.from(expression.matchAll(/`((?:[^`]|``)+)`/g), ([, text = ""]) => unquoted(text));
      return [name, new Set(quoted.filter((input) => names.has(input) && input !== name))] as const;
    }),
  );
  // They grow while they are walked.
  for (const from of inputs.values())
    for (const name of from) for (const more of inputs.get(name) ?? []) from.add(more);
  const made = [...inputs].filter(([, from]) => from.size > 0);
  if (made.length === 0) return {};
  const origins = Object.fromEntries(made.map(([name, from]) => [name, { from: [...from], identity: 0 }]));
  return { origins: { generated: origins, parents: [], rows: {} } };
}

/** The shape in the log. If the log names no key, the catalogue shows it; the catalogue may be ahead. */
export function mappedShape(map: TableMap, table: CatalogTable | undefined, rules: TableRules): TableShape {
  const zeroDates = rules.zeroDates(map);
  const unlogged = new Set(unloggedColumns(table).map(({ name }) => name));
  const wanted = rules.chosenKey(map);
  const key = mappedKey(map, table, wanted);
  const columns = columnsOf(map, { key, zeroDates, known: knownTypes(map, table) })
    .slice(0, visibleCount(map, table))
    .filter(({ name }) => !unlogged.has(name))
    .map((column) => ({ ...column, identity: -column.identity }));
  const isWhole = key.every((name) => columns.some((column) => column.name === name));
  const shape = shapeOf(map.schema, map.table, columns, isWhole ? key : [], wanted !== null && isChosen(wanted, key));
  return table === undefined ? shape : { ...shape, ...originsOf(table) };
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
  // Of a table without one, the log names a unique index that the server takes for a primary key, which may be another one.
  const own = found?.kind === "own" ? found.columns : [];
  const hasOwn = own.every((name) => map.nullable[names.indexOf(name)] === false);
  if (primaryKey.length > 0 && (table?.primary !== undefined || own.length === 0 || !hasOwn))
    return primaryKey.map((i) => names[i]!);
  return own;
}

/**
 * MariaDB's times in the format of before 10.1: the log does not say how many digits of seconds they have, and where there are
 * any, the value has another length and form. The catalogue may be ahead.
 */
export function refuseOldFractions(map: TableMap, table: CatalogTable | undefined): void {
  const column = table?.columns.find(({ digits, name }) => {
    const type = map.types[map.metadata.names.indexOf(name)];
    return digits > 0 && (type === TIME_OLD || type === DATETIME_OLD || type === TIMESTAMP_OLD);
  });
  if (column === undefined) return;
  const what = `column ${column.name} of ${map.schema}.${map.table} has fractions of seconds in the format of before MariaDB 10.1`;
  throw fatal("MR2105", `${what}, of which the log does not tell`);
}

function isChosen({ columns }: ChosenKey, key: readonly string[]): boolean {
  return columns.length === key.length && columns.every((name, i) => name === key[i]);
}

/** Types of columns that the log does not show exactly; a catalogue that is ahead may have another type for them. */
function knownTypes(map: TableMap, table: CatalogTable | undefined): ReadonlyMap<number, string> {
  const known = new Map<number, string>();
  if (table === undefined) return known;
  const columns = new Map(table.columns.map((column) => [column.name, column]));
  map.metadata.names.forEach((name, i) => {
    const column = columns.get(name);
    if (column !== undefined && layoutOf(column) === nativeOfMap(map, i)) known.set(i, nativeType(column));
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

function isUnsigned({ columnType: type }: CatalogColumn): boolean {
  return / unsigned/i.test(type) || / zerofill/i.test(type);
}

/** `enum('a','it''s')`: the server escapes a backslash, NUL, and the ends of lines, whatever the sql_mode. */
function labelsOf(type: string): readonly string[] {
  return Array.from(type.matchAll(/'((?:[^'\\]|\\.|'')*)'/gs), ([, label = ""]) =>
    label.replaceAll(/''|\\./gs, (escaped) => LABEL_ESCAPES[escaped] ?? escaped.slice(1)),
  );
}

const LABEL_ESCAPES: Readonly<Record<string, string>> = { "''": "'", "\\0": "\0", "\\n": "\n", "\\r": "\r" };

/** What types look like in the log that it does not show exactly. */
const LAYOUTS: Readonly<Record<string, string>> = { uuid: "binary(16)", inet6: "binary(16)", inet4: "binary(4)" };

const VECTOR_DIMENSION_BYTES = 4;

function layoutOf(column: CatalogColumn): string | undefined {
  if (column.dataType === "vector") {
    const dimensions = Number(/\((\d+)\)/.exec(column.columnType)?.[1] ?? 0);
    return `varbinary(${dimensions * VECTOR_DIMENSION_BYTES})`;
  }
  if (column.dataType === "float" || column.dataType === "double")
    return `${column.dataType}${isUnsigned(column) ? " unsigned" : ""}`;
  if (!column.isJson) return LAYOUTS[column.dataType];
  return isCompressed(column) ? `${column.dataType} compressed` : column.dataType;
}

function isCompressed({ columnType: type }: CatalogColumn): boolean {
  return type.includes("COMPRESSED");
}

/** `(7,2)` of a float that is rounded and compared by its decimals. */
function decimalsOf({ columnType }: CatalogColumn): string {
  return /\(\d+,\d+\)/.exec(columnType)?.[0] ?? "";
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
      return `${dataType}${sign}`;
    case "float":
    case "double":
      return `${dataType}${decimalsOf(column)}${sign}`;
    case "decimal":
      return `decimal(${precision},${scale})${sign}`;
    case "time":
    case "datetime":
    case "timestamp":
      return withFraction(dataType, digits);
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

/**
 * What identifies a table's rows: its own key, or the columns that the configuration chooses. The log has whole old rows.
 */
export type FoundKey =
  | { readonly kind: "own" | "chosen"; readonly columns: readonly string[] }
  | { readonly kind: "none" }
  /** The chosen columns include one that the table does not have, or can't be its key. */
  | { readonly kind: "unknown" | "unfit"; readonly reason: string; readonly fix: string };

/** The key if `wanted` is chosen for the table; null: nothing is chosen. */
export function findKey(table: CatalogTable, wanted: ChosenKey | null): FoundKey {
  const own = table.primary ?? table.uniques[0];
  const ownKey: FoundKey = own === undefined ? { kind: "none" } : { kind: "own", columns: own.columns };
  if (wanted === null) return ownKey;
  const columns = wanted.columns.map((name) => table.columns.find((column) => column.name === name));
  const unknown = wanted.columns.find((_, i) => columns[i] === undefined);
  const chosen = wanted.columns.map((name) => JSON.stringify(name)).join(", ");
  if (unknown !== undefined) {
    if (wanted.isForMany) return ownKey;
    const reason = `its key is to be ${chosen}, and it has no column ${JSON.stringify(unknown)}`;
    return { kind: "unknown", reason, fix: "Take the column's name at the source." };
  }
  const unlogged = columns.find((column) => column?.isLogged === false);
  if (unlogged !== undefined) {
    const reason = `its key is to be ${chosen}, and the log leaves out the generated column ${JSON.stringify(unlogged.name)}`;
    return { kind: "unfit", reason, fix: "Choose a key without it." };
  }
  const proofs = table.primary === undefined ? table.uniques : [table.primary, ...table.uniques];
  const isProven = proofs.some((index) => index.columns.every((name) => wanted.columns.includes(name)));
  const isNotNull = columns.every((column) => column?.nullable === false);
  if (isProven && isNotNull) return { kind: "chosen", columns: wanted.columns };
  // The table is left out anyway: the rule is meant for others.
  if (own === undefined && wanted.isForMany) return ownKey;
  const reason = `its key is to be ${chosen}, and no unique index over NOT NULL columns keeps its rows apart by that`;
  const nullable = wanted.columns.filter((_, i) => columns[i]?.nullable === true);
  const statements = [
    ...nullable.map((name) => `MODIFY ${quoteName(name)} … NOT NULL`),
    ...(isProven ? [] : [`ADD UNIQUE (${wanted.columns.map(quoteName).join(", ")})`]),
  ];
  return {
    kind: "unfit",
    reason,
    fix: `ALTER TABLE ${quoteTable(table.schema, table.table)} ${statements.join(", ")};`,
  };
}
