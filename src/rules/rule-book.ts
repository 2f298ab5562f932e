/** Applies the rules to the shapes of tables: what a table becomes, and why a rule does not fit. */
import { comparePositions, type Position } from "../core/model/position.ts";
import { namesOfTable, whyLeftOut } from "../core/model/schema.ts";
import type { CapturedTables, RefusedTable, TableShape } from "../core/contracts/catalog.ts";
import type { Rename } from "../core/contracts/change-log.ts";
import type { TableName } from "../core/contracts/connector.ts";
import type { SlowFunction } from "../core/contracts/log-admin.ts";
import type { StoredRenames } from "../core/contracts/state-store.ts";
import { fits, isGlob } from "../core/table-selection.ts";
import { ComputedColumn, computedColumn, type ComputedRule } from "./computed/computed-columns.ts";
import type { ColumnRule, Rules, TableRule } from "./definition.ts";
import type { RuleProblem } from "./errors.ts";
import { asksAnother, Exposure } from "./exposure.ts";
import { type Former, type FormerRules, formerOf, isKnownByName, noMemory, type RuleMemory } from "./former-rules.ts";
import type { Foresight, Future } from "./foresight.ts";
import { maskedColumn } from "./masks.ts";
import {
  type ColumnRuling,
  columnRuling,
  hidesAny,
  type MergedRule,
  MergedRules,
  spelledOtherwise,
  tie,
} from "./merged-rule.ts";
import { isBefore, kept, namedAsKept, type Pin } from "./pins.ts";
import {
  boundCondition,
  computedInputs,
  hiddenKey,
  isNothing,
  keysInLog,
  keyUntaken,
  sameName,
  shownByComputing,
  unloggedHidden,
} from "./rule-fit.ts";
import {
  type CellPlan,
  computedOf,
  NO_FUNCTIONS,
  type RuledShape,
  ruledShape,
  rulesDigest,
  sourceShape,
  withBeside,
  withheldShape,
  withKeyOf,
} from "./ruled-shape.ts";

interface Planned {
  readonly key: string;
  /** What the table stood under afterwards. */
  readonly former: Former | undefined;
  readonly future: Future | undefined;
  readonly plan: RuledShape | null;
  /** The log has shown the shape: what is known of the table counts from there. */
  readonly isPlaced: boolean;
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
  readonly #merged: MergedRules;
  readonly #exposure: Exposure;
  readonly #plans = new Map<string, Planned>();
  /** By table, the columns that the source had at the start, by name. */
  readonly #names = new Map<string, ReadonlyMap<string, number>>();
  /** Tables whose changes of shape are ignored, from the moment when they were first known. */
  readonly #pins: Map<string, Pin>;
  readonly #former: FormerRules;
  /** As earlier processes registered them. */
  readonly #versions: RuleMemory["versions"];
  /** The sinks that pass the log on. */
  readonly #logs: readonly string[];
  #foresight: Foresight | null = null;
  /** As the last look has shown. */
  #partlyLogged: CapturedTables["partlyLogged"];

  /** `isSelected`: whether `source.tables` names the table without a wildcard. */
  constructor(
    rules: Rules,
    { pins, former, versions }: Pick<RuleMemory, "pins" | "former" | "versions"> = noMemory(),
    isSelected: (table: TableName) => boolean = () => false,
  ) {
    this.#rules = rules;
    this.#pins = new Map(pins);
    this.#former = former;
    this.#versions = versions;
    this.#logs = rules.selections.flatMap(({ sink, form }) => (form === "log" ? [sink] : []));
    this.#merged = new MergedRules(rules);
    this.#exposure = new Exposure(this.#merged, former, isSelected);
  }

