/**
 * Temporary tables of the sessions whose statements are in the log. What a session does to one changes no other table, though
 * a captured one may have the same name.
 *
 * Invariant: a table is known as temporary only from its CREATE in the log until any other definition of its session names it,
 * or the server begins another file. A table that is forgotten too early costs a resync; one that is forgotten too late, rows.
 */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { namesIn, type StatementKind, temporaryMade } from "../statements/statements.ts";
import type { Statement } from "./log-events.ts";

/** A log that has more at once is not worth the memory. */
const TABLES_MAX = 10_000;

export class TemporaryTables {
  /** By their names without regard to case, which some servers ignore; as they were made. */
  readonly #known = new Map<string, string>();

  forget(): void {
    this.#known.clear();
  }

  /** Every definition of the log comes here. `session`: unique in the log. */
  defined(session: string, { isLegible, isWhole, schema, sql }: Statement): void {
    const made = temporaryMade(sql, schema);
    if (!isLegible || !isWhole) this.forget();
    else if (made === null) {
      if (this.#known.size > 0)
        for (const name of namesIn(sql, schema)) this.#known.delete(keyOf(session, name).toLowerCase());
    } else if (this.#known.size < TABLES_MAX) {
      const key = keyOf(session, made);
      this.#known.set(key.toLowerCase(), key);
    }
  }

  /** What a statement comes to for all other sessions; the server says that it depends on its own. */
  meaning(session: string, says: StatementKind): StatementKind {
    const has = (name: TableName): boolean => {
      const key = keyOf(session, name);
      return this.#known.get(key.toLowerCase()) === key;
    };
    if (says.kind === "rows") return { ...says, isTemporary: says.target !== null && has(says.target), isOfAll: false };
    if (says.kind !== "truncate") return says;
    // What was made before the log is read may be a temporary table too.
    return has(says.target) ? { kind: "other" } : { kind: "definition", unlogged: [says.target], renames: [] };
  }
}

function keyOf(session: string, { schema, table }: TableName): string {
  return JSON.stringify([session, schema, table]);
}
