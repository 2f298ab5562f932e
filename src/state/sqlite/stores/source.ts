import { timestamp } from "../../../core/clock.ts";
import { invariant } from "../../../core/invariant.ts";
import { comparePositions, earliest, serializePosition, type Position } from "../../../core/model/position.ts";
import type { LogIdentity } from "../../../core/contracts/positions.ts";
import type { SinkReset, SourceRecord, SourceStore, SinkCheckpoint } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { isTextRecord } from "../../../core/checkpoint/stored-json.ts";
import { integer, positionOrNull, storedOrNull, textOrNull } from "../row.ts";
import type { SqliteSinks } from "./sinks.ts";

/** Of a record in the table. */
export const DATABASE = 1;
export const NEST = 2;

const ANNOUNCE = `INSERT INTO source (number, epoch) VALUES (:number, :epoch)
  ON CONFLICT DO UPDATE SET epoch = :epoch, identity = NULL, origin = NULL, acknowledged = NULL`;

export class SqliteSource implements SourceStore {
  readonly #connection: Connection;
  readonly #sinks: SqliteSinks;
  readonly #number: number;

  constructor(connection: Connection, sinks: SqliteSinks, number: typeof DATABASE | typeof NEST) {
    this.#connection = connection;
    this.#sinks = sinks;
    this.#number = number;
  }

  async get(): Promise<SourceRecord | null> {
    return this.#read();
  }

  async announce(epoch: number): Promise<void> {
    this.#connection.write(() => this.#connection.run(ANNOUNCE, { number: this.#number, epoch }));
  }

  async created(identity: LogIdentity, origin: Position): Promise<void> {
    this.#connection.write(() => this.#create(identity, origin));
  }

  async crossed(identity: LogIdentity, origin: Position, resets: ReadonlyMap<string, SinkReset>): Promise<void> {
    this.#connection.write(() => {
      this.#create(identity, origin);
      for (const [name, reset] of resets) this.#sinks.storeReset(name, reset);
    });
  }

  #create(identity: LogIdentity, origin: Position): void {
    const sql =
      "UPDATE source SET identity = :identity, epoch = :epoch, origin = :origin, acknowledged = NULL WHERE number = :number";
    const changes = this.#connection.run(sql, {
      number: this.#number,
      identity: JSON.stringify(identity),
      epoch: origin.epoch,
      origin: serializePosition(origin),
    });
    invariant(changes === 1, "a log is announced before it is created");
  }

  async identify(identity: LogIdentity): Promise<void> {
    this.#connection.write(() => {
      const row = { number: this.#number, identity: JSON.stringify(identity) };
      const changes = this.#connection.run("UPDATE source SET identity = :identity WHERE number = :number", row);
      invariant(changes === 1, "a log is announced before it is identified");
    });
  }

  async acknowledge(
    position: Position,
    covered: ReadonlyMap<string, Position>,
    checkpoints: readonly SinkCheckpoint[] = [],
  ): Promise<void> {
    this.#connection.write(() => {
      const record = this.#read();
      invariant(record !== null, "a log is announced before anything is acknowledged to it");
      for (const checkpoint of checkpoints) this.#sinks.note(checkpoint);
      for (const [sink, at] of covered) this.#sinks.cover(sink, at);
      if (record.acknowledged !== null && comparePositions(position, record.acknowledged) <= 0) return;
      const row = {
        number: this.#number,
        position: serializePosition(position),
        at: timestamp(this.#connection.clock),
      };
      const sql = "UPDATE source SET acknowledged = :position, acknowledged_at = :at WHERE number = :number";
      this.#connection.run(sql, row);
    });
  }

  async reset(resets: ReadonlyMap<string, SinkReset>): Promise<void> {
    this.#connection.write(() => {
      const record = this.#read();
      invariant(record !== null, "a log is announced before a sink is moved in it");
      for (const [name, reset] of resets) this.#sinks.storeReset(name, reset);
      const { acknowledged } = record;
      const lowest = earliest([...resets.values()].map(({ to }) => to));
      if (acknowledged === null || lowest === undefined || comparePositions(lowest, acknowledged) >= 0) return;
      // The acknowledged time stays: the source was told nothing new.
      const row = { number: this.#number, position: serializePosition(lowest) };
      this.#connection.run("UPDATE source SET acknowledged = :position WHERE number = :number", row);
    });
  }

  #read(): SourceRecord | null {
    const sql = "SELECT epoch, identity, origin, acknowledged, acknowledged_at FROM source WHERE number = :number";
    const row = this.#connection.get(sql, { number: this.#number });
    if (row === undefined) return null;
    return {
      identity: storedOrNull(row, "identity", isTextRecord),
      epoch: integer(row, "epoch"),
      origin: positionOrNull(row, "origin"),
      acknowledged: positionOrNull(row, "acknowledged"),
      acknowledgedAt: textOrNull(row, "acknowledged_at"),
    };
  }
}
