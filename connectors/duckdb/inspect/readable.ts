/** A DuckDB file that another tool fills, for `millrace verify`. */
import type { TextRow } from "../../../src/core/contracts/readable.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { ReadableSql, type SqlType } from "../../kit/readable-sql.ts";
import type { DatabaseSettings } from "../file/database.ts";
import { classify } from "../errors.ts";
import { META_SCHEMA, quoteIdentifier, quoteLiteral } from "../names.ts";
import { interrupting, wholeResult } from "../../kit/duckdb-engine/reading.ts";
import { expectFile, openedReading } from "./query-file.ts";

const CATALOGUE = `SELECT schema_name, table_name, '', column_name, data_type FROM duckdb_columns()
  WHERE NOT internal AND database_name = current_database() AND schema_name <> ${quoteLiteral(META_SCHEMA)}
  ORDER BY schema_name, table_name, column_index`;

export async function readableFile({ path, memoryLimit, threads }: DatabaseSettings): Promise<ReadableSql> {
  expectFile(path);
  const instance = await openedReading(path, memoryLimit, threads);
  return new ReadableSql({
    catalogue: CATALOGUE,
    typeOf,
    from: (schema, table) => `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`,
    quote: quoteIdentifier,
    rows: async function* (sql, signal): AsyncGenerator<readonly TextRow[]> {
      const connection = await instance.connect();
      using _ = interrupting(connection, signal);
      try {
        await connection.run("SET TimeZone = 'UTC'; BEGIN TRANSACTION READ ONLY");
        const result = await connection.stream(sql);
        for await (const rows of wholeResult(result, (it) => it.yieldRows()))
          yield rows.map((row) => row.map((value) => (value === null ? null : String(value))));
      } catch (error) {
        signal.throwIfAborted();
        throw classify(error, "reading rows to compare");
      } finally {
        connection.disconnectSync();
      }
    },
    close: async () => instance.closeSync(),
  });
}

function typeOf(native: string): SqlType {
  const text = (column: string): string => `CAST(${column} AS VARCHAR)`;
  const literal = (value: string): string => `CAST(${quoteLiteral(value)} AS ${native})`;
  const as = (type: ColumnType, more: Partial<SqlType> = {}): SqlType => ({ type, text, literal, ...more });
  const plain = native.toUpperCase();
  if (/\]$|^(JSON|STRUCT|MAP|UNION)\b/.test(plain))
    return as({ kind: "json" }, { text: (column) => `CAST(to_json(${column}) AS VARCHAR)` });
  const [base = ""] = /^\w+/.exec(plain) ?? [];
  switch (base) {
    case "BOOLEAN":
      return as({ kind: "bool" }, { text: (column) => `CASE ${column} WHEN true THEN 't' WHEN false THEN 'f' END` });
    case "TINYINT":
    case "SMALLINT":
    case "INTEGER":
    case "BIGINT":
    case "HUGEINT":
    case "UTINYINT":
    case "USMALLINT":
    case "UINTEGER":
    case "UBIGINT":
    case "UHUGEINT":
      return as({ kind: "int", bits: 64, signed: true });
    case "FLOAT":
    case "DOUBLE":
      return as(
        { kind: "float", bits: 64 },
        {
          text: (column) =>
            `CASE WHEN isnan(${column}) THEN 'NaN' WHEN isinf(${column}) THEN if(${column} > 0, 'Infinity', '-Infinity') ELSE CAST(${column} AS VARCHAR) END`,
        },
      );
    case "DECIMAL":
      return as({ kind: "decimal", precision: null, scale: null });
    case "BLOB":
      return as(
        { kind: "bytes" },
        { text: (column) => `'\\x' || lower(hex(${column}))`, literal: (value) => `unhex('${value.slice(2)}')` },
      );
    case "DATE":
      return as({ kind: "date" }, { text: (column) => `replace(CAST(${column} AS VARCHAR), ' (BC)', ' BC')` });
    case "TIME":
      return as({ kind: "time" });
    case "TIMESTAMP":
    case "TIMESTAMP_S":
    case "TIMESTAMP_MS":
    case "TIMESTAMP_NS":
      return as({ kind: "timestamp", zone: plain.endsWith("WITH TIME ZONE") });
    case "UUID":
      return as({ kind: "uuid" });
    case "VARCHAR":
    case "ENUM":
      return as({ kind: "text" });
    default:
      return as({ kind: "opaque" });
  }
}
