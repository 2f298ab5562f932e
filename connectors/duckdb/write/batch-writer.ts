import { type EngineConnection, inTransaction, rollBack } from "../../kit/duckdb-engine/engine.ts";
import { type Batch, becomesDeadLetter, type TableWrites, type Truncate } from "../../../src/core/model/batch.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Outcome, RefusedEntry } from "../../../src/core/contracts/sink.ts";
import {
  driverKind,
  duckdbError,
  isInvalidated,
  isOutOfMemory,
  overFiles,
  isDataError,
  rowRefused,
} from "../errors.ts";
import { appendEntries, appendSweepSql, appendTable, appendTruncateSql } from "./history.ts";
import {
  EntriesRefused,
  ExactMissing,
  HintWrong,
  type WriteTools,
  runPass,
  completePatches,
  expectExact,
  LAKE_FEW_ROWS,
  putCompleted,
  type UnwrittenEntries,
  updateRows,
} from "./merge.ts";
import {
  addExactSql,
  deleteUpToSql,
  type TableLayout,
  appendStagedSql,
  completedPatches,
  insertSql,
  removeAnySql,
  stagedDeletes,
  stagedKeys,
  type StagedRows,
} from "./layout.ts";
import { NewestVersions, TableSizes, isLarge, versionsOf, withoutLookups } from "./replace.ts";
import type { CheckpointRow } from "../tables/checkpoint.ts";
import { RowStage, staging, partition, type Staging } from "./stage.ts";
import type { Store } from "../store.ts";
import { INLINED_ROW_BYTES_MAX, INLINED_ROWS } from "../lake/engine.ts";
import { sizeOf } from "./small.ts";

/** For how many batches the hints on a table's rows are ignored after one was wrong. */
const MISTRUST_BATCHES = 64;
/** For how many batches a table's rows take the way with the least memory, after a batch ran out of it. */
const FRUGAL_BATCHES = 64;

const NONE: ReadonlySet<number> = new Set();

export interface BatchParts {
  readonly connection: EngineConnection;
  readonly store: Store;
  readonly checkpoint: CheckpointRow;
  /** Inside the transaction, before anything is written. */
  readonly expectOwned: () => Promise<void>;
  readonly outcome: Outcome;
  readonly signal: AbortSignal;
}

/** Applies batches, each in one transaction with its checkpoint. */
export class BatchWriter {
  readonly #stage = new RowStage();
  readonly #sizes = new TableSizes();
  readonly #newest = new NewestVersions();
  readonly #layoutOf: (table: TableVersion) => TableLayout;
  /** Targets with `_millrace_exact`, by their quoted name. */
  readonly #exact = new Set<string>();
  /** Table id -> remaining batches in which its rows take the way with the least memory. */
  readonly #frugal = new Map<string, number>();
  /** The table whose constraints seemed broken, and the instance that reported it; a second instance confirms it. */
  #doubted: { readonly tableId: string; readonly store: Store } | null = null;
  /** Table id -> remaining batches in which its hints are ignored. */
  readonly #mistrusted = new Map<string, number>();

  constructor(layoutOf: (table: TableVersion) => TableLayout) {
    this.#layoutOf = layoutOf;
  }

  /** The target may have been created again. `hasExact`: whether it has that column now. */
  prepared(layout: TableLayout, hasExact: boolean): void {
    this.rewritten(layout);
    if (hasExact) this.#exact.add(layout.sqlName);
    else this.#exact.delete(layout.sqlName);
  }

  /** The target has lost its dead rows. */
  rewritten(layout: TableLayout): void {
    this.#sizes.forget(layout);
  }

  /** The target was opened: others may have written to it since. */
  opened(): void {
    this.#newest.forget();
  }

