/** Data files that a killed process of a lake left, and that no snapshot names. */
import { makeFolder } from "../../../src/core/files.ts";
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { quoteLiteral } from "../names.ts";
import { LAKE, METADATA } from "./engine.ts";
import type { LakePlace } from "./place.ts";

/** A transaction that is still going to name its files is younger. */
const ORPHAN_SECONDS = 24 * 60 * 60;

const MARK = "_millrace_lake_";
export const SCHEDULED = `${METADATA}.ducklake_files_scheduled_for_deletion`;

/** DuckLake's names: a UUID with the time in front; of partitioned tables below folders that name a value. */
const OWN_NAME =
  "^([^/=]+=[^/]*/)*ducklake-[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}(-delete)?\\.parquet$";

/** Of orphans that are scheduled for deletion; DuckLake counts its own files from 0. */
const FIRST_ID = "4611686018427387904";

/** In any folder: such a name is never given twice. */
const NAMED = ["ducklake_data_file", "ducklake_delete_file"]
  .map((table) => `SELECT parse_filename(path) FROM ${METADATA}.${table}`)
  .join(" UNION ALL ");

/** Orphans that a transaction of more than a day has named after all. */
export const KEEP_NAMED = `DELETE FROM ${SCHEDULED} WHERE data_file_id >= ${FIRST_ID} AND parse_filename(path) IN (${NAMED})`;

export type Owner = "this lake" | "several lakes" | "not known yet";

/** Writes the mark of this lake beside its data: files of another lake look like orphans. */
export async function markData(connection: EngineConnection, place: LakePlace): Promise<void> {
  const own = await ownMark(connection, place);
  if ((await marks(connection, place)).includes(own)) return;
  if (place.bucket === null) makeFolder(place.data);
  await connection.run(`COPY (SELECT 1 AS lake) TO ${quoteLiteral(own)}`);
}

/** Other lakes have as long to leave their mark as files have to be named. */
export async function ownerOfData(
  connection: EngineConnection,
  place: LakePlace,
  seconds: number = ORPHAN_SECONDS,
): Promise<Owner> {
  const own = await ownMark(connection, place);
  const found = await marks(connection, place);
  if (found.some((file) => file !== own)) return "several lakes";
  if (found.length === 0) return "not known yet";
  const [[isOld] = []] = await readTextRows(
    connection,
    `SELECT (last_modified <= now() - INTERVAL '${seconds} seconds')::VARCHAR FROM read_blob(${quoteLiteral(own)})`,
  );
  return isOld === "true" ? "this lake" : "not known yet";
}

/** Paths of files that are so old, named by DuckLake, and unknown to the catalogue. */
export async function findOrphans(
  connection: EngineConnection,
  seconds: number = ORPHAN_SECONDS,
): Promise<readonly string[]> {
  const rows = await readTextRows(
    connection,
    `SELECT path FROM ducklake_delete_orphaned_files('${LAKE}', dry_run => true, ` +
      `older_than => now() - INTERVAL '${seconds} seconds') WHERE regexp_matches(parse_filename(path), '${OWN_NAME}')`,
  );
  return rows.flatMap(([path]) => path ?? []);
}

/**
 * Puts orphans in folders of this lake's tables where DuckLake keeps the names of files that no snapshot needs any more, so
 * they are removed with those. What lies in other folders below may be another lake's. Returns how many.
 */
export async function scheduleOrphans(
  connection: EngineConnection,
  { data }: LakePlace,
  orphans: readonly string[],
): Promise<number> {
  if (orphans.length === 0) return 0;
  const paths = orphans.map((path) => `(${quoteLiteral(path)})`).join(", ");
  const { rowsChanged } = await connection.run(
    `INSERT INTO ${SCHEDULED} (data_file_id, path, path_is_relative, schedule_start) ` +
      `SELECT (SELECT greatest(${FIRST_ID}, coalesce(max(data_file_id)::BIGINT, 0)) FROM ${SCHEDULED}) + row_number() OVER (), ` +
      `path, false, now() FROM (VALUES ${paths}) AS orphan (path) ` +
      `WHERE parse_filename(path) NOT IN (${NAMED}) AND path NOT IN (SELECT path FROM ${SCHEDULED}) ` +
      `AND EXISTS (SELECT 1 FROM ${METADATA}.ducklake_table AS t JOIN ${METADATA}.ducklake_schema AS s USING (schema_id) ` +
      "WHERE t.path_is_relative::BOOLEAN AND s.path_is_relative::BOOLEAN " +
      `AND starts_with(orphan.path, ${quoteLiteral(data)} || s.path || t.path) ` +
      `AND regexp_matches(substr(orphan.path, length(${quoteLiteral(data)} || s.path || t.path) + 1), '${OWN_NAME}'))`,
  );
  return rowsChanged;
}

async function ownMark(connection: EngineConnection, { data }: LakePlace): Promise<string> {
  const [[id = ""] = []] = await readTextRows(
    connection,
    `SELECT schema_uuid::VARCHAR FROM ${METADATA}.ducklake_schema WHERE schema_id = 0`,
  );
  return `${data}${MARK}${id}.csv`;
}

async function marks(connection: EngineConnection, { data }: LakePlace): Promise<readonly string[]> {
  const rows = await readTextRows(connection, `SELECT file FROM glob(${quoteLiteral(`${data}${MARK}*.csv`)})`);
  return rows.flatMap(([file]) => file ?? []);
}
