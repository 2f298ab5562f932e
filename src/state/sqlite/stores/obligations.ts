import type { StatementSync } from "node:sqlite";
import type { Connection } from "../connection.ts";

/**
 * Counts obligations in the transaction that stores them. A sink that was never opened has no count: it holds no rows
 * yet.
 */
export class ObligationCount {
  readonly #one: StatementSync;
  readonly #all: StatementSync;

  constructor(connection: Connection) {
    const newest = "id IN (SELECT max(id) FROM sink_session GROUP BY sink)";
    this.#one = connection.prepare(
      `UPDATE sink_session SET obligation = obligation + 1
       WHERE id = (SELECT max(id) FROM sink_session WHERE sink = :sink)`,
    );
    this.#all = connection.prepare(`UPDATE sink_session SET obligation = obligation + 1 WHERE ${newest}`);
  }

  added(sink: string): void {
    this.#one.run({ sink });
  }

  addedToAll(): void {
    this.#all.run();
  }
}
