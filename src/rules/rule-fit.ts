/** Checks whether a rule fits the shape of a table. */
import { type Column, type Origins, whyLeftOut } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import { isGlob } from "../core/table-selection.ts";
import type { ComputedRule, Input } from "./computed/computed-columns.ts";
import type { RuleProblem } from "./errors.ts";
import type { HiddenColumn } from "./former-rules.ts";
import { type ColumnRuling, columnRuling, type Decider, type MergedRule } from "./merged-rule.ts";
import { bindWhere, type Condition } from "./where/condition.ts";
import { WhereError } from "./where/syntax.ts";

/** A source that has no other keys must not ignore the rule. */
export function keyUntaken(shape: TableShape, { key }: MergedRule): RuleProblem | null {
  if (key === null || shape.keyChosen === true) return null;
  if (!key.columns.every((name) => shape.columns.some((column) => column.name === name))) return null;
  const fix = "Leave `key` out: rows of this source are told apart by their table's own key.";
  return { code: "MR1026", place: key.place, message: `table ${shape.id}: its source takes no other key`, fix };
}

export function hiddenKey(shape: TableShape, rule: MergedRule, rulings: readonly ColumnRuling[]): RuleProblem | null {
  const ordinal = shape.key.find((o) => hiding(rulings[o]!) !== null);
  if (ordinal === undefined) return null;
  const name = shape.columns[ordinal]!.name;
  const what = rulings[ordinal]!.drop ? "dropped" : "masked";
  return {
    code: "MR1023",
    place: placeOf(rulings[ordinal]!.hiddenBy) ?? rule.place,
    message: `column ${JSON.stringify(name)} is in the key of table ${shape.id}; it can't be ${what}`,
    fix: "Leave the key's columns out of the rule; to exempt a column from a glob, name it with `mask: none`.",
  };
}

export const HIDE_TOO = "Hide it too, by `mask` or `drop`; or name it with `mask: none` to show it as it is.";

/** A column that the server computes shows what the columns have that it computes it from. */
export function shownByComputing(
  shape: TableShape,
  rule: MergedRule,
  { rulings, origins }: { readonly rulings: readonly ColumnRuling[]; readonly origins: Origins | undefined },
): RuleProblem | null {
  for (const [name, { from }] of Object.entries(origins?.generated ?? {})) {
    const ruling = rulings[shape.columns.findIndex((column) => column.name === name)];
    if (ruling === undefined || hiding(ruling) !== null || isLifted(ruling)) continue;
    const hidden = from.find((input) => hiding(columnRuling(rule, input)) !== null);
    if (hidden === undefined) continue;
    const message = `the server computes column ${JSON.stringify(name)} of table ${shape.id} from ${JSON.stringify(hidden)}, which is hidden`;
    const place = placeOf(columnRuling(rule, hidden).hiddenBy) ?? rule.place;
    return { code: "MR1025", place, message, fix: HIDE_TOO, computed: name };
  }
  return null;
}

/** Columns that the server computes from hidden ones, and that its log leaves out. */
export function unloggedHidden(
  { columns }: TableShape,
  rule: MergedRule,
  origins: Origins | undefined,
): readonly HiddenColumn[] {
  return Object.entries(origins?.generated ?? {}).flatMap(([name, { from, identity }]): HiddenColumn[] => {
    const isLogged = columns.some((column) => column.name === name);
    const isHidden = from.some((input) => hiding(columnRuling(rule, input)) !== null);
    return isLogged || !isHidden ? [] : [{ name, identity, how: "drop", isComputed: true }];
  });
}

/**
 * What a computed column's function gets: its columns as the sinks get them, so that no function shows what a rule hides. A
 * column that is left out has no value at all.
 */
export function computedInputs(
  shape: TableShape,
  rulings: readonly ColumnRuling[],
  { name, from, place }: ComputedRule,
  origins: Origins | undefined,
): readonly Input[] | RuleProblem {
  const inputs: Input[] = [];
  for (const input of from) {
    const ordinal = shape.columns.findIndex((column) => column.name === input);
    if (ordinal < 0) {
      const message = `table ${shape.id} has no column ${JSON.stringify(input)}, from which ${JSON.stringify(name)} is made${whyLeftOut(input, origins)}`;
      return { code: "MR1021", place, message };
    }
    const { mask, drop } = rulings[ordinal]!;
    if (drop) {
      const message = `column ${JSON.stringify(name)} of table ${shape.id} is made from ${JSON.stringify(input)}, which a rule leaves out`;
      const fix =
        "Mask that column instead of dropping it: the function then gets the masked value; or show it by `mask: none`.";
      return { code: "MR1023", place, message, fix };
    }
    inputs.push({ name: input, ordinal, type: shape.columns[ordinal]!.type, mask });
  }
  return inputs;
}