  async apply(parts: BatchParts, batch: Batch): Promise<void> {
    const { connection, checkpoint } = parts;
    const without = new Map<TableWrites, Set<number>>();
    let trust = !this.#counts(this.#mistrusted, batch);
    let isFrugal = this.#counts(this.#frugal, batch);
    for (;;) {
      if (isFrugal) await parts.store.makeMoreRoom(connection);
      const tools = this.#tools(parts, { trust, isFrugal });
      try {
        const begin = async (): Promise<void> => {
          await checkpoint.begin(connection, batch.checkpoint);
          await parts.expectOwned();
        };
        const write = (): Promise<void> => this.#write(tools, batch, parts.outcome, without);
        const attempt = () => this.#withExact(parts, () => inTransaction(connection, begin, write));
        return await (trust ? attempt() : withoutLookups(connection, attempt));
      } catch (error) {
        if (error instanceof EntriesRefused) await this.#passOver(parts, error, without);
        else if (error instanceof HintWrong) {
          // The hints were wrong, or a row is poison: the other ways find out.
          trust = false;
          this.#mistrusted.set(error.writes.table.id, MISTRUST_BATCHES);
        } else if (isOutOfMemory(error) && batch.kind === "rows") {
          for (const { table } of batch.tables) this.#frugal.set(table.id, FRUGAL_BATCHES);
          // While somebody reads, written rows can't leave the memory until the read ends. An instance that could not
          // even roll back is opened again, and the batch is repeated.
          if (isFrugal || isInvalidated(error) || !(await parts.store.freeMemory(connection))) throw error;
          isFrugal = true;
        } else throw error;
      }
    }
  }

  async #write(
    tools: WriteTools,
    batch: Batch,
    outcome: Outcome,
    without: ReadonlyMap<TableWrites, ReadonlySet<number>>,
  ): Promise<void> {
    const { connection, signal } = tools;
    switch (batch.kind) {
      case "rows":
        for (const truncate of batch.truncates ?? []) await this.#truncate(connection, truncate);
        for (const writes of batch.tables) {
          const layout = this.#layoutOf(writes.table);
          const write = layout.form.mode === "history" ? appendTable : writeTable;
          const work = () => write(tools, layout, writes, without.get(writes) ?? NONE);
          const left = await overFiles(writes.table.id, work);
          await outcome.poison(left.unfit.map((entry) => ({ writes, entry, error: keyDoesNotFit(layout) })));
          if (left.incomplete.length > 0) await outcome.incomplete(writes, left.incomplete);
        }
        break;
      case "truncate":
        await this.#truncate(connection, batch);
        break;
      case "sweep":
        for (const { table, below } of batch.sweeps)
          await overFiles(table.id, async () => void (await connection.run(sweepSql(this.#layoutOf(table), below))));
        break;
      case "checkpoint":
        break;
      default:
        batch satisfies never;
    }
    failpoint("duckdb.rows-written");
    signal.throwIfAborted();
  }

  async #truncate(connection: EngineConnection, { table, version, record }: Truncate): Promise<void> {
    await overFiles(table.id, async () => {
      await connection.run(truncateSql(this.#layoutOf(table), version, record));
    });
  }

  /** Invariant: a column is added before the transaction that needs it (see `ExactMissing`). Once per table. */
  async #withExact<T>({ connection, checkpoint }: BatchParts, work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof ExactMissing)) throw error;
        const { layout } = error;
        const add = () => connection.run(addExactSql(layout));
        await inTransaction(connection, () => checkpoint.fence(connection), add);
        this.#exact.add(layout.sqlName);
      }
    }
  }

  /** Reports the refused rows; the next attempt skips them. */
  async #passOver(parts: BatchParts, refused: EntriesRefused, without: Map<TableWrites, Set<number>>): Promise<void> {
    const { writes } = refused;
    this.#verify(parts, refused);
    const tools = this.#tools(parts, { trust: false, isFrugal: true });
    const find = () => findPoison(tools, this.#layoutOf(writes.table), refused);
    const poison = await withoutLookups(parts.connection, () => this.#withExact(parts, find));
    const left = without.get(writes) ?? new Set<number>();
    await parts.outcome.poison(poison);
    for (const { entry } of poison) left.add(entry);
    without.set(writes, left);
  }

  /**
   * Puts and deletes break no constraint of ours. If DuckDB reports a broken one, its index may be damaged after
   * running out of memory. A row is at fault only if an instance says so that was opened for this batch.
   */
  #verify({ store }: BatchParts, { writes, pass, cause }: EntriesRefused): void {
    if (driverKind(cause) !== "Constraint Error" || pass === "append") return;
    if (this.#doubted?.tableId === writes.table.id && this.#doubted.store !== store) return;
    this.#doubted = { tableId: writes.table.id, store };
    throw duckdbError(
      "MR3216",
      "retryable",
      `DuckDB says that a constraint of ${writes.table.id} is broken; the file is opened again to see whether that is so`,
      { reason: "lost" },
    );
  }

  #tools({ connection, store, signal }: BatchParts, way: Pick<WriteTools, "trust" | "isFrugal">): WriteTools {
    return {
      ...way,
      makeRoom: (rowBytes) => store.makeRoom(connection, rowBytes),
      connection,
      stage: this.#stage,
      sizes: this.#sizes,
      newest: this.#newest,
      files: store.stages,
      signal,
      hasExact: ({ sqlName }) => this.#exact.has(sqlName),
    };
  }

  /** Whether one of the batch's tables is listed; each entry expires after its number of batches. */
  #counts(listed: Map<string, number>, batch: Batch): boolean {
    if (batch.kind !== "rows") return false;
    let isListed = false;
    for (const { table } of batch.tables) {
      const left = listed.get(table.id);
      if (left === undefined) continue;
      isListed = true;
      if (left > 1) listed.set(table.id, left - 1);
      else listed.delete(table.id);
    }
    return isListed;
  }
}

