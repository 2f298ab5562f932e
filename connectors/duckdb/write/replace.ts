/**
 * Rows are replaced by a delete and an append. To change rows of a vector in place, DuckDB decodes in each column what
 * lies before the vector: a hundred times the work if it is for one row, and less than a replacement if it is for many
 * (docs/benchmarks.md). So a batch that meets many rows of each vector changes them in place, which leaves no dead rows.
 * Staged keys are joined with the table, which DuckDB does by the key's index if they are few (`expectLookups`).
 */
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { targetKey } from "../names.ts";
import {
  appendStagedSql,
  DELETES,
  deleteSql,
  MARKED,
  markedRows,
  markSql,
  newestSql,
  removeAnySql,
  removeSql,
  stageDeletesSql,
  stagedDeletes,
  type StagedFile,
  type StagedRows,
  type TableLayout,
  upsertStagedSql,
} from "./layout.ts";
import { LIST } from "../types.ts";

/** To look a row up costs as much as to read the keys of so many. */
const ROWS_PER_LOOKUP = 250;
/** So few are always looked up. */
const LOOKUPS_MIN = 50;
/** DuckDB's unit of work, in rows. */
const VECTOR_ROWS = 2_048;
/** For so many rows of each vector, changes in place cost as much as replacements whose dead rows are rewritten later. */
const IN_PLACE_PER_VECTOR = 50;
/** In a larger table rows whose other columns stay are replaced, too: a batch has few such rows. */
const PATCHED_ROWS_MAX = 250_000;
/** The sizes of tables are read again after so many appended rows. */
const SIZES_ROWS_MAX = 1_000_000;

/** How many rows DuckDB reads, roughly, when it reads a whole table: dead ones too. */
export class TableSizes {
  /** By target key. */
  readonly #rowCounts = new Map<string, number>();
  #appendedCount = 0;

  /** The table has been made anew. */
  forget({ target }: TableLayout): void {
    this.#rowCounts.delete(targetKey(target));
  }

  appended({ target }: TableLayout, rowCount: number): void {
    this.#appendedCount += rowCount;
    const key = targetKey(target);
    const known = this.#rowCounts.get(key);
    if (known !== undefined) this.#rowCounts.set(key, known + rowCount);
  }

  async of(connection: EngineConnection, { target, catalogue }: TableLayout): Promise<number> {
    const key = targetKey(target);
    if (this.#appendedCount > SIZES_ROWS_MAX || !this.#rowCounts.has(key)) {
      const rows = await readTextRows(
        connection,
        "SELECT schema_name, table_name, coalesce(estimated_size, 0)::VARCHAR FROM duckdb_tables() WHERE database_name = $1",
        [catalogue],
      );
      this.#rowCounts.clear();
      this.#appendedCount = 0;
      for (const [schema = "", table = "", size] of rows)
        this.#rowCounts.set(targetKey({ schema, table }), Number(size));
      if (!this.#rowCounts.has(key)) this.#rowCounts.set(key, 0);
    }
    return this.#rowCounts.get(key)!;
  }
}

const NO_ROW = -1n;

/**
 * The newest version that each table of a lake may have. Invariant: never below what is there. It holds while the sink has
 * the lease, so it is read again after each opening.
 */
export class NewestVersions {
  /** By target key. */
  readonly #known = new Map<string, bigint>();

  forget(): void {
    this.#known.clear();
  }

  async of(connection: EngineConnection, layout: TableLayout): Promise<bigint> {
    const key = targetKey(layout.target);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const [[text = ""] = []] = await readTextRows(connection, newestSql(layout));
    const found = text === "" ? NO_ROW : BigInt(text);
    this.#known.set(key, found);
    return found;
  }

