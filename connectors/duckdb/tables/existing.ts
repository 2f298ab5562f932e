/**
 * Finds existing targets in the file. A query of DuckDB's catalogue reads all of it, whatever it asks for, so one query
 * looks for many targets.
 */
import { type EngineConnection, inTransaction, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { decodeNote, type TargetNote } from "../../warehouse/following.ts";
import { formOf } from "../../warehouse/own-columns.ts";
import type { ExistingColumn, ExistingTarget } from "../../warehouse/table-change.ts";
import { fold, quoteLiteral, type TargetName, targetKey } from "../names.ts";

/** Names of columns are folded. */
export interface DuckdbTarget extends ExistingTarget {
  /** In its original spelling. */
  readonly name: string;
}

/** For more targets all names are read: a longer list costs more than it saves. */
const NAMES_MAX = 100;

/** By target key; missing targets are left out. Outside of a transaction. */
export async function lookUpTargets(
  connection: EngineConnection,
  catalogue: string,
  targets: readonly TargetName[],
): Promise<ReadonlyMap<string, DuckdbTarget>> {
  if (targets.length === 0) return new Map();
  // At one moment: others may change shapes in a lake.
  return await inTransaction(
    connection,
    () => connection.run("BEGIN TRANSACTION"),
    () => lookedUp(connection, catalogue, targets),
  );
}

async function lookedUp(
  connection: EngineConnection,
  catalogue: string,
  targets: readonly TargetName[],
): Promise<ReadonlyMap<string, DuckdbTarget>> {
  const wanted = new Set(targets.map(targetKey));
  // lower() folds more letters than DuckDB's comparison of names does; extra matches are removed here.
  const names = targets.map(({ table }) => `lower(${quoteLiteral(table)})`);
  const isNamed = names.length > NAMES_MAX ? "true" : `lower(name) IN (${names.join(", ")})`;
  const found = await readTextRows(
    connection,
    "SELECT schema_name, name, is_view, comment FROM (" +
      "SELECT database_name, schema_name, table_name AS name, false AS is_view, comment FROM duckdb_tables() " +
      "UNION ALL SELECT database_name, schema_name, view_name, true, NULL FROM duckdb_views()) " +
      `WHERE database_name = $1 AND ${isNamed}`,
    [catalogue],
  );
  const keyOf = ([schema = "", table = ""]: readonly string[]): string => targetKey({ schema, table });
  const rows = found.filter((row) => wanted.has(keyOf(row)));
  if (rows.length === 0) return new Map();
  // By name: the ids of a lake's tables change inside a transaction if another connection changes any shape.
  const named = `(schema_name, table_name) IN (${rows.map(([schema = "", table = ""]) => `(${quoteLiteral(schema)}, ${quoteLiteral(table)})`).join(", ")})`;
  const columns = await readTextRows(
    connection,
    "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() " +
      `WHERE database_name = $1 AND ${named} ORDER BY schema_name, table_name, column_index`,
    [catalogue],
  );
  const keys = await readTextRows(
    connection,
    "SELECT schema_name, table_name, unnest(constraint_column_names) FROM duckdb_constraints() " +
      `WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND database_name = $1 AND ${named}`,
    [catalogue],
  );
  const columnsOf = Map.groupBy(columns, keyOf);
  const keysOf = Map.groupBy(keys, keyOf);
  return new Map(
    rows.map((row): [string, DuckdbTarget] => {
      const [, name = "", isView, comment = ""] = row;
      const key = keyOf(row);
      const described = columnsOf
        .get(key)
        ?.map(([, , column = "", type = ""]): [string, ExistingColumn] => [fold(column), { name: column, type }]);
      const folded = keysOf.get(key)?.map(([, , column = ""]) => fold(column));
      return [key, duckdbTarget(name, isView === "true", new Map(described), comment, folded)];
    }),
  );
}

export function duckdbTarget(
  name: string,
  isView: boolean,
  columns: ReadonlyMap<string, ExistingColumn>,
  comment: string,
  key?: readonly string[],
): DuckdbTarget {
  const form = isView ? null : formOf(columns);
  const keys = key === undefined ? [] : [key];
  return { name, isView, form, columns, keys, note: decodeNote(comment), isAnother: comment === "" };
}

export interface NotedTable {
  readonly name: TargetName;
  readonly note: TargetNote | null;
}

export async function tablesIn(connection: EngineConnection, catalogue: string): Promise<readonly NotedTable[]> {
  const rows = await readTextRows(
    connection,
    "SELECT schema_name, table_name, comment FROM duckdb_tables() WHERE database_name = $1",
    [catalogue],
  );
  return rows.map(([schema = "", table = "", comment = ""]) => ({
    name: { schema, table },
    note: decodeNote(comment),
  }));
}
