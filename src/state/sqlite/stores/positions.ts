import {
  type Accord,
  accordOf,
  type Bond,
  type Checkpoint,
  checkpointFromTexts,
  checkpointTexts,
  type CompleteTables,
  isCompleteTables,
  type SinkSession,
} from "../../../core/checkpoint.ts";
import {
  comparePositions,
  earliest,
  latest,
  parsePosition,
  type Position,
  serializePosition,
} from "../../../core/model/position.ts";
import {
  type BondStore,
  type CheckpointStore,
  type Loss,
  type LostChanges,
  type NumberStore,
  type SinkCheckpoint,
  type SinkCrossing,
  type SinkEntry,
  type SinkOpening,
  type SinkRecord,
  type SinkReset,
  type SinkStore,
  type SnapshotRequest,
  type SourceRecord,
  type SourceStore,
  type StoredError,
  type WaitingReset,
  withLoss,
} from "../../../core/contracts/state-store.ts";
import { isRecord, isTextRecord } from "../../../core/stored-json.ts";
import type { Connection } from "../connection.ts";
import { voidProofs } from "./proofs.ts";
import {
  integer,
  isStoredError,
  isTexts,
  positionOrNull,
  type Row,
  stored,
  storedOrNull,
  text,
  textOrNull,
} from "../row.ts";
import { timestamp } from "../../../core/clock.ts";
import { invariant } from "../../../core/invariant.ts";
import type { LogIdentity } from "../../../core/contracts/positions.ts";
import type { KeyText } from "../../../core/contracts/row-reads.ts";

const COLUMNS = "name, written, covered, tables, paused, error, reset, lost, left_out";
const WRITTEN = `INSERT INTO sink (name, written, covered, tables) VALUES (:name, :written, :covered, :tables)
  ON CONFLICT DO UPDATE SET written = :written, covered = :covered, tables = :tables`;
const RESET = `INSERT INTO sink (name, written, covered, reset) VALUES (:name, :to, :to, :reset)
  ON CONFLICT DO UPDATE SET written = :to, covered = :to, reset = :reset, error = NULL`;
const FINISH_RESET =
  "UPDATE sink SET written = :position, covered = :position, tables = :tables, reset = NULL WHERE name = :name";
const EMPTY = [
  "UPDATE sink SET written = NULL, covered = NULL, tables = '{}', left_out = '[]', error = NULL WHERE name = :name",
  "DELETE FROM checkpoint WHERE sink = :name",
  "DELETE FROM pending_key WHERE sink = :name",
  "DELETE FROM dead_letter WHERE sink = :name",
  "DELETE FROM sink_session WHERE sink = :name",
  "DELETE FROM settled WHERE sink = :name",
  "DELETE FROM proof WHERE sink = :name",
  "UPDATE snapshot SET state = 'cancelled' WHERE sink = :name AND state IN ('waiting', 'running')",
];
const FORGET = [...EMPTY, "DELETE FROM sink WHERE name = :name", "DELETE FROM suspended_table WHERE sink = :name"];

/** SQL that stores one column of a sink, also of one that is new. */
function storing(column: "covered" | "paused" | "error" | "lost" | "left_out"): string {
  return `INSERT INTO sink (name, ${column}) VALUES (:name, :value) ON CONFLICT DO UPDATE SET ${column} = :value`;
}

export class SqliteSinks implements SinkStore {
  readonly #connection: Connection;
  readonly #snapshots: Owing;

  constructor(connection: Connection, snapshots: Owing) {
    this.#connection = connection;
    this.#snapshots = snapshots;
  }

  async all(): Promise<readonly SinkRecord[]> {
    const sql = `SELECT ${COLUMNS} FROM sink ORDER BY name`;
    return this.#connection.all(sql).map(sinkRecord);
  }

  async get(name: string): Promise<SinkRecord | null> {
    return this.#read(name);
  }

  async setCheckpoint(name: string, position: Position, tables: CompleteTables): Promise<void> {
    this.#connection.write(() => this.note({ name, position, tables }));
  }

