/** Applies the rules to the shapes of tables: what a table becomes, and why a rule does not fit. */
import { createHmac } from "node:crypto";
import type { Position } from "../core/model/position.ts";
import { type Column, type Lineage, namesOfTable, type Origins, type Ruled, whyLeftOut } from "../core/model/schema.ts";
import type { CapturedTables, RefusedTable, TableShape } from "../core/contracts/catalog.ts";
import type { Rename } from "../core/contracts/change-log.ts";
import type { TableName } from "../core/contracts/connector.ts";
import type { SlowFunction } from "../core/contracts/log-admin.ts";
import { fits, isGlob } from "../core/table-selection.ts";
import type { ColumnRule, Rules, TableRule } from "./definition.ts";
import { faultOf, otherName, type RuleProblem } from "./errors.ts";
import {
  type Former,
  type FormerRules,
  isKnownByName,
  isLost,
  noMemory,
  ordinalOf,
  type RuleMemory,
} from "./former-rules.ts";
import { maskedColumn } from "./masks.ts";
import { ComputedColumn, computedColumn, type ComputedRule, definitionOf } from "./computed/computed-columns.ts";
import type { Functions } from "./computed/functions.ts";
import { type ColumnRuling, columnRuling, mergedRule, type MergedRule, tie, spelledOtherwise } from "./merged-rule.ts";
import { isBefore, kept, namedAsKept, type Pin } from "./pins.ts";
import {
  boundCondition,
  computedInputs,
  hiddenKey,
  hiding,
  isLifted,
  isNothing,
  keyUntaken,
  sameName,
  shownByComputing,
} from "./rule-fit.ts";
import { digest, sourceShape, withKeyOf } from "./source-shape.ts";
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

interface Planned {
  readonly key: string;
  /** What the table stood under afterwards. */
  readonly former: Former | undefined;
  readonly plan: RuledShape | null;
}

const NO_NAMES: ReadonlyMap<string, number> = new Map();
const NO_FUNCTIONS: Functions = new Map();
const NO_HIDDEN: ReadonlyMap<string, string> = new Map();

/** All that a rule names or matches of a table's columns. */
function namedColumns(rule: TableRule | undefined): readonly Pick<ColumnRule, "pattern" | "isOptional" | "place">[] {
  const { columns = [], only = null } = rule ?? {};
  const listed = only?.patterns.map((pattern) => ({ pattern, isOptional: false, place: only.place })) ?? [];
  return [...columns, ...listed];
}

export class RuleBook {
  readonly #rules: Rules;
  readonly #ruleOf = new Map<string, MergedRule | null>();
  readonly #plans = new Map<string, Planned>();
  /** By table, the columns that the source had at the start, by name. */
  readonly #names = new Map<string, ReadonlyMap<string, number>>();
  /** Tables whose changes of shape are ignored, from the moment when they were first known. */
  readonly #pins: Map<string, Pin>;
  readonly #former: FormerRules;
  /** Tables as the catalogue had them at the last look. */
  readonly #present = new Map<string, TableShape>();
  readonly #isSelected: (table: TableName) => boolean;
  /** As earlier processes registered them. */
  readonly #versions: RuleMemory["versions"];

  /** `isSelected`: whether `source.tables` names the table without a wildcard. */
  constructor(
    rules: Rules,
    { pins, former, versions }: Omit<RuleMemory, "keep"> = noMemory(),
    isSelected: (table: TableName) => boolean = () => false,
  ) {
    this.#rules = rules;
    this.#pins = new Map(pins);
    this.#former = former;
    this.#versions = versions;
    this.#isSelected = isSelected;
  }

