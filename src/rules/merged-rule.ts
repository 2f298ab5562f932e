/**
 * What all rules that fit a table say of it together: of each column, and of each other thing, the most exact glob that says
 * something of it decides.
 */
import type { ChosenKey, TableName, ZeroDates } from "../core/contracts/connector.ts";
import { DEFAULT_POLICY, type SchemaPolicy } from "../core/model/schema-change.ts";
import { type Column, type Lineage, type Mask, namesOfTable } from "../core/model/schema.ts";
import { byExactness, fits, fitsInAnySpelling, isGlob, mostExactFirst, selectedName } from "../core/table-selection.ts";
import type { ComputedRule } from "./computed/computed-columns.ts";
import type { ColumnRule, KeyRule, Rules, TableRule, WhereRule } from "./definition.ts";
import type { RuleProblem } from "./errors.ts";

/** The rules that fit one table, the most exact one first. */
export interface MergedRule {
  readonly rules: readonly [TableRule, ...TableRule[]];
  readonly where: WhereRule | null;
  readonly key: KeyRule | null;
  /** Of each name the most exact rule's, in the order of the file. */
  readonly computed: readonly ComputedRule[];
  readonly policy: SchemaPolicy;
  /** Position of the most exact rule in the file. */
  readonly place: string;
}

/** What happens to one column, and which rules decided it. */
export interface ColumnRuling {
  readonly mask: Mask | null;
  readonly drop: boolean;
  readonly rename: string | null;
  /** `column` null: the `only` of its rule. */
  readonly hiddenBy: Decider | null;
  readonly renamedBy: Decider | null;
}

/** A rule for columns, and the rule for tables in which it is. */
export interface Decider {
  readonly table: TableRule;
  readonly column: ColumnRule | null;
}

/** Null: no rule fits the table. */
export function mergedRule({ tables }: Rules, name: TableName): MergedRule | null {
  const [first, ...rest] = fitting(tables, name);
  if (first === undefined) return null;
  const rules = [first, ...rest] as const;
  const where = decided(rules, (rule) => rule.where);
  return {
    rules,
    where: where?.expression == null ? null : where,
    key: decided(rules, ({ key }) => key),
    computed: mergedComputed(rules),
    policy: mergedPolicy(rules),
    place: first.place,
  };
}

/** The columns of the least exact rule come first: another rule beside it does not move them. */
function mergedComputed(rules: readonly TableRule[]): readonly ComputedRule[] {
  const byName = new Map(
    rules.toReversed().flatMap(({ computed }) => computed.map((rule) => [rule.name, rule] as const)),
  );
  return [...byName.values()];
}

/** What the rules say of a column, by its name at the source. */
export function columnRuling(rule: { readonly rules: readonly TableRule[] }, column: string): ColumnRuling {
  const own = ownRuling(rule, column);
  const copied = COPIED.exec(column)?.[1];
  if (copied === undefined || own.hiddenBy !== null) return own;
  return { ...columnRuling(rule, copied), rename: own.rename, renamedBy: own.renamedBy };
}

/** Where the values of columns go. */
export function lineageOf(
  rule: { readonly rules: readonly TableRule[] },
  columns: readonly Column[],
): readonly Lineage[] {
  return columns.map(({ name }) => {
    const { mask, drop, rename } = columnRuling(rule, name);
    return { source: name, target: drop ? null : (rename ?? name), mask };
  });
}

/** pgroll changes a column by filling another one, which then gets its name: it is hidden as the column is, unless a rule says more. */
const COPIED = /^_pgroll_new_(.+)$/s;

function ownRuling({ rules }: { readonly rules: readonly TableRule[] }, column: string): ColumnRuling {
  const listed = leftOutBy(rules, column);
  if (listed !== null)
    return { mask: null, drop: true, rename: null, hiddenBy: { table: listed, column: null }, renamedBy: null };
  const saying = deciders(rules, column);
  const hiddenBy = saying.find((one) => one.column.action.hiding !== null) ?? null;
  const hiding = hiddenBy?.column.action.hiding ?? "none";
  // What lifts a glob lifts its names too.
  const named = hiding === "none" && hiddenBy !== null ? saying.slice(0, saying.indexOf(hiddenBy) + 1) : saying;
  const renamedBy = named.find((one) => one.column.action.rename !== null) ?? null;
  const drop = hiding === "drop";
  return {
    mask: hiding === "none" || hiding === "drop" ? null : hiding,
    drop,
    rename: drop ? null : (renamedBy?.column.action.rename ?? null),
    hiddenBy,
    renamedBy,
  };
}

