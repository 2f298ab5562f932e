/** MySQL's and MariaDB's side: shape and rows of a table as the server itself prints them, by other means than the product's. */
import { type Connection, createConnection } from "mysql2/promise";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { type Cells, displayName, type SourceColumn, type SourceTable, type TableName } from "./source-table.ts";

export async function openMysql(url: string): Promise<Connection & AsyncDisposable> {
  const connection = await createConnection({
    uri: url,
    charset: "utf8mb4",
    rowsAsArray: true,
    typeCast: (field) => field.string("utf8"),
  });
  await connection.query("set time_zone = '+00:00'");
  await connection.query("start transaction with consistent snapshot");
  return Object.assign(connection, { [Symbol.asyncDispose]: () => connection.end() });
}

interface Described {
  readonly name: string;
  readonly dataType: string;
  readonly columnType: string;
}

export async function describeMysqlTable(connection: Connection, name: TableName): Promise<SourceTable> {
  const shown = name.shownBy ?? name.table;
  const where = `table_schema = ${quotedText(name.schema)} and table_name = ${quotedText(shown)}`;
  const relation = `${quotedName(name.schema)}.${quotedName(shown)}`;
  const [[, definition] = []] = await rowsOf(connection, `show create table ${relation}`);
  const columns = (
    await rowsOf(
      connection,
      `select column_name, data_type, column_type from information_schema.columns where ${where} order by ordinal_position`,
    )
  ).map(([column, dataType, columnType]): Described => ({
    name: column!,
    // MariaDB's JSON is a text that is checked.
    dataType: definition?.includes(`CHECK (json_valid(${quotedName(column!)}))`) === true ? "json" : dataType!,
    columnType: columnType!,
  }));
  const keys = await rowsOf(
    connection,
    `select index_name, column_name from information_schema.statistics where ${where} and non_unique = 0
     order by index_name <> 'PRIMARY', index_name, seq_in_index`,
  );
  const keyNames = name.key ?? keys.filter(([index]) => index === keys[0]?.[0]).map(([, column]) => column!);
  const key = keyNames.map((column) => columns.findIndex((other) => other.name === column));
  if (key.length === 0 || key.includes(-1)) throw new Error(`${displayName(name)} has no key to compare rows by`);
  return {
    schema: name.schema,
    table: name.table,
    relation,
    key,
    columns: columns.map((column) => ({
      name: column.name,
      type: typeOf(column),
      native: column.columnType,
      isKey: keyNames.includes(column.name),
    })),
  };
}

export async function* readMysqlRows(
  connection: Connection,
  { relation, columns }: SourceTable,
): AsyncGenerator<Cells[]> {
  // The client takes no column whose name is that of an object's own property.
  const list = columns.map((column, i) => `${printed(column)} as c${i}`).join(", ");
  yield await rowsOf(connection, `select ${list} from ${relation}`);
}

async function rowsOf(connection: Connection, sql: string): Promise<(string | null)[][]> {
  const [rows] = await connection.query(sql);
  if (!Array.isArray(rows)) throw new Error("the statement has no rows");
  return rows.map((row) =>
    Array.isArray(row) ? row.map((value: unknown) => (typeof value === "string" ? value : null)) : [],
  );
}

function typeOf({ dataType, columnType }: Described): ColumnType {
  switch (dataType) {
    case "tinyint":
    case "smallint":
    case "mediumint":
    case "int":
    case "bigint":
    case "year":
      return { kind: "int", bits: 64, signed: !columnType.includes("unsigned") };
    case "float":
      return { kind: "float", bits: 32 };
    case "double":
      return { kind: "float", bits: 64 };
    case "decimal": {
      const [, precision, scale] = /\((\d+),(\d+)\)/.exec(columnType) ?? [];
      return { kind: "decimal", precision: Number(precision), scale: Number(scale) };
    }
    case "bit":
      return columnType === "bit(1)" ? { kind: "bool" } : { kind: "int", bits: 64, signed: false };
    case "date":
      return { kind: "date" };
    case "datetime":
      return { kind: "timestamp", zone: false };
    case "timestamp":
      return { kind: "timestamp", zone: true };
    case "json":
      return { kind: "json" };
    case "enum":
      return { kind: "enum", labels: [] };
    case "binary":
    case "varbinary":
    case "tinyblob":
    case "blob":
    case "mediumblob":
    case "longblob":
    case "geometry":
    case "point":
    case "linestring":
    case "polygon":
    case "multipoint":
    case "multilinestring":
    case "multipolygon":
    case "geomcollection":
    case "geometrycollection":
      return { kind: "bytes" };
    case "vector":
      return { kind: "vector", form: "single", dimension: null };
    case "time":
    case "set":
      return { kind: "opaque" };
    default:
      return { kind: "text" };
  }
}

const GEOMETRY = /^(?:geom|point|linestring|polygon|multi)/;

/** The server has the number of the reference system first; PostGIS' form has it behind the type, with a flag, or not at all. */
function ewkb(value: string): string {
  const part = (from: number, count = ""): string => `hex(substr(${value}, ${from}${count}))`;
  const numbered = `concat(${part(5, ", 4")}, '20', ${part(1, ", 4")}, ${part(10)})`;
  return `concat(0x5c78, lower(if(${part(1, ", 4")} in ('', '00000000'), ${part(5)}, ${numbered})))`;
}

/** The text that Postgres would print for the same value. */
function printed({ name, type, native }: SourceColumn): string {
  const column = quotedName(name);
  if (type.kind === "bool") return `if(${column} is null, null, if(${column}, 't', 'f'))`;
  if (GEOMETRY.test(native)) return ewkb(`cast(${column} as binary)`);
  if (type.kind === "bytes") return `concat(0x5c78, lower(hex(${column})))`;
  // Each server takes the other's for a comment. MySQL prints six digits only.
  if (type.kind === "vector") return `/*M! vec_totext(${column}) */ /*!90000 vector_to_string(${column}) */`;
  if (type.kind === "date") return `if(month(${column}) = 0 or day(${column}) = 0, null, ${column})`;
  if (type.kind === "int") return /^(bit|year)/.test(native) ? `${column} + 0` : column;
  if (type.kind !== "timestamp") return column;
  const trimmed = `if(locate('.', ${column}) > 0, trim(trailing '0' from ${column}), ${column})`;
  const zone = type.zone ? "+00" : "";
  return `if(month(${column}) = 0 or day(${column}) = 0, null, concat(trim(trailing '.' from ${trimmed}), '${zone}'))`;
}

function quotedName(name: string): string {
  return `\`${name.replaceAll("`", "``")}\``;
}

function quotedText(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
