import { z } from "zod";
import type { FirstRowsRequest, TableName, TargetRow } from "../../src/core/contracts/connector.ts";
import { exactJson } from "../../src/core/values/exact-json.ts";
import { rowsOfEach, targetRow } from "../kit/first-rows.ts";
import { type ClientSettings, pathOf, SearchClient, WHOLE_SEARCH } from "./http.ts";

const HITS = z.object({
  hits: z.object({ hits: z.array(z.object({ _source: z.record(z.string(), z.unknown()) })) }),
});

/** `indexOf`: a table's index or alias. A search shows what was written before the last refresh: it makes one. */
export async function firstRows(
  settings: ClientSettings,
  tables: readonly TableName[],
  indexOf: (table: TableName) => string,
  { rowCount }: FirstRowsRequest,
  signal: AbortSignal,
): Promise<readonly (readonly TargetRow[] | null)[]> {
  await using client = await SearchClient.open(settings, signal);
  const rowsOf = async (table: TableName): Promise<readonly TargetRow[]> => {
    const index = indexOf(table);
    await client.refresh(index, undefined, signal);
    const path = `${pathOf(index)}/_search`;
    const request = { method: "POST", path, query: WHOLE_SEARCH, body: { size: rowCount } } as const;
    const { body } = await client.ask(request, "reading the first documents", signal);
    return HITS.parse(exactJson(body.toString("utf8"))).hits.hits.map(({ _source: row }) => targetRow(row));
  };
  return await rowsOfEach(tables, rowsOf, signal);
}
