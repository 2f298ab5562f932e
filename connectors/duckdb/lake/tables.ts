/**
 * The tables of a lake, read from its catalogue. DuckDB's own functions read every table of every attached database, and
 * the catalogue itself is one, with a table for each former shape of those of the lake.
 */
import { decodeNote } from "../../warehouse/following.ts";
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { driverKind } from "../errors.ts";
import { fold, quoteLiteral, quoteName, type TargetName, targetKey } from "../names.ts";
import { type DuckdbTarget, duckdbTarget, lookUpTargets, type NotedTable } from "../tables/existing.ts";
import type { ExistingColumn } from "../../warehouse/table-change.ts";
import { LAKE, METADATA } from "./engine.ts";

/** Each is described by a statement of its own; more are looked up together. */
const DESCRIBED_MAX = 10;

const TABLES =
  `SELECT s.schema_name, t.table_name, 'false', c.value FROM ${METADATA}.ducklake_table AS t ` +
  `JOIN ${METADATA}.ducklake_schema AS s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL ` +
  `LEFT JOIN ${METADATA}.ducklake_tag AS c ON c.object_id = t.table_id AND c.key = 'comment' AND c.end_snapshot IS NULL ` +
  "WHERE t.end_snapshot IS NULL";
const VIEWS =
  `SELECT s.schema_name, v.view_name, 'true', NULL FROM ${METADATA}.ducklake_view AS v ` +
  `JOIN ${METADATA}.ducklake_schema AS s ON s.schema_id = v.schema_id AND s.end_snapshot IS NULL ` +
  "WHERE v.end_snapshot IS NULL";

export async function tablesOfLake(connection: EngineConnection): Promise<readonly NotedTable[]> {
  return (await readTextRows(connection, TABLES)).map(notedTable);
}

/** Of these alone, by `targetKey`. */
export async function notedInLake(
  connection: EngineConnection,
  targets: readonly TargetName[],
): Promise<ReadonlyMap<string, NotedTable>> {
  if (targets.length === 0) return new Map();
  const names = targets.map(({ table }) => quoteLiteral(table.toLowerCase())).join(", ");
  const found = (await readTextRows(connection, `${TABLES} AND lower(t.table_name) IN (${names})`)).map(notedTable);
  const wanted = new Set(targets.map(targetKey));
  return new Map(found.map((one) => [targetKey(one.name), one] as const).filter(([key]) => wanted.has(key)));
}

function notedTable([schema = "", table = "", , comment = ""]: readonly string[]): NotedTable {
  return { name: { schema, table }, note: decodeNote(comment) };
}

export async function newestSnapshot(connection: EngineConnection): Promise<string> {
  const [row] = await readTextRows(connection, `SELECT max(snapshot_id)::VARCHAR FROM ${METADATA}.ducklake_snapshot`);
  return row?.[0] ?? "";
}

/** Another text when a table was made, altered, commented on or dropped. */
export async function shapesVersion(connection: EngineConnection): Promise<string> {
  const sql = `SELECT schema_version::VARCHAR FROM ${METADATA}.ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1`;
  const [row] = await readTextRows(connection, sql);
  return row?.[0] ?? "";
}

/** See `lookUpTargets`. */
export async function findInLake(
  connection: EngineConnection,
  targets: readonly TargetName[],
): Promise<ReadonlyMap<string, DuckdbTarget>> {
  if (targets.length > DESCRIBED_MAX) return await lookUpTargets(connection, LAKE, targets);
  const before = await newestSnapshot(connection);
  const found = await described(connection, targets);
  // Invariant: all of it is of one moment. Others may have changed shapes meanwhile.
  if (found !== null && (await newestSnapshot(connection)) === before) return found;
  return await lookUpTargets(connection, LAKE, targets);
}

/** Null: a table was dropped meanwhile. */
async function described(
  connection: EngineConnection,
  targets: readonly TargetName[],
): Promise<ReadonlyMap<string, DuckdbTarget> | null> {
  const wanted = new Set(targets.map(targetKey));
  const found = new Map<string, DuckdbTarget>();
  for (const [schema = "", name = "", kind, comment = ""] of await readTextRows(
    connection,
    `${TABLES} UNION ALL ${VIEWS}`,
  )) {
    const key = targetKey({ schema, table: name });
    if (!wanted.has(key)) continue;
    const isView = kind === "true";
    const columns = isView ? new Map<string, ExistingColumn>() : await columnsOf(connection, { schema, table: name });
    if (columns === null) return null;
    found.set(key, duckdbTarget(name, isView, columns, comment));
  }
  return found;
}

async function columnsOf(
  connection: EngineConnection,
  { schema, table }: TargetName,
): Promise<ReadonlyMap<string, ExistingColumn> | null> {
  try {
    const rows = await readTextRows(connection, `DESCRIBE ${quoteName(LAKE, schema, table)}`);
    return new Map(rows.map(([name = "", type = ""]) => [fold(name), { name, type }]));
  } catch (error) {
    if (driverKind(error) === "Catalog Error") return null;
    throw error;
  }
}
