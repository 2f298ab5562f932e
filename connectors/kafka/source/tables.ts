import type { CapturedTables, RefusedTable } from "../../../src/core/contracts/catalog.ts";
import { namesOfTable } from "../../../src/core/model/schema.ts";
import { copyRefusal } from "../../kit/online-copies.ts";
import { readTables } from "../log/answers.ts";
import type { TableName } from "../../../src/core/contracts/connector.ts";
import type { Calls } from "./calls.ts";
import type { SourceContext } from "./context.ts";

/** The tables that this daemon takes, of those that the capturing one has now. */
export async function tablesFrom(context: SourceContext, calls: Calls, signal: AbortSignal): Promise<CapturedTables> {
  const { captures, isShared, idle, share, chosenKey } = context;
  const { said } = await calls.ask({ kind: "tables" }, signal);
  const found = readTables(said.tables ?? { tables: [], refused: [], generations: [], columns: [] });
  const names = Map.groupBy(found.tables, ({ schema }) => schema);
  const copies = new Map<string, RefusedTable>();
  for (const table of found.tables) {
    const others = names.get(table.schema)?.map((other) => other.table) ?? [];
    const copy = context.isLiteral(table) ? null : copyRefusal(table, others);
    if (copy !== null) copies.set(table.id, { id: table.id, ...copy, isCopy: true });
  }
  const taken = found.tables.filter((table) => captures(table) && !copies.has(table.id));
  const isElsewhere = (table: TableName): boolean => isShared(table) && !captures(table);
  const rekeyed = taken.filter((table) => chosenKey(table) !== null);
  return {
    ...found,
    tables: taken.filter((table) => chosenKey(table) === null),
    ...(share === null
      ? {}
      : {
          elsewhere: {
            tables: found.tables.filter((table) => isElsewhere(table) && !copies.has(table.id)),
            refused: found.refused.filter(({ id }) => isElsewhere(namesOfTable(id))),
          },
        }),
    idle: idle([...found.tables, ...found.refused.map(({ id }) => namesOfTable(id))]),
    generations: new Map([...found.generations].filter(([id]) => captures(namesOfTable(id)))),
    refused: [
      ...[...found.refused, ...copies.values()].filter(({ id }) => captures(namesOfTable(id))),
      ...rekeyed.map(keyElsewhere),
    ],
  };
}

function keyElsewhere({ id }: CapturedTables["tables"][number]): RefusedTable {
  const reason = "its key is chosen here, and the log has the key that the capturing daemon chose";
  return { id, reason, fix: "move `key` of the table to the capturing daemon's configuration" };
}
