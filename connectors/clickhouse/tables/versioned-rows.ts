/** Finds rows by their versions. */
import type { Client } from "../client.ts";
import { OWN_PREFIX, quoteIdentifier, quoteLiteral, sqlNameOf, VERSION_COLUMN } from "../names.ts";
import type { Placement } from "./form.ts";
import { onCluster } from "./statements.ts";

const VERSION = quoteIdentifier(VERSION_COLUMN);

/** Names of all tables with our column, in SQL; views have it too. */
export async function versionedTables(client: Client, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const rows = await client.rows(
    `SELECT c.database, c.table FROM system.columns AS c INNER JOIN system.tables AS t ON c.database = t.database AND c.table = t.name ` +
      `WHERE c.name = ${quoteLiteral(VERSION_COLUMN)} AND t.engine LIKE '%ReplacingMergeTree' AND NOT startsWith(c.table, ${quoteLiteral(OWN_PREFIX)})`,
    signal,
  );
  return new Set(rows.map(([database, table]) => sqlNameOf({ database: database ?? "", table: table ?? "" })));
}

/** Removes rows that no batch can have written; a row that somebody wrote without a version has 0. `condition`: see WriteFence. */
export function expelSql(sqlName: string, placement: Placement, version: bigint, condition: string): string {
  return `ALTER TABLE ${sqlName}${onCluster(placement)} DELETE WHERE (${VERSION} > ${version} OR ${VERSION} = 0) AND ${condition}`;
}

/** 0: there is no row. */
export async function highestVersion(
  client: Client,
  sqlNames: readonly string[],
  signal: AbortSignal,
): Promise<bigint> {
  let highest = 0n;
  for (const name of sqlNames) {
    const [[found] = []] = await client.rows(`SELECT max(${VERSION}) FROM ${name}`, signal);
    const version = BigInt(found ?? 0);
    if (version > highest) highest = version;
  }
  return highest;
}
