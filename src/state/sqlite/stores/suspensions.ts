import type { StatementSync } from "node:sqlite";
import type { StoredError, SuspendedTable, SuspensionStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { isStoredError, stored, text } from "../row.ts";

export class SqliteSuspensions implements SuspensionStore {
  readonly #connection: Connection;
  readonly #list: StatementSync;
  readonly #suspend: StatementSync;
  readonly #reinstate: StatementSync;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#list = connection.prepare("SELECT sink, table_id, error FROM sink_suspended_table ORDER BY sink, table_id");
    this.#suspend = connection.prepare(
      `INSERT INTO sink_suspended_table (sink, table_id, error) VALUES (:sink, :table, :error)
       ON CONFLICT DO UPDATE SET error = :error`,
    );
    this.#reinstate = connection.prepare("DELETE FROM sink_suspended_table WHERE sink = :sink AND table_id = :table");
  }

  async list(): Promise<readonly SuspendedTable[]> {
    const rows = this.#connection.read(() => this.#list.all());
    return rows.map((row) => {
      const { shape, ...error } = stored(row, "error", isSuspension);
      const table = { sink: text(row, "sink"), tableId: text(row, "table_id"), error };
      return shape === undefined ? table : { ...table, shape };
    });
  }

  async suspend({ sink, tableId, error, shape }: SuspendedTable): Promise<void> {
    this.#connection.write(() =>
      this.#suspend.run({ sink, table: tableId, error: JSON.stringify({ ...error, shape }) }),
    );
  }

  async reinstate(sink: string, tableIds: readonly string[]): Promise<void> {
    if (tableIds.length === 0) return;
    this.#connection.write(() => {
      for (const table of tableIds) this.#reinstate.run({ sink, table });
    });
  }
}

/** The stored form: the shape beside the error. */
function isSuspension(value: unknown): value is StoredError & { readonly shape?: string } {
  if (!isStoredError(value)) return false;
  const shape: unknown = Reflect.get(value, "shape");
  return shape === undefined || typeof shape === "string";
}
