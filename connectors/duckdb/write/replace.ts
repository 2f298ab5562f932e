/**
 * Rows are replaced by a delete and an append. To change rows of a vector in place, DuckDB decodes in each column what
 * lies before the vector: a hundred times the work if it is for one row, and less than a replacement if it is for many
 * (docs/benchmarks.md). So a batch that meets many rows of each vector changes them in place, which leaves no dead rows.
 * The rows to delete are found by the key's index if they are few for the table; otherwise DuckDB looks at all its keys.
 */
import type { TableWrites } from "../../../src/core/model/batch.ts";
import { groupsOf } from "../../../src/core/each-of.ts";
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { quoteIdentifier, quoteLiteral, targetKey } from "../names.ts";
import {
  appendStagedSql,
  BASES,
  copyBasesSql,
  deleteSql,
  MARKED,
  markedRows,
  markSql,
  newestSql,
  removeAnySql,
  removeSql,
  type StagedRows,
  type TableLayout,
  upsertStagedSql,
} from "./layout.ts";
import { LIST } from "../types.ts";
import { COMMIT_TIME_COLUMN, VERSION_COLUMN } from "../../warehouse/own-columns.ts";

/** DuckDB looks up to 2,048 keys up in an index; for more it reads the column. */
export const LISTED_TOGETHER = 1_000;
/** To look a key up costs as much as to read so many keys of the column. */
const KEYS_PER_LOOKUP = 3_000;
/** The same of texts and bytes: to read one costs several times as much as a number, to look it up twice as much. */
const TEXTS_PER_LOOKUP = 500;
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

/** Conditions for a table's rows (as `millrace_row`) that DuckDB evaluates by the key's index. */
interface Lookups {
  readonly keys: readonly string[];
  /** The lowest version of the rows that have these keys in the batch. */
  readonly version: bigint;
}

/** Null: a look at all keys of the table costs less, or only that is possible. */
async function lookups(
  tools: ReplaceTools,
  layout: TableLayout,
  staged: StagedRows,
  count: number,
): Promise<Lookups | null> {
  const { connection, trust, sizes } = tools;
  if (!trust || layout.form.isLake === true || layout.key.length > 1) return null;
  const perLookup = layout.key[0]!.duck.field === "VARCHAR" ? TEXTS_PER_LOOKUP : KEYS_PER_LOOKUP;
  if (count > LOOKUPS_MIN && count > (await sizes.of(connection, layout)) / perLookup) return null;
  const rows = await readTextRows(
    connection,
    `SELECT ${keyText(staged.key(0))}, version::VARCHAR FROM ${staged.sql} AS staged`,
  );
  const versions = rows.map(([, version]) => BigInt(version!));
  return {
    keys: listed(
      layout,
      rows.map(([text]) => text!),
    ),
    version: versions.reduce((lowest, version) => (version < lowest ? version : lowest), versions[0] ?? 0n),
  };
}

/** A key as text for `listed`. The binding removes a byte order mark from the start of a string. */
export function keyText(column: string): string {
  return `'=' || ${column}::VARCHAR`;
}

/** Conditions for the rows with these keys, whose texts are as `keyText` gives them. The key has one column. */
export function listed({ key }: Pick<TableLayout, "key">, texts: readonly string[]): readonly string[] {
  const name = quoteIdentifier(key[0]!.name);
  return groupsOf(texts, LISTED_TOGETHER).map((some) => {
    const literals = some.map((text) => quoteLiteral(text.slice(1)));
    return `millrace_row.${name} IN (${literals.join(", ")})`;
  });
}

/**
 * Beside a condition on keys: the row is not newer. Beside a condition on another column alone DuckDB does not use the
 * key's index; the commit time is never null.
 */
export function upTo(version: bigint | string): string {
  return `(millrace_row.${VERSION} <= ${version} OR millrace_row.${TIME} IS NULL)`;
}

const VERSION = quoteIdentifier(VERSION_COLUMN);
const TIME = quoteIdentifier(COMMIT_TIME_COLUMN);

