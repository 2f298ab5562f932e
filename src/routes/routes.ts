/** Where a table's rows go in the sinks: under which name, and with which columns that tell them apart there. */
import { createHash } from "node:crypto";
import type { TableName } from "../core/contracts/connector.ts";
import type { Scope } from "../core/model/schema.ts";
import { mostExactFirst, selectedName, wildcardsOf } from "../core/table-selection.ts";

/** What one key of `tables` says of routes; of what is null it says nothing. */
export interface RouteRule {
  /** A `schema.table` glob. */
  readonly pattern: string;
  /** `$1` in the two names is what the pattern's first `*` or `?` stands for. */
  readonly into: TableName | null;
  /** By name: the value, with `$1` alike. */
  readonly add: Scope | null;
}

export interface Route {
  readonly into: TableName;
  readonly added: Scope;
}

/** What `$1` and `$$` in a text are, given the number of wildcards; null: `$` is followed by something else. */
const REFERENCE = /\$(\d|\$)?/g;

/** The highest number behind a `$`; null: a `$` that means nothing. */
export function highestReference(text: string): number | null {
  let highest = 0;
  for (const [, what] of text.matchAll(REFERENCE)) {
    if (what === undefined || what === "0") return null;
    if (what !== "$") highest = Math.max(highest, Number(what));
  }
  return highest;
}

/** `into` and `add` of the most exact glob that has them decide. */
export class Routes {
  readonly #rules: readonly RouteRule[];
  readonly #known = new Map<string, Route | null>();
  /** Distinguishes these routes from others; empty: there are none. */
  readonly text: string;

  constructor(rules: readonly RouteRule[]) {
    this.#rules = rules.filter(({ into, add }) => into !== null || add !== null);
    const said = this.#rules.map(({ pattern, into, add }) => [pattern, into, add]);
    this.text = said.length === 0 ? "" : createHash("sha256").update(JSON.stringify(said)).digest("hex").slice(0, 16);
  }

  /** Null: the table goes out under its own name and as it is. */
  of({ schema, table }: TableName): Route | null {
    if (this.#rules.length === 0) return null;
    const name = selectedName({ schema, table });
    let route = this.#known.get(name);
    if (route === undefined) this.#known.set(name, (route = this.#find({ schema, table }, name)));
    return route;
  }

  /** The table under the name that it has in the sinks. */
  named<T extends TableName>(table: T): T {
    return { ...table, ...this.of(table)?.into };
  }

  /** See `Sink.scope`. */
  scopeOf(table: TableName): Scope | null {
    const added = this.of(table)?.added;
    return added === undefined || Object.keys(added).length === 0 ? null : added;
  }

  #find(own: TableName, name: string): Route | null {
    const fitting = mostExactFirst(this.#rules, name);
    const into = fitting.find((rule) => rule.into !== null);
    const add = fitting.find((rule) => rule.add !== null);
    if (into === undefined && add === undefined) return null;
    const filled = (text: string, { pattern }: RouteRule): string => {
      // What stands for a dot in a schema's name: see `selectedName`.
      const wildcards = wildcardsOf(pattern, name).map((part) => part.replaceAll("\0", "."));
      return text.replaceAll(REFERENCE, (_, what: string) =>
        what === "$" ? "$" : (wildcards[Number(what) - 1] ?? ""),
      );
    };
    return {
      into:
        into === undefined ? own : { schema: filled(into.into!.schema, into), table: filled(into.into!.table, into) },
      added: Object.fromEntries(Object.entries(add?.add ?? {}).map(([column, value]) => [column, filled(value, add!)])),
    };
  }
}
