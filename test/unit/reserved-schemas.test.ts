/** A target's own schemas are refused by name where a sink is to put all its tables there. */
import { expect, test } from "vitest";
import type { ZodType } from "zod";
import { definition as clickhouse } from "../../connectors/clickhouse/config.ts";
import { definition as duckdb } from "../../connectors/duckdb/config.ts";
import { definition as ducklake } from "../../connectors/duckdb/lake/config.ts";
import { definition as postgres } from "../../connectors/postgres/sink/config.ts";
import { definition as sqlite } from "../../connectors/sqlite/config.ts";

const lake = { catalog: "sqlite:./lake.db", data: "./lake" };
const ENGINES: readonly [name: string, definition: ZodType, options: object, reserved: readonly string[]][] = [
  ["duckdb", duckdb, { path: "./a" }, ["pg_catalog", "Information_Schema", "_millrace"]],
  ["ducklake", ducklake, lake, ["pg_catalog", "information_schema", "_MILLRACE"]],
  ["postgres", postgres, { url: "postgres://h/d" }, ["pg_catalog", "pg_x", "information_schema", "_millrace"]],
  ["sqlite", sqlite, { path: "./a" }, ["sqlite_x", "SQLite_x", "_millrace", "_millrace_x"]],
  ["clickhouse", clickhouse, { url: "http://h:1" }, ["system", "information_schema", "INFORMATION_SCHEMA", "millrace"]],
];

test.each(ENGINES)("%s", (_name, definition, options, reserved) => {
  const said = (schema: string): string[] =>
    definition
      .safeParse({ ...options, schema })
      .error?.issues.map(({ path, message }) => `${path.join(".")} ${message}`) ?? [];
  for (const name of reserved) expect(said(name).join()).toMatch(new RegExp(`^schema .* "${name}" belongs to `));
  for (const name of ["main", "temp", "shop"]) expect(said(name)).toEqual([]);
});
