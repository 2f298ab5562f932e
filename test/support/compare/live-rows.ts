/** Which rows of a warehouse's table are there, in the words of the documentation: SQL that Postgres and DuckDB both read. */
export type Kept = "soft" | "history";

/** A relation with the columns of `table` (qualified and quoted): rows not marked, or the last state of each key. */
export function liveRows(table: string, keys: readonly string[], kept: Kept | undefined): string {
  if (kept === undefined) return table;
  if (kept === "soft") return `(select * from ${table} where not _millrace_deleted) as live`;
  const key = keys.join(", ");
  return `(select * from (select distinct on (${key}) * from ${table} where _millrace_op <> 't'
      order by ${key}, _millrace_version desc, _millrace_offset desc) as latest
    where _millrace_op <> 'd' and not exists (select 1 from ${table} as t where t._millrace_op = 't'
      and (t._millrace_version > latest._millrace_version
        or t._millrace_version = latest._millrace_version and t._millrace_offset > latest._millrace_offset))) as live`;
}
