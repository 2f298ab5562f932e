/** Tables that the catalogue hides: a user without a privilege on a table does not see it in information_schema. */
import type { NamedTable, RefusedTable } from "../../../../src/core/contracts/catalog.ts";
import { findMillraceError, type MillraceError } from "../../../../src/core/errors.ts";
import { quoteTable } from "../../quote.ts";
import type { SourceContext } from "../context.ts";
import { errorNumber } from "../errors.ts";

/**
 * Those of the known tables that are not shown because the user may not read them any more. The server checks the privilege
 * first, so it denies a table also if it was dropped after that; one that it said not to have is not asked for again until
 * it is shown, or the log has rows of it.
 */
export async function hiddenTables(
  context: SourceContext,
  known: readonly NamedTable[],
  shown: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<readonly RefusedTable[]> {
  const { captures, dropped } = context;
  const hidden: NamedTable[] = [];
  for (const table of known) {
    if (shown.has(table.id)) dropped.delete(table.id);
    else if (captures(table.schema, table.table) && !dropped.has(table.id)) {
      const refusal = await refusalOf(context, table, signal);
      if (refusal?.reason === "privilege") hidden.push(table);
      else if (NOT_THERE.has(errorNumber(refusal?.cause) ?? 0)) dropped.add(table.id);
    }
  }
  if (hidden.length === 0) return [];
  const user = await currentUser(context, signal);
  return hidden.map(({ id, schema, table }) => ({
    id,
    reason: "the user may not read it",
    fix: `GRANT SELECT ON ${quoteTable(schema, table)} TO ${user};`,
    byPrivilege: true,
  }));
}

/** Unknown database, no such table. */
const NOT_THERE = new Set([1049, 1146]);

/** The server's answer to a SELECT; null: it lets us read the table, which is just being created or altered. */
async function refusalOf(
  { database }: SourceContext,
  { schema, table }: NamedTable,
  signal: AbortSignal,
): Promise<MillraceError | null> {
  try {
    await database.rows("looking for a table", `SELECT 1 FROM ${quoteTable(schema, table)} LIMIT 0`, signal);
    return null;
  } catch (error) {
    const known = findMillraceError(error);
    if (errorNumber(known?.cause) === undefined) throw error;
    return known!;
  }
}

/** As a statement names it: `'name'@'host'`. */
export async function currentUser({ database }: SourceContext, signal: AbortSignal): Promise<string> {
  const [row] = await database.rows("asking who we are", "SELECT CURRENT_USER()", signal);
  return (row?.[0] ?? "")
    .split("@")
    .map((part) => `'${part}'`)
    .join("@");
}
