import { existsSync } from "node:fs";
import type { DuckDBConnection } from "@duckdb/node-api";
import type { SinkProgress, Step } from "../../src/core/model/batch.ts";
import type { Inspection } from "../../src/core/contracts/comparing.ts";
import { failpoint } from "../../src/core/failpoint.ts";
import { invariant } from "../../src/core/invariant.ts";
import type { TableName } from "../../src/core/contracts/connector.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type {
  Outcome,
  Sink,
  SinkForm,
  TargetComparison,
  TargetCopies,
  TargetEngine,
  TargetEvolution,
  TargetPresence,
  TargetRows,
} from "../../src/core/contracts/sink.ts";
import { type Logger, SILENT } from "../../src/core/contracts/telemetry.ts";
import { Database, type DatabaseSettings } from "./file/database.ts";
import type { PreparedTarget } from "./tables/ddl.ts";
import { DEAD_MIN, DeadRows } from "./file/dead-rows.ts";
import { classify, duckdbError, isInvalidated, isOutOfMemory, stopped } from "./errors.ts";
import { DEFAULT_FORM, type TargetForm } from "./tables/form.ts";
import { DuckdbInspection } from "./inspect/inspect.ts";
import { targetKey } from "./names.ts";
import type { TableLayout } from "./write/layout.ts";
import { ProgressRow } from "./file/progress.ts";
import { expectFile } from "./inspect/query-file.ts";
import { StepWriter } from "./write/step.ts";
import { Targets } from "./tables/targets.ts";
import { expelSql, highestVersion, versionedTables } from "./tables/versioned-rows.ts";
import { readTextRows } from "./write/text-rows.ts";
import { inTransaction } from "./write/transaction.ts";
import { SPAN_MAX, Upkeep } from "./file/upkeep.ts";

/**
 * An upsert reads whole columns of each group of 2,048 rows that it touches: the larger a step, the less a row costs
 * (docs/benchmarks.md). A third of the limit of all sinks' queues, so that as many changes can arrive meanwhile.
 */
const BATCH = { rowCountMax: 100_000, byteCountMax: 8 * 1024 * 1024 } as const;

export interface DuckdbSinkOptions extends DatabaseSettings {
  readonly name: string;
  /** The schema for all tables; undefined: the source's schemas. */
  readonly schema: string | undefined;
  /** Default: a mirror with hard deletes. */
  readonly form?: TargetForm;
  /** See SinkContext. */
  readonly dropsColumns?: ((table: TableName) => boolean) | undefined;
  readonly logger?: Logger;
  /** How many dead rows a table needs before it may be rewritten, and how many rows one turn takes. */
  readonly upkeep?: { readonly deadMin: number; readonly spanMax: number };
}

