import type { FirstRowsRequest, TableName, TargetRow } from "../../../src/core/contracts/connector.ts";
import type { PostgresAddress } from "../../../src/postgres/url.ts";
import { quoteTable } from "../../../src/postgres/quote.ts";
import { rowsOfEach } from "../../kit/first-rows.ts";
import { type TargetName, targetName } from "./tables/names.ts";
import { Frames } from "./wire/frames.ts";
import { Session } from "./wire/session.ts";

/** The server writes the JSON: all digits of its numbers stay. */
function sqlOf({ schema, table }: TargetName, rowCount: number): string {
  const rows = `SELECT pg_catalog.row_number() OVER () AS n, pg_catalog.row_to_json(t) AS row
    FROM (SELECT * FROM ${quoteTable(schema, table)} LIMIT ${rowCount}) AS t`;
  return `SELECT r.n, c.key, c.value FROM (${rows}) AS r, pg_catalog.json_each(r.row) WITH ORDINALITY AS c (key, value, at)
    ORDER BY r.n, c.at`;
}

export async function firstRows(
  { address, schema }: { readonly address: PostgresAddress; readonly schema?: string | undefined },
  tables: readonly TableName[],
  { rowCount }: FirstRowsRequest,
  signal: AbortSignal,
): Promise<readonly (readonly TargetRow[] | null)[]> {
  const session = await Session.open(address, new Frames(), signal);
  try {
    const rowsOf = async (table: TableName): Promise<readonly TargetRow[]> => {
      const { rows } = await session.query(sqlOf(targetName(table, schema), rowCount), signal);
      const cells = Map.groupBy(rows, ([number]) => number);
      return Array.from(cells.values(), (of) => new Map(of.map(([, name = "", text]) => [name ?? "", text ?? "null"])));
    };
    return await rowsOfEach(tables, rowsOf, signal);
  } finally {
    session.close();
  }
}