/** A column after the rule, and the source's column for it; null: it is computed. */
interface RuledColumn {
  readonly ordinal: number | null;
  readonly column: Column;
}

export function sameName(shape: TableShape, rule: MergedRule, columns: readonly RuledColumn[]): RuleProblem | null {
  const seen = new Map<string, RuledColumn>();
  for (const one of columns) {
    const { name } = one.column;
    const other = seen.get(name);
    seen.set(name, one);
    if (other === undefined) continue;
    const made = rule.computed.find((computed) => computed.name === name);
    if (made !== undefined && (one.ordinal === null || other.ordinal === null)) {
      const message = `table ${shape.id} has a column ${JSON.stringify(name)} already, or one that is renamed to it`;
      return { code: "MR1023", place: made.place, message, fix: "Give the computed column a name of its own." };
    }
    const sources = [other, one].map(({ ordinal }) => shape.columns[ordinal!]!.name);
    const renamed = sources.find((source) => source !== name) ?? name;
    const message = `columns ${sources.map((s) => JSON.stringify(s)).join(" and ")} of table ${shape.id} would both be named ${JSON.stringify(name)}`;
    const { renamedBy } = columnRuling(rule, renamed);
    const fix = "Choose another name, or drop or rename the other column too.";
    return { code: "MR1023", place: placeOf(renamedBy) ?? rule.place, message, fix };
  }
  return null;
}

export function boundCondition(
  columns: readonly Column[],
  id: string,
  { where }: MergedRule,
  origins: Origins | undefined,
): Condition | RuleProblem | null {
  if (where?.expression == null) return null;
  try {
    return bindWhere(where.expression, columns, origins);
  } catch (error) {
    if (!(error instanceof WhereError)) throw error;
    const message = `at character ${error.at + 1}: ${error.message} (table ${id})`;
    return { code: "MR1020", place: where.place, message };
  }
}

/** Whether the key of a row tells what the condition says of it. */
export function asksKeyAlone(
  { columns: asked }: Condition,
  { columns, key }: Pick<TableShape, "columns" | "key">,
): boolean {
  return asked.isSubsetOf(new Set(key.map((ordinal) => columns[ordinal]!.name)));
}

/**
 * A daemon that follows the log in another one's sink has to delete what does not match any more. Without the old row nobody
 * knows whether it ever did, and the log would have the keys of all. `logs`: such sinks. `statement`: see
 * `CapturedTables.partlyLogged`; undefined: the source logs whole old rows.
 */
export function keysInLog(
  shape: TableShape,
  { where }: MergedRule,
  condition: Condition | null,
  { statement, logs }: { readonly statement: string | undefined; readonly logs: readonly string[] },
): RuleProblem | null {
  if (condition === null || statement === undefined || logs.length === 0 || asksKeyAlone(condition, shape)) return null;
  const message = `the condition of table ${shape.id} asks more than its key, and of an old row the source logs the key alone: the log in ${logs.join(", ")} would have keys of rows that never matched`;
  return { code: "MR1020", place: where!.place, message, fix: statement, isContained: true };
}

function placeOf(decider: Decider | null): string | undefined {
  return decider === null ? undefined : (decider.column?.place ?? decider.table.only?.place);
}

/** Null if the values are visible. */
export function hiding({ mask, drop }: ColumnRuling): string | null {
  return drop ? "drop" : mask;
}

/** True if the rule that decides names the column itself, and shows it. */
export function isLifted(ruling: ColumnRuling | undefined): boolean {
  const decider = ruling?.hiddenBy?.column;
  return decider?.action.hiding === "none" && !isGlob(decider.pattern);
}

export function isNothing({ mask, drop, rename }: ColumnRuling): boolean {
  return mask === null && !drop && rename === null;
}
