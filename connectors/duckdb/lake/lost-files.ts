/** Data files that a lake's catalogue names, and that somebody removed or spoiled. */
import { statSync } from "node:fs";
import { basename } from "node:path";
import type { EngineConnection } from "../engine/engine.ts";
import { type TargetName, quoteLiteral, targetKey } from "../names.ts";
import { readTextRows } from "../write/text-rows.ts";
import { METADATA } from "./engine.ts";
import type { LakePlace } from "./place.ts";
import { SPOILED } from "./rules.ts";

interface LostFile {
  readonly target: TargetName;
  readonly path: string;
}

interface LostFiles {
  readonly lost: readonly LostFile[];
  /** Whether files of the lake are there. If not, it is rather their folder, disk or bucket that is missing. */
  readonly othersAreThere: boolean;
}

/** Whether the present snapshot needs them, too. Files that other programs added are elsewhere. */
const NAMED = ["ducklake_data_file", "ducklake_delete_file"]
  .map(
    (files) =>
      "SELECT s.schema_name, t.table_name, s.path || t.path || f.path, " +
      "coalesce(f.end_snapshot, t.end_snapshot, s.end_snapshot) IS NULL " +
      `FROM ${METADATA}.${files} AS f JOIN ${METADATA}.ducklake_table AS t USING (table_id) JOIN ${METADATA}.ducklake_schema AS s USING (schema_id) ` +
      "WHERE f.path_is_relative::BOOLEAN AND t.path_is_relative::BOOLEAN AND s.path_is_relative::BOOLEAN",
  )
  .join(" UNION ALL ");

/** `failed`: the table that could not be read, and what was said about it. Null: files that are there are not looked into. */
export async function findLostFiles(
  connection: EngineConnection,
  place: LakePlace,
  failed: { readonly target: TargetName; readonly message: string } | null,
): Promise<LostFiles> {
  // The names come first: a file that is named afterwards is not looked for.
  const rows = await readTextRows(connection, `SELECT a, b, c, d::VARCHAR FROM (${NAMED}) AS named (a, b, c, d)`);
  const isThere = place.bucket === null ? isInFolder : await inBucket(connection, place.data);
  const missing: LostFile[] = [];
  const ofFailed: LostFile[] = [];
  let othersAreThere = false;
  for (const [schema = "", table = "", path = "", isNeeded] of rows) {
    const file: LostFile = { target: { schema, table }, path: place.data + path };
    const isPresent = isThere(file.path);
    othersAreThere ||= isPresent;
    if (isNeeded !== "true") continue;
    if (!isPresent) missing.push(file);
    else if (failed !== null && targetKey(file.target) === targetKey(failed.target)) ofFailed.push(file);
  }
  const spoiled = failed === null ? [] : await spoiledOf(connection, ofFailed, failed.message);
  return { lost: [...missing, ...spoiled], othersAreThere };
}

/** DuckDB does not always say in which file it met what it can't read. */
async function spoiledOf(
  connection: EngineConnection,
  files: readonly LostFile[],
  message: string,
): Promise<readonly LostFile[]> {
  const said = files.filter(({ path }) => message.includes(basename(path)));
  if (said.length > 0 || message.includes(".parquet")) return said;
  const spoiled: LostFile[] = [];
  for (const file of files) if (!(await isReadable(connection, file.path))) spoiled.push(file);
  return spoiled;
}

/** False only if the system says that nothing is there. */
function isInFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}

async function inBucket(connection: EngineConnection, data: string): Promise<(path: string) => boolean> {
  const rows = await readTextRows(connection, `SELECT file FROM glob(${quoteLiteral(`${data}**/*.parquet`)})`);
  const there = new Set(rows.flatMap(([file]) => file ?? []));
  return (path) => there.has(path);
}

async function isReadable(connection: EngineConnection, path: string): Promise<boolean> {
  try {
    await connection.run(`SELECT bit_xor(hash(f)) FROM read_parquet(${quoteLiteral(path)}) AS f`);
    return true;
  } catch (error) {
    return !isSpoiled(error);
  }
}

function isSpoiled(error: unknown): boolean {
  return error instanceof Error && SPOILED.test(error.message);
}
