/** Rules of the configuration, and what they make of a row. */
import * as z from "zod";
import { parse } from "../../src/config/parse.ts";
import { rulesOf, tableDefinition } from "../../src/config/tables.ts";
import { NO_RULES, type Rules } from "../../src/rules/definition.ts";
import type { TableShape } from "../../src/core/contracts/catalog.ts";
import type { Row } from "./database.ts";

/** What becomes of a change of a table's shape. */
export type Policy = "evolve" | "pause" | "ignore";

/**
 * `keys`: filters by the key. `texts`: by a large value, which the log may leave out. `masks`: hides large values. `named`: of
 * the table that is called `t0`.
 */
export type RuleKind = "none" | "keys" | "texts" | "masks" | "named";

interface Ruling {
  /** The tables; left out: all. */
  readonly pattern?: string;
  /** As in millrace.yaml. */
  readonly table: object;
  /** Null: the row is filtered out. */
  readonly seen: (row: Row, table: string) => Row | null;
}

const ALL = "*.*";
const TABLES = z.record(z.string(), tableDefinition);
const MASKED = "[redacted]";
export const NAMED = "t0";
export const OTHER_NAME = "t0r";
const MASKS = { columns: { body: { mask: "redact" } } } as const;

function masked(row: Row): Row {
  return row.map((cell, i) => (i === 2 ? MASKED : cell));
}

const RULINGS: Readonly<Record<RuleKind, Ruling>> = {
  none: { table: {}, seen: (row) => row },
  keys: { table: { where: "id not in (0, 2)" }, seen: (row) => (row[0] === "0" || row[0] === "2" ? null : row) },
  texts: { table: { where: "body like '%1' or body like '%3'" }, seen: (row) => (/[13]$/.test(row[2]!) ? row : null) },
  masks: { table: MASKS, seen: masked },
  // Renamed, it is found nowhere at times.
  named: {
    pattern: `*.${NAMED}`,
    table: { ...MASKS, optional: true },
    seen: (row, table) => (table === NAMED ? masked(row) : row),
  },
};

/** Whether a row has what the rule hides, whatever the table's name is since rows of it were shown: see `named`. */
export function inClear(): (tableId: string, row: Row) => boolean {
  const id = `public.${NAMED}`;
  let isKnown = false;
  return (tableId, row) => {
    isKnown ||= tableId === id;
    return isKnown && tableId.startsWith(id) && /^c\d/.test(row[2] ?? "");
  };
}

/** `table`: its name. */
export function seenUnder(kind: RuleKind, rows: ReadonlyMap<string, Row>, table: string): ReadonlyMap<string, Row> {
  const { seen } = RULINGS[kind];
  return new Map(
    [...rows].flatMap(([key, row]) => {
      const ruled = seen(row, table);
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
  const { pattern = ALL, table } = RULINGS[kind];
  const ofAll = { schemaChange: policy, ...(pattern === ALL ? table : {}) };
  const tables = { [ALL]: ofAll, ...(pattern === ALL ? {} : { [pattern]: table }) };
  const problem = (_code: string, path: readonly string[], message: string): never => {
    throw new Error(`${path.join(".")}: ${message}`);
  };
  const { data } = parse(TABLES, tables);
  return rulesOf(data!, { maskKey: undefined, folder: ".", place: (path) => path.join("."), problem });
}
