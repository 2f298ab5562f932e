/** Tries a migration: runs it in a transaction, looks at the catalogue inside of it, and rolls back. */
import { randomBytes } from "node:crypto";
import type { TableName, TableSize, Trial, TriedTables } from "../../../src/core/contracts/connector.ts";
import { tableId } from "../../../src/core/model/schema.ts";
import type { SourceContext } from "./wire/context.ts";
import { readEach } from "./catalog/catalog.ts";
import { sourceError } from "./errors.ts";
import { postgresSource } from "./source.ts";

/** Of a migration tool's file: it would end the transaction, and commit. */
const OWN_TRANSACTION = /^[ \t]*(begin|start\s+transaction|commit)(\s+(work|transaction))?[ \t]*;[ \t]*$/gim;

export async function trial(source: SourceContext, tried: Trial, signal: AbortSignal): Promise<TriedTables> {
  const database = await source.writer.database(signal);
  const context = { ...source, database };
  const { catalog } = postgresSource(context);
  const before = await catalog.tables(signal);
  const sizes = await sizesOf(context, signal);
  try {
    await database.simple("trying the migration", inTransaction(tried), signal);
    const after = await catalog.tables(signal);
    const [row] = await database.rows<{ inside: string | null }>("looking", INSIDE, [], signal);
    if (row?.inside !== "on") throw sourceError("MR2001", "retryable", "the connection of the trial was lost");
    return { before, after, sizes };
  } finally {
    // The server rolls back in both cases; this does not wait for it.
    await database.close();
  }
}

/** Another connection does not have it. */
const INSIDE = "select current_setting('millrace.trial', true) as inside";

/**
 * Invariant: nothing of the script is ever committed. The transaction begins in the same message as the script, so it does
 * so on whatever connection the message goes. A function's body can't commit, and the catalogue is read on this
 * connection, which is closed afterwards.
 */
function inTransaction({ script, runMsMax, lockMsMax }: Trial): string {
  const tag = `$trial_${randomBytes(8).toString("hex")}$`;
  const body = `$body_${randomBytes(8).toString("hex")}$`;
  // In a transaction an index can't be built concurrently; the shape is the same.
  const plain = script.replaceAll(OWN_TRANSACTION, "").replaceAll(/\bconcurrently\b/gi, "");
  return `BEGIN;
SET LOCAL lock_timeout = ${lockMsMax};
SET LOCAL statement_timeout = ${runMsMax};
SET LOCAL millrace.trial = 'on';
SET LOCAL search_path = "$user", public;
DO ${tag} BEGIN EXECUTE ${body}${plain}${body}; END ${tag};
SET LOCAL search_path = pg_catalog;`;
}

const SIZED = `from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema')`;
const SIZES_SQL = `select n.nspname as schema, c.relname as table, greatest(c.reltuples, 0)::float8 as rows,
    coalesce((select sum(pg_table_size(t.relid)) from pg_partition_tree(c.oid) t), pg_table_size(c.oid))::float8 as bytes
  ${SIZED} and ($1::int8[] is null or c.oid::int8 = any ($1))`;

async function sizesOf({ database }: SourceContext, signal: AbortSignal): Promise<ReadonlyMap<string, TableSize>> {
  type Row = TableName & TableSize;
  const all = `select c.oid::int8::float8 as oid ${SIZED}`;
  const read = { doing: "reading the tables' sizes", sql: SIZES_SQL, oids: null, all };
  // What has no form in UTF-8 is not captured.
  const rows = await readEach<Row>(database, read, () => [], signal);
  return new Map(rows.map(({ schema, table, rows: count, bytes }) => [tableId(schema, table), { rows: count, bytes }]));
}