  /**
   * What is wrong with the rules, given all captured tables as they are now. From here on, hidden columns are known by more
   * than their names. `elsewhere`: tables to which the rules apply too, in another daemon.
   */
  problems(tables: readonly TableShape[], elsewhere: readonly TableShape[] = []): readonly RuleProblem[] {
    const problems: RuleProblem[] = [];
    for (const shape of tables) {
      const rule = this.#rule(shape);
      const former = this.#former.of(shape, null);
      const part = this.#exposedPart(shape, rule, this.#otherRows(shape));
      if (part !== null) problems.push({ ...part, isContained: true });
      const spelled = this.#spelledOtherwise(shape);
      if (spelled !== null) problems.push({ ...spelled, isContained: true });
      if (rule === null) {
        const exposed = this.#exposed(shape, former, null);
        if (exposed !== null) problems.push({ ...exposed, isContained: true });
        continue;
      }
      const pin = this.#pins.get(shape.id);
      if (pin !== undefined) this.#pins.set(shape.id, { ...pin, shape: withKeyOf(shape, pin.shape) });
      const names = pin?.shape ?? shape;
      this.#names.set(shape.id, new Map(names.columns.map(({ name, identity }) => [name, identity])));
      const untaken = keyUntaken(shape, rule);
      if (untaken !== null) problems.push(untaken);
      const made = this.#made(shape, rule, this.#pins.get(shape.id), former);
      if (made !== null && "code" in made) {
        const fitted = (before: TableShape): boolean => isFit(this.#make(before, rule, undefined));
        const isContained = OF_ONE_TABLE.has(made.code) || this.#isContained(shape, rule, fitted);
        problems.push(isContained ? { ...made, isContained } : made);
      }
    }
    return [...problems, ...this.#namedNowhere([...tables, ...elsewhere])];
  }

  /**
   * True if the table has changed, and not the rules: they fitted it when its rows last passed, or it came later, and a rule
   * for several tables takes it in. It is suspended then, as it is while the daemon runs.
   */
  #isContained(
    { id }: Pick<TableShape, "id">,
    { rules }: Pick<MergedRule, "rules">,
    fitted: (before: TableShape) => boolean,
  ): boolean {
    const before = this.#versions.get(id);
    if (before !== undefined) return before.ruled?.fault != null || fitted(sourceShape(before));
    const isAwaited = rules.every(({ pattern, isOptional }) => isOptional || isGlob(pattern));
    return isAwaited && this.#versions.size > 0;
  }

  /** Columns that a rule for many tables names or matches, and that no table has. */
  #namedNowhere(tables: readonly TableShape[]): RuleProblem[] {
    const problems: RuleProblem[] = [];
    for (const rule of this.#rules.tables) {
      const own = tables.filter((shape) => this.#rule(shape)?.rules.includes(rule) === true);
      if (!isGlob(rule.pattern) || own.length === 0) continue;
      const asKept = own.map((shape) => this.#pins.get(shape.id)?.shape ?? shape);
      // A column that was there, also in a table that is gone, was named without a mistake.
      const before = Array.from(this.#former.all)
        .filter(({ id }) => this.#rule({ id, ...namesOfTable(id) })?.rules.includes(rule) === true)
        .map(({ named }) => named);
      const ofTables = [...asKept.map(({ columns }) => new Set(columns.map(({ name }) => name))), ...before];
      const names = new Set(ofTables.flatMap((one) => [...one]));
      for (const { pattern, isOptional, place } of namedColumns(rule)) {
        if (isOptional || Array.from(names).some((name) => fits(pattern, name))) continue;
        const what = isGlob(pattern) ? "a column that matches" : "a column";
        const message = `none of the tables that ${rule.pattern} matches has ${what} ${JSON.stringify(pattern)}`;
        problems.push({ code: "MR1021", place, message });
      }
      for (const { name, from, place } of rule.computed) {
        if (ofTables.some((one) => from.every((input) => one.has(input)))) continue;
        const message = `none of the tables that ${rule.pattern} matches has all columns that ${JSON.stringify(name)} is made from`;
        problems.push({ code: "MR1021", place, message });
      }
      const key = rule.key?.columns.find((name) => !names.has(name));
      if (key !== undefined) {
        const message = `none of the tables that ${rule.pattern} matches has a column ${JSON.stringify(key)}`;
        problems.push({ code: "MR1021", place: rule.key!.place, message });
      }
    }
    return problems;
  }

  /** A table that the source refuses because of the key that its rule chooses. */
  keyProblem({ id, reason, fix, chosenKey }: RefusedTable): RuleProblem | null {
    if (chosenKey === undefined) return null;
    const rule = this.#rule({ id, ...namesOfTable(id) });
    const place = rule?.key?.place ?? id;
    const message = `table ${id}: ${reason}`;
    const fitted = ({ columns, key }: TableShape): boolean =>
      JSON.stringify(rule?.key?.columns) === JSON.stringify(key.map((ordinal) => columns[ordinal]!.name));
    const contained = rule !== null && this.#isContained({ id }, rule, fitted) ? { isContained: true as const } : {};
    return chosenKey === "unknown"
      ? { code: "MR1021", place, message, ...contained }
      : { code: "MR1026", place, message, fix, ...contained };
  }

  /** The tables that are there. */
  begin({ tables, refused }: Pick<CapturedTables, "tables" | "refused">): void {
    this.#former.begin([...tables, ...refused]);
    this.#present.clear();
    for (const shape of tables) this.#present.set(shape.id, shape);
  }

  /** What its values come from: a shape that was stored, or is from a log, does not say. */
  #originsOf({ id, origins }: TableShape): Origins | undefined {
    return origins ?? this.#present.get(id)?.origins;
  }

  /** What rows stood under, or stand under, that the table shows or has, and that another one had or shows. */
  #otherRows(shape: TableShape): readonly Former[] {
    const parents = this.#originsOf(shape)?.parents ?? [];
    return [...this.#former.ofParts(shape), ...parents.flatMap((parent) => this.#inherited(shape, parent))];
  }

  /** Of a table that is held back: by their present names, the columns that were hidden when its rows last passed. */
  #heldBack({ id }: Pick<TableShape, "id">, rule: MergedRule | null): ReadonlyMap<string, string> {
    const shape = this.#present.get(id);
    const former = shape === undefined ? undefined : this.#former.of(shape, null);
    if (shape === undefined || former === undefined) return NO_HIDDEN;
    const rulings = rule === null ? [] : shape.columns.map(({ name }) => columnRuling(rule, name));
    if (this.#exposed(shape, former, rule, rulings) === null) return NO_HIDDEN;
    return new Map(
      former.hidden.flatMap((column): [string, string][] => {
        const ordinal = ordinalOf(column, former, shape);
        return ordinal < 0 ? [] : [[shape.columns[ordinal]!.name, column.how]];
      }),
    );
  }

  /** A SELECT of the parent shows the rows of this table. */
  #inherited({ columns }: TableShape, parent: Origins["parents"][number]): readonly Former[] {
    const rule = this.#rule(parent);
    const held = this.#heldBack(parent, rule);
    const hidden = columns.flatMap(({ name, identity }) => {
      const how = (rule === null ? null : hiding(columnRuling(rule, name))) ?? held.get(name) ?? null;
      return how === null ? [] : [{ name, identity, how }];
    });
    const filtered = rule?.where != null;
    if (hidden.length === 0 && !filtered) return [];
    return [
      {
        id: parent.id,
        identity: "",
        held: "heir",
        hidden,
        filtered,
        columns,
        named: new Set(),
        fingerprint: "",
        at: null,
      },
    ];
  }

  /** The log has these tables and columns under other names from here on. Returns the renames by which rules follow a table. */
  rename(renames: readonly Rename[], position: Position): readonly Rename[] {
    return this.#former.rename(renames, position);
  }

  /** Whether any table is, or was, under rules. */
  get hasRules(): boolean {
    return this.#rules.tables.length > 0 || !this.#former.isEmpty;
  }

  /** Null: no rule changes the table. `position`: where the log shows the shape; without it, the present shape. */
  plan(shape: TableShape, position?: Position): RuledShape | null {
    if (!this.hasRules) return null;
    const rule = this.#rule(shape);
    const pin = rule === null ? undefined : this.#pin(shape, rule, position);
    const others = this.#otherRows(shape);
    const { generated } = this.#originsOf(shape) ?? {};
    const key = JSON.stringify([
      shape.fingerprint,
      pin?.shape.fingerprint,
      others.map(({ id, hidden }) => [id, hidden]),
      generated,
    ]);
    const known = this.#plans.get(shape.id);
    const at = position ?? null;
    const former = this.#former.of(shape, at);
    this.#former.holdParts(shape);
    if (known?.key === key && known.former === former) return known.plan;
    const made =
      this.#exposedPart(shape, rule, others) ??
      this.#spelledOtherwise(shape) ??
      (rule === null ? this.#exposed(shape, former, null) : this.#made(shape, rule, pin, former));
    const plan = made !== null && "code" in made ? this.#withheld(pin?.shape ?? shape, rule, made) : made;
    if (former !== undefined && made !== null && "code" in made && made.code === "MR1033")
      this.#former.hold(shape, former, at);
    if (made !== null && "code" in made && made.computed !== undefined) this.#former.holdComputed(shape, made.computed);
    this.#former.passes(plan?.shape ?? shape, at);
    this.#former.holdParts(shape);
    this.#plans.set(shape.id, { key, former: this.#former.of(shape, at), plan });
    return plan;
  }

  /** True if sinks keep a table's shape whatever happens to it at the source. */
  isPinned(id: string): boolean {
    return this.#pins.has(id);
  }

  /** Invariant: a shape that is pinned in a run was registered, or is about to be; the next run finds it there (`Pins`). */
  #pin(shape: TableShape, rule: MergedRule, position: Position | undefined): Pin | undefined {
    if (rule.policy.schemaChange !== "ignore") return undefined;
    let pin = this.#pins.get(shape.id);
    if (pin === undefined && shape.key.length > 0) {
      pin = { shape, since: { epoch: 0, commit: 0n, index: 0 } };
      this.#pins.set(shape.id, pin);
    }
    return pin !== undefined && position !== undefined && isBefore(position, pin) ? undefined : pin;
  }

  #made(
    shape: TableShape,
    rule: MergedRule,
    pin: Pin | undefined,
    former: Former | undefined,
  ): RuledShape | RuleProblem | null {
    if (pin === undefined || pin.shape.fingerprint === shape.fingerprint) return this.#make(shape, rule, former);
    const pinned = pin.shape;
    const made = this.#make(pinned, rule, former);
    if (made !== null && "code" in made) return made;
    // Where columns are known by their names, the kept ones are found again by those.
    const rulings = shape.columns.map(({ name }) => columnRuling(rule, name));
    const exposed = isKnownByName(shape) ? this.#exposed(shape, former, rule, rulings) : null;
    if (exposed !== null) return exposed;
    const masked = (ordinal: number): boolean =>
      made !== null && !made.cells.some((cell) => cell.ordinal === ordinal && cell.mask === null);
    const found = kept(pinned, shape, masked);
    if ("misfit" in found) {
      const message = `the change of table ${shape.id} can't be ignored: ${found.misfit}`;
      return { code: "MR1027", place: rule.place, message };
    }
    const condition = boundCondition(namedAsKept(pinned, shape, found.cells), shape.id, rule, this.#originsOf(shape));
    if (condition !== null && "code" in condition) return condition;
    const asKept =
      made?.cells ?? pinned.columns.map((column, ordinal) => ({ ordinal, column, mask: null, computed: null }));
    const cells: CellPlan[] = [];
    for (const { ordinal, ...cell } of asKept) {
      const computed = cell.computed?.movedTo(found.cells) ?? null;
      if (cell.computed !== null && computed === null) {
        const message = `the change of table ${shape.id} can't be ignored: column ${JSON.stringify(cell.column.name)} is made from one that was dropped or has another type`;
        return { code: "MR1027", place: rule.place, message };
      }
      cells.push(
        computed === null ? { ...cell, ...found.cells[ordinal!]! } : { ...cell, computed, ordinal, asText: false },
      );
    }
    return { shape: made?.shape ?? pinned, cells, computed: computedOf(cells), condition };
  }

  #rule({ id, schema, table }: Pick<TableShape, "id" | "schema" | "table">): MergedRule | null {
    let rule = this.#ruleOf.get(id);
    if (rule === undefined) {
      rule = mergedRule(this.#rules, { schema, table });
      this.#ruleOf.set(id, rule);
    }
    return rule;
  }

  #make(shape: TableShape, rule: MergedRule, former: Former | undefined): RuledShape | RuleProblem | null {
    const names = shape.columns.map(({ name }) => name);
    const rulings = names.map((name) => columnRuling(rule, name));
    const origins = this.#originsOf(shape);
    const problem =
      tie(rule, shape, names) ??
      this.#exposed(shape, former, rule, rulings) ??
      this.#unknownColumn(shape, rule) ??
      shownByComputing(shape, rule, { rulings, origins }) ??
      hiddenKey(shape, rule, rulings);
    if (problem !== null) return problem;
    const cells = shape.columns.flatMap((column, ordinal) => {
      const { mask, drop, rename } = rulings[ordinal]!;
      if (drop) return [];
      const named = rename === null ? column : { ...column, name: rename };
      const shown = mask === null ? named : maskedColumn(named, mask);
      return [{ ordinal, column: shown, mask, asText: false, computed: null }];
    });
    const computed = this.#computed(shape, rule, rulings);
    if ("code" in computed) return computed;
    const clash = sameName(shape, rule, [...cells, ...computed]);
    if (clash !== null) return clash;
    const condition = boundCondition(shape.columns, shape.id, rule, origins);
    if (condition !== null && "code" in condition) return condition;
    if (condition === null && computed.length === 0 && rulings.every(isNothing)) return null;
    const all = [...cells, ...computed];
    const plan = { cells: all, computed: computedOf(all), condition };
    return { ...plan, shape: this.#ruledShape(shape, rule, { ...plan, rulings }) };
  }

  /** The computed columns that this shape can have. */
  #computed(shape: TableShape, rule: MergedRule, rulings: readonly ColumnRuling[]): readonly CellPlan[] | RuleProblem {
    const cells: CellPlan[] = [];
    for (const one of rule.computed) {
      const inputs = computedInputs(shape, rulings, one, this.#originsOf(shape));
      if ("code" in inputs) {
        if (inputs.code === "MR1021" && this.#mayLack(shape, rule, one)) continue;
        return inputs;
      }
      const column = computedColumn(one, shape);
      const { text } = one.function;
      if (column === null) {
        const message = `column ${JSON.stringify(one.name)} of table ${shape.id}: its source has no type ${one.type.text}`;
        return { code: "MR1023", place: one.place, message, fix: "Take json or text." };
      }
      const loaded = (this.#rules.functions ?? NO_FUNCTIONS).get(text);
      if (loaded === undefined || !("digest" in loaded)) {
        const { message = "it is not loaded", fix } = loaded ?? {};
        const problem = { code: "MR1035", place: one.place, message: `function ${text}: ${message}` } as const;
        return fix === undefined ? problem : { ...problem, fix };
      }
      const computed = new ComputedColumn(one, loaded, column, inputs);
      cells.push({ ordinal: null, column, mask: null, asText: false, computed });
    }
    return cells;
  }

  /** A glob fits tables without the column as well; a stream that is behind shows a table as it was before the column came. */
  #mayLack(shape: TableShape, { rules }: MergedRule, one: ComputedRule): boolean {
    if (rules.some(({ pattern, computed }) => isGlob(pattern) && computed.includes(one))) return true;
    const later = this.#laterNames(shape);
    return one.from.every((name) => later.includes(name) || shape.columns.some((column) => column.name === name));
  }

  /** Average times of calls that are beyond their budgets. */
  slowFunctions(): readonly SlowFunction[] {
    return Array.from(this.#plans).flatMap(([table, { plan }]) =>
      (plan?.computed ?? []).flatMap(({ slowMs, rule }) => {
        if (slowMs === null) return [];
        const { name, function: of, budgetMs } = rule;
        return [{ table, column: name, function: of.text, averageMs: slowMs, budgetMs }];
      }),
    );
  }

  #unknownColumn(shape: TableShape, rule: MergedRule): RuleProblem | null {
    const all = [...shape.columns.map(({ name }) => name), ...this.#laterNames(shape)];
    // What a glob hid may have another name, and shows itself in the log.
    const before = Array.from(this.#former.of(shape, null)?.named ?? []);
    const own = rule.rules.find(({ pattern }) => !isGlob(pattern));
    const unknown = namedColumns(own).find(
      ({ pattern, isOptional }) =>
        !isOptional &&
        !all.some((name) => fits(pattern, name)) &&
        !(isGlob(pattern) && before.some((name) => fits(pattern, name))),
    );
    if (unknown === undefined) return null;
    const what = isGlob(unknown.pattern) ? "no column that matches" : "no column";
    const message = `table ${shape.id} has ${what} ${JSON.stringify(unknown.pattern)}`;
    const why = whyLeftOut(unknown.pattern, this.#originsOf(shape));
    if (why === "") return { code: "MR1021", place: unknown.place, message };
    const fix = "Take the column out of the rule: no sink gets it.";
    return { code: "MR1021", place: unknown.place, message: message + why, fix };
  }

  /** Columns that the table had at the start, and got after the log showed this shape. */
  #laterNames(shape: TableShape): readonly string[] {
    const names = this.#names.get(shape.id) ?? NO_NAMES;
    const newest = Math.max(...shape.columns.map(({ identity }) => identity));
    return [...names].flatMap(([name, identity]) => (identity > newest ? [name] : []));
  }

  /**
   * Invariant: what stood under rules passes under another name, of its table or of its column, only if it is hidden there
   * too, or the configuration names that one.
   */
  #exposed(
    shape: TableShape,
    former: Former | undefined,
    rule: MergedRule | null,
    rulings: readonly ColumnRuling[] = [],
  ): RuleProblem | null {
    if (former === undefined) return null;
    const shown = former.hidden.flatMap((hidden) => {
      const ordinal = ordinalOf(hidden, former, shape);
      if (isLost(hidden, ordinal)) return [{ hidden, ruling: undefined, name: hidden.name }];
      const ruling = rulings[ordinal];
      const isHidden = ordinal < 0 || (ruling !== undefined && hiding(ruling) !== null);
      return isHidden ? [] : [{ hidden, ruling, name: shape.columns[ordinal]!.name }];
    });
    const before = this.#rule({ id: former.id, ...namesOfTable(former.id) });
    const place = rule?.place ?? before?.place ?? "tables";
    const isFiltered = !former.filtered || (rule?.where != null && rule.where.text === before?.where?.text);
    if (!this.#isNamed(shape, rule, former) && (shown.length > 0 || !isFiltered))
      return otherName(shape, former, { place, where: before?.where?.text ?? null });
    const renamed = shown.find(
      ({ hidden, ruling, name }) => (hidden.isComputed === true || hidden.name !== name) && !isLifted(ruling),
    );
    if (renamed === undefined) return null;
    const { name, hidden } = renamed;
    const what = `column ${JSON.stringify(name)} of table ${shape.id}`;
    if (hidden.isComputed === true) {
      const message = `${what} was computed from hidden ones, and no rule hides it`;
      return { code: "MR1025", place, message, computed: name };
    }
    const was = JSON.stringify(hidden.name);
    const message =
      former.held === "namesake"
        ? `${what} may have what was hidden as ${was}: another table has the name now`
        : `${what} was hidden as ${was}, and is not under this name`;
    return { code: "MR1025", place, message };
  }

  #spelledOtherwise(shape: TableShape): RuleProblem | null {
    return spelledOtherwise(
      this.#rules,
      shape,
      shape.columns.map(({ name }) => name),
    );
  }

  /** A table that stood under rules has become a partition of this one, which shows its rows; or this one inherits from it. */
  #exposedPart(shape: TableShape, rule: MergedRule | null, others: readonly Former[]): RuleProblem | null {
    const rulings = rule === null ? [] : shape.columns.map(({ name }) => columnRuling(rule, name));
    for (const part of others) {
      const exposed = this.#exposed(shape, part, rule, rulings);
      if (exposed !== null) return exposed;
    }
    return null;
  }

  /** A name in `source.tables` counts if it was not another table's: then somebody wrote it for this one. */
  #isNamed(shape: TableShape, rule: MergedRule | null, former: Former): boolean {
    if (former.id === shape.id || rule?.rules.some(({ pattern }) => !isGlob(pattern)) === true) return true;
    return this.#isSelected(shape) && !this.#former.isKnown(shape);
  }

  #ruledShape(
    shape: TableShape,
    rule: MergedRule,
    { cells, computed, rulings, condition }: Omit<RuledShape, "shape"> & { readonly rulings: readonly ColumnRuling[] },
  ): RuledShape["shape"] {
    const lineage = shape.columns.map(({ name }, i): Lineage => {
      const { mask, drop, rename } = rulings[i]!;
      return { source: name, target: drop ? null : (rename ?? name), mask };
    });
    const keyNames = new Set(shape.key.map((ordinal) => shape.columns[ordinal]!.name));
    const byKey = condition !== null && condition.columns.isSubsetOf(keyNames) ? { filteredByKey: true as const } : {};
    const ruled = {
      ...this.#ruled(shape, rule),
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
    };
  }

