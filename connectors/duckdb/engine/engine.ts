/** DuckDB's engine as the sinks use it: in this process, or in one of its own. */
import type { DuckDBConnection, DuckDBResult, DuckDBValue, Json } from "@duckdb/node-api";

/** What the sinks use of the driver. Both kinds of engines have it. */
export interface EngineConnection extends Pick<DuckDBConnection, "interrupt" | "disconnectSync"> {
  run(sql: string, values?: DuckDBValue[]): Promise<{ readonly rowsChanged: number }>;
  runAndReadAll(sql: string, values?: DuckDBValue[]): Promise<{ getRowsJson(): Json[][] }>;
  stream(sql: string): Promise<EngineResult>;
}

/** Read by `wholeResult` alone. */
export interface EngineResult extends Pick<DuckDBResult, "returnType"> {
  yieldRows(): AsyncIterableIterator<unknown[][]>;
  yieldRowsJson(): AsyncIterableIterator<Json[][]>;
}

export interface Engine {
  connect(): Promise<EngineConnection>;
  /** What the engine had open is free then. */
  close(): Promise<void>;
}

export type EngineOptions = Readonly<Record<string, string>>;
