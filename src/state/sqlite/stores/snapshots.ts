import { type Completeness, storedCompleteness } from "../../../core/checkpoint.ts";
import { timestamp } from "../../../core/clock.ts";
import { invariant } from "../../../core/invariant.ts";
import type { KeyText } from "../../../core/contracts/row-reads.ts";
import type {
  EndedSnapshot,
  PendingKey,
  TableSnapshot,
  SnapshotProgress,
  SnapshotRequest,
  SnapshotStore,
  SettledKeys,
} from "../../../core/contracts/state-store.ts";
import { countObligation } from "./positions.ts";
import { voidProofs } from "./proofs.ts";
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

const UNFINISHED_OF = `SELECT ${COLUMNS} FROM snapshot
  WHERE ${UNFINISHED} AND table_id = :table AND sink = :sink AND scope = :scope AND condition IS :condition
  ORDER BY id`;
const UNFINISHED_OF_TABLE = `SELECT ${COLUMNS} FROM snapshot
  WHERE ${UNFINISHED} AND table_id = :table AND sink = :sink ORDER BY id`;
const DIFFERENCES = `SELECT ${COLUMNS} FROM snapshot WHERE scope = 'differences' AND ${UNFINISHED} ORDER BY id`;
const INSERT = `INSERT INTO snapshot (sink, table_id, scope, condition, reason, needed, created_at)
  VALUES (:sink, :table, :scope, :condition, :reason, :needed, :created) RETURNING id`;
const PRUNE = `DELETE FROM snapshot WHERE state IN ('done', 'cancelled') AND id <= (
  SELECT id FROM snapshot WHERE state IN ('done', 'cancelled') ORDER BY id DESC LIMIT 1 OFFSET :keep)`;
const ADVANCE = `UPDATE snapshot SET state = 'running', completeness = :completeness, sweep_below = :sweep, cursor = :cursor,
    held = :held, rows_done = :rows, chunks_done = :chunks, resumed_count = :resumed, started_at = coalesce(started_at, :at)
  WHERE id = :id AND attempt = :attempt AND ${UNFINISHED}`;
const FINISH = `UPDATE snapshot SET state = 'done', rows_done = :rows, chunks_done = :chunks, ended_at = :at,
    started_at = coalesce(started_at, :at)
  WHERE id = :id AND attempt = :attempt AND ${UNFINISHED}`;
const CANCEL = `UPDATE snapshot SET state = 'cancelled', ended_at = :at, reason = coalesce(:why, reason)
  WHERE id = :id AND (needed = 0 OR :even = 1) AND ${UNFINISHED}`;
const RESTART = voidSnapshots("id = :id");
const OF_TABLE = "sink = :sink AND table_id = :table";
const SETTLED = `INSERT INTO settled (sink, table_id, step) VALUES (:sink, :table, :batch)
  ON CONFLICT DO UPDATE SET step = max(step, :batch)`;
// The next sink, and the next table of a sink, that has keys: each is one lookup, however many keys there are.
const NEXT_SINK = "SELECT min(sink) AS sink FROM pending_key WHERE sink > :sink";
const NEXT_TABLE = "SELECT min(table_id) AS table_id FROM pending_key WHERE sink = :sink AND table_id > :table";
const OLDEST_KEY = "SELECT min(id) AS id FROM pending_key WHERE sink = :sink AND table_id = :table";
const KEYS = `SELECT id, sink, table_id, key, shape FROM pending_key WHERE sink = :sink AND table_id = :table
  ORDER BY id LIMIT :limit`;
const IS_LISTED = "SELECT 1 FROM pending_key WHERE sink = :sink AND table_id = :table AND key = :key";
/** One statement for all: the process stands still meanwhile. */
const LISTED_OF = `SELECT asked.key AS at FROM json_each(:keys) asked
  JOIN pending_key ON sink = :sink AND table_id = :table AND pending_key.key = asked.value`;

export class SqliteSnapshots implements SnapshotStore {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async add(snapshot: SnapshotRequest): Promise<TableSnapshot> {
    return this.#connection.write(() => this.#add(snapshot));
  }

  async addAll(snapshots: readonly SnapshotRequest[]): Promise<readonly TableSnapshot[]> {
    if (snapshots.length === 0) return [];
    return this.#connection.write(() => snapshots.map((snapshot) => this.#add(snapshot)));
  }

