/** Marks in the log. */
import type { SourceContext } from "../context.ts";
import { parseLsn } from "./lsn.ts";

/** For this source alone: other daemons on the same database see each other's messages. */
export function markPrefix(context: SourceContext): string {
  return `millrace/${context.slot}`;
}

/** For the mark after which the shapes of tables are looked up again. */
export function renewPrefix(context: SourceContext): string {
  return `${markPrefix(context)}/renew`;
}

/**
 * Writes a mark as its own transaction and returns its position. Every transaction that committed before the call commits
 * below it. The stream passes it, because the commit (synchronous_commit=local) flushes the log up to it. Before Postgres
 * 17 a message outside of a transaction would not be flushed.
 */
export async function writeMark(
  context: SourceContext,
  prefix: string,
  content: string,
  signal: AbortSignal,
): Promise<bigint> {
  const [row] = await context.database.rows<{ lsn: string }>(
    "writing a mark",
    "select pg_logical_emit_message(true, $1, $2::text)::text as lsn",
    [prefix, content],
    signal,
  );
  return parseLsn(row?.lsn ?? "");
}
