import type { StatementSync } from "node:sqlite";
import type { ComparisonStore } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { text } from "../row.ts";

export class SqliteComparisons implements ComparisonStore {
  readonly #connection: Connection;
  readonly #clear: StatementSync;
  readonly #insert: StatementSync;
  readonly #get: StatementSync;
  readonly #forget: StatementSync;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#clear = connection.prepare("DELETE FROM comparison WHERE id <> :id");
    this.#insert = connection.prepare(
      "INSERT INTO comparison (id, content) VALUES (:id, :content) ON CONFLICT (id) DO UPDATE SET content = excluded.content",
    );
    this.#get = connection.prepare("SELECT content FROM comparison WHERE id = :id");
    this.#forget = connection.prepare("DELETE FROM comparison WHERE id = :id");
  }

  async save(id: string, content: string): Promise<void> {
    this.#connection.write(() => {
      this.#clear.run({ id });
      this.#insert.run({ id, content });
    });
  }

  async get(id: string): Promise<string | null> {
    const row = this.#connection.read(() => this.#get.get({ id }));
    return row === undefined ? null : text(row, "content");
  }

  async forget(id: string): Promise<void> {
    this.#connection.write(() => this.#forget.run({ id }));
  }
}
