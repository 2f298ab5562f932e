/**
 * DuckDB keeps what is gone from a table with a key: a deleted row, the old form of one that is written again with a list in
 * it. Only writing the table anew gives the room back. One table at a time is counted, between the steps of the stream, and
 * rewritten where its dead rows have passed the live ones.
 */
import type { DuckDBConnection } from "@duckdb/node-api";
import { PUT, type Step, tablesOf } from "../../src/core/batch.ts";
import { type TargetName, quoteIdentifier, quoteLiteral, VERSION_COLUMN } from "./names.ts";
import { readTextRows } from "./text-rows.ts";

/** Fewer are not worth the work. */
const DEAD_MIN = 50_000;
/** More are not rewritten in one piece: the stream waits for it. */
export const LIVE_MAX = 1_000_000;
const REWRITTEN = "_millrace_rewritten";

export interface RowCounts {
  readonly live: number;
  readonly dead: number;
}

/** Which of a sink's tables are to be counted next, and what was found. */
export class DeadRows {
  /** By table id: rows written since it was counted that may have left a dead one. */
  readonly #written = new Map<string, number>();
  readonly #found = new Map<string, RowCounts>();

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
      if (!this.#found.has(id) || (this.#written.get(id) ?? 0) >= DEAD_MIN) return id;
    }
    return null;
  }

  counted(tableId: string, counts: RowCounts): void {
    this.#found.set(tableId, counts);
    this.#written.delete(tableId);
  }
}

export function isWorthIt({ live, dead }: RowCounts): boolean {
  return dead >= DEAD_MIN && dead > live && live <= LIVE_MAX;
}

export async function countRows(
  connection: DuckDBConnection,
  catalogue: string,
  target: TargetName,
): Promise<RowCounts> {
  const sqlName = nameOf(catalogue, target.schema, target.table);
  const [row = []] = await readTextRows(
    connection,
    `SELECT (SELECT count(*) FROM ${sqlName})::VARCHAR, (SELECT coalesce(sum(count), 0) FROM ` +
      `pragma_storage_info(${quoteLiteral(sqlName)}) WHERE column_name = '${VERSION_COLUMN}' AND segment_type <> 'VALIDITY')::VARCHAR`,
  );
  const [live, stored] = [Number(row[0]), Number(row[1])];
  return { live, dead: Math.max(0, stored - live) };
}

/**
 * The same table, written anew. Inside of a transaction. Made from what the file has, so that it is the same whatever shape the
 * table is in. False, and nothing done: somebody has given it indexes or constraints of his own.
 */
export async function rewrite(connection: DuckDBConnection, catalogue: string, target: TargetName): Promise<boolean> {
  const { schema, table } = target;
  const names = [catalogue, schema, table];
  const ofTable = "database_name = $1 AND schema_name = $2 AND table_name = $3";
  const columns = await readTextRows(
    connection,
    `SELECT column_name, data_type, is_nullable, coalesce(column_default, '') FROM duckdb_columns() WHERE ${ofTable} ORDER BY column_index`,
    names,
  );
  const constraints = await readTextRows(
    connection,
    `SELECT constraint_type, unnest(constraint_column_names) FROM duckdb_constraints() WHERE ${ofTable} AND constraint_type <> 'NOT NULL'`,
    names,
  );
  const indexes = await readTextRows(connection, `SELECT index_name FROM duckdb_indexes() WHERE ${ofTable}`, names);
  const key = constraints.map(([, column = ""]) => quoteIdentifier(column));
  if (indexes.length > 0 || key.length === 0 || constraints.some(([type]) => type !== "PRIMARY KEY")) return false;
  const [comment = [""]] = await readTextRows(
    connection,
    `SELECT comment FROM duckdb_tables() WHERE ${ofTable}`,
    names,
  );
  const definitions = columns.map(([name = "", type, isNullable, standard]) => {
    const notNull = isNullable === "true" ? "" : " NOT NULL";
    return `${quoteIdentifier(name)} ${type}${notNull}${standard === "" ? "" : ` DEFAULT ${standard}`}`;
  });
  const list = columns.map(([name = ""]) => quoteIdentifier(name)).join(", ");
  const [old, made] = [nameOf(catalogue, schema, table), nameOf(catalogue, schema, REWRITTEN)];
  await connection.run(`CREATE TABLE ${made} (${definitions.join(", ")}, PRIMARY KEY (${key.join(", ")}))`);
  await connection.run(`INSERT INTO ${made} (${list}) SELECT ${list} FROM ${old}`);
  await connection.run(`DROP TABLE ${old}`);
  await connection.run(`ALTER TABLE ${made} RENAME TO ${quoteIdentifier(table)}`);
  if (comment[0] !== "") await connection.run(`COMMENT ON TABLE ${old} IS ${quoteLiteral(comment[0]!)}`);
  return true;
}

/** Whether more of the file is free than used: a table that lies behind the free part keeps it from getting shorter. */
export async function isMostlyFree(connection: DuckDBConnection, catalogue: string): Promise<boolean> {
  const [row = []] = await readTextRows(
    connection,
    "SELECT used_blocks, free_blocks FROM pragma_database_size() WHERE database_name = $1",
    [catalogue],
  );
  return Number(row[1]) > Number(row[0]);
}

function nameOf(...parts: readonly string[]): string {
  return parts.map(quoteIdentifier).join(".");
}
