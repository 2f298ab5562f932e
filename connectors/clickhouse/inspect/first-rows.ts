import type { FirstRowsRequest, TableName, TargetRow } from "../../../src/core/contracts/connector.ts";
import { exactJson } from "../../../src/core/values/exact-json.ts";
import { rowsOfEach, targetRow } from "../../kit/first-rows.ts";
import { Client, type ClientSettings } from "../client.ts";
import { classify } from "../errors.ts";
import { lines } from "./inspect.ts";

/** `fromOf`: a table in the target, as SQL names it. */
export async function firstRows(
  settings: ClientSettings,
  tables: readonly TableName[],
  fromOf: (table: TableName) => string,
  { rowCount }: FirstRowsRequest,
  signal: AbortSignal,
): Promise<readonly (readonly TargetRow[] | null)[]> {
  await using client = await Client.open(settings, signal).catch((error: unknown) => {
    throw classify(error, "connecting", signal);
  });
  const rowsOf = async (table: TableName): Promise<readonly TargetRow[]> => {
    const sql = `SELECT * FROM ${fromOf(table)} LIMIT ${rowCount} FORMAT JSONEachRow`;
    const rows: TargetRow[] = [];
    for await (const line of lines(await client.bytes(sql, signal, { date_time_output_format: "simple" })))
      rows.push(targetRow(exactJson(line)));
    return rows;
  };
  return await rowsOfEach(tables, rowsOf, signal);
}