/**
 * The rule whose `only` leaves the column out. A mask says how a column goes out, not that it does: another `only`, or
 * `mask: none` in a more exact rule, lets it out.
 */
function leftOutBy(rules: readonly TableRule[], column: string): TableRule | null {
  for (const rule of rules) {
    if (rule.only !== null) return rule.only.patterns.some((pattern) => fits(pattern, column)) ? null : rule;
    const hiding = mostExactFirst(rule.columns, column).find(({ action }) => action.hiding !== null);
    if (hiding?.action.hiding === "none") return null;
  }
  return null;
}

/** The rules that say something of a column, the most exact one first: by their globs over tables, then over columns. */
function deciders(
  rules: readonly TableRule[],
  name: string,
): readonly { readonly table: TableRule; readonly column: ColumnRule }[] {
  return rules.flatMap((table) => mostExactFirst(table.columns, name).map((column) => ({ table, column })));
}

/** Two rules that say different things of a table, and of which neither is the more exact one. */
export function tie(
  { rules }: MergedRule,
  { schema, table }: TableName,
  columns: readonly string[],
): RuleProblem | null {
  const name = selectedName({ schema, table });
  for (const said of Object.values(SAID)) {
    const [first, ...rest] = rules.filter((rule) => said(rule) !== null);
    const other = rest.find(
      (rule) => byExactness(first!.pattern, rule.pattern, name) === 0 && said(rule) !== said(first!),
    );
    if (other !== undefined) return tied(first!, other, `table ${schema}.${table}`);
  }
  for (const { name: computed } of rules.flatMap((rule) => rule.computed)) {
    const of = rules.filter((rule) => rule.computed.some((one) => one.name === computed));
    const [first, other] = of;
    if (other !== undefined && byExactness(first!.pattern, other.pattern, name) === 0)
      return tied(first!, other, `column ${JSON.stringify(computed)} of table ${schema}.${table}`);
  }
  for (const column of columns) {
    for (const said of SAID_OF_COLUMNS) {
      const [first, ...rest] = deciders(rules, column).filter((one) => said(one.column) !== null);
      const other = rest.find(
        (one) =>
          byExactness(first!.table.pattern, one.table.pattern, name) === 0 &&
          byExactness(first!.column.pattern, one.column.pattern, column) === 0 &&
          said(one.column) !== said(first!.column),
      );
      if (other !== undefined)
        return tied(first!.column, other.column, `column ${JSON.stringify(column)} of table ${schema}.${table}`);
    }
  }
  return null;
}

/**
 * A table or a column that would be hidden if its letters were capitals, small or composed otherwise, and of which no rule
 * speaks: a mask that is missed by the spelling of a letter is missed.
 */
export function spelledOtherwise(
  { tables }: Rules,
  { schema, table }: TableName,
  columns: readonly string[],
): RuleProblem | null {
  const name = selectedName({ schema, table });
  const rules = fitting(tables, { schema, table });
  const other = tables.find(({ pattern }) => !fits(pattern, name) && fitsInAnySpelling(pattern, name));
  if (other !== undefined && hidesAny(other) && !rules.some(({ pattern }) => pattern === name))
    return inOtherCase(other, `table ${schema}.${table}`);
  for (const column of columns) {
    const rule = rules
      .flatMap((each) => each.columns)
      .find(({ pattern, action }) => hidesValues(action) && fitsInAnySpelling(pattern, column));
    if (rule !== undefined && columnRuling({ rules }, column).hiddenBy === null)
      return inOtherCase(rule, `column ${JSON.stringify(column)} of table ${schema}.${table}`);
  }
  return null;
}

/** Rows, or values of columns. */
export function hidesAny({ columns, where, only }: TableRule): boolean {
  return where?.expression != null || only !== null || columns.some(({ action }) => hidesValues(action));
}

function hidesValues({ hiding }: ColumnRule["action"]): boolean {
  return hiding !== null && hiding !== "none";
}

function inOtherCase({ pattern, place }: TableRule | ColumnRule, what: string): RuleProblem {
  const message = `${what} differs from ${JSON.stringify(pattern)} by the case or the form of letters alone, and no rule names it`;
  return { code: "MR1034", place, message };
}

