import type { Connection } from "../connection.ts";

/**
 * Counts an obligation of the sink (null: of every sink) in the transaction that stores it. A sink that was never opened
 * has no count: it holds no rows yet.
 */
export function countObligation(connection: Connection, sink: string | null): void {
  const sql = `UPDATE sink_session SET obligation = obligation + 1
    WHERE id IN (SELECT max(id) FROM sink_session WHERE :sink IS NULL OR sink = :sink GROUP BY sink)`;
  connection.run(sql, { sink });
}
