import { type DuckDBConnection, DuckDBInstance } from "@duckdb/node-api";
import { filesError } from "../errors.ts";
import type { Shape } from "../log/entry.ts";
import { parquetSql, type RowsFile } from "./parquet-sql.ts";

/** Makes Parquet files; the engine runs in this process, is opened by the first file, and holds no data. */
export class ParquetMaker implements Disposable {
  readonly #memoryLimit: string;
  #instance: DuckDBInstance | null = null;
  #connection: DuckDBConnection | null = null;

  constructor(memoryLimit: string) {
    this.#memoryLimit = memoryLimit;
  }

  async make(shape: Shape, from: RowsFile, to: string): Promise<void> {
    try {
      const connection = await this.#connected();
      await connection.run(parquetSql(shape, from, to));
    } catch (error) {
      // The engine's text may hold values of rows: it is not repeated.
      const kind = error instanceof Error && /^Out of Memory/i.test(error.message) ? "needs more memory" : "failed";
      throw filesError("MR4205", "blocked", `DuckDB ${kind} while it made a Parquet file of ${shape.id}`);
    }
  }

  [Symbol.dispose](): void {
    this.#connection?.closeSync();
    this.#instance?.closeSync();
    this.#connection = null;
    this.#instance = null;
  }

  async #connected(): Promise<DuckDBConnection> {
    if (this.#connection !== null) return this.#connection;
    const settings = { threads: "1", memory_limit: this.#memoryLimit, temp_directory: "" };
    this.#instance = await DuckDBInstance.create(":memory:", settings);
    this.#connection = await this.#instance.connect();
    await this.#connection.run("SET TimeZone = 'UTC'");
    return this.#connection;
  }
}
