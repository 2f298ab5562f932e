/** Row counts as the server's statistics estimate them: nothing is counted. */
import type { NamedTable } from "../../../../src/core/contracts/catalog.ts";
import type { SourceContext } from "../context.ts";

/**
 * `reltuples` is from the last VACUUM or ANALYZE, below 0 before the first; the live rows are counted as they change, and
 * are lost with a crash. Each may be too low, so the higher one counts. A partitioned table has the rows of its leaves.
 * Nothing here waits for a lock of a table, as `pg_relation_size` and `pg_partition_tree` do.
 */
const ESTIMATES_SQL = `
with recursive named as (
  select id, t.oid from unnest($1::text[], $2::text[], $3::text[]) as named(id, schema, name)
  join pg_namespace n on n.nspname = named.schema
  join pg_class t on t.relnamespace = n.oid and t.relname = named.name
), parts as (
  select id, oid from named
  union all select id, i.inhrelid from parts
  join pg_inherits i on i.inhparent = parts.oid
  join pg_class p on p.oid = i.inhrelid and p.relispartition
), counted as (
  select id, reltuples, pg_stat_get_live_tuples(c.oid) as live from parts join pg_class c using (oid) where c.relkind <> 'p'
)
select id, case when bool_or(reltuples < 0 and live = 0) then null else sum(greatest(reltuples, live))::float8 end as rows
from counted group by id`;

export async function rowEstimates(
  context: SourceContext,
  tables: readonly NamedTable[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const named = [tables.map(({ id }) => id), tables.map(({ schema }) => schema), tables.map(({ table }) => table)];
  const rows = await context.database.rows<{ readonly id: string; readonly rows: number | null }>(
    "reading the statistics of tables",
    ESTIMATES_SQL,
    named,
    signal,
  );
  return new Map(rows.flatMap(({ id, rows: count }) => (count === null ? [] : [[id, Math.round(count)] as const])));
}
