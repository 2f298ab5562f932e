/**
 * Checks that written tables still are what they were. A dropped, renamed or replaced table has another UUID under its
 * name, or none; one that somebody emptied has no rows, although this sink removes none; one that somebody altered has
 * another time of its definition. Another daemon that takes a table over alters it, because it writes its name there.
 */
import { lostColumns, successorOf } from "../../../src/core/targets/following.ts";
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
export type Lost =
  | { readonly layout: TableLayout; readonly what: "dropped, renamed or replaced" | "emptied" | "robbed of columns" }
  | { readonly layout: TableLayout; readonly what: "taken over"; readonly successor: string };

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

  /** Prepared tables that lost what was written to them, or that another daemon writes now. */
  async lost(client: Client, signal: AbortSignal): Promise<readonly Lost[]> {
    const all = [...this.#known.values()];
    if (all.length === 0) return [];
    const targets = all.map(({ layout }) => layout.target);
    const there = await lookUpFacts(client, targets, signal);
    const lost: Lost[] = [];
    const suspects: TableLayout[] = [];
    for (const { layout, facts: before } of all) {
      const now = there.get(layout.sqlName);
      if (now?.uuid !== before.uuid) lost.push({ layout, what: "dropped, renamed or replaced" });
      else if (before.hasRows && !now.hasRows && !now.expires) lost.push({ layout, what: "emptied" });
      else if (now.defined === "" || now.defined !== before.defined) suspects.push(layout);
    }
    lost.push(...(await altered(client, suspects, signal)));
    const names = new Set(lost.map(({ layout }) => layout.sqlName));
    for (const { layout } of all) {
      const facts = there.get(layout.sqlName);
      if (facts !== undefined && !names.has(layout.sqlName)) this.#known.set(layout.sqlName, { layout, facts });
    }
    return lost;
  }
}

async function altered(client: Client, layouts: readonly TableLayout[], signal: AbortSignal): Promise<readonly Lost[]> {
  const there = await lookUpTargets(
    client,
    layouts.map(({ target }) => target),
    signal,
  );
  return layouts.flatMap((layout): Lost[] => {
    const existing = there.get(layout.sqlName);
    if (existing === undefined) return [];
    const successor = successorOf(layout.owner, existing.note);
    if (successor !== null) return [{ layout, what: "taken over", successor }];
    const isRobbed = lostColumns([...existing.columns.keys()], existing.note, layout.table).length > 0;
    return isRobbed ? [{ layout, what: "robbed of columns" }] : [];
  });
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
