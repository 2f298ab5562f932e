import { checkpointFromTexts, checkpointTexts } from "../../../core/checkpoint/checkpoint-text.ts";
import type { CheckpointStore } from "../../../core/contracts/state-store.ts";
import type { Checkpoint } from "../../../core/model/batch.ts";
import { parsePosition, serializePosition } from "../../../core/model/position.ts";
import type { Connection } from "../connection.ts";
import { text } from "../row.ts";

const PUT = `INSERT INTO checkpoint (sink, position, tables, bond) VALUES (:sink, :position, :tables, :bond)
  ON CONFLICT DO UPDATE SET position = :position, tables = :tables, bond = :bond`;

export class SqliteCheckpoints implements CheckpointStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async get(sink: string): Promise<Checkpoint | null> {
    const row = this.#connection.get("SELECT position, tables, bond FROM checkpoint WHERE sink = :sink", { sink });
    if (row === undefined) return null;
    return {
      position: parsePosition(text(row, "position")),
      ...checkpointFromTexts(text(row, "tables"), text(row, "bond")),
    };
  }

  async put(sink: string, checkpoint: Checkpoint): Promise<void> {
    const row = { sink, position: serializePosition(checkpoint.position), ...checkpointTexts(checkpoint) };
    this.#connection.write(() => this.#connection.run(PUT, row));
  }
}
