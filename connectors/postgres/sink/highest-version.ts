/** The highest version of the rows in a target: what is left of an earlier life. */
import { quoteIdentifier, quoteLiteral } from "../quote.ts";
import { VERSION_COLUMN } from "./tables/form.ts";

/** Tables that may be asked have our column and can be read: those of these names, or all of a schema, or all. */
export function versionedTables(names: readonly string[] | null, schema: string | undefined): string {
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

export function highestIn(quoted: string): string {
  return `SELECT coalesce(max(${quoteIdentifier(VERSION_COLUMN)}), 0) FROM ${quoted}`;
}
