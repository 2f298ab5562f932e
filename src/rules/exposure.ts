/** What stood under rules, and would be seen under another name, in another table, or by another way. */
import { namesOfTable, type Origins } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import type { TableName } from "../core/contracts/connector.ts";
import { isGlob } from "../core/table-selection.ts";
import type { TableRule } from "./definition.ts";
import { namedOtherwiseLater, otherName, type RuleProblem } from "./errors.ts";
import { type Future, losesColumn, losesName, namesLater } from "./foresight.ts";
import {
  type Former,
  type FormerRules,
  goneOf,
  type HiddenColumn,
  isKnownByName,
  isLost,
  isTaken,
  isUnplaced,
  mayHaveNoNumber,
  ordinalOf,
} from "./former-rules.ts";
import { type ColumnRuling, columnRuling, type MergedRule, type MergedRules } from "./merged-rule.ts";
import { HIDE_TOO, hiding, isLifted } from "./rule-fit.ts";
import type { Condition } from "./where/condition.ts";
import { columnsIn } from "./where/syntax.ts";

const NO_HIDDEN: ReadonlyMap<string, string> = new Map();

export class Exposure {
  readonly #rules: MergedRules;
  readonly #former: FormerRules;
  readonly #isSelected: (table: TableName) => boolean;
  /** Tables as the catalogue had them at the last look. */
  readonly #present = new Map<string, TableShape>();
  /** By relation, the partitions of which the log has shown rows that no look has: those with the number of looks since. */
  readonly #shown = new Map<number, Map<number, number>>();
  #hasLooked = false;

  /** `isSelected`: whether `source.tables` names the table without a wildcard. */
  constructor(rules: MergedRules, former: FormerRules, isSelected: (table: TableName) => boolean) {
    this.#rules = rules;
    this.#former = former;
    this.#isSelected = isSelected;
  }

  /** The tables that are there. */
  begin(tables: readonly TableShape[]): void {
    this.#hasLooked = true;
    this.#present.clear();
    for (const shape of tables) this.#present.set(shape.id, shape);
    // The first of these looks may have begun before the log showed them.
    for (const [relation, parts] of this.#shown) {
      for (const [part, looks] of parts) {
        if (looks > 0) parts.delete(part);
        else parts.set(part, looks + 1);
      }
      if (parts.size === 0) this.#shown.delete(relation);
    }
  }

  /** The log shows rows of these partitions of the table. It names that of one row, and brings those of others after it. */
  shows({ relation, parts = [] }: TableShape): void {
    if (parts.length === 0) return;
    const shown = this.#shown.get(relation) ?? new Map<number, number>();
    for (const part of parts) shown.set(part, 0);
    this.#shown.set(relation, shown);
  }

  /** What its values come from: a shape that was stored, or is from a log, does not say. */
  originsOf({ id, origins }: TableShape): Origins | undefined {
    return origins ?? this.#present.get(id)?.origins;
  }