  /** The caller has opened a transaction. */
  note({ name, position, tables }: SinkCheckpoint): void {
    const written = serializePosition(position);
    const covered = serializePosition(coveredAfterWrite(this.#positionsOf(name), position));
    const move = "UPDATE sink SET written = :written, covered = :covered WHERE name = :name";
    if (tables === undefined && this.#connection.run(move, { name, written, covered }) === 1) return;
    this.#connection.run(WRITTEN, { name, written, covered, tables: JSON.stringify(tables ?? {}) });
  }

  async covered(name: string, position: Position): Promise<void> {
    this.#connection.write(() => this.cover(name, position));
  }

  /** The caller has opened a transaction. */
  cover(name: string, position: Position): void {
    const positions = this.#positionsOf(name);
    const covered = latest(position, positions?.covered ?? null, positions?.checkpoint ?? null);
    this.#connection.run(storing("covered"), { name, value: serializePosition(covered) });
  }

  /** The caller has opened a transaction. */
  storeReset(name: string, { to, anew, crossing, keeps }: SinkReset): void {
    const position = serializePosition(to);
    const reset: StoredReset = {
      to: position,
      anew,
      id: this.#connection.clock.unique(ID_BYTES),
      ...(crossing === undefined ? {} : { crossing: spelled(crossing) }),
      ...(keeps === undefined ? {} : { keeps }),
    };
    this.#connection.run(RESET, { name, to: position, reset: JSON.stringify(reset) });
    voidProofs(this.#connection, "sink = :sink", { sink: name });
  }

  async finishReset(name: string, position: Position, tables: CompleteTables): Promise<void> {
    const row = { name, position: serializePosition(position), tables: JSON.stringify(tables) };
    this.#connection.write(() => this.#connection.run(FINISH_RESET, row));
  }

  async setPaused(name: string, paused: boolean): Promise<void> {
    this.#connection.write(() => this.#connection.run(storing("paused"), { name, value: paused ? 1 : 0 }));
  }

  async setError(name: string, error: StoredError | null): Promise<void> {
    const value = error === null ? null : JSON.stringify(error);
    this.#connection.write(() => this.#connection.run(storing("error"), { name, value }));
  }

  async setLost(name: string, loss: Loss | null): Promise<void> {
    this.#connection.write(() => this.#setLost(name, loss));
  }

  #setLost(name: string, loss: Loss | null): void {
    const row = this.#connection.get("SELECT lost FROM sink WHERE name = :name", { name });
    const before = row === undefined ? null : storedOrNull(row, "lost", isLostChanges);
    const value = loss === null ? null : JSON.stringify(withLoss(before, loss));
    this.#connection.run(storing("lost"), { name, value });
  }

  async empty(name: string, loss: Loss | null, reads: readonly SnapshotRequest[]): Promise<void> {
    this.#connection.write(() => {
      for (const sql of EMPTY) this.#connection.run(sql, { name });
      if (loss !== null) this.#setLost(name, loss);
      for (const read of reads) this.#snapshots.owe(read);
    });
  }

  async setLeftOut(name: string, tableIds: readonly string[]): Promise<void> {
    const row = { name, value: JSON.stringify(tableIds) };
    this.#connection.write(() => this.#connection.run(storing("left_out"), row));
  }

  async remove(name: string): Promise<void> {
    this.#connection.write(() => {
      for (const sql of FORGET) this.#connection.run(sql, { name });
    });
  }

  /** Without the tables: there may be thousands. */
  #positionsOf(name: string): Positions | null {
    const row = this.#connection.get("SELECT written, covered FROM sink WHERE name = :name", { name });
    return row === undefined
      ? null
      : { checkpoint: positionOrNull(row, "written"), covered: positionOrNull(row, "covered") };
  }

  #read(name: string): SinkRecord | null {
    const row = this.#connection.get(`SELECT ${COLUMNS} FROM sink WHERE name = :name`, { name });
    return row === undefined ? null : sinkRecord(row);
  }
}

type Positions = Pick<SinkRecord, "checkpoint" | "covered">;

/**
 * A sink that reports an earlier position than before was restored or emptied. Then `covered` goes back too: otherwise
 * the source would be told to forget log that the sink needs again.
 */
function coveredAfterWrite(record: Positions | null, written: Position): Position {
  if (record === null || record.covered === null) return written;
  if (record.checkpoint !== null && comparePositions(written, record.checkpoint) < 0) return written;
  return latest(written, record.covered);
}

function sinkRecord(row: Row): SinkRecord {
  return {
    name: text(row, "name"),
    checkpoint: positionOrNull(row, "written"),
    covered: positionOrNull(row, "covered"),
    tables: stored(row, "tables", isCompleteTables),
    paused: integer(row, "paused") === 1,
    error: storedOrNull(row, "error", isStoredError),
    reset: resetOf(row),
    lost: storedOrNull(row, "lost", isLostChanges),
    leftOut: stored(row, "left_out", isTexts),
  };
}