/** Each thing that rules say of a table as a whole, by its name in the configuration. */
const SAID: Readonly<Record<string, (rule: TableRule) => string | number | null>> = {
  where: ({ where }) => where?.text ?? null,
  key: ({ key }) => (key === null ? null : JSON.stringify(key.columns)),
  "columns.only": ({ only }) => (only === null ? null : JSON.stringify(only.patterns)),
  zeroDates: ({ zeroDates }) => zeroDates,
  schemaChange: ({ policy }) => policy.schemaChange,
  compatibility: ({ policy }) => policy.compatibility,
  droppedColumns: ({ policy }) => policy.droppedColumns,
  "reconcile.maxDrift": ({ driftMax }) => driftMax,
};

export function saysNothing(rule: TableRule): boolean {
  const { add, columns, computed, into } = rule;
  const saysOfTable = Object.values(SAID).some((said) => said(rule) !== null);
  return !saysOfTable && columns.length + computed.length === 0 && add === null && into === null;
}

/** By the option's name, the glob that decides it for the table. */
export function optionDeciders({ rules }: MergedRule): Readonly<Record<string, string>> {
  const deciding = Object.entries(SAID).map(([name, said]) => [
    name,
    rules.find((rule) => said(rule) !== null)?.pattern,
  ]);
  return Object.fromEntries(deciding.filter(([, pattern]) => pattern !== undefined));
}

const SAID_OF_COLUMNS: readonly ((rule: ColumnRule) => string | null)[] = [
  ({ action }) => action.hiding,
  ({ action }) => action.rename,
];

function tied(first: TableRule | ColumnRule, second: TableRule | ColumnRule, what: string): RuleProblem {
  const patterns = `${JSON.stringify(first.pattern)} and ${JSON.stringify(second.pattern)}`;
  const message = `${patterns} say different things of ${what}, and neither is more exact; the other one is at ${second.place}`;
  const fix = "Make one of them more exact, or name the table or column itself.";
  return { code: "MR1023", place: first.place, message, fix };
}

function fitting(tables: readonly TableRule[], name: TableName): readonly TableRule[] {
  return mostExactFirst(tables, selectedName(name));
}

function decided<T>(rules: readonly TableRule[], said: (rule: TableRule) => T | null): T | null {
  for (const rule of rules) {
    const value = said(rule);
    if (value !== null) return value;
  }
  return null;
}

function mergedPolicy(rules: readonly TableRule[]): SchemaPolicy {
  const part = <Part extends keyof TableRule["policy"]>(name: Part): SchemaPolicy[Part] =>
    decided(rules, ({ policy }) => policy[name]) ?? DEFAULT_POLICY[name];
  const schemaChange = part("schemaChange");
  // Who names a table has approved it.
  const isNamed = rules.some(({ pattern }) => !isGlob(pattern));
  return {
    schemaChange,
    newTables: schemaChange === "pause" && !isNamed ? "wait" : "take",
    compatibility: part("compatibility"),
    droppedColumns: part("droppedColumns"),
  };
}

/** How changes of a table's shape are treated. */
export function policyOf({ tables }: Rules, name: TableName): SchemaPolicy {
  return mergedPolicy(fitting(tables, name));
}

/** The key that the configuration chooses for a table in place of its own. */
export function chosenKeyOf({ tables }: Rules, name: TableName): ChosenKey | null {
  const rule = fitting(tables, name).find(({ key }) => key !== null);
  return rule === undefined ? null : { columns: rule.key!.columns, isForMany: isGlob(rule.pattern) };
}

export function zeroDatesOf({ tables }: Rules, name: TableName): ZeroDates {
  return decided(fitting(tables, name), (rule) => rule.zeroDates) ?? "null";
}

/** By table id. */
export function driftMaxOf({ tables }: Rules, id: string): number {
  return decided(fitting(tables, namesOfTable(id)), (rule) => rule.driftMax) ?? 0;
}

/** What the rules say of each table, merged once. */
export class MergedRules {
  readonly #rules: Rules;
  readonly #byTable = new Map<string, MergedRule | null>();

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  /** Null: nothing. */
  of({ id, schema, table }: TableName & { readonly id: string }): MergedRule | null {
    let rule = this.#byTable.get(id);
    if (rule === undefined) {
      rule = mergedRule(this.#rules, { schema, table });
      this.#byTable.set(id, rule);
    }
    return rule;
  }
}
