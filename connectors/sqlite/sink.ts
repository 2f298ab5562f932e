import { diskRooms, type Room } from "../../src/core/disk-room.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import { invariant } from "../../src/core/invariant.ts";
import { type Batch, type TableWrites, tablesOf, type Truncate } from "../../src/core/model/batch.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import type { TableName } from "../../src/core/contracts/connector.ts";
import type {
  AllTargets,
  ForeignTarget,
  Outcome,
  Sink,
  TargetComparison,
  TargetEvolution,
  TargetPresence,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import { decodeNote } from "../warehouse/following.ts";

import {
  COMMIT_TIME_COLUMN,
  DEFAULT_FORM,
  DELETED_COLUMN,
  type TargetForm,
  VERSION_COLUMN,
} from "../warehouse/own-columns.ts";
import { scopeKey } from "../warehouse/scopes.ts";
import { Targets, type TargetsOptions, type WarehouseSinkOptions } from "../warehouse/targets.ts";
import { type Companion, KeptColumns } from "./companion.ts";
import { classify, isMissing, rowsKept, sqliteError, stopped, triggerFails } from "./errors.ts";
import { openExisting, SqliteFile, unlessBusy } from "./file.ts";
import { SqliteInspection } from "./inspect/inspect.ts";
import { inScope, NOTES, quoteIdentifier, SCOPES, targetKey, targetName } from "./names.ts";
import { CheckpointRow } from "./tables/checkpoint.ts";
import { isSoft, type SqliteLayout } from "./tables/layout.ts";
import { dropIfGone, dropNewest, lackingNewest, noteNewest } from "./tables/newest.ts";
import { noteIn, PLACE, type SqliteTarget, SqliteWarehouse } from "./tables/warehouse.ts";
import { appendSweep, appendTruncate, HistoryWriter } from "./write/history.ts";
import { MirrorWriter, RowValues, TableWrite } from "./write/mirror.ts";
import { Slices } from "./write/slices.ts";

/** `schema`: what all tables' names begin with. */
export interface SqliteSinkOptions extends WarehouseSinkOptions {
  /** Default: `sqlite`. */
  readonly kind?: string;
  readonly path: string;
  readonly companion?: Companion;
}

/** Mirrors tables into a SQLite file, or keeps their history; effects occur exactly once. See README.md. */
export class SqliteSink implements Sink, TargetPresence, TargetRows, TargetEvolution, TargetComparison {
  readonly kind: string;
  readonly delivery = "transactional";
  readonly onLost = "fail";
  readonly presence = this;
  readonly rows = this;
  readonly evolution = this;
  readonly comparison = this;
  /** A commit costs a sync of the log, and a row the same in a batch of any size. */
  readonly batchLimits = { rowCountMax: 20_000, byteCountMax: 8 * 1024 * 1024, hasTruncates: true };
  readonly name: string;
  readonly form: TargetForm["mode"];
  readonly scopedBy?: "rows";
  readonly #path: string;
  readonly #options: TargetsOptions;
  readonly #targets: Targets<SqliteLayout, SqliteTarget, SqliteLayout>;
  readonly #checkpoint: CheckpointRow;
  readonly #mirror = new MirrorWriter();
  readonly #history = new HistoryWriter();
  readonly #values: RowValues;
  readonly #closing = new AbortController();
  readonly #companion: Companion | undefined;
  readonly #kept: KeptColumns;
  #file: SqliteFile | null = null;
  /** Of the file when it was looked through. */
  #seenWritings = "";
  #seenVersion: unknown = null;
  /** Targets that were this sink's in it. */
  readonly #seenOwned = new Set<string>();
  #inFlight: Promise<unknown> = Promise.resolve();

  constructor(options: SqliteSinkOptions) {
    const { name, kind = "sqlite", path, owner, schema, form = DEFAULT_FORM, dropsColumns, companion } = options;
    this.name = name;
    this.kind = kind;
    this.#companion = companion;
    this.#kept = new KeptColumns(companion);
    this.#values = new RowValues(companion === undefined, this.#kept);
    this.form = form.mode;
    if (form.mode === "mirror") this.scopedBy = "rows";
    this.#path = path;
    this.#options = { owner, schema, form, dropsColumns };
    this.#targets = new Targets(owner);
    this.#checkpoint = new CheckpointRow(owner);
  }

  target(table: TableName): string {
    return targetKey(targetName(table, this.#options.schema));
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    return await this.#work("opening the file", signal, async (stop) => {
      const isMoved = this.#file?.isInPlace === false;
      if (isMoved) await this.#disconnect();
      const isOpen = this.#file !== null;
      this.#file ??= await SqliteFile.open(this.#path, stop);
      const file = this.#file;
      let held: Checkpoint | null = null;
      try {
        // Of one that was emptied, SQLite puts back what the log has, which may be less than all.
        if (isMoved) file.expectWhole();
        await file.transaction(
          stop,
          () => (held = this.#checkpoint.take(file, lease)),
          () => undefined,
        );
        const [fence, complete] = [() => this.#checkpoint.fence(file), () => this.#checkpoint.complete];
        if (!isOpen) await this.#companion?.opened(file, fence, complete, stop);
      } catch (error) {
        // Half open, as with a companion that has not seen the file, it is not.
        if (!isOpen) await this.#disconnect();
        throw error;
      }
      return held;
    });
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    try {
      return await unlessBusy(signal, () => {
        using database = openExisting(this.#path);
        return database === null ? null : this.#checkpoint.look(database);
      });
    } catch (error) {
      throw classify(error, "looking at the sink's progress", this.#path);
    }
  }

  /** Existing tables get the form that the options request now, even if no rows arrive. */
  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return await this.#work("looking for tables", signal, async (stop) => {
      const warehouse = this.#warehouse(stop);
      const missing = new Set(await this.#targets.missing(warehouse, this.#keptOf(tables)));
      const found = await warehouse.find(this.#companion === undefined ? [] : tables);
      return tables.filter((table) => {
        const kept = this.#kept.of(table);
        return missing.has(kept) || !isNoted(warehouse, kept, found.get(warehouse.key(table)) ?? null);
      });
    });
  }

  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly ForeignTarget[]> {
    return await this.#work("looking for tables", signal, async (stop) => {
      const foreign = await this.#targets.foreign(this.#warehouse(stop), this.#keptOf(tables));
      const owners = new Map(foreign.map(({ table, owner }) => [table, owner]));
      return tables.flatMap((table) => {
        const owner = owners.get(this.#kept.of(table));
        return owner === undefined ? [] : [{ table, owner }];
      });
    });
  }

  async keepOnly(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    await this.#work("letting go of tables", signal, async (stop) => {
      await this.#targets.keepOnly(this.#warehouse(stop), this.#keptOf(tables));
    });
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const doing = tables.length === 1 ? `preparing ${tables[0]!.id}` : `preparing ${tables.length} tables`;
    await this.#work(doing, signal, async (stop) => {
      this.#opened().verifyPlace();
      const kept = this.#keptOf(tables);
      this.#companion?.preparing();
      try {
        await this.#targets.prepare(this.#warehouse(stop), kept);
      } finally {
        const layouts = kept.flatMap((table) => this.#targets.find(table) ?? []);
        await this.#companion?.prepared(layouts, stop);
      }
    });
  }

  async carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    return await this.#work(`looking at ${to.id}`, signal, async (stop) => {
      if (this.#kept.takesMore(from, to)) return false;
      return await this.#targets.carries(this.#warehouse(stop), this.#kept.of(from), this.#kept.of(to));
    });
  }

  kept(table: TableVersion): TableVersion {
    return this.#kept.of(table);
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    await this.#work("writing", signal, async (stop) => {
      const file = this.#opened();
      await this.#companion?.writing(stop);
      if (batch.kind === "sweep") {
        const sweeps = batch.sweeps.map(({ table, below }) => ({ table: this.#kept.of(table), below }));
        await this.#targets.hide(this.#warehouse(stop), sweeps);
      }
      const slices = new Slices(stop);
      try {
        await file.transaction(
          stop,
          () => {
            this.#checkpoint.advance(file, batch.checkpoint);
            this.#expectOwned(file, batch);
          },
          async () => {
            await this.#write(file, slices, batch, outcome);
            await this.#companion?.written(slices, batch.checkpoint.tables);
            failpoint("sqlite.rows-written");
            if (stop.aborted) throw stopped();
          },
        );
      } finally {
        this.#values.release();
      }
      this.#checkpoint.committed(batch.checkpoint);
      this.#companion?.committed(filledBy(batch, this.batchLimits));
    });
  }

  /** Inside a transaction: nothing goes into a table, or a part of one, that another daemon has prepared since. */
  #expectOwned(file: SqliteFile, batch: Batch): void {
    const { version } = file;
    if (version !== this.#seenVersion) this.#seenOwned.clear();
    this.#seenVersion = version;
    const places = new Map(
      tablesOf(batch).map((table) => {
        const name = targetName(table, this.#options.schema);
        return [scopeKey(targetKey(name), table) ?? targetKey(name), { name, isShared: table.scope !== undefined }];
      }),
    );
    const [scopes, names] = [[] as string[], [] as string[]];
    for (const [place, { name, isShared }] of places) {
      if (this.#seenOwned.has(place)) continue;
      if (isShared) scopes.push(place);
      else names.push(name);
    }
    const found = names.map((name) => [targetKey(name), { note: noteIn(file, name) }] as const);
    this.#targets.expectOwned(sqliteError, new Map(found));
    if (scopes.length > 0)
      this.#targets.expectScopes(
        sqliteError,
        SCOPES.findNow(scopes, (sql) => file.rows(sql)),
      );
    for (const place of places.keys()) this.#seenOwned.add(place);
  }

  async #write(file: SqliteFile, slices: Slices, batch: Batch, outcome: Outcome): Promise<void> {
    const of = (table: TableVersion, work: () => Promise<void>) => ofTable(file, this.#layout(table), work);
    const truncated = (one: Truncate) => of(one.table, () => this.#truncate(file, slices, one));
    switch (batch.kind) {
      case "rows":
        for (const truncate of batch.truncates ?? []) await truncated(truncate);
        for (const writes of batch.tables)
          await of(writes.table, () => this.#writeTable(file, slices, writes, outcome));
        break;
      case "truncate":
        await truncated(batch);
        break;
      case "sweep":
        for (const { table, below } of batch.sweeps)
          await of(table, () => this.#sweep(file, slices, this.#layout(table), below));
        break;
      case "checkpoint":
        break;
      default:
        batch satisfies never;
    }
  }

  async #writeTable(file: SqliteFile, slices: Slices, writes: TableWrites, outcome: Outcome): Promise<void> {
    const layout = this.#layout(writes.table);
    const writer = layout.form.mode === "history" ? this.#history : this.#mirror;
    const write = new TableWrite(file, this.#values, slices, layout, writes);
    await writer.write(write);
    if (layout.notesNewest) {
      const key = write.newestKey();
      if (key !== null) noteNewest(file, layout, key);
      else if (writes.deleteCount > 0) dropIfGone(file, layout);
    }
    const { incomplete, refused } = write;
    if (refused.length > 0) await outcome.poison(refused.map((one) => ({ writes, ...one })));
    if (incomplete.length > 0) await outcome.incomplete(writes, incomplete);
  }

  async #truncate(file: SqliteFile, slices: Slices, truncate: Truncate): Promise<void> {
    const layout = this.#layout(truncate.table);
    if (layout.form.mode === "history")
      return appendTruncate(file, layout, truncate, (us) => this.#values.timeText(us));
    const timeUs = truncate.record?.commitTimeUs;
    return await this.#removeUpTo(file, slices, layout, "<=", truncate.version, timeUs);
  }

  async #sweep(file: SqliteFile, slices: Slices, layout: SqliteLayout, below: bigint): Promise<void> {
    if (layout.form.mode === "history") return await appendSweep(file, slices, layout, below, this.#now());
    return await this.#removeUpTo(file, slices, layout, "<", below, undefined);
  }

  /** Soft: a row that was already deleted keeps the version and the time of its own delete. */
  async #removeUpTo(
    file: SqliteFile,
    slices: Slices,
    layout: SqliteLayout,
    comparison: "<=" | "<",
    version: bigint,
    timeUs: bigint | undefined,
  ): Promise<void> {
    const { table, name, sqlName, form, notesNewest } = layout;
    const isLive = isSoft(form) ? ` AND NOT ${DELETED_COLUMN}` : "";
    const isLeft = `WHERE ${VERSION_COLUMN} ${comparison} ?1${inScope(table)}${isLive}`;
    const stored = this.#kept.stored(version);
    const time = timeUs === undefined ? this.#now() : this.#values.timeText(timeUs);
    const sets = `${DELETED_COLUMN} = 1, ${VERSION_COLUMN} = ?1, ${COMMIT_TIME_COLUMN} = ?2`;
    const [sql, values] = isSoft(form)
      ? [`UPDATE ${sqlName} SET ${sets} ${isLeft}`, [stored, time]]
      : [`DELETE FROM ${sqlName} ${isLeft}`, [stored]];
    await slices.overRows(file, sqlName, (isInPiece) => `${sql} AND ${isInPiece()}`, ...values);
    if (notesNewest) dropIfGone(file, layout);
    if (!hasTriggers(file, name)) return;
    if (file.rows(`SELECT 1 FROM ${sqlName} ${isLeft} LIMIT 1`, stored).length > 0) throw rowsKept(table.id);
  }

  #now(): string {
    return this.#values.timeText(BigInt(Date.now()) * 1000n);
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    await this.#work("removing rows that Millrace did not write", signal, async (stop) => {
      const file = this.#opened();
      const warehouse = this.#warehouse(stop);
      await this.#companion?.writing(stop);
      const slices = new Slices(stop);
      await file.transaction(
        stop,
        () => this.#checkpoint.fence(file),
        async () => {
          for (const { table, rows: sqlName, noted, settled } of await this.#targets.expelled(warehouse, tables)) {
            const where = `WHERE (${VERSION_COLUMN} > ?1 OR ${VERSION_COLUMN} IS NULL)${inScope(table)}`;
            const remove = `DELETE FROM ${sqlName} ${where}`;
            const stored = this.#kept.stored(version);
            await slices.overRows(file, sqlName, (isInPiece) => `${remove} AND ${isInPiece()}`, stored);
            const name = targetName(table, this.#options.schema);
            dropNewest(file, name);
            if (noted !== null) warehouse.note({ name }, noted);
            if (settled !== null) file.exec(SCOPES.settle(settled));
          }
          await this.#companion?.written(slices);
        },
      );
      this.#companion?.committed(0);
    });
  }

  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    return await this.#work("looking for old rows", signal, async (stop) => {
      return this.#kept.versionOf(await this.#targets.highestVersion(this.#warehouse(stop), tables));
    });
  }

  async inspect(): Promise<Inspection> {
    const { schema, form } = this.#options;
    return SqliteInspection.open(this.#path, { schema, form, kept: this.#kept });
  }

  async rooms(): Promise<readonly Room[]> {
    return diskRooms(this.#path);
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#work("looking at the file", signal, async (stop) => {
      const file = this.#opened();
      file.verifyPlace();
      const there = file.rows(
        `SELECT t.name, n.note FROM sqlite_schema AS t LEFT JOIN ${NOTES} AS n ON n.name = t.name WHERE t.type = 'table'`,
      );
      const { writings } = file;
      const lacking = writings === this.#seenWritings ? NONE : await lackingNewest(file.path, stop);
      const found = there
        .map(([name, note]) => [targetKey(String(name)), note] as const)
        .filter(([key]) => !lacking.has(key))
        .map(([key, note]) => [key, { note: decodeNote(note === null ? null : String(note)) }] as const);
      this.#targets.expectPresent(sqliteError, PLACE, new Map(found));
      if (writings !== this.#seenWritings) await this.#targets.checkScopes(this.#warehouse(stop));
      this.#seenWritings = writings;
    });
  }

  async forget(signal: AbortSignal): Promise<void> {
    await this.#work("removing the sink's progress", signal, async (stop) => {
      const file = this.#opened();
      await file.transaction(
        stop,
        () => undefined,
        () => this.#checkpoint.remove(file),
      );
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#inFlight;
    await this.#disconnect();
  }

  #opened(): SqliteFile {
    if (this.#closing.signal.aborted) throw stopped();
    const file = this.#file;
    invariant(file !== null, "a sink is opened before it is used");
    return file;
  }

  #warehouse(stop: AbortSignal): SqliteWarehouse {
    return new SqliteWarehouse(this.#opened(), this.#checkpoint, this.#options, this.#kept, this.#companion, stop);
  }

  #keptOf(tables: readonly TableVersion[]): readonly TableVersion[] {
    return tables.map((table) => this.#kept.of(table));
  }

  #layout(table: TableVersion): SqliteLayout {
    return this.#targets.get(this.#kept.of(table));
  }

  async #disconnect(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    this.#seenVersion = null;
    this.#targets.forget();
    if (file !== null) await this.#companion?.closing();
    await file?.close();
  }

  /** Only one call at a time is in flight; `close` stops it and waits for it. */
  async #work<T>(doing: string, signal: AbortSignal, work: (stop: AbortSignal) => Promise<T>): Promise<T> {
    const stop = AbortSignal.any([signal, this.#closing.signal]);
    const run = async (): Promise<T> => {
      if (stop.aborted) throw stopped();
      try {
        using _ = await this.#companion?.turn(stop);
        return await work(stop);
      } catch (error) {
        if (stop.aborted) throw stopped();
        throw classify(error, doing, this.#path);
      }
    };
    const result = run();
    this.#inFlight = result.catch(() => undefined);
    return await result;
  }
}

const NONE: ReadonlySet<string> = new Set();

/** Entries count, though the queue counts changes: what a batch has of few rows that change often is little. */
function filledBy(batch: Batch, { rowCountMax, byteCountMax }: SqliteSink["batchLimits"]): number {
  if (batch.kind !== "rows") return 0;
  const rowCount = batch.tables.reduce((sum, { count }) => sum + count, 0);
  const blocks = new Set(batch.tables.flatMap((writes) => writes.blocks));
  const byteCount = Array.from(blocks).reduce((sum, block) => sum + block.byteCount, 0);
  return Math.min(Math.max(rowCount / rowCountMax, byteCount / byteCountMax), 1);
}

/** Whether the target was made with each of the columns: a companion may want others by now. */
function isNoted(warehouse: SqliteWarehouse, table: TableVersion, target: SqliteTarget | null): boolean {
  const noted = target?.note?.columns;
  return noted === undefined || warehouse.columnNames(table).every((name) => Object.hasOwn(noted, name));
}

/** What is missing is the table's own, or what a trigger on it names. */
async function ofTable(file: SqliteFile, layout: SqliteLayout, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw isMissing(error) && isWhole(file, layout) ? triggerFails(error, layout.table.id) : error;
  }
}

function hasTriggers(file: SqliteFile, name: string): boolean {
  const sql = "SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE LIMIT 1";
  return file.rows(sql, name).length > 0;
}

function isWhole(file: SqliteFile, { sqlName, columns, retired }: SqliteLayout): boolean {
  const names = [...columns.map((column) => column.sqlName), ...retired.map(quoteIdentifier), VERSION_COLUMN];
  try {
    file.rows(
      `SELECT ${names.map((name) => `millrace_row.${name}`).join(", ")} FROM ${sqlName} AS millrace_row LIMIT 0`,
    );
    return true;
  } catch {
    return false;
  }
}
