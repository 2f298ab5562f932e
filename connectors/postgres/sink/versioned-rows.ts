/** Finds rows by their versions. */
import { quoteIdentifier, quoteLiteral } from "../../../src/postgres/quote.ts";
import type { Session } from "./session.ts";
import { VERSION_COLUMN } from "./tables/form.ts";

/** Removes rows with a higher version, or without one, from a table that may not exist. */
export async function expel(session: Session, quoted: string, version: bigint, signal: AbortSignal): Promise<void> {
  const { rows } = await session.query(findVersioned(quoted), signal);
  if (rows.length === 0) return;
  await session.query(
    `DELETE FROM ${quoted} WHERE ${VERSION_COLUMN} > ${version} OR ${VERSION_COLUMN} IS NULL`,
    signal,
  );
}

/** The highest version in these tables, in the whole schema (null), or in all that can be read; 0: there is no row. */
export async function highestVersion(
  session: Session,
  names: readonly string[] | null,
  schema: string | undefined,
  signal: AbortSignal,
): Promise<bigint> {
  const { rows } = await session.query(versionedTables(names, schema), signal);
  let highest = 0n;
  for (const [quoted] of rows) {
    const sql = `SELECT coalesce(max(${quoteIdentifier(VERSION_COLUMN)}), 0) FROM ${quoted}`;
    const { rows: found } = await session.query(sql, signal);
    const version = BigInt(found[0]?.[0] ?? 0);
    if (version > highest) highest = version;
  }
  return highest;
}

/** Returns a row if the table exists and has our column. */
function findVersioned(quoted: string): string {
  return `SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(${quoteLiteral(quoted)}) AND attname = ${quoteLiteral(VERSION_COLUMN)} AND NOT attisdropped`;
}

/** Readable tables with our column: those with these names, or all of a schema, or all. */
function versionedTables(names: readonly string[] | null, schema: string | undefined): string {
  const named = names?.map((name) => `to_regclass(${quoteLiteral(name)})`).join(", ");
  const where = [
    `a.attname = ${quoteLiteral(VERSION_COLUMN)} AND NOT a.attisdropped AND a.atttypid = 'pg_catalog.int8'::regtype`,
    "c.relkind IN ('r', 'p') AND has_table_privilege(c.oid, 'SELECT')",
    ...(schema === undefined ? [] : [`n.nspname = ${quoteLiteral(schema)}`]),
    ...(named === undefined ? [] : [named === "" ? "false" : `c.oid IN (${named})`]),
  ];
  return `SELECT format('%I.%I', n.nspname, c.relname) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE ${where.join(" AND ")} ORDER BY 1`;
}