  /** What rows stood under, or stand under, that the table shows or has, and that another one had or shows. */
  otherRows(shape: TableShape): readonly Former[] {
    const parents = this.originsOf(shape)?.parents ?? [];
    return [...this.#former.ofParts(shape), ...parents.flatMap((parent) => this.#inherited(shape, parent))];
  }

  /** With all partitions whose rows it may show: a shape that was stored names none of them, and one of the log one. */
  whole(shape: TableShape): TableShape {
    const { id, relation, parts = [] } = shape;
    const present = this.#present.get(id);
    const looked = present?.relation === relation ? (present.parts ?? []) : [];
    const shown = this.#shown.get(relation)?.keys() ?? [];
    const all = new Set([...parts, ...looked, ...shown]);
    return all.size === parts.length ? shape : { ...shape, parts: [...all] };
  }

  /**
   * Invariant: what stood under rules passes under another name, of its table or of its column, only if it is hidden there
   * too, or the configuration names that one.
   */
  of(
    shape: TableShape,
    former: Former | undefined,
    rule: MergedRule | null,
    rulings: readonly ColumnRuling[] = [],
  ): RuleProblem | null {
    if (former === undefined) return null;
    const gone = goneOf(former, shape);
    const shown = [...former.hidden, ...gone].flatMap((hidden) => {
      const ordinal = ordinalOf(hidden, former, shape);
      if (mayHaveNoNumber(hidden, ordinal, former, shape)) return perhapsUnnumbered(hidden, shape, rulings);
      if (isUnplaced(hidden, ordinal, former, shape)) return perhaps(hidden, former, shape, rulings);
      if (former.hidden.includes(hidden) && isLost(hidden, ordinal))
        return [{ hidden, ruling: undefined, name: hidden.name }];
      const ruling = rulings[ordinal];
      const isHidden = ordinal < 0 || (ruling !== undefined && hiding(ruling) !== null);
      return isHidden ? [] : [{ hidden, ruling, name: shape.columns[ordinal]!.name }];
    });
    const before = this.#rules.of({ id: former.id, ...namesOfTable(former.id) });
    const place = rule?.place ?? before?.place ?? "tables";
    const isFiltered = !former.filtered || (rule?.where != null && rule.where.text === before?.where?.text);
    const isNamed = this.#isNamed(shape, rule, former);
    const isOthers = former.id !== shape.id && this.#former.isOthers(shape);
    const isMeant = (ruling?: ColumnRuling) => isNamed && (!isOthers || isLiftedByName(ruling));
    const areRowsMeant = isNamed && (!isOthers || rule?.rules.some(liftsRowsByName) === true);
    if (shown.some(({ ruling }) => !isMeant(ruling)) || !(isFiltered || areRowsMeant))
      return otherName(shape, former, { place, where: before?.where?.text ?? null, isOthers });
    const renamed = shown.find(
      ({ hidden, ruling, name }) =>
        (hidden.isComputed === true || hidden.name !== name || gone.includes(hidden)) && !isLifted(ruling),
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

  /** Rules for a name, and for a column's, are not written for a table that loses it. */
  ofLost(
    shape: TableShape,
    former: Former,
    rule: MergedRule | null,
    rulings: readonly ColumnRuling[],
    future: Future,
  ): RuleProblem | null {
    const isTable = losesName(shape.id, future);
    const shown = former.hidden.filter((hidden) => {
      const ordinal = ordinalOf(hidden, former, shape);
      if (ordinal < 0 || !(isTable || losesColumn(shape.columns[ordinal]!.name, future))) return false;
      return !hidesAs(rulings[ordinal], hidden.how);
    });
    const filtered = isTable && former.filtered;
    if (shown.length === 0 && !filtered) return null;
    const place = rule?.place ?? "tables";
    const later = isTable ? null : shape.id;
    return namedOtherwiseLater(shape, { place, hidden: shown.map(({ name }) => name), filtered, later, by: "former" });
  }

  /** What the table becomes further on in the log hides no more than this name does. */
  ofLater(
    shape: TableShape,
    rule: MergedRule | null,
    rulings: readonly ColumnRuling[],
    { tables, isUnknown }: Future,
  ): RuleProblem | null {
    const unknown = { place: rule?.place ?? "tables", hidden: [], filtered: false, later: null, by: "later" } as const;
    if (isUnknown) return namedOtherwiseLater(shape, unknown);
    for (const later of tables) {
      if (later.id === shape.id && later.columns.size === 0) continue;
      const names = namesOfTable(later.id);
      const ruleThen = this.#rules.of({ id: later.id, ...names });
      const hidden = shape.columns.flatMap(({ name }, i) => {
        const then = ruleThen === null ? [] : namesLater(name, later).map((one) => columnRuling(ruleThen, one));
        return then.some((one) => hiding(one) !== null && !hidesAs(rulings[i], hiding(one)!)) ? [name] : [];
      });
      const where = ruleThen?.where ?? null;
      const isAsked =
        where?.expression != null && columnsIn(where.expression).some((name) => later.columns.has(name.toLowerCase()));
      const filtered = where !== null && (where.text !== rule?.where?.text || isAsked);
      if (hidden.length === 0 && !filtered && !this.#isHeldBack(later.id, ruleThen)) continue;
      const place = ruleThen?.place ?? rule?.place ?? "tables";
      return namedOtherwiseLater(shape, { place, hidden, filtered, later: later.id, by: "later" });
    }
    return null;
  }

  /** A table that is there, of which no row passes because of what it stood under. */
  #isHeldBack(id: string, rule: MergedRule | null): boolean {
    const shape = this.#present.get(id);
    const former = shape === undefined ? undefined : this.#former.of(shape, null);
    if (shape === undefined || former === undefined) return false;
    const rulings = rule === null ? [] : shape.columns.map(({ name }) => columnRuling(rule, name));
    return this.of(shape, former, rule, rulings) !== null;
  }

  /** A table that stood under rules has become a partition of this one, which shows its rows; or this one inherits from it. */
  ofOthers(shape: TableShape, rule: MergedRule | null, others: readonly Former[]): RuleProblem | null {
    const rulings = rule === null ? [] : shape.columns.map(({ name }) => columnRuling(rule, name));
    for (const part of others) {
      const exposed = this.of(shape, part, rule, rulings);
      if (exposed !== null) return exposed;
    }
    return null;
  }

  /** A column whose type is another table's row shows what that has. */
  ofRows(shape: TableShape, rule: MergedRule | null): RuleProblem | null {
    for (const [name, tables] of Object.entries(this.originsOf(shape)?.rows ?? {})) {
      const ruling = rule === null ? undefined : columnRuling(rule, name);
      if (ruling !== undefined && (hiding(ruling) !== null || isLifted(ruling))) continue;
      for (const table of tables) {
        const hides = this.#hides(table);
        if (hides === null) continue;
        const message = `column ${JSON.stringify(name)} of table ${shape.id} has rows of ${table.id}, of which rules ${hides}`;
        const place = rule?.place ?? this.#rules.of(table)?.place ?? "tables";
        return { code: "MR1025", place, message, fix: HIDE_TOO };
      }
    }
    return null;
  }

  #hides(table: Origins["parents"][number]): string | null {
    const rule = this.#rules.of(table);
    const held = this.#heldBack(table, rule);
    const shape = this.#present.get(table.id);
    if (shape !== undefined && this.ofOthers(shape, rule, this.otherRows(shape)) !== null) return "hide something";
    const columns = shape?.columns ?? [];
    const hidden = columns.find(
      ({ name }) => held.has(name) || (rule !== null && hiding(columnRuling(rule, name)) !== null),
    );
    if (hidden !== undefined) return `hide ${JSON.stringify(hidden.name)}`;
    return rule?.where == null ? null : "leave rows out";
  }

  /** A name in `source.tables` counts if it was not another table's: then somebody wrote it for this one. */
  #isNamed(shape: TableShape, rule: MergedRule | null, former: Former): boolean {
    // Before a rename the log has it by the former name: a rule for that one may be written for the table that has it now.
    if (former.id === shape.id) return this.#isStillNamed(shape);
    if (rule?.rules.some(({ pattern }) => !isGlob(pattern)) === true) return true;
    return this.#isSelected(shape) && !this.#former.isKnown(shape);
  }

  /** False for a table as the log had it, of which the catalogue knows another name, or none: rules that are gone say nothing of that. */
  #isStillNamed({ id, dialect, relation }: TableShape): boolean {
    const present = this.#present.get(id);
    if (present === undefined) return !this.#hasLooked;
    return isKnownByName({ dialect }) || present.relation === relation;
  }