  /**
   * What is wrong with the rules, given all captured tables as they are now. From here on, hidden columns are known by more
   * than their names. `elsewhere`: tables to which the rules apply too, in another daemon.
   */
  problems(tables: readonly TableShape[], elsewhere: readonly TableShape[] = []): readonly RuleProblem[] {
    const problems: RuleProblem[] = [];
    for (const shape of tables) {
      const rule = this.#merged.of(shape);
      const former = this.#former.of(shape, null);
      const part = this.#exposure.ofOthers(shape, rule, this.#exposure.otherRows(shape));
      if (part !== null) problems.push({ ...part, isContained: true });
      const shown = this.#exposure.ofRows(shape, rule);
      if (shown !== null) problems.push({ ...shown, isContained: true });
      const spelled = this.#spelledOtherwise(shape);
      if (spelled !== null) problems.push({ ...spelled, isContained: true });
      if (rule === null) {
        const exposed = this.#exposure.of(shape, former, null);
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
    const known = this.#versions.get(id);
    // The newest of which rows passed.
    const before = known?.findLast(passed) ?? known?.at(-1);
    if (before !== undefined) return before.ruled?.fault != null || fitted(sourceShape(before));
    const isAwaited = rules.every(({ pattern, isOptional }) => isOptional || isGlob(pattern));
    return isAwaited && this.#versions.size > 0;
  }

  /** Columns that a rule for many tables names or matches, and that no table has. */
  #namedNowhere(tables: readonly TableShape[]): RuleProblem[] {
    const problems: RuleProblem[] = [];
    for (const rule of this.#rules.tables) {
      const own = tables.filter((shape) => this.#merged.of(shape)?.rules.includes(rule) === true);
      if (!isGlob(rule.pattern) || own.length === 0) continue;
      const asKept = own.map((shape) => this.#pins.get(shape.id)?.shape ?? shape);
      // A column that was there, also in a table that is gone, was named without a mistake.
      const before = Array.from(this.#former.all)
        .filter(({ id }) => this.#merged.of({ id, ...namesOfTable(id) })?.rules.includes(rule) === true)
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
    const rule = this.#merged.of({ id, ...namesOfTable(id) });
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
  begin({ tables, refused, elsewhere, partlyLogged }: Omit<CapturedTables, "generations">): void {
    this.#partlyLogged = partlyLogged;
    const others = elsewhere?.tables ?? [];
    const all = [...tables, ...refused, ...others];
    const there = new Set(all.map(({ id }) => id));
    for (const id of this.#plans.keys()) if (!there.has(id)) this.#plans.delete(id);
    this.#former.begin(all);
    // Where the name tells tables apart, the log may have another one of that name, which this share does not read.
    this.#exposure.begin([...tables, ...others.filter((shape) => !isKnownByName(shape))]);
  }

  /** See `FormerRules`. */
  unlogged(shape: TableShape, position: Position): readonly Rename[] {
    return this.#former.unlogged(shape, position);
  }

  /**
   * The log has these tables and columns under other names from here on. Returns those of which the next process has to know:
   * one that concerns rules, too, which it could not tell from one that nobody has read.
   */
  rename(renames: StoredRenames["renames"], position: Position): StoredRenames["renames"] {
    return this.#former.rename(renames, position, (rename) => this.concerns(rename));
  }

  /** Whether a table that is, or would be, under rules that hide something is made by it, or gets or loses its name. */
  concerns({ from, to, how }: Rename): boolean {
    if (from === to && how === "renamed") return false;
    return [from, to].some(
      (id) =>
        this.#former.isRuledNow(id) || this.#merged.of({ id, ...namesOfTable(id) })?.rules.some(hidesAny) === true,
    );
  }

  /** Whether any table is, or was, under rules. */
  get hasRules(): boolean {
    return this.#rules.tables.length > 0 || !this.#former.isEmpty;
  }

  /** Whether any table is held back, be it under rules that are gone. */
  get withholds(): boolean {
    return Array.from(this.#plans.values()).some(({ plan }) => plan?.shape.ruled?.fault != null);
  }

  /** Null: no rule changes the table. `position`: where the log shows the shape; without it, the present shape. */
  plan(shape: TableShape, position?: Position): RuledShape | null {
    if (!this.hasRules) return null;
    const rule = this.#merged.of(shape);
    const pin = rule === null ? undefined : this.#pin(shape, rule, position);
    if (position !== undefined) this.#exposure.shows(shape);
    const whole = this.#exposure.whole(shape);
    const others = this.#exposure.otherRows(whole);
    const shown = this.#exposure.ofRows(shape, rule);
    const { generated } = this.#exposure.originsOf(shape) ?? {};
    const key = JSON.stringify([
      shape.fingerprint,
      pin?.shape.fingerprint,
      others.map(({ id, hidden }) => [id, hidden]),
      generated,
      shown?.message,
      this.#partlyLogged?.has(shape.id),
    ]);
    const known = this.#plans.get(shape.id);
    const at = position ?? null;
    const former = this.#former.of(shape, at);
    const future = position === undefined ? undefined : this.future(shape, position);
    this.#former.holdParts(shape);
    const isPlaced = position !== undefined;
    const isSame = known?.key === key && known.former === former && known.future === future;
    if (isSame && (known.isPlaced || !isPlaced)) return known.plan;
    const made =
      this.#exposure.ofOthers(whole, rule, others) ??
      shown ??
      this.#spelledOtherwise(shape) ??
      (future === undefined ? null : this.#exposedLater(shape, rule, former, future, position!)) ??
      (rule === null ? this.#exposure.of(shape, former, null) : this.#made(shape, rule, pin, former));
    const unlogged = rule === null ? [] : unloggedHidden(shape, rule, this.#exposure.originsOf(shape));
    const plan =
      made !== null && "code" in made
        ? withheldShape(this.#rules, pin?.shape ?? shape, rule, made)
        : withBeside(made, whole.parts ?? [], unlogged);
    if (former !== undefined && made !== null && "code" in made && made.code === "MR1033")
      this.#former.hold(shape, former, at);
    if (made !== null && "code" in made && made.computed !== undefined) this.#former.holdComputed(shape, made.computed);
    this.#former.passes(plan?.shape ?? shape, at);
    this.#former.lacks(shape, unlogged);
    this.#former.holdParts(shape);
    this.#plans.set(shape.id, { key, former: this.#former.of(shape, at), future, plan, isPlaced });
    return plan;
  }

  /** The shape that every part after the rules sees. */
  shape(shape: TableShape, position?: Position): TableShape {
    const plan = this.plan(shape, position);
    if (plan !== null) return plan.shape;
    const released = this.#former.released(shape);
    return released.length === 0 ? shape : { ...shape, released };
  }

  #exposedLater(
    shape: TableShape,
    rule: MergedRule | null,
    now: Former | undefined,
    future: Future,
    position: Position,
  ): RuleProblem | null {
    const rulings = rule === null ? [] : shape.columns.map(({ name }) => columnRuling(rule, name));
    const former = now ?? this.#stoodUnder(shape.id, position);
    const isAsBefore = former?.id === shape.id && former.rules === rulesDigest(this.#rules, rule);
    return (
      (former === undefined || isAsBefore ? null : this.#exposure.ofLost(shape, former, rule, rulings, future)) ??
      this.#exposure.ofLater(shape, rule, rulings, future)
    );
  }

  /** What tables become further on in the log is known from here on. */
  foresee(foresight: Foresight): void {
    this.#foresight = foresight;
  }

  /** Of a table that is known by its name; undefined: it stays what it is, as far as that is known. */
  future(shape: Pick<TableShape, "id" | "dialect">, position: Position): Future | undefined {
    return isKnownByName(shape) ? this.#foresight?.of(shape.id, position) : undefined;
  }

  /**
   * As an earlier process registered the table, for a position that is behind what it was since. What comes before its first version
   * passed under that one.
   */
  #stoodUnder(id: string, position: Position): Former | undefined {
    const known = this.#versions.get(id)?.filter(passed) ?? [];
    const inForce = known.findLast(({ since }) => comparePositions(since, position) <= 0) ?? known[0];
    return inForce === undefined ? undefined : formerOf(inForce);
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
    const exposed = isKnownByName(shape) ? this.#exposure.of(shape, former, rule, rulings) : null;
    if (exposed !== null) return exposed;
    const masked = (ordinal: number): boolean =>
      made !== null && !made.cells.some((cell) => cell.ordinal === ordinal && cell.mask === null);
    const found = kept(pinned, shape, masked);
    if ("misfit" in found) {
      const message = `the change of table ${shape.id} can't be ignored: ${found.misfit}`;
      return { code: "MR1027", place: rule.place, message };
    }
    const condition = boundCondition(
      namedAsKept(pinned, shape, found.cells),
      shape.id,
      rule,
      this.#exposure.originsOf(shape),
    );
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

  #make(shape: TableShape, rule: MergedRule, former: Former | undefined): RuledShape | RuleProblem | null {
    const names = shape.columns.map(({ name }) => name);
    const rulings = names.map((name) => columnRuling(rule, name));
    const origins = this.#exposure.originsOf(shape);
    const problem =
      tie(rule, shape, names) ??
      this.#exposure.of(shape, former, rule, rulings) ??
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
    const statement = this.#partlyLogged?.get(shape.id);
    const inLog = keysInLog(shape, rule, condition, { statement, logs: this.#logs });
    if (inLog !== null) return inLog;
    if (condition === null && computed.length === 0 && rulings.every(isNothing)) return null;
    const all = [...cells, ...computed];
    const plan = { cells: all, computed: computedOf(all), condition };
    const made = ruledShape(this.#rules, shape, rule, plan);
    return asksAnother(shape, former, rule, { condition, rules: made.ruled?.rules }) ?? { ...plan, shape: made };
  }

  #computed(shape: TableShape, rule: MergedRule, rulings: readonly ColumnRuling[]): readonly CellPlan[] | RuleProblem {
    const cells: CellPlan[] = [];
    for (const one of rule.computed) {
      const inputs = computedInputs(shape, rulings, one, this.#exposure.originsOf(shape));
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
    const why = whyLeftOut(unknown.pattern, this.#exposure.originsOf(shape));
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

  #spelledOtherwise(shape: TableShape): RuleProblem | null {
    return spelledOtherwise(
      this.#rules,
      shape,
      shape.columns.map(({ name }) => name),
    );
  }
}

function passed({ ruled }: TableShape): boolean {
  return ruled?.fault == null;
}

/** What suspends its table in any case: it, or one of its columns, has got another name; or a change can't be ignored. */
const OF_ONE_TABLE: ReadonlySet<string> = new Set(["MR1025", "MR1027", "MR1033", "MR1034"]);

function isFit(made: RuledShape | RuleProblem | null): boolean {
  return made === null || !("code" in made);
}
