/** The first rows of tables in a target: what `millrace up` shows. */
import type { TableName, TargetRow } from "../../src/core/contracts/connector.ts";
import type { QueryResult } from "../../src/core/contracts/sink.ts";

/** Table by table. One that can't be read leaves the others alone. */
export async function rowsOfEach(
  tables: readonly TableName[],
  rowsOf: (table: TableName) => Promise<readonly TargetRow[]>,
  signal: AbortSignal,
): Promise<readonly (readonly TargetRow[] | null)[]> {
  const found: (readonly TargetRow[] | null)[] = [];
  for (const table of tables) {
    try {
      found.push(await rowsOf(table));
    } catch {
      signal.throwIfAborted();
      found.push(null);
    }
  }
  return found;
}

/** Of an object with the row's columns. */
export function targetRow(columns: object): TargetRow {
  return new Map(Object.entries(columns).map(([name, value]) => [name, JSON.stringify(value)]));
}

export function targetRows({ columns, rows }: QueryResult): readonly TargetRow[] {
  return rows.map((row) => new Map(columns.map(({ name }, i) => [name, JSON.stringify(row[i])])));
}
