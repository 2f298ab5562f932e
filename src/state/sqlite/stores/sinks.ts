import { type CompleteTables, isCompleteTables } from "../../../core/checkpoint/completeness.ts";
import { comparePositions, parsePosition, serializePosition, type Position } from "../../../core/model/position.ts";
import {
  type Loss,
  type LostChanges,
  type SinkCrossing,
  type SinkRecord,
  type SinkReset,
  type SinkStore,
  type StoredError,
  type SinkCheckpoint,
  withLoss,
} from "../../../core/contracts/state-store.ts";
import { isRecord, isTextRecord } from "../../../core/checkpoint/stored-json.ts";
import type { Connection } from "../connection.ts";
import { voidProofs } from "./proofs.ts";
import { integer, isStoredError, isTexts, positionOrNull, stored, storedOrNull, text, type Row } from "../row.ts";

const COLUMNS = "name, written, covered, tables, paused, error, reset, lost";
const WRITTEN = `INSERT INTO sink (name, written, covered, tables) VALUES (:name, :written, :covered, :tables)
  ON CONFLICT DO UPDATE SET written = :written, covered = :covered, tables = :tables`;
const RESET = `INSERT INTO sink (name, written, covered, reset) VALUES (:name, :to, :to, :reset)
  ON CONFLICT DO UPDATE SET written = :to, covered = :to, reset = :reset, error = NULL`;
const FINISH_RESET =
  "UPDATE sink SET written = :position, covered = :position, tables = :tables, reset = NULL WHERE name = :name";
const FORGET = [
  "DELETE FROM sink WHERE name = :name",
  "DELETE FROM checkpoint WHERE sink = :name",
  "DELETE FROM pending_key WHERE sink = :name",
  "DELETE FROM dead_letter WHERE sink = :name",
  "DELETE FROM sink_session WHERE sink = :name",
  "DELETE FROM settled WHERE sink = :name",
  "DELETE FROM proof WHERE sink = :name",
  "DELETE FROM suspended_table WHERE sink = :name",
  "UPDATE snapshot SET state = 'cancelled' WHERE sink = :name AND state IN ('waiting', 'running')",
];

/** SQL that stores one column of a sink, also of one that is new. */
function storing(column: "covered" | "paused" | "error" | "lost"): string {
  return `INSERT INTO sink (name, ${column}) VALUES (:name, :value) ON CONFLICT DO UPDATE SET ${column} = :value`;
}

export class SqliteSinks implements SinkStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
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
    this.#connection.write(() => {
      const row = this.#connection.get("SELECT lost FROM sink WHERE name = :name", { name });
      const before = row === undefined ? null : storedOrNull(row, "lost", isLostChanges);
      const value = loss === null ? null : JSON.stringify(withLoss(before, loss));
      this.#connection.run(storing("lost"), { name, value });
    });
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

function latest(first: Position, ...others: readonly (Position | null)[]): Position {
  let result = first;
  for (const other of others) if (other !== null && comparePositions(other, result) > 0) result = other;
  return result;
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
  };
}

function resetOf(row: Row): SinkReset | null {
  const found = storedOrNull(row, "reset", isStoredReset);
  if (found === null) return null;
  const { anew, crossing, keeps, to } = found;
  const kept = keeps === undefined ? {} : { keeps };
  if (crossing === undefined) return { to: parsePosition(to), anew, ...kept };
  const from = crossing.from === null ? null : parsePosition(crossing.from);
  const [common, otherwise] = [parsePosition(crossing.common), parsePosition(crossing.otherwise)];
  return { to: parsePosition(to), anew, crossing: { ...crossing, from, common, otherwise } };
}

interface StoredReset {
  readonly to: string;
  readonly anew: boolean;
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
  if (!isRecord(value) || typeof value["to"] !== "string" || typeof value["anew"] !== "boolean") return false;
  const { crossing, keeps } = value;
  if (keeps !== undefined && !isTextRecord(keeps)) return false;
  if (crossing === undefined) return true;
  return isRecord(crossing) && typeof crossing["common"] === "string" && typeof crossing["otherwise"] === "string";
}
