import type { StatementSync } from "node:sqlite";
import { isRecord } from "../../../core/checkpoint/stored-json.ts";
import type { Concern, NoticeStore } from "../../../core/concerns/concern.ts";
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
    this.#insert = connection.prepare("INSERT INTO notice (id, concern) VALUES (:id, :concern)");
    this.#list = connection.prepare("SELECT concern FROM notice ORDER BY id");
  }

  async list(): Promise<readonly Concern[]> {
    return this.#connection.read(() => this.#list.all().map((row) => stored(row, "concern", isConcern)));
  }

  async replace(concerns: readonly Concern[]): Promise<void> {
    this.#connection.write(() => {
      this.#clear.run();
      for (const concern of concerns) this.#insert.run({ id: concern.id, concern: JSON.stringify(concern) });
    });
  }
}

function isConcern(value: unknown): value is Concern {
  return isRecord(value) && typeof value["id"] === "string" && typeof value["what"] === "string";
}
