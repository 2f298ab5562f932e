/** Applies the rules to the shapes of tables: what a table becomes, and why a rule does not fit. */
import { createHmac } from "node:crypto";
import type { Position } from "../core/model/position.ts";
import { type Column, type Lineage, namesOfTable, type Ruled } from "../core/model/schema.ts";
import type { RefusedTable, TableShape } from "../core/contracts/catalog.ts";
import { isGlob } from "../core/table-selection.ts";
import type { Rules } from "./definition.ts";
import { faultOf, type RuleProblem } from "./errors.ts";
import { maskedColumn } from "./masks.ts";
import { type ColumnRuling, columnRuling, mergedRule, type MergedRule, tie } from "./merged-rule.ts";
import { isBefore, kept, namedAsKept, NO_PINS, type Pin, type Pins } from "./pins.ts";
import { boundCondition, hiddenKey, hiding, isNothing, keyUntaken, sameName } from "./rule-fit.ts";
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

/** What is remembered about a table's columns, by an identity that survives renaming. */
interface Remembered {
  /** Hidden columns, and how they are hidden. */
  readonly hidden: Map<number, string>;
  /** Columns that the source had at the start, by name. */
  names: ReadonlyMap<string, number>;
}

export class RuleBook {
  readonly #rules: Rules;
  readonly #ruleOf = new Map<string, MergedRule | null>();
  readonly #plans = new Map<string, { readonly key: string; readonly plan: RuledShape | null }>();
  readonly #remembered = new Map<string, Remembered>();
  /** Tables whose changes of shape are ignored, from the moment when they were first known. */
  readonly #pins: Map<string, Pin>;

  constructor(rules: Rules, pins: Pins = NO_PINS) {
    this.#rules = rules;
    this.#pins = new Map(pins);
  }

