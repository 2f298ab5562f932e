/** Rules of the configuration, and what they make of a row. */
import * as z from "zod";
import { parse } from "../../src/config/parse.ts";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { NO_RULES, type Rules } from "../../src/rules/definition.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import type { Row } from "./database.ts";

/** What becomes of a change of a table's shape. */
export type Policy = "evolve" | "pause" | "ignore";

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

/** Rows of a table in the columns that sinks keep of it: one that it has no more is null. */
export function keptIn(
  kept: readonly KeptColumn[],
  shape: TableShape,
  rows: ReadonlyMap<string, Row>,
): Map<string, Row> {
  const ordinals = kept.map((column) => shape.columns.findIndex(({ identity }) => identity === column.identity));
  return new Map([...rows].map(([key, row]) => [key, ordinals.map((at) => row[at] ?? null)]));
}

export type KeptColumn = Pick<TableShape["columns"][number], "identity">;

const made = new Map<string, Rules>();

export function rulesUnder(kind: RuleKind, policy: Policy): Rules {
  const id = `${kind} ${policy}`;
  let rules = made.get(id);
  if (rules === undefined) made.set(id, (rules = rulesOfConfig(kind, policy)));
  return rules;
}

function rulesOfConfig(kind: RuleKind, policy: Policy): Rules {
  if (kind === "none" && policy === "evolve") return NO_RULES;
  const table = { ...RULINGS[kind].table, schemaChange: policy };
  const problem = (_code: string, path: readonly string[], message: string): never => {
    throw new Error(`${path.join(".")}: ${message}`);
  };
  const { data } = parse(TABLES, { "*.*": table });
  return rulesOf(data!, { maskKey: undefined, place: (path) => path.join("."), problem });
}
