/** How the rules change each captured table's columns: `status --tables`. */
import Table from "cli-table3";
import type { Config } from "../../config/config.ts";
import type { Lineage, TableVersion } from "../../core/model/schema.ts";
import { openState } from "../../state/open.ts";

export interface TableLineage {
  readonly table: string;
  readonly columns: readonly Lineage[];
  /** True if a `where` leaves rows out. */
  readonly filtered: boolean;
}

/** From the state store: the newest registered version of each table. */
export async function storedLineage({ name, state }: Config): Promise<readonly TableLineage[]> {
  const store = await openState(state, { name, readOnly: true });
  try {
    const tables = await store.schemas.list();
    return tables.map(lineageOf).toSorted((a, b) => (a.table < b.table ? -1 : 1));
  } finally {
    await store.close();
  }
}

function lineageOf({ id, columns, ruled }: TableVersion): TableLineage {
  const asItIs = columns.map(({ name }): Lineage => ({ source: name, target: name, mask: null }));
  return { table: id, columns: ruled?.lineage ?? asItIs, filtered: ruled?.filtered ?? false };
}

export function lineageText(tables: readonly TableLineage[]): string {
  const drawn = new Table({
    head: ["table", "source column", "target column", "mask"],
    style: { head: [], border: [], compact: true },
  });
  for (const { table, columns, filtered } of tables) {
    columns.forEach(({ source, target, mask }, i) => {
      const name = i === 0 ? `${table}${filtered ? " (filtered)" : ""}` : "";
      drawn.push([name, source, target ?? "(dropped)", mask ?? ""]);
    });
  }
  return drawn.toString();
}
