/** Applies the rules to the shapes of tables: what a table becomes, and why a rule does not fit. */
import { createHmac } from "node:crypto";
import type { Position } from "../core/model/position.ts";
import { type Column, type Lineage, namesOfTable, type Ruled } from "../core/model/schema.ts";
import type { CapturedTables, RefusedTable, TableShape } from "../core/contracts/catalog.ts";
import type { Rename } from "../core/contracts/change-log.ts";
import type { TableName } from "../core/contracts/connector.ts";
import { fits, isGlob } from "../core/table-selection.ts";
import type { ColumnRule, Rules, TableRule } from "./definition.ts";
import { faultOf, otherName, type RuleProblem } from "./errors.ts";
import { type Former, type FormerRules, isKnownByName, noMemory, ordinalOf, type RuleMemory } from "./former-rules.ts";
import { maskedColumn } from "./masks.ts";
import { type ColumnRuling, columnRuling, mergedRule, type MergedRule, tie, spelledOtherwise } from "./merged-rule.ts";
import { isBefore, kept, namedAsKept, type Pin } from "./pins.ts";
import { boundCondition, hiddenKey, hiding, isLifted, isNothing, keyUntaken, sameName } from "./rule-fit.ts";
import { digest, sourceShape, withKeyOf } from "./source-shape.ts";
import type { Condition } from "./where/condition.ts";

/** What happens to the rows of one shape. */
export interface RuledShape {
  /** The shape that every part after the rules sees. */
  readonly shape: TableShape;
  /** One for each column of `shape`. */
  readonly cells: readonly CellPlan[];
  readonly condition: Condition | null;
}

export interface CellPlan {
  /** For the values of the source's column; null: the column was dropped, and the sinks keep it. */
  readonly ordinal: number | null;
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
  readonly #isSelected: (table: TableName) => boolean;

  /** `isSelected`: whether `source.tables` names the table without a wildcard. */
  constructor(
    rules: Rules,
    { pins, former }: Pick<RuleMemory, "pins" | "former"> = noMemory(),
    isSelected: (table: TableName) => boolean = () => false,
  ) {
    this.#rules = rules;
    this.#pins = new Map(pins);
    this.#former = former;
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
      const part = this.#exposedPart(shape, rule, this.#former.ofParts(shape));
      if (part !== null) problems.push(part);
      const spelled = this.#spelledOtherwise(shape);
      if (spelled !== null) problems.push(spelled);
      if (rule === null) {
        const exposed = this.#exposed(shape, former, null);
        if (exposed !== null) problems.push(exposed);
        continue;
      }
      const pin = this.#pins.get(shape.id);
      if (pin !== undefined) this.#pins.set(shape.id, { ...pin, shape: withKeyOf(shape, pin.shape) });
      const names = pin?.shape ?? shape;
      this.#names.set(shape.id, new Map(names.columns.map(({ name, identity }) => [name, identity])));
      const untaken = keyUntaken(shape, rule);
      if (untaken !== null) problems.push(untaken);
      const made = this.#made(shape, rule, this.#pins.get(shape.id), former);
      // A change that can't be ignored suspends its table, and stops nothing else.
      if (made !== null && "code" in made && made.code !== "MR1027") problems.push(made);
    }
    return [...problems, ...this.#namedNowhere([...tables, ...elsewhere])];
  }

