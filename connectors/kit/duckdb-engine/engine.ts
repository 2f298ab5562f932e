/** DuckDB's engine as the sinks use it: in this process, or in one of its own. */
import type { DuckDBConnection, DuckDBResult, DuckDBValue, Json } from "@duckdb/node-api";
import { reasonOf } from "../../../src/core/errors.ts";

/** What the sinks use of the driver. Both kinds of engines have it. */
export interface EngineConnection extends Pick<DuckDBConnection, "interrupt" | "disconnectSync"> {
  run(sql: string, values?: DuckDBValue[]): Promise<{ readonly rowsChanged: number }>;
  runAndReadAll(sql: string, values?: DuckDBValue[]): Promise<{ getRowsJson(): Json[][] }>;
  stream(sql: string): Promise<EngineResult>;
}

/** Read by `wholeResult` alone. */
export interface EngineResult {
  /** Null: what yields the rows fails where the result does. */
  readonly returnType: DuckDBResult["returnType"] | null;
  yieldRows(): AsyncIterableIterator<unknown[][]>;
  yieldRowsJson(): AsyncIterableIterator<Json[][]>;
}

export interface Engine {
  connect(): Promise<EngineConnection>;
  /** What the engine had open is free then. */
  close(): Promise<void>;
}

export type EngineOptions = Readonly<Record<string, string>>;

export async function inTransaction<T>(
  connection: EngineConnection,
  begin: () => Promise<unknown>,
  work: () => Promise<T>,
): Promise<T> {
  try {
    await begin();
    const result = await work();
    await connection.run("COMMIT");
    return result;
  } catch (error) {
    await rollBack(connection);
    throw error;
  }
}

/** A transaction that failed at its start, or together with the database or its process, is gone: there is nothing to roll back. */
export async function rollBack(connection: EngineConnection): Promise<void> {
  try {
    await connection.run("ROLLBACK");
  } catch (error) {
    if (reasonOf(error) === "lost") return;
    if (!(error instanceof Error) || !/no transaction is active|invalidated/i.test(error.message)) throw error;
  }
}

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
