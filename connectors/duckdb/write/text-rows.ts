import type { DuckDBValue, Json } from "@duckdb/node-api";
import type { EngineConnection } from "../engine/engine.ts";

/** Rows of a catalogue or metadata query, each value as text; null and missing values are the empty string. */
export async function readTextRows(
  connection: EngineConnection,
  sql: string,
  values: DuckDBValue[] = [],
): Promise<string[][]> {
  const reader = await connection.runAndReadAll(sql, values);
  return reader.getRowsJson().map((row) => row.map(textOf));
}

function textOf(value: Json): string {
  if (value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}
