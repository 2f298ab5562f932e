import { type Completeness, storedCompleteness } from "../../../core/checkpoint/completeness.ts";
import type { StatementSync } from "node:sqlite";
import { timestamp } from "../../../core/clock.ts";
import { invariant } from "../../../core/invariant.ts";
import type { KeyText } from "../../../core/contracts/row-reads.ts";
import type {
  PendingKey,
  TableSnapshot,
  SnapshotProgress,
  SnapshotRequest,
  SnapshotStore,
  SettledKeys,
} from "../../../core/contracts/state-store.ts";
import { ObligationCount } from "./obligations.ts";
import type { Connection } from "../connection.ts";
import { integer, integerOrNull, isTexts, stored, storedOrNull, text, textOrNull, oneOf, type Row } from "../row.ts";

/** Only the newest finished incremental snapshots are kept, for `snapshot list`. */
const FINISHED_COUNT_MAX = 1000;

const COLUMNS = `id, sink, table_id, scope, condition, reason, needed, state, attempt, completeness, sweep_below, cursor, held,
  rows_done, chunks_done, resumed_count, created_at, started_at, ended_at`;
const UNFINISHED = "state IN ('waiting', 'running')";

/** SQL that restarts the unfinished incremental snapshots of a condition from the first key. */
export function voidSnapshots(condition: string): string {
  return `UPDATE snapshot SET state = 'waiting', attempt = attempt + 1, completeness = NULL, sweep_below = NULL,
      cursor = NULL, held = NULL, rows_done = 0, chunks_done = 0, resumed_count = 0, started_at = NULL
    WHERE ${condition} AND ${UNFINISHED}`;
}