  /** If a table's rules can't be applied, only its key is shown, and none of its rows. */
  #withheld(shape: TableShape, rule: MergedRule | null, problem: RuleProblem): RuledShape {
    const fault = faultOf(problem);
    const ruled = { ...this.#ruled(shape, rule), lineage: [], filtered: true, fault };
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

  #ruled(shape: TableShape, rule: MergedRule | null): Pick<Ruled, "rules" | "source"> {
    const { maskKey } = this.#rules;
    const columns = rule?.rules.flatMap((one) => one.columns) ?? [];
    const only = rule?.rules.flatMap((one) => (one.only === null ? [] : [one.only.patterns])) ?? [];
    const isHashed = columns.some(({ action }) => action.hiding === "hash");
    const key =
      isHashed && maskKey !== null ? createHmac("sha256", maskKey).update("millrace rules").digest("hex") : "";
    const definition = columns.map(({ pattern, action }) => [pattern, action.hiding, action.rename]);
    const functions = this.#rules.functions ?? NO_FUNCTIONS;
    const computed = rule?.computed.map((one) => ({ computed: definitionOf(one, functions) })) ?? [];
    return {
      rules: digest([definition, rule?.where?.text ?? null, key, ...only, ...computed]).slice(0, 32),
      source: { columns: shape.columns, key: shape.key, fingerprint: shape.fingerprint },
    };
  }
}

/** What suspends its table in any case: it, or one of its columns, has got another name; or a change can't be ignored. */
const OF_ONE_TABLE: ReadonlySet<string> = new Set(["MR1025", "MR1027", "MR1033", "MR1034"]);

function isFit(made: RuledShape | RuleProblem | null): boolean {
  return made === null || !("code" in made);
}

function computedOf(cells: readonly CellPlan[]): readonly ComputedColumn[] {
  return cells.flatMap(({ computed }) => (computed === null ? [] : [computed]));
}