  /** Columns that a rule for many tables names or matches, and that no table has. */
  #namedNowhere(tables: readonly TableShape[]): RuleProblem[] {
    const problems: RuleProblem[] = [];
    for (const rule of this.#rules.tables) {
      const own = tables.filter((shape) => this.#rule(shape)?.rules.includes(rule) === true);
      if (!isGlob(rule.pattern) || own.length === 0) continue;
      const asKept = own.map((shape) => this.#pins.get(shape.id)?.shape ?? shape);
      // A column that was there was named without a mistake.
      const before = own.flatMap((shape) => this.#former.of(shape, null)?.columns ?? []);
      const names = new Set([...asKept.flatMap(({ columns }) => columns), ...before].map(({ name }) => name));
      for (const { pattern, isOptional, place } of namedColumns(rule)) {
        if (isOptional || Array.from(names).some((name) => fits(pattern, name))) continue;
        const what = isGlob(pattern) ? "a column that matches" : "a column";
        const message = `none of the tables that ${rule.pattern} matches has ${what} ${JSON.stringify(pattern)}`;
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
    const place = this.#rule({ id, ...namesOfTable(id) })?.key?.place ?? id;
    const message = `table ${id}: ${reason}`;
    return chosenKey === "unknown" ? { code: "MR1021", place, message } : { code: "MR1026", place, message, fix };
  }

  /** The tables that are there. */
  begin({ tables, refused }: Pick<CapturedTables, "tables" | "refused">): void {
    this.#former.begin([...tables, ...refused]);
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
    const parts = this.#former.ofParts(shape);
    const key = [shape.fingerprint, pin?.shape.fingerprint, ...parts.map(({ id }) => id)].join(" ");
    const known = this.#plans.get(shape.id);
    const at = position ?? null;
    const former = this.#former.of(shape, at);
    if (known?.key === key && known.former === former) return known.plan;
    const made =
      this.#exposedPart(shape, rule, parts) ??
      this.#spelledOtherwise(shape) ??
      (rule === null ? this.#exposed(shape, former, null) : this.#made(shape, rule, pin, former));
    const plan = made !== null && "code" in made ? this.#withheld(pin?.shape ?? shape, rule, made) : made;
    this.#former.passes(plan?.shape ?? shape, at);
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
    const condition = boundCondition(namedAsKept(pinned, shape, found.cells), shape.id, rule);
    if (condition !== null && "code" in condition) return condition;
    const asKept = made?.cells ?? pinned.columns.map((column, ordinal) => ({ ordinal, column, mask: null }));
    const cells = asKept.map(({ ordinal, ...cell }): CellPlan => ({ ...cell, ...found.cells[ordinal!]! }));
    return { shape: made?.shape ?? pinned, cells, condition };
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
    const problem =
      tie(rule, shape, names) ??
      this.#exposed(shape, former, rule, rulings) ??
      this.#unknownColumn(shape, rule) ??
      hiddenKey(shape, rule, rulings);
    if (problem !== null) return problem;
    const cells = shape.columns.flatMap((column, ordinal) => {
      const { mask, drop, rename } = rulings[ordinal]!;
      if (drop) return [];
      const named = rename === null ? column : { ...column, name: rename };
      return [{ ordinal, column: mask === null ? named : maskedColumn(named, mask), mask, asText: false }];
    });
    const clash = sameName(shape, rule, cells);
    if (clash !== null) return clash;
    const condition = boundCondition(shape.columns, shape.id, rule);
    if (condition !== null && "code" in condition) return condition;
    if (condition === null && rulings.every(isNothing)) return null;
    return { shape: this.#ruledShape(shape, rule, { cells, rulings, condition }), cells, condition };
  }

  #unknownColumn(shape: TableShape, rule: MergedRule): RuleProblem | null {
    const names = this.#names.get(shape.id) ?? NO_NAMES;
    const newest = Math.max(...shape.columns.map(({ identity }) => identity));
    const later = [...names].flatMap(([name, identity]) => (identity > newest ? [name] : []));
    const all = [...shape.columns.map(({ name }) => name), ...later];
    // What a glob hid may have another name, and shows itself in the log.
    const before = this.#former.of(shape, null)?.columns ?? [];
    const own = rule.rules.find(({ pattern }) => !isGlob(pattern));
    const unknown = namedColumns(own).find(
      ({ pattern, isOptional }) =>
        !isOptional &&
        !all.some((name) => fits(pattern, name)) &&
        !(isGlob(pattern) && before.some(({ name }) => fits(pattern, name))),
    );
    if (unknown === undefined) return null;
    const what = isGlob(unknown.pattern) ? "no column that matches" : "no column";
    const message = `table ${shape.id} has ${what} ${JSON.stringify(unknown.pattern)}`;
    return { code: "MR1021", place: unknown.place, message };
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
      const ruling = rulings[ordinal];
      const isHidden = ordinal < 0 || (ruling !== undefined && hiding(ruling) !== null);
      return isHidden ? [] : [{ hidden, ruling, name: shape.columns[ordinal]!.name }];
    });
    const before = this.#rule({ id: former.id, ...namesOfTable(former.id) });
    const place = rule?.place ?? before?.place ?? "tables";
    const isFiltered = !former.filtered || (rule?.where != null && rule.where.text === before?.where?.text);
    if (!this.#isNamed(shape, rule, former) && (shown.length > 0 || !isFiltered))
      return otherName(shape, former, { place, where: before?.where?.text ?? null });
    const renamed = shown.find(({ hidden, ruling, name }) => hidden.name !== name && !isLifted(ruling));
    if (renamed === undefined) return null;
    const { name, hidden } = renamed;
    const message = `column ${JSON.stringify(name)} of table ${shape.id} was hidden as ${JSON.stringify(hidden.name)}, and is not under this name`;
    return { code: "MR1025", place, message };
  }

  #spelledOtherwise(shape: TableShape): RuleProblem | null {
    return spelledOtherwise(
      this.#rules,
      shape,
      shape.columns.map(({ name }) => name),
    );
  }

  /** A table that stood under rules has become a partition of this one, which shows its rows. */
  #exposedPart(shape: TableShape, rule: MergedRule | null, parts: readonly Former[]): RuleProblem | null {
    const rulings = rule === null ? [] : shape.columns.map(({ name }) => columnRuling(rule, name));
    for (const part of parts) {
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
    { cells, rulings, condition }: Omit<RuledShape, "shape"> & { readonly rulings: readonly ColumnRuling[] },
  ): RuledShape["shape"] {
    const lineage = shape.columns.map(({ name }, i): Lineage => {
      const { mask, drop, rename } = rulings[i]!;
      return { source: name, target: drop ? null : (rename ?? name), mask };
    });
    const keyNames = new Set(shape.key.map((ordinal) => shape.columns[ordinal]!.name));
    const byKey = condition !== null && condition.columns.isSubsetOf(keyNames) ? { filteredByKey: true as const } : {};
    const ruled = { ...this.#ruled(shape, rule), lineage, filtered: rule.where !== null, ...byKey, fault: null };
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
    const cells = shape.key.map((ordinal) => ({ ordinal, column: shape.columns[ordinal]!, mask: null, asText: false }));
    return {
      shape: {
        ...sourceShape(shape),
        columns: cells.map(({ column }) => column),
        key: cells.map((_, i) => i),
        fingerprint: digest([shape.fingerprint, ruled.rules, problem.code, problem.message]),
        ruled,
      },
      cells,
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
    return {
      rules: digest([definition, rule?.where?.text ?? null, key, ...only]).slice(0, 32),
      source: { columns: shape.columns, key: shape.key, fingerprint: shape.fingerprint },
    };
  }
}
