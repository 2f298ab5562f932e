/** What people are told, and the error over which the last daemon ended. */
import { isRecord } from "../../../core/stored-json.ts";
import type { Condition, Ending, EndingStore, NoticeStore } from "../../../core/conditions/condition.ts";
import type { Connection } from "../connection.ts";
import { stored } from "../row.ts";

export class SqliteNotices implements NoticeStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async list(): Promise<readonly Condition[]> {
    const rows = this.#connection.all("SELECT condition FROM notice ORDER BY id");
    return rows.map((row) => stored(row, "condition", isCondition));
  }

  async replace(conditions: readonly Condition[]): Promise<void> {
    this.#connection.write(() => {
      this.#connection.run("DELETE FROM notice");
      for (const condition of conditions) {
        const row = { id: condition.id, condition: JSON.stringify(condition) };
        this.#connection.run("INSERT INTO notice (id, condition) VALUES (:id, :condition)", row);
      }
    });
  }
}

export class SqliteEnding implements EndingStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async get(): Promise<Ending | null> {
    const row = this.#connection.get("SELECT error FROM ending");
    return row === undefined ? null : stored(row, "error", isEnding);
  }

  async set(error: Ending | null): Promise<void> {
    this.#connection.write(() => {
      this.#connection.run("DELETE FROM ending");
      if (error === null) return;
      this.#connection.run("INSERT INTO ending (one, error) VALUES (1, :error)", { error: JSON.stringify(error) });
    });
  }
}

function isCondition(value: unknown): value is Condition {
  return isRecord(value) && typeof value["id"] === "string" && typeof value["what"] === "string";
}

function isEnding(value: unknown): value is Ending {
  return isRecord(value) && typeof value["code"] === "string" && typeof value["message"] === "string";
}