/** Writes the staged rows in place of those with their keys that are not newer. Throws if there is a newer one and hints are trusted. */
export async function replaceRows(
  tools: ReplaceTools,
  layout: TableLayout,
  staged: StagedRows,
  count: number,
): Promise<void> {
  const { connection, trust } = tools;
  if (trust && (await isBetterInPlace(tools, layout, count))) {
    await connection.run(upsertStagedSql(layout, staged, tools.hasExact(layout)));
    return;
  }
  const found = await lookups(tools, layout, staged, count);
  if (found === null) await connection.run(removeSql(layout, staged));
  else await removeFound(tools, layout, found);
  await connection.run(appendStagedSql(layout, staged, tools.hasExact(layout), trust));
  tools.sizes.appended(layout, count);
}

/** DuckDB never changes a row with a list in place. */
async function isBetterInPlace(tools: ReplaceTools, layout: TableLayout, count: number): Promise<boolean> {
  if (count <= LOOKUPS_MIN || layout.columns.some(({ duck }) => duck.form === LIST)) return false;
  const size = await tools.sizes.of(tools.connection, layout);
  return count * VECTOR_ROWS > size * IN_PLACE_PER_VECTOR;
}

async function removeFound(
  { connection }: ReplaceTools,
  { sqlName }: TableLayout,
  { keys, version }: Lookups,
): Promise<number> {
  let removed = 0;
  for (const key of keys) {
    const { rowsChanged } = await connection.run(
      `DELETE FROM ${sqlName} AS millrace_row WHERE ${key} AND ${upTo(version)}`,
    );
    removed += rowsChanged;
  }
  return removed;
}

/** Deletes the rows with the staged keys that are not newer, or marks them as deleted. */
export async function deleteRows(
  tools: ReplaceTools,
  layout: TableLayout,
  staged: StagedRows,
  count: number,
): Promise<void> {
  const { connection } = tools;
  if (layout.form.deletes === "hard") {
    const found = await lookups(tools, layout, staged, count);
    // Rows that are left are newer than one of the deletes, and may be older than their own.
    if (found !== null && (await removeFound(tools, layout, found)) === count) return;
  } else if ((await isLarge(tools, layout)) && !(await isBetterInPlace(tools, layout, count))) {
    const found = await lookups(tools, layout, staged, count);
    if (found !== null && found.keys.length > 0) return await markFound(tools, layout, staged, found);
    // It reads the table: much less than to decode parts of it for each row.
    if (!tools.isFrugal) return await markAll(tools, layout, staged);
  }
  await connection.run(deleteSql(layout, staged));
}

/** Marks rows as deleted by replacing them. */
async function markAll({ connection }: ReplaceTools, layout: TableLayout, staged: StagedRows): Promise<void> {
  await connection.run(markSql(layout, staged, layout.sqlName));
  await connection.run(removeAnySql(layout, [markedRows(layout)]));
  await connection.run(`INSERT INTO ${layout.sqlName} SELECT * FROM ${MARKED}`);
}

/** The same of rows that the key's index finds. */
async function markFound(
  { connection }: ReplaceTools,
  layout: TableLayout,
  staged: StagedRows,
  { keys }: Lookups,
): Promise<void> {
  await connection.run(copyBasesSql(layout, keys));
  await connection.run(markSql(layout, staged, BASES));
  const marked = await readTextRows(
    connection,
    `SELECT ${keyText(quoteIdentifier(layout.key[0]!.name))} FROM ${MARKED}`,
  );
  for (const key of listed(
    layout,
    marked.map(([text]) => text!),
  ))
    await connection.run(`DELETE FROM ${layout.sqlName} AS millrace_row WHERE ${key}`);
  await connection.run(`INSERT INTO ${layout.sqlName} SELECT * FROM ${MARKED}`);
}

/** Copies the base rows of staged patches if they can be looked up; `completeSql` reads the table otherwise. */
export async function copyBases(
  tools: ReplaceTools,
  layout: TableLayout,
  staged: StagedRows,
  count: number,
): Promise<boolean> {
  const found = await lookups(tools, layout, staged, count);
  if (found === null || found.keys.length === 0) return false;
  await tools.connection.run(copyBasesSql(layout, found.keys));
  return true;
}

/** Whether changing columns in place costs more than replacing the row. */
export async function isLarge({ connection, sizes }: ReplaceTools, layout: TableLayout): Promise<boolean> {
  return layout.form.isLake !== true && (await sizes.of(connection, layout)) > PATCHED_ROWS_MAX;
}