export class SqliteSnapshots implements SnapshotStore {
  readonly #connection: Connection;
  readonly #statements: Statements;
  readonly #obligations: ObligationCount;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#statements = prepare(connection);
    this.#obligations = new ObligationCount(connection);
  }

  async add(snapshot: SnapshotRequest): Promise<TableSnapshot> {
    return this.#connection.write(() => this.#add(snapshot));
  }

  async addAll(snapshots: readonly SnapshotRequest[]): Promise<readonly TableSnapshot[]> {
    if (snapshots.length === 0) return [];
    return this.#connection.write(() => snapshots.map((snapshot) => this.#add(snapshot)));
  }

  async again(snapshot: SnapshotRequest, isAhead: (open: TableSnapshot) => boolean): Promise<TableSnapshot> {
    return this.#connection.write(() => {
      const open = this.#add(snapshot);
      if (isAhead(open)) return open;
      this.#obligations.added(open.sink);
      this.#statements.restart.run({ id: open.id });
      return this.#read(open.id);
    });
  }

  /** Adds an incremental snapshot without which the sink lacks rows. The caller has opened a transaction. */
  owe(snapshot: SnapshotRequest): void {
    this.#add({ ...snapshot, needed: true });
  }

  #add({ tableId: table, sink, scope, reason, needed: isNeeded = false }: SnapshotRequest): TableSnapshot {
    const needed = isNeeded ? 1 : 0;
    const condition = scope.kind === "where" ? scope.where : null;
    const same = this.#statements.unfinishedOf.get({ table, sink, scope: scope.kind, condition });
    if (same !== undefined) {
      const id = integer(same, "id");
      this.#statements.need.run({ id, needed });
      return this.#read(id);
    }
    const created = this.#now();
    const row = this.#statements.insert.get({ table, sink, scope: scope.kind, condition, reason, needed, created })!;
    this.#statements.prune.run({ keep: FINISHED_COUNT_MAX });
    this.#obligations.added(sink);
    return this.#read(integer(row, "id"));
  }

  async list(all = false): Promise<readonly TableSnapshot[]> {
    const statement = all ? this.#statements.all : this.#statements.unfinished;
    return this.#connection.read(() => statement.all().map(snapshotOf));
  }

  async advance(progress: readonly SnapshotProgress[]): Promise<void> {
    if (progress.length === 0) return;
    this.#connection.write(() => {
      for (const one of progress) this.#statements.advance.run({ ...stateOf(one), at: this.#now() });
    });
  }

  async finish(progress: SnapshotProgress, settledAt?: number): Promise<boolean> {
    const { id, attempt, rowsDone: rows, chunksDone: chunks } = progress;
    return this.#connection.write(() => {
      if (this.#statements.finish.run({ id, attempt, rows, chunks, at: this.#now() }).changes !== 1) return false;
      const { sink, tableId } = this.#read(id);
      if (settledAt !== undefined) this.#settled({ sink, tableId, batch: settledAt });
      return true;
    });
  }

  #settled({ sink, tableId: table, batch }: SettledKeys): void {
    this.#statements.settled.run({ sink, table, batch });
  }

  async cancel(id: number, evenNeeded = false): Promise<boolean> {
    return this.#change(this.#statements.cancel, {
      id,
      even: evenNeeded ? 1 : 0,
      at: this.#now(),
    });
  }

  async restart(id: number): Promise<void> {
    this.#connection.write(() => {
      if (this.#statements.restart.run({ id }).changes === 1) this.#obligations.added(this.#read(id).sink);
    });
  }

  /**
   * A key that is listed already gets a new number. A reader that has just read it for the old number removes only that
   * one, so the key is read again for later changes.
   */
  async addKeys(sink: string, tableId: string, keys: readonly KeyText[], shape = ""): Promise<void> {
    if (keys.length === 0) return;
    this.#connection.write(() => {
      let isNews = false;
      for (const k of keys) {
        const entry = { sink, table: tableId, key: JSON.stringify(k) };
        isNews ||= this.#statements.isListed.get(entry) === undefined;
        this.#statements.addKey.run({ ...entry, shape });
      }
      if (isNews) this.#obligations.added(sink);
    });
  }

  async keys(
    sinks: readonly string[],
    tableIds: readonly string[] | null,
    limit: number,
  ): Promise<readonly PendingKey[]> {
    const tables = tableIds === null ? null : JSON.stringify(tableIds);
    return this.#connection.read(() =>
      this.#statements.keys.all({ sinks: JSON.stringify(sinks), tables, limit }).map(pendingKey),
    );
  }

  async removeKeys(ids: readonly number[], settled?: SettledKeys): Promise<void> {
    if (ids.length === 0) return;
    this.#connection.write(() => {
      if (settled !== undefined) this.#settled(settled);
      for (const id of ids) this.#statements.removeKey.run({ id });
    });
  }

  async listed(sink: string, tableId: string, keys: readonly KeyText[]): Promise<ReadonlySet<number>> {
    return this.#connection.read(() => {
      const found = new Set<number>();
      for (const [i, k] of keys.entries()) {
        const parameters = { sink, table: tableId, key: JSON.stringify(k) };
        if (this.#statements.isListed.get(parameters) !== undefined) found.add(i);
      }
      return found;
    });
  }

  async countKeys(): Promise<number> {
    return this.#connection.read(() => integer(this.#statements.countKeys.get()!, "count"));
  }

  /** False if the incremental snapshot is not there, or in a state to which the change does not apply (cancelled, for example). */
  #change(statement: StatementSync, parameters: Record<string, string | number>): boolean {
    return this.#connection.write(() => statement.run(parameters).changes === 1);
  }

  #now(): string {
    return timestamp(this.#connection.clock);
  }

  #read(id: number): TableSnapshot {
    const row = this.#statements.get.get({ id });
    invariant(row !== undefined, `snapshot ${id} exists`);
    return snapshotOf(row);
  }
}

type Statements = ReturnType<typeof prepare>;