  /**
   * What is wrong with the rules, given all captured tables as they are now. From here on, hidden columns are known by more
   * than their names. `elsewhere`: tables to which the rules apply too, in another daemon.
   */
  problems(tables: readonly TableShape[], elsewhere: readonly TableShape[] = []): readonly RuleProblem[] {
    const problems: RuleProblem[] = [];
    for (const shape of tables) {
      const rule = this.#rule(shape);
      if (rule === null) continue;
      const pin = this.#pins.get(shape.id);
      if (pin !== undefined) this.#pins.set(shape.id, { ...pin, shape: withKeyOf(shape, pin.shape) });
      const names = pin?.shape ?? shape;
      this.#memory(shape.id).names = new Map(names.columns.map(({ name, identity }) => [name, identity]));
      const untaken = keyUntaken(shape, rule);
      if (untaken !== null) problems.push(untaken);
      const made = this.#made(shape, rule, this.#pins.get(shape.id));
      // A change that can't be ignored suspends its table, and stops nothing else.
      if (made !== null && "code" in made && made.code !== "MR1027") problems.push(made);
    }
    return [...problems, ...this.#namedNowhere([...tables, ...elsewhere])];
  }

  /** Columns that a rule for many tables names, and that no table has. */
  #namedNowhere(tables: readonly TableShape[]): RuleProblem[] {
    const problems: RuleProblem[] = [];
    for (const rule of this.#rules.tables) {
      const own = tables.filter((shape) => this.#rule(shape)?.rules.includes(rule) === true);
      if (!isGlob(rule.pattern) || own.length === 0) continue;
      const asKept = own.map((shape) => this.#pins.get(shape.id)?.shape ?? shape);
      const names = new Set(asKept.flatMap(({ columns }) => columns.map(({ name }) => name)));
      for (const { pattern, place } of rule.columns) {
        if (isGlob(pattern) || names.has(pattern)) continue;
        const message = `none of the tables that ${rule.pattern} matches has a column ${JSON.stringify(pattern)}`;
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

  /** Null: no rule changes the table. `position`: where the log shows the shape; without it, the present shape. */
  plan(shape: TableShape, position?: Position): RuledShape | null {
    const rule = this.#rule(shape);
    if (rule === null) return null;
    const pin = this.#pin(shape, rule, position);
    const key = `${shape.fingerprint} ${pin?.shape.fingerprint}`;
    const known = this.#plans.get(shape.id);
    if (known?.key === key) return known.plan;
    const made = this.#made(shape, rule, pin);
    const plan = made !== null && "code" in made ? this.#withheld(pin?.shape ?? shape, rule, made) : made;
    this.#plans.set(shape.id, { key, plan });
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

  #made(shape: TableShape, rule: MergedRule, pin: Pin | undefined): RuledShape | RuleProblem | null {
    if (pin === undefined || pin.shape.fingerprint === shape.fingerprint) return this.#make(shape, rule);
    const pinned = pin.shape;
    const made = this.#make(pinned, rule);
    if (made !== null && "code" in made) return made;
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

  #memory(id: string): Remembered {
    let memory = this.#remembered.get(id);
    if (memory === undefined) this.#remembered.set(id, (memory = { hidden: new Map(), names: new Map() }));
    return memory;
  }

  #make(shape: TableShape, rule: MergedRule): RuledShape | RuleProblem | null {
    const names = shape.columns.map(({ name }) => name);
    const rulings = names.map((name) => columnRuling(rule, name));
    const problem =
      tie(rule, shape, names) ??
      this.#unknownColumn(shape, rule) ??
      this.#renamed(shape, rule, rulings) ??
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
    this.#remember(shape, rulings);
    if (condition === null && rulings.every(isNothing)) return null;
    return { shape: this.#ruledShape(shape, rule, { cells, rulings, condition }), cells, condition };
  }

  #unknownColumn(shape: TableShape, rule: MergedRule): RuleProblem | null {
    const { names } = this.#memory(shape.id);
    const newest = Math.max(...shape.columns.map(({ identity }) => identity));
    const isLater = (name: string) => (names.get(name) ?? 0) > newest;
    const own = rule.rules.find(({ pattern }) => !isGlob(pattern));
    const unknown = own?.columns.find(
      ({ pattern }) => !isGlob(pattern) && !isLater(pattern) && shape.columns.every(({ name }) => name !== pattern),
    );
    if (unknown === undefined) return null;
    const message = `table ${shape.id} has no column ${JSON.stringify(unknown.pattern)}`;
    return { code: "MR1021", place: unknown.place, message };
  }

  /** Invariant: values that were once hidden are never shown under another name of their column. */
  #renamed(shape: TableShape, rule: MergedRule, rulings: readonly ColumnRuling[]): RuleProblem | null {
    const { hidden } = this.#memory(shape.id);
    const at = shape.columns.findIndex(({ identity }, i) => {
      const before = hidden.get(identity);
      return before !== undefined && before !== hiding(rulings[i]!);
    });
    if (at < 0) return null;
    const name = JSON.stringify(shape.columns[at]!.name);
    return {
      code: "MR1025",
      place: rule.place,
      message: `column ${name} of table ${shape.id} was hidden under another name, and is not under this one`,
    };
  }

  #remember(shape: TableShape, rulings: readonly ColumnRuling[]): void {
    const { hidden } = this.#memory(shape.id);
    for (const [i, { identity }] of shape.columns.entries()) {
      const how = hiding(rulings[i]!);
      if (identity > 0 && how !== null) hidden.set(identity, how);
    }
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
  #withheld(shape: TableShape, rule: MergedRule, problem: RuleProblem): RuledShape {
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

  #ruled(shape: TableShape, { rules, where }: MergedRule): Pick<Ruled, "rules" | "source"> {
    const { maskKey } = this.#rules;
    const columns = rules.flatMap((rule) => rule.columns);
    const isHashed = columns.some(({ action }) => action.hiding === "hash");
    const key =
      isHashed && maskKey !== null ? createHmac("sha256", maskKey).update("millrace rules").digest("hex") : "";
    const definition = columns.map(({ pattern, action }) => [pattern, action.hiding, action.rename]);
    return {
      rules: digest([definition, where?.text ?? null, key]).slice(0, 32),
      source: { columns: shape.columns, key: shape.key, fingerprint: shape.fingerprint },
    };
  }
}
