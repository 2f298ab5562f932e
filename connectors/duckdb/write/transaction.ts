import type { DuckDBConnection } from "@duckdb/node-api";

export async function inTransaction<T>(
  connection: DuckDBConnection,
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

/** A transaction that failed at its start, or together with the database, is gone: there is nothing to roll back. */
async function rollBack(connection: DuckDBConnection): Promise<void> {
  try {
    await connection.run("ROLLBACK");
  } catch (error) {
    if (!(error instanceof Error) || !/no transaction is active|invalidated/i.test(error.message)) throw error;
  }
}
