/** Debezium's keys about columns, as the rules in `tables`. */
import type { DebeziumConfig } from "./debezium-config.ts";
import { expressionsOf, globsOfParts } from "./list-globs.ts";

interface ColumnRule {
  readonly drop?: true;
  readonly mask?: "hash" | "redact";
}

export interface TableRules {
  readonly key?: readonly string[];
  readonly columns?: Readonly<Record<string, ColumnRule>>;
}

/** By table glob. */
export function rulesFrom(given: DebeziumConfig): Readonly<Record<string, TableRules>> {
  const columns = new Map<string, Record<string, ColumnRule>>();
  const add = (key: string, list: string, rule: ColumnRule) => {
    for (const expression of expressionsOf(list)) {
      const globs = globsOfParts(expression, 3);
      const places = globs?.map(placeOf);
      if (places === undefined || places.includes(null)) {
        given.leave(key, `no glob says ${expression}: add its columns to \`tables\``);
        continue;
      }
      for (const place of places) {
        if (place !== null) columns.set(place.table, { ...columns.get(place.table), [place.column]: rule });
      }
    }
  };
  const dropped = given.take("column.exclude.list", "column.blacklist");
  if (dropped !== null) add("column.exclude.list", dropped, { drop: true });
  for (const [key, list] of given.startingWith("column.mask.")) {
    given.take(key);
    add(withoutSalt(key), list, { mask: key.startsWith("column.mask.hash.") ? "hash" : "redact" });
    if (key.startsWith("column.mask.hash."))
      given.leave(withoutSalt(key), "`mask: hash` is keyed by `maskKey`: its hashes differ from Debezium's");
  }
  const keys = keysFrom(given);
  const patterns = [...new Set([...columns.keys(), ...keys.keys()])];
  const ruleOf = (pattern: string): TableRules => {
    const key = keys.get(pattern);
    const own = columns.get(pattern);
    return { ...(key === undefined ? {} : { key }), ...(own === undefined ? {} : { columns: own }) };
  };
  return Object.fromEntries(patterns.map((pattern) => [pattern, ruleOf(pattern)]));
}

/** `message.key.columns`: table:column,column;table:column. */
function keysFrom(given: DebeziumConfig): ReadonlyMap<string, readonly string[]> {
  const found = new Map<string, readonly string[]>();
  const name = "message.key.columns";
  for (const entry of (given.take(name) ?? "").split(";").filter((text) => text.trim() !== "")) {
    const at = entry.lastIndexOf(":");
    const globs = at < 0 ? null : globsOfParts(entry.slice(0, at).trim(), 2);
    if (globs === null)
      given.leave(name, `no glob says ${entry.slice(0, Math.max(at, 0)).trim()}: add a \`key\` to \`tables\``);
    for (const table of globs ?? []) {
      found.set(
        table,
        entry
          .slice(at + 1)
          .split(",")
          .map((column) => column.trim()),
      );
    }
  }
  return found;
}

function placeOf(glob: string): { readonly table: string; readonly column: string } | null {
  const at = glob.lastIndexOf(".");
  const table = glob.slice(0, at);
  return at < 0 ? null : { table, column: glob.slice(at + 1) };
}

/** The salt is a secret. */
function withoutSalt(key: string): string {
  return key.replace(/(\.with\.salt\.).*$/s, "$1…");
}
