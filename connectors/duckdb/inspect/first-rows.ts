import type { FirstRowsRequest, TargetRow } from "../../../src/core/contracts/connector.ts";
import { targetRow } from "../../kit/first-rows.ts";
import { firstRowsOfAllSql } from "../names.ts";

/** `sqls`: of each table. One that is not there leaves all unread. */
export async function firstRows(
  sqls: readonly string[],
  { rowCount, query }: FirstRowsRequest,
): Promise<readonly (readonly TargetRow[])[]> {
  const { rows } = await query(firstRowsOfAllSql(sqls, rowCount));
  const [lists = []] = rows;
  return sqls.map((_, i) => {
    const list: unknown = lists[i];
    return Array.isArray(list) ? list.map((row) => targetRow(Object(row))) : [];
  });
}
