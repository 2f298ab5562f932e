import type { SuspendedTable, SuspensionStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { isStoredError, stored, storedOrNull, text, textOrNull, type Row } from "../row.ts";
import { countObligation } from "./positions.ts";
import { voidSnapshots } from "./snapshots.ts";

/** In the place of a sink's name: every sink. */
const EVERY_SINK = "";

export class SqliteSuspensions implements SuspensionStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async list(): Promise<readonly SuspendedTable[]> {
    const sql = "SELECT sink, table_id, error, shape, former FROM suspended_table ORDER BY sink, table_id";
    return this.#connection.all(sql).map(suspendedTable);
  }

  async suspend(tables: readonly SuspendedTable[]): Promise<void> {
    if (tables.length === 0) return;
    this.#connection.write(() => {
      for (const table of tables) this.#suspend(table);
    });
  }

  #suspend({ sink, tableId: table, error, shape, former }: SuspendedTable): void {
    const before = former === undefined ? null : JSON.stringify(former);
    const row = { sink: sink ?? EVERY_SINK, table, error: JSON.stringify(error), shape: shape ?? null, former: before };
    const sql = `INSERT INTO suspended_table (sink, table_id, error, shape, former)
      VALUES (:sink, :table, :error, :shape, :former)
      ON CONFLICT DO UPDATE SET error = :error, shape = :shape, former = :former`;
    this.#connection.run(sql, row);
    // Invariant: changes that are skipped from now on do not lie behind the cursor of a snapshot that continues later.
    const where = "table_id = :table AND sink = coalesce(:sink, sink)";
    const count = this.#connection.run(voidSnapshots(where), { table, sink });
    if (count > 0 || sink === null) countObligation(this.#connection, sink);
  }

  async reinstate(sink: string | null, tableIds: readonly string[]): Promise<void> {
    if (tableIds.length === 0) return;
    const sql = "DELETE FROM suspended_table WHERE sink = :sink AND table_id = :table";
    this.#connection.write(() => {
      for (const table of tableIds) this.#connection.run(sql, { sink: sink ?? EVERY_SINK, table });
    });
  }
}

function suspendedTable(row: Row): SuspendedTable {
  const sink = text(row, "sink");
  const shape = textOrNull(row, "shape");
  const former = storedOrNull(row, "former", isStoredError);
  return {
    sink: sink === EVERY_SINK ? null : sink,
    tableId: text(row, "table_id"),
    error: stored(row, "error", isStoredError),
    ...(shape === null ? {} : { shape }),
    ...(former === null ? {} : { former }),
  };
}
