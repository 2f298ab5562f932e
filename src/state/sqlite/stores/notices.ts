import type { StatementSync } from "node:sqlite";
import { isRecord } from "../../../core/checkpoint/stored-json.ts";
import type { Condition, NoticeStore } from "../../../core/conditions/condition.ts";
import type { Connection } from "../connection.ts";
import { stored } from "../row.ts";

export class SqliteNotices implements NoticeStore {
  readonly #connection: Connection;
  readonly #clear: StatementSync;
  readonly #insert: StatementSync;
  readonly #list: StatementSync;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#clear = connection.prepare("DELETE FROM notice");
    this.#insert = connection.prepare("INSERT INTO notice (id, condition) VALUES (:id, :condition)");
    this.#list = connection.prepare("SELECT condition FROM notice ORDER BY id");
  }

  async list(): Promise<readonly Condition[]> {
    return this.#connection.read(() => this.#list.all().map((row) => stored(row, "condition", isCondition)));
  }

  async replace(conditions: readonly Condition[]): Promise<void> {
    this.#connection.write(() => {
      this.#clear.run();
      for (const condition of conditions) this.#insert.run({ id: condition.id, condition: JSON.stringify(condition) });
    });
  }
}

function isCondition(value: unknown): value is Condition {
  return isRecord(value) && typeof value["id"] === "string" && typeof value["what"] === "string";
}
