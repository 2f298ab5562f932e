/** Finds the columns of a table version in the present catalogue, and writes them as SQL. */
import { sourceError } from "../errors.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { CELL_BINARY, CELL_TEXT } from "../../../../src/core/model/tuple.ts";
import { hasBinaryForm } from "../../../../src/core/model/types.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import type { RowSession } from "../wire/row-session.ts";

export interface LiveColumn {
  readonly name: string;
  readonly native: string;
  /** The operators `=`, `>=` and `>` of its type, as SQL spells them; those of an extension need their schema. */
  readonly operators: readonly string[];
}

export interface LiveTable {
  /** With ONLY for a plain table: children by inheritance are separate tables. */
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

/** Looks the table up in the session's own transaction. A column that differs from the version is an error. */
export async function findTable(session: RowSession, table: TableVersion, signal: AbortSignal): Promise<LiveTable> {
  const rows = await session.rows(
    `looking up ${table.id}`,
    `select c.relkind, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), ${OPERATORS_SQL} from pg_class c
     join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
     where n.nspname = ${quoteLiteral(table.schema)} and c.relname = ${quoteLiteral(table.table)}
       and a.attnum > 0 and not a.attisdropped`,
    signal,
  );
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
    const what = `${table.id} is not as it was: a column of version ${table.version} was dropped or altered`;
    const later = "It is read when the stream has passed the change.";
    throw sourceError("MR2025", "retryable", what, { hint: later, reason: "no-column" });
  });
  const partitioned = rows[0]?.[0] === "p";
  const sql = `${partitioned ? "" : "ONLY "}${quoteTable(table.schema, table.table)}`;
  return { sql, partitioned, columns, key: table.key.map((ordinal) => columns[ordinal]!) };
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
