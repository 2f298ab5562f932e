/** Rules of the configuration, and what they make of a row. */
import * as z from "zod";
import { parse } from "../../src/config/parse.ts";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { NO_RULES, type Rules } from "../../src/rules/definition.ts";
import type { Row } from "./database.ts";

/** `keys`: filters by the key. `texts`: by a large value, which the log may leave out. `masks`: hides large values. */
export type RuleKind = "none" | "keys" | "texts" | "masks";

interface Ruling {
  /** As in millrace.yaml. */
  readonly table: object;
  /** Null: the row is filtered out. */
  readonly seen: (row: Row) => Row | null;
}

const TABLES = z.record(z.string(), tableDefinition);
const MASKED = "[redacted]";

const RULINGS: Readonly<Record<RuleKind, Ruling>> = {
  none: { table: {}, seen: (row) => row },
  keys: { table: { where: "id not in (0, 2)" }, seen: (row) => (row[0] === "0" || row[0] === "2" ? null : row) },
  texts: { table: { where: "body like '%1' or body like '%3'" }, seen: (row) => (/[13]$/.test(row[2]!) ? row : null) },
  masks: {
    table: { columns: { body: { mask: "redact" } } },
    seen: (row) => row.map((cell, i) => (i === 2 ? MASKED : cell)),
  },
};

export function seenUnder(kind: RuleKind, rows: ReadonlyMap<string, Row>): ReadonlyMap<string, Row> {
  const { seen } = RULINGS[kind];
  return new Map(
    [...rows].flatMap(([key, row]) => {
      const ruled = seen(row);
      return ruled === null ? [] : [[key, ruled] as const];
    }),
  );
}

const made = new Map<string, Rules>();

/** `approves`: each change of a table's shape waits for an operator. */
export function rulesUnder(kind: RuleKind, approves: boolean): Rules {
  const id = `${kind} ${approves}`;
  let rules = made.get(id);
  if (rules === undefined) made.set(id, (rules = rulesOfConfig(kind, approves)));
  return rules;
}

function rulesOfConfig(kind: RuleKind, approves: boolean): Rules {
  if (kind === "none" && !approves) return NO_RULES;
  const table = { ...RULINGS[kind].table, ...(approves ? { schemaChange: "pause" } : {}) };
  const problem = (_code: string, path: readonly string[], message: string): never => {
    throw new Error(`${path.join(".")}: ${message}`);
  };
  const { data } = parse(TABLES, { "*.*": table });
  return rulesOf(data!, { maskKey: undefined, place: (path) => path.join("."), problem });
}
