/** What a shape becomes under its rules, as every part after the rules sees it. */
import { createHash, createHmac } from "node:crypto";
import { type Column, keyMarks, type Lineage, type Ruled } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import { type ComputedColumn, definitionOf } from "./computed/computed-columns.ts";
import type { Functions } from "./computed/functions.ts";
import type { Rules } from "./definition.ts";
import { faultOf, type RuleProblem } from "./errors.ts";
import { lineageOf, type MergedRule } from "./merged-rule.ts";
import { asksKeyAlone } from "./rule-fit.ts";
import type { Condition } from "./where/condition.ts";

/** What happens to the rows of one shape. */
export interface RuledShape {
  /** The shape that every part after the rules sees. */
  readonly shape: TableShape;
  /** One for each column of `shape`. */
  readonly cells: readonly CellPlan[];
  /** Those of `cells` that are computed. */
  readonly computed: readonly ComputedColumn[];
  readonly condition: Condition | null;
}

export interface CellPlan {
  /** For the values of the source's column; null: it is computed, or it was dropped, and the sinks keep it. */
  readonly ordinal: number | null;
  readonly computed: ComputedColumn | null;
  readonly column: Column;
  readonly mask: Lineage["mask"];
  /** True if the source has values of another type; they are sent as text. */
  readonly asText: boolean;
}

export const NO_FUNCTIONS: Functions = new Map();

export function ruledShape(
  rules: Rules,
  shape: TableShape,
  rule: MergedRule,
  { cells, computed, condition }: Omit<RuledShape, "shape">,
): RuledShape["shape"] {
  const byKey = condition !== null && asksKeyAlone(condition, shape) ? { filteredByKey: true as const } : {};
  const lineage = lineageOf(rule, shape.columns);
  const hidden = lineage.filter(({ target, mask }) => target === null || mask !== null);
  const own = {
    hidden: hidden.map(({ source, mask }) => [source, mask]),
    where: rule.where?.text,
    key: hashKey(rules, rule),
  };
  const ruled = {
    ...under(rules, shape, rule),
    lineage,
    ...(computed.length === 0 ? {} : { computed: computed.map((one) => one.lineage) }),
    filtered: rule.where !== null,
    ...byKey,
    fault: null,
  };
  return {
    ...sourceShape(shape),
    columns: cells.map(({ column }) => column),
    key: shape.key.map((ordinal) => cells.findIndex((cell) => cell.ordinal === ordinal)),
    fingerprint: digest([shape.fingerprint, ruled.rules]),
    ruled,
    ...(hidden.length > 0 || condition !== null ? { hides: digest([own, shape.hides]).slice(0, 16) } : {}),
  };
}

/** With what the next process has to know, and the shape does not say: no part of its fingerprint. */
export function withBeside(
  plan: RuledShape | null,
  parts: readonly number[],
  unlogged: NonNullable<Ruled["unlogged"]>,
): RuledShape | null {
  const ruled = plan?.shape.ruled;
  if (plan === null || ruled === undefined || parts.length + unlogged.length === 0) return plan;
  const beside = {
    ...(parts.length === 0 ? {} : { parts }),
    ...(unlogged.length === 0 ? {} : { unlogged: unlogged.map(({ name, identity }) => ({ name, identity })) }),
  };
  return { ...plan, shape: { ...plan.shape, ruled: { ...ruled, ...beside } } };
}

/** If a table's rules can't be applied, only its key is shown, and none of its rows. */
export function withheldShape(
  rules: Rules,
  shape: TableShape,
  rule: MergedRule | null,
  problem: RuleProblem,
): RuledShape {
  const fault = faultOf(problem);
  const ruled = { ...under(rules, shape, rule), lineage: [], filtered: true, fault };
  const asItIs = { mask: null, asText: false, computed: null };
  const cells = shape.key.map((ordinal) => ({ ordinal, column: shape.columns[ordinal]!, ...asItIs }));
  return {
    shape: {
      ...sourceShape(shape),
      columns: cells.map(({ column }) => column),
      key: cells.map((_, i) => i),
      fingerprint: digest([shape.fingerprint, ruled.rules, problem.code, problem.message]),
      ruled,
    },
    cells,
    computed: [],
    condition: null,
  };
}

