import { reasonOf } from "../../../src/core/errors.ts";
import type { EngineConnection } from "../engine/engine.ts";

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
