import * as z from "zod";
import { isGlob } from "../core/table-selection.ts";
import type { ColumnAction, ColumnRule, Rules, TableRule } from "../rules/definition.ts";
import { type Expression, parseWhere, WhereError } from "../rules/where/syntax.ts";
import { refusing } from "../core/idle-keys.ts";
import { duration } from "../core/values/quantity-keys.ts";
import type { ComputedRule } from "../rules/computed/computed-columns.ts";
import { BUDGET_MS, FunctionFault, functionName } from "../rules/computed/functions.ts";
import { declaredType, TYPE_NAMES } from "../rules/computed/results.ts";
import { highestReference } from "../routes/routes.ts";
import type { Problem } from "./errors.ts";

/** The keys of `tables`: per-table rules. */

const RESERVED = /^(?!_millrace_)/;
export const RULE_GLOB = /^[^.!]+\..+$/s;

const COMPUTED_KEYS = ["type", "from", "value", "budget"] as const;
const MISSING = {
  type: `expected the column's type: ${TYPE_NAMES.join(", ")}`,
  from: "expected a list of columns that the function gets, such as [first, last]",
  value: "expected a function, such as ./rules.ts#fullName",
};

const columnDefinition = z
  .strictObject({
    mask: z
      .enum(["hash", "redact", "partial", "null", "none"])
      .nullable()
      .optional()
      .describe(
        "hash: keyed and stable, needs maskKey; redact: a fixed text; partial: the last characters only; null: null; none: as it is, where a less exact glob says otherwise.",
      ),
    drop: z
      .literal(true, { error: "expected true; `mask: none` shows a column that a less exact glob drops" })
      .optional()
      .describe("Leaves the column out."),
    rename: z
      .string()
      .min(1)
      .regex(RESERVED, { error: "names that begin with _millrace_ are Millrace's own" })
      .optional()
      .describe("The column's name in the sinks."),
    optional: z.boolean().optional().describe("True: there may be no such column yet. Otherwise that is an error."),
    type: z
      .string()
      .optional()
      .describe(
        `A column that the source does not have: the type of what its function returns. ${TYPE_NAMES.join(", ")}; decimal(12,2); text[].`,
      ),
    from: z
      .array(
        z
          .string()
          .min(1)
          .regex(/^(?!__proto__$)/, { error: "a function can't get a column of this name" }),
        {
          error: "expected a list of columns, such as [first, last]",
        },
      )
      .min(1, { error: "expected at least one column" })
      .refine((names) => new Set(names).size === names.length, { error: "a column is listed twice" })
      .optional()
      .describe("Of a computed column: the columns that its function gets, by their names at the source."),
    value: z
      .string()
      .optional()
      .describe(
        "Of a computed column: its function, as a file and an export of it: ./rules.ts#fullName. `millrace explain MR1035` says more.",
      ),
    budget: duration(1, 60_000)
      .optional()
      .describe(
        "Of a computed column: how long a call may take on average before `status` names the function. Default: 1ms.",
      ),
  })
  .refine((rule) => Object.keys(rule).some((key) => key !== "optional"), {
    error: "expected mask, drop or rename; or type, from and value of a computed column",
  })
  .superRefine((rule, context) => {
    const own = COMPUTED_KEYS.filter((key) => rule[key] !== undefined);
    if (own.length === 0) return;
    const other = (["mask", "drop", "rename", "optional"] as const).find((key) => rule[key] !== undefined);
    if (other !== undefined)
      context.addIssue({
        code: "custom",
        path: [other],
        message: "a computed column has none: leave it out, or name the source's column",
      });
    for (const key of ["type", "from", "value"] as const)
      if (rule[key] === undefined) context.addIssue({ code: "custom", path: [key], message: MISSING[key] });
  })
  .refine(({ mask, drop, rename }) => drop !== true || (mask === undefined && rename === undefined), {
    error: "a column that is dropped has no mask and no other name",
  });

