import { type EngineConnection, inTransaction, readTextRows } from "../kit/duckdb-engine/engine.ts";
import { type Batch, tablesOf } from "../../src/core/model/batch.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { diskRooms, type Room } from "../../src/core/disk-room.ts";
import { invariant } from "../../src/core/invariant.ts";
import { findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type {
  AllTargets,
  ForeignTarget,
  FormerProcess,
  Outcome,
  Sink,
  SinkForm,
  TargetComparison,
  TargetCopies,
  TargetEngine,
  TargetEvolution,
  TargetHint,
  TargetPresence,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import { classify, duckdbError, endedEngine, isInvalidated, overFiles, stopped } from "./errors.ts";
import { inScope, nameOf, targetKey, targetOf } from "./names.ts";
import type { DuckdbForm, TableLayout } from "./write/layout.ts";
import { CheckpointRow } from "./tables/checkpoint.ts";
import type { Store } from "./store.ts";
import { Repetition, batchName } from "./repetition.ts";
import { type BatchParts, BatchWriter } from "./write/batch-writer.ts";
import { successorOf } from "../warehouse/following.ts";
import { scopeKey } from "../warehouse/scopes.ts";
import { expelSql, Targets, type WarehouseSinkOptions } from "../warehouse/targets.ts";
import { commentSql, DuckdbWarehouse, type WarehouseOptions } from "./tables/warehouse.ts";
import type { DuckdbTarget } from "./tables/existing.ts";

/** How often a sink tries to forget where each time another daemon commits first. */
const FORGETTING_COUNT_MAX = 5;

export interface Layouts {
  /** By `nameOf`, as last prepared. */
  readonly all: ReadonlyMap<string, TableLayout>;
  /** Undefined: that version is not prepared. */
  readonly of: (table: TableVersion) => TableLayout | undefined;
}

/** What was found in the store as of one of its versions. */
interface Seen {
  readonly version: string;
  /** Their targets are there, in the form that the options request. */
  readonly tables: Set<TableVersion>;
  /** Their targets are no other sink's. */
  readonly own: Set<TableVersion>;
  /** So are those of all tables that were prepared. */
  isWhole: boolean;
}

export interface Opened<S> {
  readonly connection: EngineConnection;
  readonly store: S;
  readonly checkpoint: CheckpointRow;
}

/** What belongs to one kind of store, a file or a lake, of a sink over DuckDB's engine. It lives as long as the sink. */
export interface StoreKeeper<S extends Store> {
  readonly kind: string;
  readonly form: DuckdbForm;
  readonly batchLimits: NonNullable<Sink["batchLimits"]>;
  readonly copies?: TargetCopies;
  /** Deleted rows that still occupy space in the target. */
  readonly deadRows: number;
  /** Upkeep that fails. */
  readonly hints: readonly TargetHint[];
  /** See `EngineSink.follows`. */
  inOwnProcess: boolean;
  acquire(): Promise<S>;
  /** The target as it is, opened for looking; null: there is none yet. Creates nothing. */
  acquireExisting(): Promise<S | null>;
  /** Opens separate connections for comparing. */
  inspect(): Promise<Inspection>;
  /** The error says that the target holds nothing at all. */
  isAbsent?(error: unknown): boolean;
  /** Files and folders of this machine that it fills. */
  readonly paths: readonly string[];
  /** The failure, with the place that it concerns: a server, or a disk and its room. */
  placed(error: MillraceError): MillraceError;
  /** What a failure means for the sink, and what becomes of it. */
  meaning?(error: MillraceError, opened: Opened<S>): Promise<MillraceError>;
  /** The store is open. `rewritten`: a table has lost its dead rows. */
  joined(opened: Opened<S>, layouts: Layouts, rewritten: (layout: TableLayout) => void): Promise<void>;
  /** Before the store is released. */
  leaving(): Promise<void>;
  /** The checkpoint was taken over. Exclusively. */
  taken(opened: Opened<S>): Promise<void>;
  /** Which of these tables, whose targets are there, the target can't read any more: they are created again and filled. */
  missing?(tables: readonly TableVersion[], opened: Opened<S>): Promise<readonly TableVersion[]>;
  /** Before the targets of these tables are prepared, or lose rows for a reset. */
  preparing?(
    tables: readonly TableVersion[],
    opened: Opened<S>,
    purpose: "prepare" | "reset",
    signal: AbortSignal,
  ): Promise<void>;
  /** Before the targets of these tables change in another way than by batches. Exclusively. */
  changing?(tables: readonly TableVersion[]): void;
  /** Runs `write`, and what belongs before and after it. Exclusively. */
  applying(batch: Batch, opened: Opened<S>, write: () => Promise<void>): Promise<void>;
  /** While idle, to see whether the target is whole. */
  verifying?(opened: Opened<S>): Promise<void>;
  /** After a batch, and while idle. */
  rested?(): void;
}

/** A sink over DuckDB's engine: it writes tables by SQL, each batch in one transaction with its checkpoint. */
export class EngineSink<S extends Store>
  implements Sink, TargetPresence, TargetRows, TargetEvolution, TargetComparison, TargetEngine
{
  readonly kind: string;
  readonly delivery = "transactional";
  readonly onLost = "fail";
  readonly presence = this;
  readonly rows = this;
  readonly evolution = this;
  readonly comparison = this;
  /** For each range DuckDB looks through row groups of 122,880 rows: 2,000 at once take a third more processor time. */
  readonly rowsAtOnce = 20_000;
  readonly engine = this;
  readonly copies?: TargetCopies;
  readonly batchLimits: NonNullable<Sink["batchLimits"]>;
  readonly form: SinkForm;
  readonly scopedBy?: "rows";
  readonly name: string;
  readonly #keeper: StoreKeeper<S>;
  /** By `nameOf`, as last prepared. */
  readonly #layouts = new Map<string, TableLayout>();
  readonly #repetition = new Repetition();
  readonly #targets: Targets<TableLayout, DuckdbTarget, TableLayout>;
  readonly #batches = new BatchWriter((table) => this.#targets.get(table));
  readonly #options: WarehouseOptions;
  #store: S | null = null;
  #connection: EngineConnection | null = null;
  #checkpoint: CheckpointRow | null = null;
  #seen: Seen | null = null;
  #closed = false;
  #inFlight: Promise<unknown> = Promise.resolve();

  constructor({ name, owner, schema, dropsColumns }: WarehouseSinkOptions, keeper: StoreKeeper<S>) {
    const { kind, form, batchLimits, copies } = keeper;
    this.name = name;
    this.kind = kind;
    this.form = form.mode;
    if (form.mode === "mirror") this.scopedBy = "rows";
    this.batchLimits = batchLimits;
    if (copies !== undefined) this.copies = copies;
    this.#keeper = keeper;
    this.#targets = new Targets(owner);
    const changing = (tables: readonly TableVersion[]): void => keeper.changing?.(tables);
    const onPrepared = (layout: TableLayout, hasExact: boolean): void => {
      this.#layouts.set(nameOf(layout.table), layout);
      this.#batches.prepared(layout, hasExact);
    };
    this.#options = { name, owner, schema, form, dropsColumns, changing, onPrepared };
  }

  get deadRows(): number {
    return this.#keeper.deadRows;
  }

  get hints(): readonly TargetHint[] {
    return this.#keeper.hints;
  }

  async inspect(): Promise<Inspection> {
    return await this.#keeper.inspect();
  }

  /** Equal for two tables if and only if they would share a target: the caller refuses the second. */
  target(table: TableVersion): string {
    return targetKey(targetOf(table, this.#options.schema));
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    return await this.#work("opening", signal, async () => {
      if (this.#store?.broken === true) await this.#disconnect();
      if (this.#connection === null) await this.#connect();
      const { connection, store, checkpoint } = this.#opened();
      store.verifyPlace();
      return await store.exclusively(async () => {
        const held = await inTransaction(
          connection,
          () => connection.run(BEGIN),
          () => checkpoint.take(connection, store.catalogue, lease),
        );
        this.#batches.opened();
        await this.#keeper.taken(this.#opened());
        return held;
      }, signal);
    });
  }

  async rooms(): Promise<readonly Room[]> {
    return diskRooms(...this.#keeper.paths);
  }

  async look(signal: AbortSignal): Promise<Checkpoint | null> {
    signal.throwIfAborted();
    const store = await this.#keeper.acquireExisting();
    if (store === null) return null;
    try {
      const connection = await store.connect();
      try {
        return await this.#checkpointIn(store).look(connection, store.catalogue);
      } finally {
        connection.disconnectSync();
      }
    } catch (error) {
      if (this.#keeper.isAbsent?.(error) === true) return null;
      throw classify(error, "looking at the sink's progress");
    } finally {
      await store.release();
    }
  }

  /** Existing tables get the form that the options request now, even if no rows arrive. */
  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return await this.#work("looking for tables", signal, async () => {
      const seen = await this.#asSeen();
      const unseen = tables.filter((table) => !seen.tables.has(table));
      const missing = unseen.length === 0 ? [] : await this.#targets.missing(this.#warehouse(signal), unseen);
      const there = tables.filter((table) => !missing.includes(table));
      for (const table of there) seen.tables.add(table);
      return [...missing, ...((await this.#keeper.missing?.(there, this.#opened())) ?? [])];
    });
  }

  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly ForeignTarget[]> {
    return await this.#work("looking for tables", signal, async () => {
      const seen = await this.#asSeen();
      const unseen = tables.filter((table) => !seen.own.has(table));
      const foreign = await this.#targets.foreign(this.#warehouse(signal), unseen);
      const taken = new Set(foreign.map(({ table }) => table));
      for (const table of unseen) if (!taken.has(table)) seen.own.add(table);
      return foreign;
    });
  }

  async keepOnly(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    await this.#work("letting go of tables", signal, async () => {
      await this.#targets.keepOnly(this.#warehouse(signal), tables);
    });
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const doing = tables.length === 1 ? `preparing ${tables[0]!.id}` : `preparing ${tables.length} tables`;
    await this.#work(doing, signal, async () => {
      this.#opened().store.verifyPlace();
      await this.#keeper.preparing?.(tables, this.#opened(), "prepare", signal);
      await this.#targets.prepare(this.#warehouse(signal), tables);
    });
  }

  async carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    return await this.#work(`looking at ${to.id}`, signal, async () => {
      return await this.#targets.carries(this.#warehouse(signal), from, to);
    });
  }

  async apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    await this.#work(
      "writing",
      signal,
      async () => {
        const opened = this.#opened();
        const { store, checkpoint } = opened;
        if (batch.kind === "sweep") {
          store.verifyPlace();
          await this.#targets.hide(this.#warehouse(signal), batch.sweeps);
        }
        await store.exclusively(async () => {
          // Invariant: rows that went into a file without a name do not count as durable.
          store.verifyPlace();
          await this.#keeper.applying(batch, opened, async () => {
            const parts: BatchParts = {
              ...opened,
              expectOwned: () => this.#expectOwned(batch, signal),
              outcome,
              signal,
            };
            await this.#batches.apply(parts, batch);
            checkpoint.committed(batch.checkpoint);
          });
        }, signal);
        this.#keeper.rested?.();
      },
      batchName(batch),
    );
  }

  /**
   * Inside a transaction: nothing goes into a table that another daemon has prepared since. One that does so before the commit
   * changes the table's comment, and of the two transactions one fails.
   */
  async #expectOwned(batch: Batch, signal: AbortSignal): Promise<void> {
    const tables = tablesOf(batch);
    const targets = tables.flatMap((table) => this.#targets.find(table)?.target ?? []);
    const noted = targets.length === 0 ? undefined : await this.#opened().store.noted?.(targets);
    if (noted === undefined) return;
    this.#targets.expectOwned(duckdbError, noted);
    const warehouse = this.#warehouse(signal);
    const scopes = tables.flatMap((table) => scopeKey(warehouse.key(table), table) ?? []);
    if (scopes.length > 0) this.#targets.expectScopes(duckdbError, await warehouse.scopes.find(scopes));
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    await this.#work("removing rows that Millrace did not write", signal, async () => {
      const opened = this.#opened();
      const { connection, store, checkpoint } = opened;
      store.verifyPlace();
      await this.#keeper.preparing?.(tables, opened, "reset", signal);
      const warehouse = this.#warehouse(signal);
      const expelled = await this.#targets.expelled(warehouse, tables);
      await store.exclusively(async () => {
        this.#keeper.changing?.(expelled.map(({ table }) => table));
        for (const { table, rows, noted, settled } of expelled) {
          // Within each transaction: see `#expectOwned`.
          const run = async (sql: string): Promise<void> => {
            const target = targetOf(table, this.#options.schema);
            const scope = scopeKey(targetKey(target), table);
            const now =
              scope === null
                ? (await store.noted?.([target]))?.get(targetKey(target))?.note
                : (await warehouse.scopes.find([scope])).get(scope);
            if (successorOf(this.#options.owner, now ?? null) === null) await connection.run(sql);
          };
          const remove = expelSql(rows, version, inScope(table, this.#options.form));
          const begin = () => checkpoint.fence(connection);
          await overFiles(table.id, () => inTransaction(connection, begin, () => run(remove)));
          // DuckDB alters no table with uncommitted changes.
          if (noted !== null) await inTransaction(connection, begin, () => run(commentSql(rows, noted)));
          if (settled !== null) await inTransaction(connection, begin, () => run(checkpoint.scopes.settle(settled)));
        }
      }, signal);
    });
  }

  async highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint> {
    return await this.#work("looking for old rows", signal, async () => {
      return await this.#targets.highestVersion(this.#warehouse(signal), tables);
    });
  }

  /** Commands forget, and come once: what meets another daemon's transaction in a lake is repeated here. */
  async forget(signal: AbortSignal): Promise<void> {
    for (let left = FORGETTING_COUNT_MAX; ; left--) {
      try {
        return await this.#forget(signal);
      } catch (error) {
        if (left === 1 || findMillraceError(error)?.code !== "MR3220") throw error;
      }
    }
  }

  async #forget(signal: AbortSignal): Promise<void> {
    await this.#work("removing the sink's progress", signal, async () => {
      const { connection, store, checkpoint } = this.#opened();
      await this.#keeper.leaving();
      const remove = (): Promise<void> => checkpoint.remove(connection, store.catalogue);
      await store.exclusively(() => inTransaction(connection, () => checkpoint.fence(connection), remove), signal);
    });
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#work("looking at the target", signal, async () => {
      const { connection, store } = this.#opened();
      store.verifyPlace();
      await this.#keeper.verifying?.(this.#opened());
      const seen = await this.#asSeen();
      if (seen.isWhole) return;
      const there = await store.tables(connection);
      const found = new Map(there.map((table) => [targetKey(table.name), table]));
      this.#targets.expectPresent(duckdbError, this.#warehouse(signal).place, found);
      if (store.noted !== undefined) await this.#targets.checkScopes(this.#warehouse(signal));
      seen.isWhole = true;
    });
    this.#keeper.rested?.();
  }

  /** Invariant: an engine that may have ended a process never runs in the daemon's again, until that was stopped in order. */
  follows({ died, errors }: FormerProcess): void {
    this.#keeper.inOwnProcess = died || errors.some(endedEngine);
  }

  async memoryBytes(): Promise<number | null> {
    const store = this.#store;
    if (store === null || store.broken || this.#closed) return null;
    const connection = await store.connect();
    try {
      const [row = []] = await readTextRows(
        connection,
        "SELECT sum(memory_usage_bytes)::BIGINT::VARCHAR FROM duckdb_memory()",
      );
      return Number(row[0]);
    } finally {
      connection.disconnectSync();
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection?.interrupt();
    await this.#inFlight;
    await this.#disconnect();
  }

  /** As long as nobody commits, what was there once is there: looking through all tables costs what their number says. */
  async #asSeen(): Promise<Seen> {
    const { connection, store } = this.#opened();
    const version = await store.version(connection);
    if (this.#seen?.version !== version) this.#seen = { version, tables: new Set(), own: new Set(), isWhole: false };
    return this.#seen;
  }

  #opened(): Opened<S> {
    if (this.#closed) throw stopped();
    const [connection, store] = [this.#connection, this.#store];
    invariant(connection !== null && store !== null, "a sink is opened before it is used");
    return { connection, store, checkpoint: (this.#checkpoint ??= this.#checkpointIn(store)) };
  }

  #checkpointIn(store: S): CheckpointRow {
    return new CheckpointRow(this.#options.owner, store.catalogue, this.#keeper.form);
  }

  #warehouse(signal: AbortSignal): DuckdbWarehouse {
    return new DuckdbWarehouse({ ...this.#opened(), signal }, this.#options);
  }

  async #connect(): Promise<void> {
    this.#store = await this.#keeper.acquire();
    try {
      this.#connection = await this.#store.connect();
      const layouts = { all: this.#layouts, of: (table: TableVersion) => this.#targets.find(table) };
      await this.#keeper.joined(this.#opened(), layouts, (layout) => this.#batches.rewritten(layout));
    } catch (error) {
      await this.#disconnect();
      throw error;
    }
  }

  async #disconnect(): Promise<void> {
    await this.#keeper.leaving();
    this.#connection?.disconnectSync();
    this.#connection = null;
    this.#targets.forget();
    this.#seen = null;
    const store = this.#store;
    this.#store = null;
    await store?.release();
  }

  async #lastCommit(): Promise<string> {
    const [connection, store] = [this.#connection, this.#store];
    return connection === null ? "" : ((await store?.lastCommit(connection).catch(() => "")) ?? "");
  }

  /** Only one call at a time is in flight; `close` interrupts it and waits for it. */
  async #work<T>(doing: string, signal: AbortSignal, work: () => Promise<T>, what = doing): Promise<T> {
    const interrupt = (): void => this.#connection?.interrupt();
    const run = async (): Promise<T> => {
      if (this.#closed || signal.aborted) throw stopped();
      signal.addEventListener("abort", interrupt);
      try {
        const result = await work();
        this.#repetition.passed(what);
        return result;
      } catch (error) {
        if (this.#closed || signal.aborted) throw stopped();
        const found = classify(error, doing);
        const isBroken = found.reason === "lost" || isInvalidated(error);
        const mark = isBroken ? "" : await this.#lastCommit();
        const known = this.#repetition.judged(found, error, what, mark);
        if (isBroken && this.#store !== null) this.#store.broken = true;
        const placed = this.#keeper.placed(known);
        if (isBroken || this.#connection === null) throw placed;
        throw (await this.#keeper.meaning?.(placed, this.#opened())) ?? placed;
      } finally {
        signal.removeEventListener("abort", interrupt);
      }
    };
    const result = run();
    this.#inFlight = result.catch(() => undefined);
    return await result;
  }
}

const BEGIN = "BEGIN TRANSACTION";
