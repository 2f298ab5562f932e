/** Marks in the log. */
import type { SourceContext } from "../context.ts";
import { parseLsn } from "./lsn.ts";

/** Of this source alone: other daemons on the same database see each other's messages. */
export function markPrefix(context: SourceContext): string {
  return `millrace/${context.slot}`;
}

/** Of the mark behind which the shapes of tables are looked at anew. */
export function renewPrefix(context: SourceContext): string {
  return `${markPrefix(context)}/renew`;
}

/**
 * Writes a mark as a transaction of its own and returns its place: every transaction that committed before the call
 * commits below it, and the stream passes it, as the commit (synchronous_commit=local) flushes the log up to it. A
 * message outside of a transaction would not be flushed before Postgres 17.
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
