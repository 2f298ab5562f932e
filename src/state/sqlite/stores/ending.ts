import type { StatementSync } from "node:sqlite";
import { isRecord } from "../../../core/checkpoint/stored-json.ts";
import type { Ending, EndingStore } from "../../../core/conditions/condition.ts";
import type { Connection } from "../connection.ts";
import { stored } from "../row.ts";

export class SqliteEnding implements EndingStore {
  readonly #connection: Connection;
  readonly #get: StatementSync;
  readonly #clear: StatementSync;
  readonly #insert: StatementSync;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#get = connection.prepare("SELECT error FROM ending");
    this.#clear = connection.prepare("DELETE FROM ending");
    this.#insert = connection.prepare("INSERT INTO ending (one, error) VALUES (1, :error)");
  }

  async get(): Promise<Ending | null> {
    const row = this.#connection.read(() => this.#get.get());
    return row === undefined ? null : stored(row, "error", isEnding);
  }

  async set(error: Ending | null): Promise<void> {
    this.#connection.write(() => {
      this.#clear.run();
      if (error !== null) this.#insert.run({ error: JSON.stringify(error) });
    });
  }
}

function isEnding(value: unknown): value is Ending {
  return isRecord(value) && typeof value["code"] === "string" && typeof value["message"] === "string";
}