export const tableDefinition = z
  .strictObject({
    optional: z.boolean().optional().describe("True: there may be no such table yet. Otherwise that is an error."),
    columns: z
      .object({
        only: z
          .union([z.array(z.string().min(1)).min(1), columnDefinition], {
            error: "expected a list of columns, such as [id, note]",
          })
          .optional()
          .describe("An allow-list: columns (or globs) that it does not name are left out, those that come later too."),
      })
      .catchall(columnDefinition)
      .refine((columns) => !Object.hasOwn(columns, ""), { error: "a column has a name" })
      .prefault({})
      .describe("Masked, dropped and renamed columns; keys are names or globs, the most exact one decides."),
    where: z
      .string()
      .min(1)
      .optional()
      .describe(
        "Rows that do not match are left out; `true`: all rows match. `millrace explain MR1020` has the language.",
      ),
    key: z
      .array(z.string().min(1), { error: "expected a list of columns, such as [id]" })
      .min(1, { error: "expected at least one column; leave the key out to take the table's own" })
      .refine((names) => new Set(names).size === names.length, { error: "a column is listed twice" })
      .optional()
      .describe(
        "Columns that tell rows apart, in place of the key taken from the source. `millrace explain MR1026` says which columns will do.",
      ),
    into: z
      .string()
      .regex(/^[^.]+\.[^.]+$/s, { error: "expected schema.table, such as shared.orders" })
      .optional()
      .describe("The table's name in the sinks, as schema.table; `$1` is what the key's first `*` or `?` stands for."),
    add: z
      .record(
        z.string().min(1).regex(RESERVED, { error: "names that begin with _millrace_ are Millrace's own" }),
        z.string({ error: 'expected a text, such as "$1"' }),
      )
      .refine((columns) => Object.keys(columns).length > 0, { error: "expected a column, such as tenant: $1" })
      .optional()
      .describe(
        "Columns of text that the table has in the sinks alone, each with its value, `$1` as in `into`; its key begins with them. So tables with different values share one target.",
      ),
    zeroDates: z
      .enum(["null", "epoch", "text"])
      .nullable()
      .optional()
      .describe(
        "MySQL and MariaDB: what dates that do not exist (0000-00-00) become. null (default), counted in `status`; epoch: 1970-01-01; text: as the server prints them, and the column is text.",
      ),
    schemaChange: z
      .enum(["evolve", "pause", "ignore"])
      .optional()
      .describe(
        "evolve (default): the sinks follow the table's shape; pause: the table waits for `schema approve`, and so does a new table that only a glob fits; ignore: the sinks keep the shape that they have. `millrace explain MR1303` says more.",
      ),
    compatibility: z
      .enum(["backward", "forward", "full", "none"])
      .optional()
      .describe("Which changes of shape may evolve on their own; others wait for `schema approve`. Default: none."),
    droppedColumns: z
      .enum(["keep", "drop"])
      .optional()
      .describe(
        "What a warehouse does with a column that was dropped: keep it, null from then on (default), or drop it.",
      ),
    reconcile: z
      .strictObject({
        maxDrift: z
          .int({ error: "expected a number of rows" })
          .min(0)
          .optional()
          .describe(
            "How many rows of a sink may differ before `reconcile` exits with 3, and `status` and `notify` tell it. Default: 0.",
          ),
      })
      .prefault({})
      .describe("How comparisons treat the table."),
  })
  .superRefine(
    refusing(function* ({ schemaChange, compatibility }) {
      if (compatibility === undefined || compatibility === "none") return;
      if (schemaChange === "pause")
        yield ["compatibility", "has no use with `schemaChange: pause`: every change waits"];
    }),
  );

type TablesInput = Readonly<Record<string, z.output<typeof tableDefinition>>>;

interface RuleSurroundings {
  readonly maskKey: string | undefined;
  /** Of the configuration's file: paths are relative to it. */
  readonly folder: string;
  /** Formats a key's path for the start of a message. */
  readonly place: (path: readonly string[]) => string;
  readonly problem: (code: Problem["code"], path: readonly string[], message: string) => void;
}

export function rulesOf(tables: TablesInput, surroundings: RuleSurroundings): Rules {
  const { maskKey, problem } = surroundings;
  const rules = Object.entries(tables).map(([pattern, table]) => tableRule(pattern, table, surroundings));
  const hashing = rules.flatMap(({ columns }) => columns).find(({ action }) => action.hiding === "hash");
  if (hashing !== undefined && maskKey === undefined)
    problem("MR1005", hashing.path, "a hash needs maskKey at the top of the config");
  return { tables: rules, selections: [], maskKey: maskKey ?? null };
}

