/** Enters the initial snapshot: a transaction that sees a table as it was when the slot began. */
import { type ErrorReason, reasonOf } from "../../../../src/core/errors.ts";
import type { TableVersion } from "../../../../src/core/model/schema.ts";
import { quoteLiteral, quoteTable } from "../../../../src/postgres/quote.ts";
import { findTable, type LiveTable, oidOf, oids } from "./live-table.ts";
import { holdersOf } from "../../blocking-transactions.ts";
import type { KnownLeaves, SourceContext } from "../wire/context.ts";
import { sourceError, withHolders } from "../errors.ts";
import type { RowReader, RowSession } from "../wire/row-session.ts";

const LOCK_TIMEOUT = "10s";

/**
 * Begins a transaction under the snapshot, with the table locked against a rewrite. Fails if the table was rewritten, or
 * its columns changed, since then: under an older snapshot a rewritten table is empty.
 */
export async function enterSnapshot(
  context: Pick<SourceContext, "address">,
  session: RowSession,
  {
    table,
    snapshot,
    leaves,
  }: { readonly table: TableVersion; readonly snapshot: string; readonly leaves: KnownLeaves },
  signal: AbortSignal,
): Promise<LiveTable> {
  const name = quoteTable(table.schema, table.table);
  try {
    const enter = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT ${quoteLiteral(snapshot)}; SET LOCAL lock_timeout = '${LOCK_TIMEOUT}'; LOCK TABLE ${name} IN ACCESS SHARE MODE`;
    await session.rows(`locking ${table.id}`, enter, signal);
    const files = await session.rows(
      `looking at the files of ${table.id}`,
      sameFilesSql(name, leaves.of(oidOf(table)) ?? []),
      signal,
    );
    if (files[0]?.[0] === "t") return await findTable(session, table, leaves, signal);
  } catch (error) {
    const reason = reasonOf(error);
    if (reason !== undefined && ALTERED.has(reason)) throw altered(table, error);
    throw await withHolders(error, context, holdersOf(name, "read"), signal);
  }
  throw altered(table);
}

const ALTERED: ReadonlySet<ErrorReason> = new Set([
  "no-table",
  "no-column",
  "no-object",
  // Before Postgres 17: the snapshot is gone with the connection that kept it.
  "parameter",
]);

function altered({ id }: TableVersion, cause?: unknown) {
  const message = `${id} was altered after the copy's snapshot was taken`;
  return sourceError("MR2025", "retryable", message, { hint: "It is read by chunks.", cause });
}

/**
 * Whether the table, and each of those that hold its rows, is still in the file that the snapshot knows, with the column names that
 * the snapshot knows. Statements always use the present names, whatever the snapshot. A SELECT from the catalogue shows the
 * snapshot, the functions show the present.
 */
function sameFilesSql(name: string, holders: readonly number[]): string {
  const relation = `${quoteLiteral(name)}::regclass`;
  return `select (
      select coalesce(bool_and(c.relfilenode is not distinct from pg_relation_filenode(t.relid)), exists (select from pg_class where oid = ${relation}))
      from (select ${relation}::oid as relid union select relid::oid from pg_partition_tree(${relation}) where isleaf union select unnest(${oids(holders)})) t
      left join pg_class c on c.oid = t.relid
      where coalesce(c.relkind, 'r') <> 'p'
    ) and (
      select coalesce(bool_and(a.attname = i.object_names[3] is true), true)
      from pg_attribute a cross join pg_identify_object_as_address('pg_class'::regclass, a.attrelid, a.attnum) i
      where a.attrelid = ${relation} and a.attnum > 0 and not a.attisdropped
    )`;
}

/** Gives the rows of a binary COPY to `onRow`, without the header and the trailer. */
export function rowsOfCopy(onRow: RowReader): RowReader {
  let isFirst = true;
  return (bytes, start, end) => {
    // The header comes in front of the first row's frame or in a frame of its own; the trailer is a count of -1.
    const at = isFirst ? start + headerLength(bytes, start) : start;
    isFirst = false;
    return end - at < 2 || bytes.readInt16BE(at) < 0 || onRow(bytes, at, end);
  };
}

/** PGCOPY's signature, flags and extension. */
function headerLength(bytes: Buffer, start: number): number {
  return 19 + bytes.readInt32BE(start + 15);
}
