/**
 * Postgres 14 and 15 announce a table once in a session, by the name that it has at its first change there, and not again when
 * its schema gets another name. So that name is written into the log: behind the mark, every stream uses it. The changes before
 * the mark come under the old name, and are in what is read of the table after it.
 */
import { tableId } from "../../../../src/core/model/schema.ts";
import type { StreamOptions } from "../../../../src/core/contracts/change-log.ts";
import type { SourceContext } from "../wire/context.ts";
import type { NumberedTable } from "../wire/said-schemas.ts";
import { renewPrefix, writeMark } from "./watermarks.ts";

/** From this version on, the server announces such a table again. */
const ANNOUNCES_SCHEMAS = 160_000;

export function mustSaySchemas(version: number): boolean {
  return version < ANNOUNCES_SCHEMAS;
}

/** Says the schemas of tables, as the catalogue has them. One that is known by that name may have been read before the mark. */
export async function saySchemas(
  context: SourceContext,
  tables: readonly NumberedTable[],
  onUnloggedRows: StreamOptions["onUnloggedRows"],
  signal: AbortSignal,
): Promise<void> {
  // In ASCII: a mark has the database's encoding.
  const content = tables.map(({ oid, schema }) => `${oid} ${Buffer.from(schema).toString("hex")}`).join(", ");
  context.schemas.add(tables, await writeMark(context, renewPrefix(context), content, signal));
  for (const { schema, table } of tables) await onUnloggedRows?.(tableId(schema, table));
}

/** By the oids of tables, what a mark says. */
export function saidSchemas(content: string): ReadonlyMap<number, string> {
  const found = content.matchAll(/(\d+) ([0-9a-f]+)/g);
  return new Map(Array.from(found, ([, oid, schema]) => [Number(oid), Buffer.from(schema!, "hex").toString()]));
}
