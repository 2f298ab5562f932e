/** Row counts as the storage engine's statistics estimate them: nothing is counted. */
import type { NamedTable } from "../../../../src/core/contracts/catalog.ts";
import { tableId } from "../../../../src/core/model/schema.ts";
import { quoteText } from "../../quote.ts";
import type { SourceContext } from "../context.ts";
import type { ServerFacts } from "../server.ts";

const DOING = "reading the statistics of tables";

export async function rowEstimates(
  { database }: Pick<SourceContext, "database">,
  { flavour }: Pick<ServerFacts, "flavour">,
  tables: readonly NamedTable[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const schemas = [...new Set(tables.map(({ schema }) => quoteText(schema)))];
  if (schemas.length === 0) return new Map();
  // MySQL would show the figures of its last look, which may be a day old.
  if (flavour === "mysql") await database.rows(DOING, "SET SESSION information_schema_stats_expiry = 0", signal);
  const sql = `SELECT table_schema, table_name, table_rows FROM information_schema.tables WHERE table_schema IN (${schemas.join(",")})`;
  const rows = await database.rows(DOING, sql, signal);
  const wanted = new Set(tables.map(({ id }) => id));
  return new Map(
    rows.flatMap(([schema, table, count]) => {
      const id = tableId(schema ?? "", table ?? "");
      return wanted.has(id) && count !== null && count !== undefined ? [[id, Number(count)] as const] : [];
    }),
  );
}
