/** Finds the columns of a table version in the present catalogue, and writes them as SQL. */
import { sourceError } from "../errors.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_BINARY, CELL_TEXT } from "../../../../src/core/model/tuple.ts";
import { hasBinaryForm } from "../../../../src/core/model/types.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import type { KnownLeaves, SourceContext } from "../wire/context.ts";
import type { RowSession } from "../wire/row-session.ts";

export interface LiveColumn {
  readonly name: string;
  readonly native: string;
  /** The operators `=`, `>=` and `>` of its type, as SQL spells them; those of an extension need their schema. */
  readonly operators: readonly string[];
}

export interface LiveTable {
  /** With ONLY for a plain table: children by inheritance are separate tables, but for those of a tree. */
  readonly sql: string;
  readonly partitioned: boolean;
  /** One for each column of the version, under its present name. */
  readonly columns: readonly LiveColumn[];
  readonly key: readonly LiveColumn[];
}

export const BUILT_IN: readonly string[] = ["=", ">=", ">"];

/** Null if built-in operators order the type; they also order arrays, enums, ranges and composites. */
const OPERATORS_SQL = `(
  with recursive base (oid, under) as (
    select t.oid, t.typbasetype from pg_type t where t.oid = a.atttypid
    union all select t.oid, t.typbasetype from base b join pg_type t on t.oid = b.under
  )
  select json_agg(format('OPERATOR(%I.%s)', n.nspname, o.oprname) order by ao.amopstrategy) from base b
  join pg_opclass oc on oc.opcintype = b.oid and oc.opcdefault join pg_am m on m.oid = oc.opcmethod and m.amname = 'btree'
  join pg_amop ao on ao.amopfamily = oc.opcfamily and ao.amoplefttype = b.oid and ao.amoprighttype = b.oid and ao.amopstrategy >= 3
  join pg_operator o on o.oid = ao.amopopr join pg_namespace n on n.oid = o.oprnamespace
  where b.under = 0 and n.nspname <> 'pg_catalog'
)`;

function operatorsOf(json: string | null): readonly string[] {
  const parsed: unknown = JSON.parse(json ?? "null");
  return Array.isArray(parsed) && parsed.length === BUILT_IN.length ? parsed.map(String) : BUILT_IN;
}

/**
 * Looks the table up in the session's own transaction. A column that differs from the version is an error, and so is another
 * table under its name: statements always mean the table that has the name now, whatever the snapshot shows.
 */
export async function findTable(
  session: RowSession,
  table: TableVersion,
  leaves: KnownLeaves,
  signal: AbortSignal,
): Promise<LiveTable> {
  const rows = await session.rows(
    `looking up ${table.id}`,
    `select c.relkind, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), ${OPERATORS_SQL}, c.oid::int8 from pg_class c
     join pg_attribute a on a.attrelid = c.oid
     where c.oid = to_regclass(${quoteLiteral(quoteTable(table.schema, table.table))}) and a.attnum > 0 and not a.attisdropped`,
    signal,
  );
  const oid = Number(rows[0]?.[5] ?? 0);
  if (oid !== oidOf(table)) throw changed(table, "another table has its name");
  const byNumber = new Map(
    rows.map(([, attnum, name, native, operators]): [number, LiveColumn] => [
      Number(attnum),
      { name: name ?? "", native: native ?? "", operators: operatorsOf(operators ?? null) },
    ]),
  );
  const byName = new Map([...byNumber.values()].map((column) => [column.name, column]));
  const columns = table.columns.map((column): LiveColumn => {
    const live = column.identity > 0 ? byNumber.get(column.identity) : byName.get(column.name);
    if (live !== undefined && live.native === column.native) return live;
    throw changed(table, `a column of version ${table.version} was dropped or altered`);
  });
  const partitioned = rows[0]?.[0] === "p";
  const sql = `${partitioned || leaves.isTree(oid) ? "" : "ONLY "}${quoteTable(table.schema, table.table)}`;
  return { sql, partitioned, columns, key: table.key.map((ordinal) => columns[ordinal]!) };
}

/**
 * Of a statement that has begun to read the table. Invariant: no row of a table is read that was attached to this one since
 * the last look: rules may hide it. A partition that a statement reads stays one until its transaction ends.
 */
export async function expectKnownLeaves(
  {
    session,
    table,
    context: { database, leaves },
  }: {
    readonly session: RowSession;
    readonly table: TableVersion;
    readonly context: Pick<SourceContext, "database" | "leaves">;
  },
  signal: AbortSignal,
): Promise<void> {
  const known = leaves.of(oidOf(table));
  if (known === undefined) return;
  if (leaves.isTree(oidOf(table))) {
    // In another session: the snapshot of this one does not show what was attached since, and its statement reads that.
    const below = await database.rows(
      "looking at the tables that inherit",
      UNKNOWN_HEIRS_SQL,
      [oidOf(table), known],
      signal,
    );
    if (below.length > 0) throw changed(table, "another table inherits from it");
    return;
  }
  const name = quoteLiteral(quoteTable(table.schema, table.table));
  const query = `select relid::oid from pg_partition_tree(${name}::regclass) where isleaf except select unnest(${oids(known)}) limit 1`;
  const unknown = await session.rows(`looking at the partitions of ${table.id}`, query, signal);
  if (unknown.length > 0) throw changed(table, "a partition was attached to it");
}

const UNKNOWN_HEIRS_SQL = `
with recursive tree (oid) as (
  select $1::int8::oid union select i.inhrelid from tree join pg_inherits i on i.inhparent = tree.oid)
select 1 as found from tree where oid::int8 <> all ($2) limit 1`;

/** For FROM, with a condition: the table's rows in these leaves alone, if it has any. */
export function rowsIn({ sql }: LiveTable, table: TableVersion, leaves: KnownLeaves): string {
  const known = leaves.of(oidOf(table));
  return known === undefined ? sql : `${sql} WHERE tableoid = ANY (${oids(known)})`;
}

export function oids(leaves: readonly number[]): string {
  return `'{${leaves.join()}}'::oid[]`;
}

/** See `Catalog.relation`. */
export function oidOf({ relation }: TableVersion): number {
  return relation % 2 ** 32;
}

function changed({ id }: TableVersion, what: string) {
  const hint = "It is read when the stream has passed the change, and the next look has seen it.";
  return sourceError("MR2025", "retryable", `${id} is not as it was: ${what}`, { hint, reason: "no-column" });
}

/** The form of each column's values in a binary COPY: the type's own binary form, or its text. */
export function cellKinds(table: TableVersion): Uint8Array {
  return Uint8Array.from(table.columns, (column) => (hasBinaryForm(column.type) ? CELL_BINARY : CELL_TEXT));
}

/**
 * The columns of a binary COPY. If core can't read the binary form, the type's output function turns the value into text. A
 * cast to text would give something else for some types (inet, bool, char), and IS NULL is true for rows of nulls.
 */
export function copyList(columns: readonly LiveColumn[], kinds: Uint8Array): string {
  const list = columns.map(({ name }, i) => {
    const quoted = quoteIdentifier(name);
    return kinds[i] === CELL_BINARY
      ? quoted
      : `case when ${quoted} is distinct from null then format('%s', ${quoted}) end`;
  });
  return list.join(", ");
}