function tableRule(
  pattern: string,
  {
    optional,
    columns,
    where,
    key,
    zeroDates,
    schemaChange,
    compatibility,
    droppedColumns,
    reconcile,
    into,
    add,
  }: TablesInput[string],
  surroundings: RuleSurroundings,
): TableRule & { readonly columns: readonly (ColumnRule & { readonly path: readonly string[] })[] } {
  const { place, problem } = surroundings;
  const path = ["tables", pattern];
  const only = Array.isArray(columns.only) ? columns.only : null;
  const rules = Object.entries(columns).flatMap(([name, column]) => {
    const own = [...path, "columns", name];
    if (column === undefined || Array.isArray(column) || isComputed(column)) return [];
    return {
      pattern: name,
      isOptional: column.optional === true,
      action: actionOf(column),
      place: place(own),
      path: own,
    };
  });
  const computed = Object.entries(columns).flatMap(([name, column]) => {
    if (column === undefined || Array.isArray(column) || !isComputed(column)) return [];
    return computedRule(name, column, [...path, "columns", name], surroundings) ?? [];
  });
  const wherePath = [...path, "where"];
  let condition: TableRule["where"] = null;
  try {
    if (where !== undefined) condition = { text: where, expression: conditionOf(where), place: place(wherePath) };
  } catch (error) {
    if (!(error instanceof WhereError)) throw error;
    problem("MR1020", wherePath, `at character ${error.at + 1}: ${error.message}`);
  }
  const wildcardCount = pattern.match(/[*?]/g)?.length ?? 0;
  const filled: readonly (readonly [path: readonly string[], text: string])[] = [
    ...(into === undefined ? [] : [[[...path, "into"], into] as const]),
    ...Object.entries(add ?? {}).map(([column, text]) => [[...path, "add", column], text] as const),
  ];
  for (const [at, text] of filled) {
    const highest = highestReference(text);
    if (highest === null) problem("MR1005", at, "behind $ expected the number of a wildcard, or $$ for a $ itself");
    else if (highest > wildcardCount)
      problem("MR1005", at, `$${highest}: the table's key has ${wildcardCount} of * and ?`);
  }
  return {
    pattern,
    isOptional: optional === true,
    columns: rules,
    computed,
    only: only === null ? null : { patterns: only, place: place([...path, "columns", "only"]) },
    where: condition,
    key: key === undefined ? null : { columns: key, place: place([...path, "key"]) },
    // YAML's null means the choice named null.
    zeroDates: zeroDates === null ? "null" : (zeroDates ?? null),
    policy: {
      schemaChange: schemaChange ?? null,
      compatibility: compatibility ?? null,
      droppedColumns: droppedColumns ?? null,
    },
    driftMax: reconcile.maxDrift ?? null,
    into:
      into === undefined
        ? null
        : { schema: into.slice(0, into.indexOf(".")), table: into.slice(into.indexOf(".") + 1) },
    add: add ?? null,
    place: place(path),
  };
}

type ColumnInput = z.output<typeof columnDefinition>;

function isComputed(column: ColumnInput): boolean {
  return COMPUTED_KEYS.some((key) => column[key] !== undefined);
}

/** Null: something is wrong with it. */
function computedRule(
  name: string,
  { type = "", from = [], value = "", budget = BUDGET_MS }: ColumnInput,
  path: readonly string[],
  { place, problem, folder }: RuleSurroundings,
): ComputedRule | null {
  if (isGlob(name) || !RESERVED.test(name)) {
    const message = isGlob(name)
      ? "a computed column has a name of its own"
      : "names that begin with _millrace_ are Millrace's own";
    problem("MR1005", path, message);
    return null;
  }
  const declared = declaredType(type);
  if (typeof declared === "string") problem("MR1005", [...path, "type"], declared);
  try {
    const named = functionName(value, folder);
    if (typeof declared === "string") return null;
    return { name, type: declared, from, function: named, budgetMs: budget, place: place([...path, "value"]) };
  } catch (error) {
    if (!(error instanceof FunctionFault)) throw error;
    problem("MR1005", [...path, "value"], `${error.message}; ${error.fix}`);
    return null;
  }
}

/** `true` lifts the condition of a less exact glob. */
function conditionOf(where: string): Expression | null {
  return /^\s*true\s*$/i.test(where) ? null : parseWhere(where);
}

/** YAML's null means the mask named null. */
function actionOf({ mask, drop, rename }: z.output<typeof columnDefinition>): ColumnAction {
  const given = mask === null ? "null" : mask;
  return { hiding: drop === true ? "drop" : (given ?? null), rename: rename ?? null };
}
