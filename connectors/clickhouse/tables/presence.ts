/**
 * Checks that written tables still are what they were. A dropped, renamed or replaced table has another UUID under its
 * name, or none; one that somebody emptied has no rows, although this sink removes none; one that somebody altered has
 * another time of its definition.
 */
import { lostColumns } from "../../../src/core/targets/following.ts";
import type { Client } from "../client.ts";
import { quoteLiteral, sqlNameOf, type TargetName } from "../names.ts";
import { lookUpTargets } from "./existing.ts";
import type { TableLayout } from "./layout.ts";

interface Facts {
  readonly uuid: string;
  /** When its definition changed last, in whole seconds. "": so lately that it may change again in the same second. */
  readonly defined: string;
  /** Deleted rows count too: this sink removes no row. */
  readonly hasRows: boolean;
  /** Somebody gave it a TTL, so that rows go by themselves. */
  readonly expires: boolean;
}

interface Known {
  readonly layout: TableLayout;
  readonly facts: Facts;
}

/** A table that is no longer what it was. */
export interface Lost {
  readonly tableId: string;
  readonly what: "dropped, renamed or replaced" | "emptied" | "robbed of columns";
}

export class Presence {
  /** By name in SQL. */
  readonly #known = new Map<string, Known>();

  /** What is there now counts as written by this sink. */
  async add(client: Client, layouts: readonly TableLayout[], signal: AbortSignal): Promise<void> {
    if (layouts.length === 0) return;
    const there = await lookUpFacts(
      client,
      layouts.map(({ target }) => target),
      signal,
    );
    for (const layout of layouts) {
      const facts = there.get(layout.sqlName);
      if (facts !== undefined) this.#known.set(layout.sqlName, { layout, facts });
    }
  }

  /** Rows were written there. */
  filled({ sqlName }: TableLayout): void {
    const known = this.#known.get(sqlName);
    if (known !== undefined) this.#known.set(sqlName, { ...known, facts: { ...known.facts, hasRows: true } });
  }

  forget(sqlName: string): void {
    this.#known.delete(sqlName);
  }

  clear(): void {
    this.#known.clear();
  }

  /** Prepared tables that lost what was written to them. */
  async lost(client: Client, signal: AbortSignal): Promise<readonly Lost[]> {
    const all = [...this.#known.values()];
    if (all.length === 0) return [];
    const targets = all.map(({ layout }) => layout.target);
    const there = await lookUpFacts(client, targets, signal);
    const lost: Lost[] = [];
    const altered: TableLayout[] = [];
    for (const { layout, facts: before } of all) {
      const tableId = layout.table.id;
      const now = there.get(layout.sqlName);
      if (now?.uuid !== before.uuid) lost.push({ tableId, what: "dropped, renamed or replaced" });
      else if (before.hasRows && !now.hasRows && !now.expires) lost.push({ tableId, what: "emptied" });
      else {
        if (now.defined === "" || now.defined !== before.defined) altered.push(layout);
        this.#known.set(layout.sqlName, { layout, facts: now });
      }
    }
    return [...lost, ...(await robbed(client, altered, signal))];
  }
}

async function robbed(client: Client, layouts: readonly TableLayout[], signal: AbortSignal): Promise<readonly Lost[]> {
  const there = await lookUpTargets(
    client,
    layouts.map(({ target }) => target),
    signal,
  );
  const isRobbed = ({ sqlName, table }: TableLayout): boolean => {
    const existing = there.get(sqlName);
    return existing !== undefined && lostColumns([...existing.columns.keys()], existing.note, table).length > 0;
  };
  return layouts.filter(isRobbed).map(({ table }) => ({ tableId: table.id, what: "robbed of columns" }));
}

/** By `sqlNameOf`. A query of all tables in these databases is shorter than one of many names. */
async function lookUpFacts(
  client: Client,
  targets: readonly TargetName[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Facts>> {
  const databases = [...new Set(targets.map(({ database }) => quoteLiteral(database)))];
  const rows = await client.rows(
    "SELECT database, name, toString(uuid), if(metadata_modification_time < now() - 1, toString(metadata_modification_time), ''), " +
      "total_rows > 0, position(engine_full, ' TTL ') > 0 FROM system.tables " +
      `WHERE database IN (${databases.join(", ")}) AND engine LIKE '%MergeTree'`,
    signal,
  );
  return new Map(
    rows.map(([database, table, uuid, defined, hasRows, expires]) => [
      sqlNameOf({ database: database ?? "", table: table ?? "" }),
      { uuid: uuid ?? "", defined: defined ?? "", hasRows: hasRows === "1", expires: expires === "1" },
    ]),
  );
}
