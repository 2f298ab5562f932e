/** Rules and selections that fit nothing, and other things that rules say in vain. */
import type { CapturedTables } from "../core/contracts/catalog.ts";
import type { TableName } from "../core/contracts/connector.ts";
import { namesOfTable } from "../core/model/schema.ts";
import { nearestName } from "./nearest.ts";
import { fits, isGlob, selectedName, TableSelection } from "../core/table-selection.ts";
import type { Rules } from "./definition.ts";
import type { RuleProblem } from "./errors.ts";
import { mergedRule } from "./merged-rule.ts";
import { boundCondition } from "./rule-fit.ts";

/** Matches whatever there is: it can't be misspelt. */
const ANY = /^[*?.]+$/;

/**
 * Keys of `tables` and items of sinks' lists that fit no table: a mask that hides nothing is worse than none. `former`: ids of
 * the tables that there ever were. One that is gone, was renamed or can't be seen was named without a mistake.
 */
export function idleRules(
  { tables, selections }: Rules,
  captured: CapturedTables,
  former: Iterable<string>,
): readonly RuleProblem[] {
  const present = [...presentIn(captured), ...Array.from(former, namesOfTable)];
  const names = present.map(selectedName);
  const similar = [
    ...present.map(({ schema, table }) => `${schema}.${table}`),
    ...new Set(present.map(({ schema }) => `${schema}.*`)),
  ];
  const optional = new Set(tables.filter(({ isOptional }) => isOptional).map(({ pattern }) => pattern));
  // What a glob of a sink's list does not match goes nowhere: that hides nothing, and is told.
  const listed = selections.flatMap(({ patterns }) =>
    patterns.filter(({ pattern }) => !pattern.startsWith("!") && !isGlob(pattern)),
  );
  return [...tables, ...listed]
    .filter(({ pattern }) => !ANY.test(pattern) && !optional.has(pattern) && !names.some((name) => fits(pattern, name)))
    .map(({ pattern, place }) => {
      const what = isGlob(pattern) ? "matches no captured table" : "is no captured table";
      const nearest = nearestName(pattern, similar);
      const meant = nearest === undefined ? "" : `; did you mean ${JSON.stringify(nearest)}?`;
      return { code: "MR1021", place, message: `${JSON.stringify(pattern)} ${what}${meant}` };
    });
}

const NONE: ReadonlyMap<string, string> = new Map();

/** What deserves a word, and hides no less than it should. */
export interface RuleHint {
  readonly id: string;
  readonly what: string;
  readonly fix: string;
}

export function ruleHints(rules: Rules, captured: CapturedTables, former: Iterable<string>): readonly RuleHint[] {
  const { selections } = rules;
  const ofSource = (captured.idle ?? []).filter((pattern) => pattern.startsWith("!") || isGlob(pattern));
  const present = presentIn(captured);
  const ofSinks = selections.flatMap(({ sink, patterns }) =>
    new TableSelection(patterns.map(({ pattern }) => pattern))
      .idle(present)
      .filter((pattern) => pattern.startsWith("!") || isGlob(pattern))
      .map((pattern) => idleIn(`sinks.${sink}.tables`, pattern)),
  );
  const wrong = new Set(idleRules(rules, captured, former).map(({ place }) => place));
  const gone = idleRules(rules, captured, []).filter(({ place }) => !wrong.has(place));
  const idle = [
    ...ofSource.map((pattern) => idleIn("source.tables", pattern)),
    ...ofSinks,
    ...gone.map(({ place, message }) => `${place}: ${message}; what it was for is gone`),
  ];
  const fix = "correct or remove it";
  return [...idle.map((what) => ({ id: "rules.idle", what, fix })), ...untoldDeletes(rules, captured)];
}

/** Streams are told that a row left a filter, or was deleted, only where it is known that the row was let through. */
function untoldDeletes(rules: Rules, { tables, partlyLogged = NONE }: CapturedTables): readonly RuleHint[] {
  return tables.flatMap((shape) => {
    const fix = partlyLogged.get(shape.id);
    const rule = fix === undefined ? null : mergedRule(rules, shape);
    const condition = rule === null ? null : boundCondition(shape.columns, shape.id, rule, shape.origins);
    if (fix === undefined || condition === null || "code" in condition) return [];
    const key = new Set(shape.key.map((ordinal) => shape.columns[ordinal]!.name));
    if (condition.columns.isSubsetOf(key)) return [];
    const streams = rules.selections.filter(
      ({ isStream, patterns }) =>
        isStream && new TableSelection(patterns.map(({ pattern }) => pattern)).matches(shape.schema, shape.table),
    );
    if (streams.length === 0) return [];
    const names = streams.map(({ sink }) => sink).join(", ");
    const what = `deletes in table ${shape.id}, and rows that leave its filter, may not be told to ${names}: the log has only the key of an old row, and after a restart nobody knows whether it ever matched`;
    return [{ id: "rules.untold", what, fix }];
  });
}

function idleIn(list: string, pattern: string): string {
  return `${JSON.stringify(pattern)} in ${list} ${pattern.startsWith("!") ? "leaves out no table" : "matches no table"}`;
}

/** All tables that the configuration means, whether or not they can be captured now. */
function presentIn({ tables, refused, elsewhere }: CapturedTables): readonly TableName[] {
  const others = [...refused, ...(elsewhere?.refused ?? [])];
  return [...tables, ...(elsewhere?.tables ?? []), ...others.map(({ id }) => namesOfTable(id))];
}
