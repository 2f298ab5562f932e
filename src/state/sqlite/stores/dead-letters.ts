import { timestamp } from "../../../core/clock.ts";
import { parsePosition, rowVersion, serializePosition } from "../../../core/model/position.ts";
import type { KeyText } from "../../../core/contracts/row-reads.ts";
import type {
  DeadLetter,
  DeadLetterStore,
  LetterChange,
  NewLetter,
  WaitingLetters,
} from "../../../core/contracts/state-store.ts";
import { countObligation, type Owing } from "./positions.ts";
import type { Connection } from "../connection.ts";
import { integer, isTexts, stored, text, oneOf, type Row } from "../row.ts";

/**
 * Letters that have ended are kept for the record: the newest, and none for longer than a month, as they hold values of rows.
 * Waiting letters are never removed. A discarded letter ends when its key is written. Until then it stays, after a month without
 * the row's values; if there are too many, the oldest go, and their keys are read from the source.
 */
const KEPT_COUNT_MAX = 10_000;
const KEPT_MS_MAX = 30 * 86_400_000;
/** To look for those costs the more, the more there are. */
const PRUNED_EVERY_LETTERS = 500;
const PRUNED_EVERY_MS = 3_600_000;

const COLUMNS = "id, sink, table_id, key, op, position, code, reason, created_at, attempts, state";
const SAME_KEY = "sink = :sink AND table_id = :table AND key = :key AND state = 'waiting'";
/** The rows of their keys lack their changes. */
const IS_LACKING = "state IN ('waiting', 'discarded')";
const HAS_ENDED = "state IN ('superseded', 'replayed')";
const INSERT = `INSERT INTO dead_letter
    (sink, table_id, key, op, position, code, reason, envelope, created_at, attempts)
  VALUES (:sink, :table, :key, :op, :position, :code, :reason, :envelope, :created, :attempts)`;
const PRUNE = `DELETE FROM dead_letter WHERE ${HAS_ENDED} AND (created_at < :since OR id <= (
  SELECT id FROM dead_letter WHERE ${HAS_ENDED} ORDER BY id DESC LIMIT 1 OFFSET :keep))`;
const EMPTY = `UPDATE dead_letter SET envelope = '{}'
  WHERE state = 'discarded' AND created_at < :since AND envelope <> '{}'`;
const TOO_MANY = `SELECT id, sink, table_id, key FROM dead_letter WHERE state = 'discarded' AND id <= (
  SELECT id FROM dead_letter WHERE state = 'discarded' ORDER BY id DESC LIMIT 1 OFFSET :keep)`;
const LIST = `SELECT ${COLUMNS} FROM dead_letter
  WHERE (:sink IS NULL OR sink = :sink) AND (:state IS NULL OR state = :state) ORDER BY id`;
// SQLite takes the other columns from the row with the greatest id.
const WAITING = `SELECT sink, count(*) AS count, max(id), table_id, code, reason,
    (SELECT min(created_at) FROM dead_letter AS own WHERE own.state = 'waiting' AND own.sink = dead_letter.sink) AS since
  FROM dead_letter WHERE state = 'waiting' GROUP BY sink`;
const LACKING = `SELECT ${COLUMNS} FROM dead_letter WHERE sink = :sink AND ${IS_LACKING} ORDER BY id`;
const LACKING_OF_TABLE = `SELECT id, key, position FROM dead_letter
  WHERE sink = :sink AND table_id = :table AND ${IS_LACKING}`;
const LACKING_SINKS = `SELECT DISTINCT sink FROM dead_letter WHERE table_id = :table AND ${IS_LACKING}`;
const FORGOTTEN = "other rules hide what its dead letters held";

export class SqliteDeadLetters implements DeadLetterStore {
  readonly #connection: Connection;
  readonly #snapshots: Owing;
  #prunedMs = -Infinity;
  #unprunedCount = 0;

  constructor(connection: Connection, snapshots: Owing) {
    this.#connection = connection;
    this.#snapshots = snapshots;
  }

  async add(letter: NewLetter): Promise<void> {
    const { sink, tableId: table, op, code, reason, envelope } = letter;
    const encodedKey = JSON.stringify(letter.key);
    const position = serializePosition(letter.position);
    const created = timestamp(this.#connection.clock);
    this.#connection.write(() => {
      const replace = `DELETE FROM dead_letter WHERE ${SAME_KEY} RETURNING attempts, position, op`;
      const replaced = this.#connection.get(replace, { sink, table, key: encodedKey });
      if (replaced === undefined) countObligation(this.#connection, sink);
      const attempts = attemptsAfter(replaced, position, op);
      const row = { sink, table, key: encodedKey, op, position, code, reason, envelope, created, attempts };
      this.#connection.run(INSERT, row);
      this.#pruneSettled(1);
    });
  }