function resetOf(row: Row): WaitingReset | null {
  const found = storedOrNull(row, "reset", isStoredReset);
  if (found === null) return null;
  const { anew, id, crossing, keeps, to } = found;
  const kept = keeps === undefined ? {} : { keeps };
  if (crossing === undefined) return { to: parsePosition(to), anew, id, ...kept };
  const from = crossing.from === null ? null : parsePosition(crossing.from);
  const [common, otherwise] = [parsePosition(crossing.common), parsePosition(crossing.otherwise)];
  return { to: parsePosition(to), anew, id, crossing: { ...crossing, from, common, otherwise } };
}

interface StoredReset {
  readonly to: string;
  readonly anew: boolean;
  readonly id: string;
  readonly crossing?: StoredCrossing;
  readonly keeps?: Readonly<Record<string, string>>;
}

interface StoredCrossing extends Pick<SinkCrossing, "generations" | "isContinued"> {
  readonly from: string | null;
  readonly common: string;
  readonly otherwise: string;
}

function spelled({ from, common, otherwise, ...crossing }: SinkCrossing): StoredCrossing {
  return {
    ...crossing,
    from: from === null ? null : serializePosition(from),
    common: serializePosition(common),
    otherwise: serializePosition(otherwise),
  };
}

function isLostChanges(value: unknown): value is LostChanges {
  return isRecord(value) && isTexts([value["what"], value["since"], value["until"]]);
}

function isStoredReset(value: unknown): value is StoredReset {
  if (!isRecord(value) || !isTexts([value["to"], value["id"]]) || typeof value["anew"] !== "boolean") return false;
  const { crossing, keeps } = value;
  if (keeps !== undefined && !isTextRecord(keeps)) return false;
  if (crossing === undefined) return true;
  return isRecord(crossing) && typeof crossing["common"] === "string" && typeof crossing["otherwise"] === "string";
}

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

const RESERVE =
  "INSERT INTO reserved_number (sink, below) VALUES (:sink, :below) ON CONFLICT DO UPDATE SET below = :below";

export class SqliteNumbers implements NumberStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async reserved(sink: string): Promise<number> {
    const row = this.#connection.get("SELECT below FROM reserved_number WHERE sink = :sink", { sink });
    return row === undefined ? 0 : integer(row, "below");
  }

  async reserve(sink: string, below: number): Promise<void> {
    this.#connection.write(() => this.#connection.run(RESERVE, { sink, below }));
  }
}

/** Of a record in the table. */
export const DATABASE = 1;
export const NEST = 2;

