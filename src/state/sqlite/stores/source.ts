import type { StatementSync } from "node:sqlite";
import { timestamp } from "../../../core/clock.ts";
import { invariant } from "../../../core/invariant.ts";
import { comparePositions, earliest, serializePosition, type Position } from "../../../core/model/position.ts";
import type { LogIdentity } from "../../../core/contracts/positions.ts";
import type { SinkReset, SourceRecord, SourceStore, SinkCheckpoint } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { isTextRecord } from "../../../core/checkpoint/stored-json.ts";
import { integer, positionOrNull, storedOrNull, textOrNull } from "../row.ts";
import type { SqliteSinks } from "./sinks.ts";

export class SqliteSource implements SourceStore {
  readonly #connection: Connection;
  readonly #sinks: SqliteSinks;
  readonly #get: StatementSync;
  readonly #announce: StatementSync;
  readonly #created: StatementSync;
  readonly #identify: StatementSync;
  readonly #acknowledge: StatementSync;
  readonly #setBack: StatementSync;

  constructor(connection: Connection, sinks: SqliteSinks) {
    this.#connection = connection;
    this.#sinks = sinks;
    this.#get = connection.prepare("SELECT epoch, identity, origin, acknowledged, acknowledged_at FROM source");
    this.#announce = connection.prepare(
      `INSERT INTO source (one, epoch) VALUES (1, :epoch)
       ON CONFLICT DO UPDATE SET epoch = :epoch, identity = NULL, origin = NULL, acknowledged = NULL`,
    );
    this.#created = connection.prepare(
      "UPDATE source SET identity = :identity, epoch = :epoch, origin = :origin, acknowledged = NULL",
    );
    this.#identify = connection.prepare("UPDATE source SET identity = :identity");
    this.#acknowledge = connection.prepare("UPDATE source SET acknowledged = :position, acknowledged_at = :at");
    // The acknowledged time stays: the source was told nothing new.
    this.#setBack = connection.prepare("UPDATE source SET acknowledged = :position");
  }

  async get(): Promise<SourceRecord | null> {
    return this.#connection.read(() => this.#read());
  }

  async announce(epoch: number): Promise<void> {
    this.#connection.write(() => this.#announce.run({ epoch }));
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
    const { changes } = this.#created.run({
      identity: JSON.stringify(identity),
      epoch: origin.epoch,
      origin: serializePosition(origin),
    });
    invariant(changes === 1, "a log is announced before it is created");
  }

  async identify(identity: LogIdentity): Promise<void> {
    this.#connection.write(() => {
      const { changes } = this.#identify.run({ identity: JSON.stringify(identity) });
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
      this.#acknowledge.run({ position: serializePosition(position), at: timestamp(this.#connection.clock) });
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
      this.#setBack.run({ position: serializePosition(lowest) });
    });
  }

  #read(): SourceRecord | null {
    const row = this.#get.get();
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