  /** Of a table that is held back: by their present names, the columns that were hidden when its rows last passed. */
  #heldBack({ id }: Pick<TableShape, "id">, rule: MergedRule | null): ReadonlyMap<string, string> {
    const shape = this.#present.get(id);
    const former = shape === undefined ? undefined : this.#former.of(shape, null);
    if (shape === undefined || former === undefined || !this.#isHeldBack(id, rule)) return NO_HIDDEN;
    return new Map(
      former.hidden.flatMap((column): [string, string][] => {
        const ordinal = ordinalOf(column, former, shape);
        return ordinal < 0 ? [] : [[shape.columns[ordinal]!.name, column.how]];
      }),
    );
  }

  /** A SELECT of the parent shows the rows of this table. */
  #inherited({ columns }: TableShape, parent: Origins["parents"][number]): readonly Former[] {
    const rule = this.#rules.of(parent);
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
        rules: "",
        columns,
        named: new Set(),
        fingerprint: "",
        at: null,
      },
    ];
  }
}

/** A key of `tables` that was there for another table may not have been written for this one: it has to say so itself. */
function isLiftedByName(ruling: ColumnRuling | undefined): boolean {
  return isLifted(ruling) && ruling?.hiddenBy != null && !isGlob(ruling.hiddenBy.table.pattern);
}