function prepare(connection: Connection) {
  return {
    get: connection.prepare(`SELECT ${COLUMNS} FROM snapshot WHERE id = :id`),
    all: connection.prepare(`SELECT ${COLUMNS} FROM snapshot ORDER BY id`),
    unfinished: connection.prepare(`SELECT ${COLUMNS} FROM snapshot WHERE ${UNFINISHED} ORDER BY id`),
    unfinishedOf: connection.prepare(
      `SELECT ${COLUMNS} FROM snapshot
       WHERE ${UNFINISHED} AND table_id = :table AND sink = :sink AND scope = :scope AND condition IS :condition
       ORDER BY id`,
    ),
    need: connection.prepare("UPDATE snapshot SET needed = max(needed, :needed) WHERE id = :id"),
    insert: connection.prepare(
      `INSERT INTO snapshot (sink, table_id, scope, condition, reason, needed, created_at)
       VALUES (:sink, :table, :scope, :condition, :reason, :needed, :created) RETURNING id`,
    ),
    prune: connection.prepare(
      `DELETE FROM snapshot WHERE state IN ('done', 'cancelled') AND id <= (
         SELECT id FROM snapshot WHERE state IN ('done', 'cancelled') ORDER BY id DESC LIMIT 1 OFFSET :keep)`,
    ),
    advance: connection.prepare(
      `UPDATE snapshot SET state = 'running', completeness = :completeness, sweep_below = :sweep, cursor = :cursor,
         held = :held, rows_done = :rows, chunks_done = :chunks, resumed_count = :resumed, started_at = coalesce(started_at, :at)
       WHERE id = :id AND attempt = :attempt AND ${UNFINISHED}`,
    ),
    finish: connection.prepare(
      `UPDATE snapshot SET state = 'done', rows_done = :rows, chunks_done = :chunks, ended_at = :at,
         started_at = coalesce(started_at, :at)
       WHERE id = :id AND attempt = :attempt AND ${UNFINISHED}`,
    ),
    cancel: connection.prepare(
      `UPDATE snapshot SET state = 'cancelled', ended_at = :at
       WHERE id = :id AND (needed = 0 OR :even = 1) AND ${UNFINISHED}`,
    ),
    restart: connection.prepare(voidSnapshots("id = :id")),
    settled: connection.prepare(
      `INSERT INTO settled (sink, table_id, step) VALUES (:sink, :table, :batch)
       ON CONFLICT DO UPDATE SET step = max(step, :batch)`,
    ),
    addKey: connection.prepare(
      "INSERT OR REPLACE INTO pending_key (sink, table_id, key, shape) VALUES (:sink, :table, :key, :shape)",
    ),
    keys: connection.prepare(
      `SELECT id, sink, table_id, key, shape FROM pending_key
       WHERE sink IN (SELECT value FROM json_each(:sinks)) 
         AND (:tables IS NULL OR table_id IN (SELECT value FROM json_each(:tables)))
       ORDER BY id LIMIT :limit`,
    ),
    isListed: connection.prepare("SELECT 1 FROM pending_key WHERE sink = :sink AND table_id = :table AND key = :key"),
    removeKey: connection.prepare("DELETE FROM pending_key WHERE id = :id"),
    countKeys: connection.prepare("SELECT count(*) AS count FROM pending_key"),
  };
}

function snapshotOf(row: Row): TableSnapshot {
  const sweepBelow = textOrNull(row, "sweep_below");
  return {
    id: integer(row, "id"),
    tableId: text(row, "table_id"),
    sink: text(row, "sink"),
    scope: scopeOf(row),
    reason: text(row, "reason"),
    needed: integer(row, "needed") === 1,
    state: oneOf(row, "state", ["waiting", "running", "done", "cancelled"]),
    attempt: integer(row, "attempt"),
    completeness: completenessOf(row),
    sweepBelow: sweepBelow === null ? null : BigInt(sweepBelow),
    cursor: storedOrNull(row, "cursor", isTexts),
    held: integerOrNull(row, "held"),
    rowsDone: integer(row, "rows_done"),
    chunksDone: integer(row, "chunks_done"),
    resumedCount: integer(row, "resumed_count"),
    createdAt: text(row, "created_at"),
    startedAt: textOrNull(row, "started_at"),
    endedAt: textOrNull(row, "ended_at"),
  };
}

function stateOf(progress: SnapshotProgress) {
  const { id, attempt, completeness, sweepBelow, cursor, held, rowsDone, chunksDone, resumedCount } = progress;
  return {
    id,
    attempt,
    completeness,
    sweep: sweepBelow === null ? null : String(sweepBelow),
    cursor: cursor === null ? null : JSON.stringify(cursor),
    held,
    rows: rowsDone,
    chunks: chunksDone,
    resumed: resumedCount,
  };
}

function scopeOf(row: Row): TableSnapshot["scope"] {
  const kind = oneOf(row, "scope", ["table", "where", "differences"]);
  return kind === "where" ? { kind, where: text(row, "condition") } : { kind };
}

function pendingKey(row: Row): PendingKey {
  return {
    id: integer(row, "id"),
    sink: text(row, "sink"),
    tableId: text(row, "table_id"),
    key: stored(row, "key", isTexts),
    shape: text(row, "shape"),
  };
}

function completenessOf(row: Row): Completeness | null {
  const text = textOrNull(row, "completeness");
  return text === null ? null : storedCompleteness(text);
}
