/** A ClickHouse database that another tool fills, for `millrace verify`: each row's last version, as FINAL shows it. */
import type { ClickHouseSettings } from "@clickhouse/client";
import type { TextRow } from "../../../src/core/contracts/readable.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import { ReadableSql, type SqlType } from "../../kit/readable-sql.ts";
import { Client, type ClientSettings } from "../client.ts";
import { classify } from "../errors.ts";
import { quoteIdentifier, quoteLiteral, RESERVED_DATABASES } from "../names.ts";
import { lines } from "./inspect.ts";

/** Engines that keep several versions of a row. */
const VERSIONED = /(Replacing|Collapsing|Coalescing)MergeTree$/;
const ROWS_PER_PART = 10_000;
const FORMS: ClickHouseSettings = {
  date_time_output_format: "simple",
  output_format_json_quote_64bit_integers: 0,
  output_format_json_quote_decimals: 0,
};

/** `schema`: the only database that is meant; undefined: all. */
export async function readableServer(
  settings: ClientSettings,
  schema: string | undefined,
  signal: AbortSignal,
): Promise<ReadableSql> {
  const client = await Client.open(settings, signal).catch((error: unknown) => {
    throw classify(error, "connecting", signal);
  });
  const meant =
    schema === undefined
      ? `NOT IN (${[...RESERVED_DATABASES].map(quoteLiteral).join(", ")})`
      : `= ${quoteLiteral(schema)}`;
  return new ReadableSql({
    catalogue: `SELECT c.database, c.table, t.engine, c.name, c.type FROM system.columns AS c JOIN system.tables AS t
      ON t.database = c.database AND t.name = c.table
      WHERE c.database ${meant} AND NOT startsWith(c.table, '.')
      ORDER BY c.database, c.table, c.position`,
    typeOf,
    from: (database, table, engine) =>
      `${quoteIdentifier(database)}.${quoteIdentifier(table)}${VERSIONED.test(engine) ? " FINAL" : ""}`,
    quote: quoteIdentifier,
    rows: async function* (sql, until): AsyncGenerator<readonly TextRow[]> {
      try {
        let part: TextRow[] = [];
        for await (const line of lines(await client.bytes(`${sql} FORMAT JSONCompactEachRow`, until, FORMS))) {
          const row: unknown = JSON.parse(line);
          part.push(Array.isArray(row) ? row.map((value) => (value === null ? null : String(value))) : []);
          if (part.length < ROWS_PER_PART) continue;
          yield part;
          part = [];
        }
        if (part.length > 0) yield part;
      } catch (error) {
        throw classify(error, "reading rows to compare", until);
      }
    },
    close: async () => await client[Symbol.asyncDispose](),
  });
}

function typeOf(native: string): SqlType {
  const [, wrapped] = /^(?:LowCardinality|Nullable)\((.*)\)$/s.exec(native) ?? [];
  if (wrapped !== undefined) return typeOf(wrapped);
  const text = (column: string): string => `toString(${column})`;
  const literal = (value: string): string => `CAST(${quoteLiteral(value)} AS ${native})`;
  const as = (type: ColumnType, more: Partial<SqlType> = {}): SqlType => ({ type, text, literal, ...more });
  const [name = ""] = /^\w+/.exec(native) ?? [];
  if (/^U?Int\d+$/.test(name)) return as({ kind: "int", bits: 64, signed: true });
  switch (name) {
    case "Bool":
      return as(
        { kind: "bool" },
        {
          text: (column) => `multiIf(${column}, 't', isNull(${column}), NULL, 'f')`,
          literal: (value) => (value === "t" ? "true" : "false"),
        },
      );
    case "Float32":
    case "Float64":
      return as(
        { kind: "float", bits: 64 },
        {
          text: (column) =>
            `multiIf(isNaN(${column}), 'NaN', isInfinite(${column}), if(${column} > 0, 'Infinity', '-Infinity'), toString(${column}))`,
        },
      );
    case "Decimal":
      return as({ kind: "decimal", precision: null, scale: null });
    case "String":
    case "Enum8":
    case "Enum16":
      return as({ kind: "text" });
    case "FixedString":
      return as({ kind: "text" }, { text: (column) => `toStringCutToZero(${column})` });
    case "UUID":
      return as({ kind: "uuid" });
    case "Date":
    case "Date32":
      return as({ kind: "date" });
    case "DateTime":
    case "DateTime64":
      return as(
        { kind: "timestamp", zone: true },
        {
          text: (column) => `toString(toTimeZone(${column}, 'UTC'))`,
          literal: (value) => `toDateTime64(${quoteLiteral(value.replace(/\+00$/, ""))}, 9, 'UTC')`,
        },
      );
    case "Array":
    case "Map":
    case "Tuple":
    case "Object":
    case "JSON":
      return as({ kind: "json" }, { text: (column) => `toJSONString(${column})` });
    default:
      return as({ kind: "opaque" });
  }
}