function liftsRowsByName({ pattern, where }: TableRule): boolean {
  return !isGlob(pattern) && where !== null && where.expression === null;
}

/** Each column that came since may be the hidden one. */
function perhaps(
  hidden: HiddenColumn,
  { named }: Former,
  { columns }: TableShape,
  rulings: readonly ColumnRuling[],
): readonly { readonly hidden: HiddenColumn; readonly ruling: ColumnRuling | undefined; readonly name: string }[] {
  return columns.flatMap(({ name }, i) => {
    const ruling = rulings[i];
    const isHidden = named.has(name) || (ruling !== undefined && hiding(ruling) !== null);
    return isHidden ? [] : [{ hidden, ruling, name }];
  });
}

type Shown = ReturnType<typeof perhaps>;

/** Each column whose number is not known may be the hidden one, unless one of them has its name. */
function perhapsUnnumbered(hidden: HiddenColumn, { columns }: TableShape, rulings: readonly ColumnRuling[]): Shown {
  const unnumbered = columns.flatMap(({ name, identity }, i) => (identity < 0 ? [{ name, ruling: rulings[i] }] : []));
  const own = unnumbered.filter(({ name }) => name === hidden.name);
  return (own.length === 0 ? unnumbered : own).flatMap(({ name, ruling }) =>
    ruling !== undefined && hiding(ruling) !== null ? [] : [{ hidden, ruling, name }],
  );
}

/**
 * A condition asks by names. One that was written for another column of that name may let in what it left out. `rules`: see
 * `Ruled`.
 */
export function asksAnother(
  shape: TableShape,
  former: Former | undefined,
  { where }: MergedRule,
  { condition, rules }: { readonly condition: Condition | null; readonly rules: string | undefined },
): RuleProblem | null {
  if (former === undefined || where === null || condition === null || former.rules !== rules) return null;
  const taken = Array.from(condition.columns).find((name) => isTaken(name, former, shape));
  if (taken === undefined) return null;
  const message = `the condition of table ${shape.id} asks column ${JSON.stringify(taken)}, and another column has this name now`;
  const fix =
    "Write the condition for the columns as they are named now; any other text of the table's rules says that they are meant.";
  return { code: "MR1020", place: where.place, message, fix };
}

/** From what tells most of a value to what tells nothing. */
const HIDING: Readonly<Record<string, number>> = { partial: 1, hash: 2, redact: 3, null: 3, drop: 3 };

/** True if a column tells no more of its values than under `how`. */
function hidesAs(ruling: ColumnRuling | undefined, how: string): boolean {
  const now = ruling === undefined ? null : hiding(ruling);
  return now !== null && HIDING[now]! >= HIDING[how]!;
}
