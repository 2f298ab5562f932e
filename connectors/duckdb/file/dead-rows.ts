/**
 * DuckDB keeps the space of deleted and replaced rows in a table with a key. Only rewriting the table returns the space
 * (upkeep.ts), which is done when its dead rows are a certain share of the live ones.
 */
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { PUT, type Batch, tablesOf } from "../../../src/core/model/batch.ts";
import { nameOf, quoteLiteral, quoteName, targetKey, type TargetName } from "../names.ts";

/** Fewer dead rows are not worth the work. */
export const DEAD_MIN = 2_000;
/**
 * More dead rows for each live one are worth it. While a table is rewritten, the file holds its live rows twice, so this
 * and 2 is how often it holds them. The lower, the more rows are copied for a changed one: one divided by this.
 */
const DEAD_SHARE = 1 / 3;
/**
 * A table that one row group holds is written anew at each folding anyway, before its old form is free: the file holds it
 * twice, with its dead rows. To rewrite it costs about a folding.
 */
const SMALL_DEAD_SHARE = 1 / 6;
const ROW_GROUP_ROWS = 122_880;

export interface RowCounts {
  readonly live: number;
  readonly dead: number;
}

/** Which tables of a sink to count next, and the results. */
export class DeadRows {
  /** By `nameOf`: rows written since the last count that may have left a dead one. */
  readonly #written = new Map<string, number>();
  readonly #found = new Map<string, RowCounts>();
  readonly #deadMin: number;

  constructor(deadMin: number) {
    this.#deadMin = deadMin;
  }

  /** Of all tables, at their last count. */
  get count(): number {
    return [...this.#found.values()].reduce((sum, { dead }) => sum + dead, 0);
  }

  applied(batch: Batch): void {
    if (batch.kind === "checkpoint") return;
    const changed = batch.kind === "rows" ? (batch.truncates ?? []).map(({ table }) => table) : tablesOf(batch);
    // The number of its dead rows is unknown.
    for (const table of changed) this.#found.delete(nameOf(table));
    if (batch.kind !== "rows") return;
    for (const { table, count, action, fresh } of batch.tables) {
      const name = nameOf(table);
      let written = this.#written.get(name) ?? 0;
      for (let i = 0; i < count; i++) if (action[i] !== PUT || fresh[i] === 0) written++;
      this.#written.set(name, written);
    }
  }

  /**
   * A table that was never counted; else of those that may have become worth it since the one that may have the most dead rows:
   * none waits behind tables that are written to all the time.
   */
  next(names: Iterable<string>): string | null {
    let next: string | null = null;
    let most = -1;
    for (const name of names) {
      const found = this.#found.get(name);
      if (found === undefined) return name;
      const written = this.#written.get(name) ?? 0;
      if (written < this.#writesUntilWorthIt(found) || found.dead + written <= most) continue;
      next = name;
      most = found.dead + written;
    }
    return next;
  }

  /** A deleted row is one more that is dead, and one less that is live. */
  #writesUntilWorthIt({ live, dead }: RowCounts): number {
    const share = deadShare(live);
    return Math.max(this.#deadMin, (share * live - dead) / (1 + share));
  }

  isCounted(name: string): boolean {
    return this.#found.has(name);
  }

  /** A table with so few rows in the file, live and dead, needs no count of its own. */
  isSmall(storedCount: number): boolean {
    return storedCount < this.#deadMin;
  }

  counted(name: string, counts: RowCounts): void {
    this.#found.set(name, counts);
    this.#written.delete(name);
  }

  isWorthIt({ live, dead }: RowCounts): boolean {
    return dead >= this.#deadMin && dead > deadShare(live) * live;
  }
}

function deadShare(live: number): number {
  return live <= ROW_GROUP_ROWS ? SMALL_DEAD_SHARE : DEAD_SHARE;
}

/** By `targetKey`: the live and dead rows of each table, at one look at the catalogue, which costs as much for a single one. */
export async function storedRows(
  connection: EngineConnection,
  catalogue: string,
): Promise<ReadonlyMap<string, number>> {
  const rows = await readTextRows(
    connection,
    "SELECT schema_name, table_name, estimated_size::VARCHAR FROM duckdb_tables() WHERE database_name = $1",
    [catalogue],
  );
  return new Map(rows.map(([schema = "", table = "", stored]) => [targetKey({ schema, table }), Number(stored)]));
}

export async function countRows(
  connection: EngineConnection,
  catalogue: string,
  { schema, table }: TargetName,
): Promise<RowCounts> {
  const sqlName = quoteName(catalogue, schema, table);
  // The size that DuckDB estimates has the dead rows too.
  const [[lives, stored] = []] = await readTextRows(
    connection,
    `SELECT (SELECT count(*) FROM ${sqlName})::VARCHAR, coalesce(sum(estimated_size), 0)::VARCHAR FROM duckdb_tables() ` +
      "WHERE database_name = $1 AND schema_name = $2 AND table_name = $3",
    [catalogue, schema, table],
  );
  const live = Number(lives);
  return { live, dead: Math.max(0, Number(stored) - live) };
}

/**
 * The size of its live and dead rows in the file. Exclusively: DuckDB reads segments that a change of the table's shape
 * frees meanwhile ("Attempted to access index 140367968564327 within vector of size 6"), and then closes the database.
 */
export async function bytesOf(
  connection: EngineConnection,
  catalogue: string,
  { schema, table }: TargetName,
): Promise<number> {
  const sqlName = quoteName(catalogue, schema, table);
  const { usedBytes, blockBytes } = await readRoom(connection, catalogue);
  // `pragma_storage_info` finds no table with a quotation mark in its name: for those the whole file counts.
  if (sqlName.includes('""')) return usedBytes;
  const [[blocks] = []] = await readTextRows(
    connection,
    `SELECT count(DISTINCT block_id) FILTER (WHERE persistent)::VARCHAR FROM pragma_storage_info(${quoteLiteral(sqlName)})`,
  );
  return blockBytes * Number(blocks);
}

export interface Room {
  readonly usedBytes: number;
  /** DuckDB fills free blocks before the file grows. */
  readonly freeBytes: number;
  readonly blockBytes: number;
}

export async function readRoom(connection: EngineConnection, catalogue: string): Promise<Room> {
  const [row = []] = await readTextRows(
    connection,
    "SELECT block_size, used_blocks, free_blocks FROM pragma_database_size() WHERE database_name = $1",
    [catalogue],
  );
  const [blockBytes = 0, used = 0, free = 0] = row.map(Number);
  return { usedBytes: used * blockBytes, freeBytes: free * blockBytes, blockBytes };
}