/** Mirrors tables into a DuckDB file, or keeps their history; effects occur exactly once. See README.md. */
export class DuckdbSink
  implements Sink, TargetPresence, TargetRows, TargetEvolution, TargetComparison, TargetCopies, TargetEngine
{
  readonly kind = "duckdb";
  readonly delivery = "transactional";
  readonly onLost = "fail";
  readonly presence = this;
  readonly rows = this;
  readonly evolution = this;
  readonly comparison = this;
  readonly copies = this;
  readonly engine = this;
  readonly batch = BATCH;
  readonly form: SinkForm;
  readonly name: string;
  readonly #options: DuckdbSinkOptions;
  readonly #targetForm: TargetForm;
  readonly #targets: Targets;
  readonly #steps = new StepWriter((table) => this.#targets.layout(table));
  readonly #dead: DeadRows;
  #database: Database | null = null;
  #connection: DuckDBConnection | null = null;
  #progress: ProgressRow | null = null;
  /** Null in a history, which deletes no rows. */
  #upkeep: Upkeep | null = null;
  #closed = false;
  #inFlight: Promise<unknown> = Promise.resolve();

  constructor(options: DuckdbSinkOptions) {
    this.name = options.name;
    this.#options = options;
    this.#targetForm = options.form ?? DEFAULT_FORM;
    this.form = this.#targetForm.mode;
    this.#dead = new DeadRows(options.upkeep?.deadMin ?? DEAD_MIN);
    const { name, schema, dropsColumns } = options;
    const onPrepared = (layout: TableLayout, { hasExact }: PreparedTarget) => this.#steps.hasExact(layout, hasExact);
    this.#targets = new Targets({ name, schema, form: this.#targetForm, dropsColumns, onPrepared });
  }

  /** Equal for two tables if and only if they would share a target: the caller refuses the second. */
  target(table: TableVersion): string {
    return this.#targets.key(table);
  }

  async open(lease: number, signal: AbortSignal): Promise<SinkProgress | null> {
    return await this.#work("opening", signal, async () => {
      if (this.#database?.broken === true) await this.#disconnect();
      if (this.#connection === null) await this.#connect();
      const { connection, database, progress } = this.#connected();
      database.verifyFile();
      return await database.exclusively(async () => {
        const held = await inTransaction(
          connection,
          () => connection.run(BEGIN),
          () => progress.take(connection, database.catalogue, lease),
        );
        await this.#upkeep?.clear();
        return held;
      });
    });
  }

  async look(signal: AbortSignal): Promise<SinkProgress | null> {
    signal.throwIfAborted();
    if (!existsSync(this.#options.path)) return null;
    const database = await Database.acquire(this.#options);
    try {
      const connection = await database.connect();
      try {
        return await new ProgressRow(this.name, database.catalogue).look(connection, database.catalogue);
      } finally {
        connection.disconnectSync();
      }
    } catch (error) {
      throw classify(error, "looking at the file's progress");
    } finally {
      await database.release();
    }
  }

  /** Existing tables get the form that the options request now, even if no rows arrive. */
  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return await this.#work("looking for tables", signal, async () => {
      const there = await this.#tablesThere();
      // A missing table that is reported here must not be reported again by `verify`.
      this.#targets.forget([...this.#targets.owners.keys()].filter((target) => !there.has(target)));
      const { connection, database } = this.#connected();
      const changing = (changed: readonly TableVersion[]) => this.#upkeep?.abandon(changed);
      await this.#targets.convert({ connection, database, changing }, tables);
      return tables.filter((table) => !there.has(this.target(table)));
    });
  }

  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const doing = tables.length === 1 ? `preparing ${tables[0]!.id}` : `preparing ${tables.length} tables`;
    await this.#work(doing, signal, async () => {
      const { connection, database } = this.#connected();
      database.verifyFile();
      const changing = (changed: readonly TableVersion[]) => this.#upkeep?.abandon(changed);
      await this.#targets.prepare({ connection, database, changing }, tables);
    });
  }

  async carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean> {
    return await this.#work(`looking at ${to.id}`, signal, async () => {
      const { connection, database } = this.#connected();
      return await this.#targets.carries({ connection, database }, from, to);
    });
  }

  async apply(step: Step, outcome: Outcome, signal: AbortSignal): Promise<void> {
    await this.#work("writing", signal, async () => {
      const { connection, database, progress } = this.#connected();
      await database.exclusively(async () => {
        // Invariant: rows that went into a file without a name do not count as durable.
        database.verifyFile();
        await this.#upkeep?.applying(step);
        try {
          const tableIds = step.kind === "rows" ? step.tables.map(({ table }) => table.id) : [];
          const parts = { connection, database, progress, outcome, signal };
          await database.folding.around(connection, tableIds, () => this.#steps.apply(parts, step));
        } catch (error) {
          if (isOutOfMemory(error)) {
            await this.#upkeep?.makeWay(error);
            await database.folding.now(connection);
          }
          throw error;
        }
        progress.committed(step.progress);
        this.#dead.applied(step);
        failpoint("duckdb.committed");
        await database.giveBack(connection);
      });
      this.#upkeep?.look();
    });
  }

  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    await this.#work("removing rows that Millrace did not write", signal, async () => {
      const { connection, database } = this.#connected();
      database.verifyFile();
      const there = await versionedTables(connection, database.catalogue);
      const found = tables.filter((table) => there.has(this.target(table)));
      await database.exclusively(async () => {
        this.#upkeep?.abandon(found);
        for (const table of found) await connection.run(expelSql(there.get(this.target(table))!, version));
      });
    });
  }

  async highestVersion(tables: readonly TableVersion[] | null, signal: AbortSignal): Promise<bigint> {
    return await this.#work("looking for old rows", signal, async () => {
      const { connection, database } = this.#connected();
      const there = await versionedTables(connection, database.catalogue);
      const wanted = tables === null ? [...there.keys()] : tables.map((table) => this.target(table));
      return await highestVersion(
        connection,
        wanted.flatMap((key) => there.get(key) ?? []),
      );
    });
  }

  async forget(signal: AbortSignal): Promise<void> {
    await this.#work("removing the sink's progress", signal, async () => {
      const { connection, database, progress } = this.#connected();
      await this.#endUpkeep();
      await database.exclusively(() =>
        inTransaction(
          connection,
          () => connection.run(BEGIN),
          () => progress.remove(connection, database.catalogue),
        ),
      );
    });
  }

  async verify(signal: AbortSignal): Promise<void> {
    await this.#work("looking at the file", signal, async () => {
      this.#connected().database.verifyFile();
      const there = await this.#tablesThere();
      for (const [target, tableId] of this.#targets.owners) {
        if (there.has(target)) continue;
        throw duckdbError({
          code: "MR3214",
          kind: "reopen",
          message: `the table of ${tableId} is gone from the DuckDB file`,
          hint: "Millrace creates and fills it again",
          lostTables: [tableId],
        });
      }
    });
    this.#upkeep?.look();
  }

  /** Deleted rows that still occupy space in the file, over all tables at their last count. */
  get deadRows(): number {
    return this.#dead.count;
  }

  /** Target keys of all tables in the file. */
  async #tablesThere(): Promise<ReadonlySet<string>> {
    const { connection, database } = this.#connected();
    const rows = await readTextRows(
      connection,
      "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1",
      [database.catalogue],
    );
    return new Set(rows.map(([schema = "", table = ""]) => targetKey({ schema, table })));
  }

  /** Works also while the sink is paused or waits, because no other process can have the file open. */
  async copy(signal: AbortSignal): Promise<string> {
    expectFile(this.#options.path);
    const database = await Database.acquire(this.#options);
    try {
      return await database.copy(signal);
    } catch (error) {
      throw classify(error, "copying the file for a query");
    } finally {
      await database.release();
    }
  }

  async memoryBytes(): Promise<number | null> {
    const database = this.#database;
    if (database === null || database.broken || this.#closed) return null;
    const connection = await database.connect();
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

  async inspect(): Promise<Inspection> {
    expectFile(this.#options.path);
    return await DuckdbInspection.open(this.#options, { schema: this.#options.schema, form: this.#targetForm });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection?.interrupt();
    await this.#inFlight;
    await this.#disconnect();
  }

  async #connect(): Promise<void> {
    this.#database = await Database.acquire(this.#options);
    try {
      this.#connection = await this.#database.connect();
      this.#progress ??= new ProgressRow(this.name, this.#database.catalogue);
      if (this.form === "mirror") this.#upkeep = await this.#startUpkeep(this.#database, this.#progress);
    } catch (error) {
      await this.#disconnect();
      throw error;
    }
  }

  async #startUpkeep(database: Database, progress: ProgressRow): Promise<Upkeep> {
    const { logger = SILENT, upkeep } = this.#options;
    const settings = { spanMax: upkeep?.spanMax ?? SPAN_MAX };
    return await Upkeep.start({
      database,
      progress,
      dead: this.#dead,
      layouts: () => this.#targets.latest,
      logger,
      settings,
    });
  }

  async #endUpkeep(): Promise<void> {
    const upkeep = this.#upkeep;
    this.#upkeep = null;
    await upkeep?.close();
  }

  async #disconnect(): Promise<void> {
    await this.#endUpkeep();
    this.#connection?.disconnectSync();
    this.#connection = null;
    this.#targets.forget();
    const database = this.#database;
    this.#database = null;
    await database?.release();
  }

  #connected(): { connection: DuckDBConnection; database: Database; progress: ProgressRow } {
    if (this.#closed) throw stopped();
    const [connection, database] = [this.#connection, this.#database];
    invariant(connection !== null && database !== null, "a sink is opened before it is used");
    const progress = (this.#progress ??= new ProgressRow(this.name, database.catalogue));
    return { connection, database, progress };
  }

  /** Only one call at a time is in flight; `close` interrupts it and waits for it. */
  async #work<T>(doing: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const interrupt = (): void => this.#connection?.interrupt();
    const run = async (): Promise<T> => {
      if (this.#closed || signal.aborted) throw stopped();
      signal.addEventListener("abort", interrupt);
      try {
        return await work();
      } catch (error) {
        if (this.#closed || signal.aborted) throw stopped();
        const known = classify(error, doing);
        const isBroken = known.reason === "lost" || isInvalidated(error);
        if (isBroken && this.#database !== null) this.#database.broken = true;
        throw known;
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
