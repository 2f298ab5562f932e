/** Finds rows by their versions. */
import type { EngineConnection } from "../engine/engine.ts";
import { quoteIdentifier, quoteName, targetKey, VERSION_COLUMN } from "../names.ts";
import { readTextRows } from "../write/text-rows.ts";

const VERSION = quoteIdentifier(VERSION_COLUMN);

/** By target key: quoted names of the file's tables that have our column. */
export async function versionedTables(
  connection: EngineConnection,
  catalogue: string,
): Promise<ReadonlyMap<string, string>> {
  const rows = await readTextRows(
    connection,
    "SELECT schema_name, table_name FROM duckdb_columns() WHERE database_name = $1 AND column_name = $2",
    [catalogue, VERSION_COLUMN],
  );
  return new Map(
    rows.map(([schema = "", table = ""]) => [targetKey({ schema, table }), quoteName(catalogue, schema, table)]),
  );
}

/** Removes rows that no batch can have written. */
export function expelSql(sqlName: string, version: bigint): string {
  return `DELETE FROM ${sqlName} WHERE ${VERSION} > ${version} OR ${VERSION} IS NULL`;
}

/** 0: there is no row. */
export async function highestVersion(connection: EngineConnection, sqlNames: Iterable<string>): Promise<bigint> {
  let highest = 0n;
  for (const name of sqlNames) {
    const [found] = await readTextRows(connection, `SELECT coalesce(max(${VERSION}), 0) FROM ${name}`);
    const version = BigInt(found?.[0] ?? 0);
    if (version > highest) highest = version;
  }
  return highest;
}