  /** After `count` letters more. */
  #pruneSettled(count: number): void {
    const nowMs = this.#connection.clock.now();
    this.#unprunedCount += count;
    if (this.#unprunedCount < PRUNED_EVERY_LETTERS && nowMs - this.#prunedMs < PRUNED_EVERY_MS) return;
    this.#prunedMs = nowMs;
    this.#unprunedCount = 0;
    const since = new Date(nowMs - KEPT_MS_MAX).toISOString();
    this.#connection.run(PRUNE, { keep: KEPT_COUNT_MAX, since });
    this.#connection.run(EMPTY, { since });
    for (const row of this.#connection.all(TOO_MANY, { keep: KEPT_COUNT_MAX })) {
      this.#snapshots.oweKeys(text(row, "sink"), text(row, "table_id"), [stored(row, "key", isTexts)]);
      this.#connection.run("DELETE FROM dead_letter WHERE id = :id", { id: integer(row, "id") });
    }
  }

  async list(filter: { readonly sink?: string; readonly state?: DeadLetter["state"] } = {}) {
    const parameters = { sink: filter.sink ?? null, state: filter.state ?? null };
    return this.#connection.all(LIST, parameters).map(deadLetter);
  }

  async lacking(sink: string): Promise<readonly DeadLetter[]> {
    return this.#connection.all(LACKING, { sink }).map(deadLetter);
  }

  async get(id: number): Promise<DeadLetter | null> {
    const sql = `SELECT ${COLUMNS} FROM dead_letter WHERE id = :id`;
    const row = this.#connection.get(sql, { id });
    return row === undefined ? null : deadLetter(row);
  }

  async envelope(id: number): Promise<string | null> {
    const row = this.#connection.get("SELECT envelope FROM dead_letter WHERE id = :id", { id });
    return row === undefined ? null : text(row, "envelope");
  }

  async waiting(): Promise<ReadonlyMap<string, WaitingLetters>> {
    const rows = this.#connection.all(WAITING);
    return new Map(
      rows.map((row) => {
        const last = `${text(row, "table_id")}: ${text(row, "code")} ${text(row, "reason")}`;
        return [text(row, "sink"), { count: integer(row, "count"), last, since: text(row, "since") }];
      }),
    );
  }

  async forget(tableId: string): Promise<void> {
    this.#connection.write(() => {
      const lacking = this.#connection.all(LACKING_SINKS, { table: tableId }).map((row) => text(row, "sink"));
      for (const sink of lacking) this.#snapshots.owe({ tableId, sink, scope: { kind: "table" }, reason: FORGOTTEN });
      this.#connection.run("DELETE FROM dead_letter WHERE table_id = :table", { table: tableId });
    });
  }

  async supersede(sink: string, tableId: string, keys: readonly KeyText[]): Promise<void> {
    if (keys.length === 0) return;
    const written = new Set(keys.map((key) => JSON.stringify(key)));
    this.#supersede(sink, tableId, (row) => written.has(text(row, "key")));
  }

  async supersedeOlder(sink: string, table: string, version: bigint): Promise<void> {
    this.#supersede(sink, table, (row) => {
      const { epoch, commit } = parsePosition(text(row, "position"));
      return rowVersion(epoch, commit) < version;
    });
  }

  /** A write only if there are some. */
  #supersede(sink: string, table: string, isOver: (row: Row) => boolean): void {
    const ids = this.#connection
      .all(LACKING_OF_TABLE, { sink, table })
      .filter(isOver)
      .map((row) => integer(row, "id"));
    if (ids.length === 0) return;
    this.#connection.write(() => {
      for (const id of ids) this.#connection.run("UPDATE dead_letter SET state = 'superseded' WHERE id = :id", { id });
      this.#pruneSettled(ids.length);
    });
  }

  async settle(ids: readonly number[], { from, to }: LetterChange): Promise<number> {
    if (ids.length === 0) return 0;
    const sql = "UPDATE dead_letter SET state = :to WHERE id = :id AND state = :from";
    return this.#connection.write(() => {
      const count = ids.reduce((n, id) => n + this.#connection.run(sql, { id, from, to }), 0);
      this.#pruneSettled(count);
      return count;
    });
  }
}

/** A step that is applied again reports the same refusal again. */
function attemptsAfter(replaced: Row | undefined, position: string, op: string): number {
  if (replaced === undefined) return 1;
  const isSame = text(replaced, "position") === position && text(replaced, "op") === op;
  return integer(replaced, "attempts") + (isSame ? 0 : 1);
}

function deadLetter(row: Row): DeadLetter {
  return {
    id: integer(row, "id"),
    sink: text(row, "sink"),
    tableId: text(row, "table_id"),
    key: stored(row, "key", isTexts),
    op: text(row, "op"),
    position: parsePosition(text(row, "position")),
    code: text(row, "code"),
    reason: text(row, "reason"),
    createdAt: text(row, "created_at"),
    attempts: integer(row, "attempts"),
    state: oneOf(row, "state", ["waiting", "superseded", "replayed", "discarded"]),
  };
}