/** What the rows stood under, as it is registered with their version. */
function under(rules: Rules, shape: TableShape, rule: MergedRule | null): Pick<Ruled, "rules" | "source"> {
  return { rules: rulesDigest(rules, rule), source: ofSource(shape) };
}

function ofSource({ columns, key, fingerprint, hides }: TableShape): Ruled["source"] {
  return { columns, key, fingerprint, ...(hides === undefined ? {} : { hides }) };
}

/** Of a table that stands under no rules any more. */
export function underNone(shape: TableShape): Ruled {
  const lineage = shape.columns.map(({ name }) => ({ source: name, target: name, mask: null }));
  return { rules: "", source: ofSource(shape), lineage, filtered: false, fault: null };
}

/** See `Ruled`. */
export function rulesDigest(rules: Rules, rule: MergedRule | null): string {
  const { functions = NO_FUNCTIONS } = rules;
  // Glob by glob over tables: the same list under other globs may decide otherwise.
  const definition = rule?.rules.flatMap(({ columns: named, only }) => {
    const said = named.map(({ pattern, action }) => [pattern, action.hiding, action.rename]);
    return said.length === 0 && only === null ? [] : [{ said, only: only?.patterns ?? null }];
  });
  const computed = rule?.computed.map((one) => definitionOf(one, functions));
  return digest({ definition, where: rule?.where?.text, key: hashKey(rules, rule), computed }).slice(0, 32);
}

/** Tells one `maskKey` from another where hashes are made with it. */
function hashKey({ maskKey }: Rules, rule: MergedRule | null): string {
  const hashes = rule?.rules.some(({ columns }) => columns.some(({ action }) => action.hiding === "hash")) === true;
  return hashes && maskKey !== null ? createHmac("sha256", maskKey).update("millrace rules").digest("hex") : "";
}

export function computedOf(cells: readonly CellPlan[]): readonly ComputedColumn[] {
  return cells.flatMap(({ computed }) => (computed === null ? [] : [computed]));
}

/** The source's shape of a table that an earlier process registered, with or without rules. */
export function sourceShape(table: TableShape): TableShape {
  const { id, schema, table: name, dialect, relation, deferrableKey, ruled } = table;
  const { columns, key, fingerprint, hides } = ruled?.source ?? table;
  const own = { id, schema, table: name, dialect, relation, columns, key, deferrableKey, fingerprint };
  const shape = hides === undefined ? own : { ...own, hides };
  return { ...shape, ...keyMarks(table) };
}

/**
 * A shape that was registered with another key than the configuration chooses now. Invariant: no rule is applied to a shape
 * with the former key, because the rule may hide that key's columns.
 */
export function withKeyOf(live: TableShape, known: TableShape): TableShape {
  const isChosen = live.keyChosen === true || known.keyChosen === true;
  if (!isChosen || live.relation !== known.relation || live.fingerprint === known.fingerprint) return known;
  const key = live.key.map((ordinal) => {
    const { identity } = live.columns[ordinal]!;
    return known.columns.findIndex((column) => column.identity === identity);
  });
  const isSame = key.length === known.key.length && key.every((ordinal, i) => ordinal === known.key[i]);
  const isKeptAlike = live.deferrableKey === known.deferrableKey && live.unenforcedKey === known.unenforcedKey;
  if (key.includes(-1) || (isSame && isKeptAlike)) return known;
  if (JSON.stringify(live.columns) === JSON.stringify(known.columns)) return live;
  // Its columns have changed too: the log will show how.
  const { keyChosen: _chosen, unenforcedKey: _unenforced, ...own } = known;
  const fingerprint = digest([known.fingerprint, key, live.deferrableKey, live.unenforcedKey]);
  return { ...own, key, deferrableKey: live.deferrableKey, fingerprint, ...keyMarks(live) };
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}
