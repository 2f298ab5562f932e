import type { CapturedTables, RefusedTable } from "../../../src/core/contracts/catalog.ts";
import { namesOfTable } from "../../../src/core/model/schema.ts";
import { readTables } from "../log/answers.ts";
import type { Calls } from "./calls.ts";
import type { SourceContext } from "./context.ts";

/** The tables that this daemon takes, of those that the capturing one has now. */
export async function tablesFrom(
  { captures, isShared, share, chosenKey }: SourceContext,
  calls: Calls,
  signal: AbortSignal,
): Promise<CapturedTables> {
  const { said } = await calls.ask({ kind: "tables" }, signal);
  const found = readTables(said.tables ?? { tables: [], refused: [], generations: [], columns: [] });
  const taken = found.tables.filter((table) => captures(table));
  const rekeyed = taken.filter((table) => chosenKey(table) !== null);
  return {
    ...found,
    tables: taken.filter((table) => chosenKey(table) === null),
    ...(share === null ? {} : { elsewhere: found.tables.filter((table) => isShared(table) && !captures(table)) }),
    generations: new Map([...found.generations].filter(([id]) => captures(namesOfTable(id)))),
    refused: [...found.refused.filter(({ id }) => captures(namesOfTable(id))), ...rekeyed.map(keyElsewhere)],
  };
}

function keyElsewhere({ id }: CapturedTables["tables"][number]): RefusedTable {
  const reason = "its key is chosen here, and the log has the key that the capturing daemon chose";
  return { id, reason, fix: "move `key` of the table to the capturing daemon's configuration" };
}
