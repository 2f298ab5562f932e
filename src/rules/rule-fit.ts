/** Checks whether a rule fits the shape of a table. */
import type { Column } from "../core/model/schema.ts";
import type { TableShape } from "../core/contracts/catalog.ts";
import { isGlob } from "../core/table-selection.ts";
import type { RuleProblem } from "./errors.ts";
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

/** A column after the rule, and the source's column for it; null: only the sinks keep it. */
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
): Condition | RuleProblem | null {
  if (where?.expression == null) return null;
  try {
    return bindWhere(where.expression, columns);
  } catch (error) {
    if (!(error instanceof WhereError)) throw error;
    const message = `at character ${error.at + 1}: ${error.message} (table ${id})`;
    return { code: "MR1020", place: where.place, message };
  }
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