  async again(
    snapshots: readonly SnapshotRequest[],
    isAhead: (open: TableSnapshot) => boolean,
  ): Promise<readonly TableSnapshot[]> {
    if (snapshots.length === 0) return [];
    return this.#connection.write(() => snapshots.map((snapshot) => this.#again(snapshot, isAhead)));
  }

  #again(snapshot: SnapshotRequest, isAhead: (open: TableSnapshot) => boolean): TableSnapshot {
    const { reason } = snapshot;
    const open = this.#add(snapshot);
    this.#connection.run("UPDATE snapshot SET reason = :reason WHERE id = :id", { id: open.id, reason });
    if (!isAhead(open)) this.#restart(open.id);
    return this.#read(open.id);
  }

  /**
   * Adds an incremental snapshot without which the sink lacks rows. One that is unfinished may have passed them, and
   * starts again. The caller has opened a transaction.
   */
  owe(snapshot: SnapshotRequest): void {
    const isOpen = this.#openOf(snapshot) !== undefined;
    const { id } = this.#add({ ...snapshot, needed: true });
    if (isOpen) this.#restart(id);
  }

  #openOf({ tableId: table, sink, scope }: SnapshotRequest): Row | undefined {
    const condition = scope.kind === "where" ? scope.where : null;
    return this.#connection.get(UNFINISHED_OF, { table, sink, scope: scope.kind, condition });
  }

  #add(snapshot: SnapshotRequest): TableSnapshot {
    const { tableId: table, sink, scope, reason, needed: isNeeded = false } = snapshot;
    const needed = isNeeded ? 1 : 0;
    const condition = scope.kind === "where" ? scope.where : null;
    const same = this.#openOf(snapshot);
    if (same !== undefined) {
      const id = integer(same, "id");
      this.#connection.run("UPDATE snapshot SET needed = max(needed, :needed) WHERE id = :id", { id, needed });
      return this.#read(id);
    }
    const created = this.#now();
    const row = { table, sink, scope: scope.kind, condition, reason, needed, created };
    const id = integer(this.#connection.get(INSERT, row)!, "id");
    voidProofs(this.#connection, OF_TABLE, { sink, table });
    countObligation(this.#connection, sink);
    return this.#read(id);
  }

  async list(all = false): Promise<readonly TableSnapshot[]> {
    const sql = `SELECT ${COLUMNS} FROM snapshot ${all ? "" : `WHERE ${UNFINISHED}`} ORDER BY id`;
    return this.#connection.all(sql).map(snapshotOf);
  }

  async differences(): Promise<readonly TableSnapshot[]> {
    return this.#connection.all(DIFFERENCES).map(snapshotOf);
  }

  async unfinished(sink: string, table: string): Promise<readonly TableSnapshot[]> {
    return this.#connection.all(UNFINISHED_OF_TABLE, { sink, table }).map(snapshotOf);
  }

  async advance(progress: readonly SnapshotProgress[]): Promise<void> {
    if (progress.length === 0) return;
    this.#connection.write(() => {
      for (const one of progress) this.#connection.run(ADVANCE, { ...stateOf(one), at: this.#now() });
    });
  }

  async finish(progress: SnapshotProgress, settledAt?: number): Promise<boolean> {
    return (await this.finishAll([{ progress, settledAt }]))[0]!;
  }

  async finishAll(ended: readonly EndedSnapshot[]): Promise<readonly boolean[]> {
    return this.#connection.write(() => {
      const isEnded = ended.map((one) => this.#finish(one));
      this.#prune();
      return isEnded;
    });
  }

  #finish({ progress, settledAt }: EndedSnapshot): boolean {
    const { id, attempt, rowsDone: rows, chunksDone: chunks } = progress;
    if (this.#connection.run(FINISH, { id, attempt, rows, chunks, at: this.#now() }) !== 1) return false;
    if (settledAt === undefined) return true;
    const { sink, tableId } = this.#read(id);
    this.#settled({ sink, tableId, batch: settledAt });
    return true;
  }

  #prune(): void {
    this.#connection.run(PRUNE, { keep: FINISHED_COUNT_MAX });
  }

  #settled({ sink, tableId: table, batch }: SettledKeys): void {
    this.#connection.run(SETTLED, { sink, table, batch });
  }

  async cancel(ids: readonly number[], evenNeeded = false, why?: string): Promise<readonly number[]> {
    if (ids.length === 0) return [];
    const row = { even: evenNeeded ? 1 : 0, why: why ?? null, at: this.#now() };
    return this.#connection.write(() => {
      const ended = ids.filter((id) => this.#connection.run(CANCEL, { ...row, id }) === 1);
      this.#prune();
      return ended;
    });
  }

  async restart(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return;
    this.#connection.write(() => {
      for (const id of ids) this.#restart(id);
    });
  }

  #restart(id: number): void {
    if (this.#connection.run(RESTART, { id }) === 0) return;
    const { sink, tableId: table } = this.#read(id);
    countObligation(this.#connection, sink);
    voidProofs(this.#connection, OF_TABLE, { sink, table });
  }

  /**
   * A key that is listed already gets a new number. A reader that has just read it for the old number removes only that
   * one, so the key is read again for later changes.
   */
  async addKeys(sink: string, tableId: string, keys: readonly KeyText[], shape = ""): Promise<void> {
    if (keys.length > 0) this.#connection.write(() => this.oweKeys(sink, tableId, keys, shape));
  }

  /** The same in a transaction that the caller has opened. */
  oweKeys(sink: string, tableId: string, keys: readonly KeyText[], shape = ""): void {
    const add = "INSERT OR REPLACE INTO pending_key (sink, table_id, key, shape) VALUES (:sink, :table, :key, :shape)";
    let isNews = false;
    for (const k of keys) {
      const entry = { sink, table: tableId, key: JSON.stringify(k) };
      isNews ||= this.#connection.get(IS_LISTED, entry) === undefined;
      this.#connection.run(add, { ...entry, shape });
    }
    if (isNews) countObligation(this.#connection, sink);
  }

  async keys(
    sinks: readonly string[],
    tableIds: readonly string[] | null,
    limit: number,
  ): Promise<readonly PendingKey[]> {
    const wanted = tableIds === null ? null : new Set(tableIds);
    const places = sinks.flatMap((sink) => this.#tablesOf(sink).map((table) => ({ sink, table })));
    const byAge = places
      .filter(({ table }) => wanted === null || wanted.has(table))
      .map((place) => ({ place, oldest: integer(this.#connection.get(OLDEST_KEY, place)!, "id") }))
      .toSorted((a, b) => a.oldest - b.oldest);
    const found: PendingKey[] = [];
    for (const { place } of byAge) {
      if (found.length === limit) break;
      found.push(...this.#connection.all(KEYS, { ...place, limit: limit - found.length }).map(pendingKey));
    }
    return found;
  }

  async tablesOfKeys(): Promise<readonly string[]> {
    const tables = new Set<string>();
    for (let sink = this.#sinkAfter(""); sink !== null; sink = this.#sinkAfter(sink))
      for (const table of this.#tablesOf(sink)) tables.add(table);
    return [...tables];
  }

  #sinkAfter(sink: string): string | null {
    return textOrNull(this.#connection.get(NEXT_SINK, { sink })!, "sink");
  }

  /** Those with keys. */
  #tablesOf(sink: string): readonly string[] {
    const tables: string[] = [];
    for (let table: string | null = ""; ; tables.push(table)) {
      table = textOrNull(this.#connection.get(NEXT_TABLE, { sink, table })!, "table_id");
      if (table === null) return tables;
    }
  }

  async removeKeys(ids: readonly number[], settled?: SettledKeys): Promise<void> {
    if (ids.length === 0) return;
    this.#connection.write(() => {
      if (settled !== undefined) this.#settled(settled);
      for (const id of ids) this.#connection.run("DELETE FROM pending_key WHERE id = :id", { id });
    });
  }

  async listed(sink: string, tableId: string, keys: readonly KeyText[]): Promise<ReadonlySet<number>> {
    const asked = JSON.stringify(keys.map((key) => JSON.stringify(key)));
    const rows = this.#connection.all(LISTED_OF, { sink, table: tableId, keys: asked });
    return new Set(rows.map((row) => integer(row, "at")));
  }

  async countKeys(): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>> {
    const rows = this.#connection.all(
      "SELECT sink, table_id, count(*) AS count FROM pending_key GROUP BY sink, table_id",
    );
    const bySink = Map.groupBy(rows, (row) => text(row, "sink"));
    return new Map(
      Array.from(bySink, ([sink, of]) => [
        sink,
        new Map(of.map((row) => [text(row, "table_id"), integer(row, "count")])),
      ]),
    );
  }

  #now(): string {
    return timestamp(this.#connection.clock);
  }

  #read(id: number): TableSnapshot {
    const row = this.#connection.get(`SELECT ${COLUMNS} FROM snapshot WHERE id = :id`, { id });
    invariant(row !== undefined, `snapshot ${id} exists`);
    return snapshotOf(row);
  }
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