function truncateSql(layout: TableLayout, version: bigint, record: Truncate["record"]): string {
  if (layout.form.mode === "history") return appendTruncateSql(layout, version, record);
  return deleteUpToSql(layout, "<=", version, record?.commitTimeUs);
}

function sweepSql(layout: TableLayout, below: bigint): string {
  return layout.form.mode === "history" ? appendSweepSql(layout, below) : deleteUpToSql(layout, "<", below);
}

function keyDoesNotFit(layout: TableLayout): MillraceError {
  return duckdbError("MR3111", "poison", `a key value of ${layout.table.id} does not fit into its DuckDB type`, {
    hint: "see the type table of the DuckDB sink; correct the value at the source",
  });
}

/** More refused rows in one batch point to a wrong mapping of the table, not to single rows. */
const POISON_COUNT_MAX = 1_000;

/** Finds the rows that DuckDB refuses, by halving; every trial is rolled back. */
async function findPoison(tools: WriteTools, layout: TableLayout, refused: EntriesRefused): Promise<RefusedEntry[]> {
  const { writes, pass } = refused;
  const found: RefusedEntry[] = [];
  let letterCount = 0;

  async function trial(entries: readonly number[]): Promise<unknown> {
    tools.signal.throwIfAborted();
    await tools.connection.run("BEGIN TRANSACTION");
    try {
      const work = staging(layout, writes, pass, entries);
      await (pass === "append" ? appendEntries(tools, work) : runPass(tools, work));
      return undefined;
    } catch (error) {
      const cause = error instanceof EntriesRefused ? error.cause : error;
      if (isDataError(cause)) return cause;
      throw error;
    } finally {
      await rollBack(tools.connection);
    }
  }

  async function search(entries: readonly number[]): Promise<void> {
    if (entries.length === 0) return;
    const cause = await trial(entries);
    if (cause === undefined) return;
    if (entries.length === 1) {
      found.push({ writes, entry: entries[0]!, error: rowRefused(cause, layout.table.id) });
      if (becomesDeadLetter(writes, entries[0]!) && ++letterCount > POISON_COUNT_MAX) throw tooMany(layout);
      return;
    }
    const half = entries.length >> 1;
    await search(entries.slice(0, half));
    await search(entries.slice(half));
  }

  await search(refused.entries);
  if (found.length === 0) throw refusedTogether(layout, refused.cause);
  return found;
}

function tooMany(layout: TableLayout): MillraceError {
  return duckdbError(
    "MR3111",
    "fatal",
    `DuckDB refuses more than ${POISON_COUNT_MAX} rows of ${layout.table.id} in one batch`,
    { hint: "compare the column types of the table in the file with the source's", table: layout.table.id },
  );
}

/** DuckDB accepts each row alone: it is not a poison row, and must not be skipped. */
function refusedTogether(layout: TableLayout, cause: unknown): MillraceError {
  return duckdbError("MR3111", "fatal", `DuckDB refuses rows of ${layout.table.id} together that it takes one by one`, {
    hint: "report it, with the table's definition",
    table: layout.table.id,
    cause: rowRefused(cause, layout.table.id),
  });
}