const ANNOUNCE = `INSERT INTO source (number, epoch) VALUES (:number, :epoch)
  ON CONFLICT DO UPDATE SET epoch = :epoch, makes = 0, identity = NULL, origin = NULL, acknowledged = NULL`;

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

  async making(): Promise<void> {
    this.#connection.write(() => {
      const changes = this.#connection.run("UPDATE source SET makes = 1 WHERE number = :number", {
        number: this.#number,
      });
      invariant(changes === 1, "a log is announced before it is made");
    });
  }

  async looked(): Promise<void> {
    const sql = "UPDATE source SET looked = 1 WHERE number = :number";
    this.#connection.write(() => this.#connection.run(sql, { number: this.#number }));
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

  async foresee(until: Position): Promise<void> {
    this.#connection.write(() => {
      const before = this.#read()?.foreseen ?? null;
      if (before !== null && comparePositions(until, before) <= 0) return;
      const row = { number: this.#number, until: serializePosition(until) };
      const changes = this.#connection.run("UPDATE source SET foreseen = :until WHERE number = :number", row);
      invariant(changes === 1, "a log is announced before it is looked through");
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
    const sql =
      "SELECT epoch, makes, looked, identity, origin, acknowledged, acknowledged_at, foreseen FROM source WHERE number = :number";
    const row = this.#connection.get(sql, { number: this.#number });
    if (row === undefined) return null;
    return {
      identity: storedOrNull(row, "identity", isTextRecord),
      epoch: integer(row, "epoch"),
      makes: integer(row, "makes") === 1,
      hasLooked: integer(row, "looked") === 1,
      origin: positionOrNull(row, "origin"),
      acknowledged: positionOrNull(row, "acknowledged"),
      acknowledgedAt: textOrNull(row, "acknowledged_at"),
      foreseen: positionOrNull(row, "foreseen"),
    };
  }
}

/**
 * Counts an obligation of the sink (null: of every sink) in the transaction that stores it. A sink that was never opened
 * has no count: it holds no rows yet.
 */
export function countObligation(connection: Connection, sink: string | null): void {
  const sql = `UPDATE sink_session SET obligation = obligation + 1
    WHERE id IN (SELECT max(id) FROM sink_session WHERE :sink IS NULL OR sink = :sink GROUP BY sink)`;
  connection.run(sql, { sink });
}

/** How many sessions to keep besides the one in the sink's checkpoint. They identify older copies of the sink. */
const SESSIONS_MAX = 100;
const ID_BYTES = 8;

const STATE = "SELECT state FROM identity";
const NAME = "INSERT INTO identity (one, state) VALUES (1, :state) ON CONFLICT DO NOTHING";
const LAST = "SELECT is_left FROM sink_session WHERE sink = :sink ORDER BY id DESC LIMIT 1";
const ENTER = `INSERT INTO sink_session (sink, session, base, obligation, is_left)
  VALUES (:sink, :session, :base, :obligation, :isLeft)`;
const SET_LEFT = `UPDATE sink_session SET is_left = :isLeft
  WHERE id = (SELECT max(id) FROM sink_session WHERE sink = :sink)`;
const PRUNE = `DELETE FROM sink_session WHERE sink = :sink AND session IS NOT :own AND id <= (
  SELECT id FROM sink_session WHERE sink = :sink ORDER BY id DESC LIMIT 1 OFFSET :keep)`;

/** Lists what has to be read, in the transaction that is open. */
export interface Owing {
  owe(request: SnapshotRequest): void;
  oweKeys(sink: string, tableId: string, keys: readonly KeyText[]): void;
}

/** Links this state with the checkpoints of its sinks. */
export class SqliteBonds implements BondStore {
  readonly #connection: Connection;
  readonly #snapshots: Owing;

  constructor(connection: Connection, snapshots: Owing) {
    this.#connection = connection;
    this.#snapshots = snapshots;
  }

  async accord(sink: string, own: Bond | undefined): Promise<Accord> {
    const state = this.#connection.get(STATE);
    const sql = "SELECT session, base, obligation FROM sink_session WHERE sink = :sink ORDER BY id";
    const sessions = this.#connection.all(sql, { sink }).map(sessionOf);
    return accordOf(own, state === undefined ? null : text(state, "state"), sessions);
  }

  async undone(sink: string, batch: number): Promise<readonly string[]> {
    const sql = "SELECT table_id FROM settled WHERE sink = :sink AND step > :batch ORDER BY table_id";
    return this.#connection.all(sql, { sink, batch }).map((row) => text(row, "table_id"));
  }

  async enter(sink: string, { own, owed, reason, isLeft }: SinkOpening): Promise<SinkEntry> {
    const batch = own?.batch ?? 0;
    const session = this.#connection.clock.unique(ID_BYTES);
    return this.#connection.write(() => {
      this.#connection.run(NAME, { state: this.#connection.clock.unique(ID_BYTES) });
      for (const tableId of owed) this.#snapshots.owe({ tableId, sink, scope: { kind: "differences" }, reason });
      const obligation = this.#obligation(sink);
      const wasLeft = this.#isLeft(sink);
      this.#connection.run(ENTER, {
        sink,
        session,
        base: batch,
        obligation,
        isLeft: isLeft === true && wasLeft ? 1 : 0,
      });
      this.#connection.run(PRUNE, { sink, own: own?.session ?? null, keep: SESSIONS_MAX });
      if (own === undefined) voidProofs(this.#connection, "sink = :sink", { sink });
      else voidProofs(this.#connection, "sink = :sink AND step > :batch", { sink, batch });
      // Invariant: everything that was settled after this copy of the sink is owed again by now, or the sink is filled.
      this.#connection.run("DELETE FROM settled WHERE sink = :sink AND step > :batch", { sink, batch });
      const resets = own?.resets ?? [];
      return { state: text(this.#connection.get(STATE)!, "state"), session, batch, resets, wasLeft };
    });
  }

  async leave(sink: string): Promise<void> {
    this.#connection.write(() => this.#connection.run(SET_LEFT, { sink, isLeft: 1 }));
  }

  async exceed(sink: string): Promise<void> {
    this.#connection.write(() => this.#connection.run(SET_LEFT, { sink, isLeft: 0 }));
  }

  async isLeft(sink: string): Promise<boolean> {
    return this.#isLeft(sink);
  }

  #isLeft(sink: string): boolean {
    const last = this.#connection.get(LAST, { sink });
    return last === undefined || integer(last, "is_left") === 1;
  }

  async obligation(sink: string): Promise<number> {
    return this.#obligation(sink);
  }

  #obligation(sink: string): number {
    const sql = "SELECT coalesce(max(obligation), 0) AS obligation FROM sink_session WHERE sink = :sink";
    return integer(this.#connection.get(sql, { sink })!, "obligation");
  }
}

function sessionOf(row: Row): SinkSession {
  return { session: text(row, "session"), base: integer(row, "base"), obligation: integer(row, "obligation") };
}
