/**
 * DuckDB keeps what is gone from a table with a key: a deleted row, the old form of one that is written again with a list in
 * it. Only writing the table anew gives the room back (upkeep.ts), where its dead rows have passed the live ones.
 */
import type { DuckDBConnection } from "@duckdb/node-api";
import { PUT, type Step, tablesOf } from "../../../src/core/model/batch.ts";
import { quoteLiteral, quoteName, type TargetName, VERSION_COLUMN } from "../names.ts";
import { readTextRows } from "../write/text-rows.ts";

/** Fewer dead rows are not worth the work. */
export const DEAD_MIN = 50_000;
/** DuckDB's own default, which no option of ours changes. */
const BLOCK_BYTES = 256 * 1024;

export interface RowCounts {
  readonly live: number;
  readonly dead: number;
  /** What all of them take in the file. */
  readonly byteCount: number;
}

/** Which of a sink's tables are to be counted next, and what was found. */
export class DeadRows {
  /** By table id: rows written since it was counted that may have left a dead one. */
  readonly #written = new Map<string, number>();
  readonly #found = new Map<string, RowCounts>();
  readonly #deadMin: number;

  constructor(deadMin: number) {
    this.#deadMin = deadMin;
  }

  /** Of all tables, as they were counted last. */
  get count(): number {
    return [...this.#found.values()].reduce((sum, { dead }) => sum + dead, 0);
  }

  applied(step: Step): void {
    if (step.kind === "progress") return;
    if (step.kind !== "rows") {
      // Nobody knows how many.
      for (const { id } of tablesOf(step)) this.#found.delete(id);
      return;
    }
    for (const { table, count, action, fresh } of step.tables) {
      let written = this.#written.get(table.id) ?? 0;
      for (let i = 0; i < count; i++) if (action[i] !== PUT || fresh[i] === 0) written++;
      this.#written.set(table.id, written);
    }
  }

  /** A table that was not counted yet, or has been written to much since. */
  next(tableIds: Iterable<string>): string | null {
    for (const id of tableIds) {
      if (!this.#found.has(id) || (this.#written.get(id) ?? 0) >= this.#deadMin) return id;
    }
    return null;
  }

  counted(tableId: string, counts: RowCounts): void {
    this.#found.set(tableId, counts);
    this.#written.delete(tableId);
  }

  isWorthIt({ live, dead }: RowCounts): boolean {
    return dead >= this.#deadMin && dead > live;
  }
}

export async function countRows(
  connection: DuckDBConnection,
  catalogue: string,
  target: TargetName,
): Promise<RowCounts> {
  const sqlName = quoteName(catalogue, target.schema, target.table);
  const [row = []] = await readTextRows(
    connection,
    `SELECT (SELECT count(*) FROM ${sqlName})::VARCHAR, ` +
      `coalesce(sum(count) FILTER (WHERE column_name = '${VERSION_COLUMN}' AND segment_type <> 'VALIDITY'), 0)::VARCHAR, ` +
      `count(DISTINCT block_id) FILTER (WHERE persistent)::VARCHAR FROM pragma_storage_info(${quoteLiteral(sqlName)})`,
  );
  const [live, stored, blocks] = [Number(row[0]), Number(row[1]), Number(row[2])];
  return { live, dead: Math.max(0, stored - live), byteCount: blocks * BLOCK_BYTES };
}

/** Of the file: what is in use, and what is written to before it gets longer. */
export async function readRoom(
  connection: DuckDBConnection,
  catalogue: string,
): Promise<{ readonly usedBytes: number; readonly freeBytes: number }> {
  const [row = []] = await readTextRows(
    connection,
    "SELECT used_blocks, free_blocks FROM pragma_database_size() WHERE database_name = $1",
    [catalogue],
  );
  return { usedBytes: Number(row[0]) * BLOCK_BYTES, freeBytes: Number(row[1]) * BLOCK_BYTES };
}