// Writes the rows of one table in a batch.

/** More rows are merged. */
const DISPLACED_MAX = 1_000;

/**
 * Writes one table's entries inside the batch's transaction. Invariant: base rows are read before any write to the
 * table, and deletes precede puts, so that of two keys that differ only in bytes the put wins.
 */
async function writeTable(
  tools: WriteTools,
  layout: TableLayout,
  writes: TableWrites,
  without: ReadonlySet<number>,
): Promise<UnwrittenEntries> {
  // A lake refuses no second row of a key.
  const trust = tools.trust && layout.form.isLake !== true;
  const inPlace = layout.form.deletes === "hard" && writes.patchCount > 0 && !(await isLarge(tools, layout));
  const entries = partition(writes, without, trust, inPlace);
  const patches = staging(layout, writes, "patch", entries.patch);
  const inserts = staging(layout, writes, "insert", entries.insert);
  const puts = staging(layout, writes, "put", entries.put);
  const isDisplaced = await mayDisplace(tools, layout, writes);
  tools.newest.wrote(layout, writes);
  const incomplete = await completePatches(tools, patches);
  if (isDisplaced) {
    await displaceFew(tools, staging(layout, writes, "delete", entries.delete), puts, patches);
    return { incomplete, unfit: [...puts.unfit, ...patches.unfit] };
  }
  const unfit = await updateRows(tools, staging(layout, writes, "update", entries.update));
  await runPass(tools, staging(layout, writes, "delete", entries.delete));
  await runPass(tools, inserts);
  await runPass(tools, puts);
  if (entries.patch.length > 0) await putCompleted(tools, patches);
  tools.sizes.appended(layout, entries.insert.length);
  return { incomplete, unfit: [...unfit, ...inserts.unfit, ...puts.unfit, ...patches.unfit] };
}

/** Whether `displaceFew` can write all entries. */
async function mayDisplace(tools: WriteTools, layout: TableLayout, writes: TableWrites): Promise<boolean> {
  if (layout.form.isLake !== true || layout.form.deletes !== "hard") return false;
  if (!tools.trust || tools.isFrugal || writes.count > DISPLACED_MAX) return false;
  let fresh = 0;
  for (let i = 0; i < writes.count; i++) {
    if (sizeOf(writes, i) > INLINED_ROW_BYTES_MAX) return false;
    fresh += writes.fresh[i]!;
  }
  // A merge makes a file of new rows.
  if (fresh > LAKE_FEW_ROWS && writes.count - writes.deleteCount <= INLINED_ROWS) return false;
  const newest = await tools.newest.of(tools.connection, layout);
  for (const version of versionsOf(writes)) if (version < newest) return false;
  return true;
}

/**
 * Few rows of a table in a lake, none of which may have a newer one there: one statement deletes what they replace, and
 * they are added without another look at the table. However few the rows are, a statement that reads a table of a lake
 * takes ten times as long as one that only adds rows.
 */
async function displaceFew(tools: WriteTools, deletes: Staging, puts: Staging, patches: Staging): Promise<void> {
  const { connection, files, stage } = tools;
  const { layout, writes } = puts;
  await stage.fill(files[0], deletes, Number.POSITIVE_INFINITY);
  await stage.fill(files[1], puts, Number.POSITIVE_INFINITY);
  expectExact(tools, puts);
  const withExact = tools.hasExact(layout);
  const hasPuts = files[1].byteCount > 0;
  const replaced: StagedRows[] = [];
  if (files[0].byteCount > 0) replaced.push(stagedDeletes(layout, files[0]));
  if (hasPuts) replaced.push(stagedKeys(layout, files[1]));
  if (patches.entries.length > 0) replaced.push(completedPatches(layout));
  if (replaced.length === 0) return;
  try {
    await connection.run(removeAnySql(layout, replaced));
    if (hasPuts) await connection.run(insertSql(layout, files[1], withExact));
    if (patches.entries.length > 0)
      await connection.run(appendStagedSql(layout, completedPatches(layout), withExact, true));
  } catch (error) {
    throw isDataError(error) ? new HintWrong(writes) : error;
  }
}
