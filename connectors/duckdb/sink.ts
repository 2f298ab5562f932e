import type { WarehouseSinkOptions } from "../warehouse/targets.ts";
import { existsSync } from "node:fs";
import type { MillraceError } from "../../src/core/errors.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { TargetCopies, TargetHint } from "../../src/core/contracts/sink.ts";
import { type Logger, SILENT } from "../../src/core/contracts/telemetry.ts";
import type { TableLayout } from "./write/layout.ts";
import { stageFolder } from "./write/stage-file.ts";
import { EngineSink, type Layouts, type Opened, type StoreKeeper } from "./engine-sink.ts";
import { Database, type DatabaseSettings } from "./file/database.ts";
import { DEAD_MIN, DeadRows } from "./file/dead-rows.ts";
import { tablesPerBatchMax } from "./file/folding.ts";
import { classify, isOutOfMemory, ofFile, onDisk } from "./errors.ts";
import { DuckdbInspection } from "./inspect/inspect.ts";
import { expectFile } from "./inspect/query-file.ts";
import { SPAN_MAX, Upkeep } from "./file/upkeep.ts";
import { DEFAULT_FORM, type TargetForm } from "../warehouse/own-columns.ts";

export interface DuckdbSinkOptions extends DatabaseSettings, WarehouseSinkOptions {
  readonly logger?: Logger;
  /** How many dead rows a table needs before it may be rewritten, and how many rows one turn takes. */
  readonly upkeep?: { readonly deadMin: number; readonly spanMax: number };
}

/**
 * A batch of many rows reads the keys of its tables once: the larger a batch, the less a row costs (docs/benchmarks.md). A
 * third of the limit of all sinks' queues, so that as many changes can arrive meanwhile.
 */
const BATCH = { rowCountMax: 100_000, byteCountMax: 8 * 1024 * 1024, hasTruncates: true } as const;

/** Mirrors tables into a DuckDB file, or keeps their history; effects occur exactly once. See README.md. */
export function duckdbSink(options: DuckdbSinkOptions): EngineSink<Database> {
  return new EngineSink(options, new FileKeeper(options));
}

class FileKeeper implements StoreKeeper<Database>, TargetCopies {
  readonly kind = "duckdb";
  readonly form: TargetForm;
  readonly batchLimits: StoreKeeper<Database>["batchLimits"];
  readonly copies = this;
  inOwnProcess = false;
  readonly #options: DuckdbSinkOptions;
  readonly #dead: DeadRows;
  /** Null in a history, which deletes no rows. */
  #upkeep: Upkeep | null = null;

  constructor(options: DuckdbSinkOptions) {
    this.form = options.form ?? DEFAULT_FORM;
    this.#options = options;
    this.batchLimits = { ...BATCH, tableCountMax: tablesPerBatchMax(options.memoryLimit) };
    this.#dead = new DeadRows(options.upkeep?.deadMin ?? DEAD_MIN);
  }

  /** Over all tables at their last count. */
  get deadRows(): number {
    return this.#dead.count;
  }

  get hints(): readonly TargetHint[] {
    return this.#upkeep?.failed.hints ?? [];
  }

  async acquire(): Promise<Database> {
    return await Database.acquire({ ...this.#options, inOwnProcess: this.inOwnProcess });
  }

  async acquireExisting(): Promise<Database | null> {
    return existsSync(this.#options.path) ? await this.acquire() : null;
  }

  /** Works also while the sink is paused or waits, because no other process can have the file open. */
  async copy(signal: AbortSignal): Promise<string> {
    expectFile(this.#options.path);
    const database = await this.acquire();
    try {
      return await database.copy(signal);
    } catch (error) {
      throw classify(error, "copying the file for a query");
    } finally {
      await database.release();
    }
  }

  async inspect(): Promise<Inspection> {
    const { path, schema } = this.#options;
    expectFile(path);
    return await DuckdbInspection.over(await this.acquire(), { schema, form: this.form });
  }

  /** What does not fit into memory goes into a folder beside the file, and rows on their way into their own. */
  get paths(): readonly string[] {
    return [this.#options.path, stageFolder()];
  }

  placed(error: MillraceError): MillraceError {
    return ofFile(onDisk(error, ...this.paths), this.#options.path);
  }

  async joined(
    { store, checkpoint }: Opened<Database>,
    layouts: Layouts,
    rewritten: (layout: TableLayout) => void,
  ): Promise<void> {
    if (this.form.mode !== "mirror") return;
    const { logger = SILENT, upkeep } = this.#options;
    this.#upkeep = await Upkeep.start({
      database: store,
      checkpoint,
      dead: this.#dead,
      layouts,
      rewritten,
      logger,
      settings: { spanMax: upkeep?.spanMax ?? SPAN_MAX },
    });
  }

  async leaving(): Promise<void> {
    const upkeep = this.#upkeep;
    this.#upkeep = null;
    await upkeep?.close();
  }

  async taken(): Promise<void> {
    await this.#upkeep?.clear();
  }

  changing(tables: readonly TableVersion[]): void {
    this.#upkeep?.abandon(tables);
  }

  async applying(batch: Batch, { connection, store }: Opened<Database>, write: () => Promise<void>): Promise<void> {
    await this.#upkeep?.applying(batch);
    try {
      const tableIds = batch.kind === "rows" ? batch.tables.map(({ table }) => table.id) : [];
      await store.folding.around(connection, tableIds, write);
    } catch (error) {
      if (isOutOfMemory(error)) {
        await this.#upkeep?.makeWay(error);
        await store.folding.now(connection);
      }
      throw error;
    }
    this.#dead.applied(batch);
    failpoint("duckdb.committed");
    await store.giveBack(connection);
  }

  rested(): void {
    this.#upkeep?.look();
  }
}