  wrote({ target }: TableLayout, writes: TableWrites): void {
    const key = targetKey(target);
    const known = this.#known.get(key);
    if (known === undefined) return;
    let newest = known;
    for (const version of versionsOf(writes)) if (version > newest) newest = version;
    this.#known.set(key, newest);
  }
}

export function* versionsOf({ blocks, block, row, count }: TableWrites): Generator<bigint> {
  for (let i = 0; i < count; i++) {
    const { transactions, tx } = blocks[block[i]!]!;
    yield transactions.version[tx[row[i]!]!]!;
  }
}

export interface ReplaceTools {
  readonly connection: EngineConnection;
  readonly sizes: TableSizes;
  /** Of a lake's tables. */
  readonly newest: NewestVersions;
  /** Whether to trust the log's hints: rows that should be new are, rows that should exist do, and none is newer. */
  readonly trust: boolean;
  /** Whether the batch ran out of memory: then rows take the way that reads least. */
  readonly isFrugal: boolean;
  /** Whether the target has `_millrace_exact`. */
  readonly hasExact: (layout: TableLayout) => boolean;
}

/**
 * Before statements that join the table with staged keys. DuckDB makes a condition on the table of the keys of a join's
 * smaller side if they are not more than this, and evaluates one on an indexed column by the index. A key of several
 * columns is two conditions, and has an index that DuckDB looks nothing up in: it reads these columns of the whole table.
 */
export async function expectLookups({ connection, sizes, trust }: ReplaceTools, layout: TableLayout): Promise<void> {
  if (layout.form.isLake === true || !trust) return;
  const isIndexed = layout.key.length === 1;
  const rowCount = isIndexed ? await sizes.of(connection, layout) : 0;
  const countMax = Math.max(LOOKUPS_MIN, Math.floor(rowCount / ROWS_PER_LOOKUP));
  // Other connections read ranges of keys, for which DuckDB's own limit is better.
  await connection.run(
    `SET SESSION dynamic_or_filter_threshold = ${countMax}; SET SESSION index_scan_max_count = ${countMax}`,
  );
}

/**
 * Without trust in the log's hints: an index that lacks a row may be why they seem wrong, so none finds rows. DuckDB's limits
 * for lookups count rows that the index has: of keys that it lacks it is believed at any limit. DuckDB has this setting for
 * all connections alone; others only read meanwhile, some of them slower.
 */
export async function withoutLookups<T>(connection: EngineConnection, work: () => Promise<T>): Promise<T> {
  await connection.run("SET disabled_optimizers = 'join_filter_pushdown'");
  try {
    return await work();
  } finally {
    // A connection that fails here is not used again.
    await connection.run("RESET disabled_optimizers").catch(() => undefined);
  }
}

/** Writes the staged rows in place of those with their keys that are not newer. Throws if there is a newer one and hints are trusted. */
export async function replaceRows(
  tools: ReplaceTools,
  layout: TableLayout,
  staged: StagedRows,
  count: number,
): Promise<void> {
  const { connection, trust } = tools;
  await expectLookups(tools, layout);
  if (trust && (await isBetterInPlace(tools, layout, count))) {
    await connection.run(upsertStagedSql(layout, staged, tools.hasExact(layout)));
    return;
  }
  await connection.run(removeSql(layout, staged));
  await connection.run(appendStagedSql(layout, staged, tools.hasExact(layout), trust));
  tools.sizes.appended(layout, count);
}

/** DuckDB never changes a row with a list in place. */
async function isBetterInPlace(tools: ReplaceTools, layout: TableLayout, count: number): Promise<boolean> {
  if (count <= LOOKUPS_MIN || layout.columns.some(({ duck }) => duck.form === LIST)) return false;
  const size = await tools.sizes.of(tools.connection, layout);
  return count * VECTOR_ROWS > size * IN_PLACE_PER_VECTOR;
}

/** Deletes the rows with the keys of a staged file that are not newer, or marks them as deleted. */
export async function deleteRows(
  tools: ReplaceTools,
  layout: TableLayout,
  file: StagedFile,
  count: number,
): Promise<void> {
  const { connection } = tools;
  if (layout.form.isLake === true) {
    await connection.run(deleteSql(layout, stagedDeletes(layout, file)));
    return;
  }
  await expectLookups(tools, layout);
  // DuckDB looks up no keys that come straight from a file.
  await connection.run(stageDeletesSql(layout, file));
  const isReplaced =
    layout.form.deletes === "soft" && (await isLarge(tools, layout)) && !(await isBetterInPlace(tools, layout, count));
  // If the keys are not looked up, this reads the table: much less than to decode parts of it for each row.
  if (isReplaced && !tools.isFrugal) await markRows(tools, layout, DELETES);
  else await connection.run(deleteSql(layout, DELETES));
}

/** Marks rows as deleted by replacing them. */
async function markRows({ connection }: ReplaceTools, layout: TableLayout, staged: StagedRows): Promise<void> {
  await connection.run(markSql(layout, staged));
  await connection.run(removeAnySql(layout, [markedRows(layout)]));
  await connection.run(`INSERT INTO ${layout.sqlName} SELECT * FROM ${MARKED}`);
}

/** Whether changing columns in place costs more than replacing the row. */
export async function isLarge({ connection, sizes }: ReplaceTools, layout: TableLayout): Promise<boolean> {
  return layout.form.isLake !== true && (await sizes.of(connection, layout)) > PATCHED_ROWS_MAX;
}
