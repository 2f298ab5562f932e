import type { TableShape } from "../core/contracts/catalog.ts";
import type { RulesFault } from "../core/model/schema.ts";
import { type ErrorPages, MillraceError } from "../core/errors.ts";
import { type Former, isPart, isSameTable } from "./former-rules.ts";

const AFTERWARDS = "Then start again.";

export const pages = {
  MR1020: {
    title: "A `where` that can't be understood, or does not fit its table",
    remedy: `Correct the condition at the character that the message names. Texts are in single quotes, names with capitals in double quotes. ${AFTERWARDS} Where the log has too little of old rows, run the statement that the message has: Millrace then reads the table by itself.`,
    cause:
      "The condition is not in the language of filters (SQL's comparisons and truth values, without functions and arithmetic), names a column that the table lacks, or compares it with a value of another type. Or another column has taken the name of one in it. Or it asks more than the key of a table of which Postgres logs only the key of an old row, and a sink with `format: log` would get keys of rows that never matched.",
  },
  MR1021: {
    title: "A rule or a sink's list names nothing",
    remedy: `Use the name at the source; its case counts, and a partition comes under its parent's name. If it comes later: \`optional: true\` under that key of \`tables\`. ${AFTERWARDS}`,
    cause:
      "A key of `tables` or `columns`, or a sink's list, matches no captured table or column: it is misspelt, or was dropped or renamed. A mask that hides nothing is worse than none.",
  },
  MR1023: {
    title: "A rule can't be applied",
    remedy: `Leave the key's columns out of the rule (of a glob by \`mask: none\`); give a renamed column a name of its own; make one of two globs more exact, or name the table or column itself. ${AFTERWARDS}`,
    cause:
      "It masks or drops a column of the key, by which sinks find rows; it gives two columns one name; or two globs that are equally exact say different things.",
  },
  MR1025: {
    title: "A hidden column shows itself under a name that its rule does not cover",
    remedy: `Use the column's present name. A column that the server computes from it: hide it too, or show it by \`mask: none\`. ${AFTERWARDS}`,
    cause:
      "A column that a rule masks or drops was renamed at the source, the server computes another column from it, a column of another table consists of the table's rows, or another table without it has taken the table's name: its values might become visible.",
  },
  MR1026: {
    title: "A `key` that can't identify its table's rows",
    remedy:
      "Use columns of the replica identity that are NOT NULL and under a unique constraint or index; the message has the statement. `REPLICA IDENTITY FULL` puts all columns in it; without a constraint you promise that no two rows have the same values there.",
    cause:
      "Not all of the columns are in the replica identity, so the log does not say which row a change concerns; or no constraint keeps two rows from having the same values there.",
  },
  MR1027: {
    title: "A change of a table's shape that can't be ignored",
    remedy:
      "Set `schemaChange: evolve` and start again, or change it back at the source: Millrace reads the table by itself.",
    cause:
      "The rule says `schemaChange: ignore`, and the rows can't be written in the shape that the sinks keep: a type does not fit the kept one, the key has changed, or another table has the name.",
  },
  MR1033: {
    title: "A table that stood under rules has another name",
    remedy:
      "Put what the message says under `tables`, with the new name: the same rules as before, or `{}` to show all; where another table had that name, `mask: none` for each column to show. Then start again: Millrace reads the table. Or give it its former name back, or leave it out of `source.tables`.",
    cause:
      "A table of which rules hide something was renamed, moved, swapped or detached; or another one inherits from it, or has its columns as a copy has; and no rule hides the same under that name. Or, on MySQL and MariaDB, a table or column gets another name further on in the log: then it ends by itself, as the message says.",
  },
  MR1034: {
    title: "A table or column that no rule fits by the spelling of its letters",
    remedy: `Name it as it is at the source: its own \`mask\`, \`drop\` or \`where\`, or \`mask: none\` for a column, and for a table a key of its own in \`tables\`, if it is to go out as it is. ${AFTERWARDS}`,
    cause:
      "No rule fits its name, but one that hides something would if letters had the other case or were composed otherwise (é is one character or two). The table is suspended, and none of its rows goes out.",
  },
  MR1035: {
    title: "A function can't be used",
    remedy:
      "Correct the file or the name at the line of the configuration that the message has; paths are relative to the configuration's file. `millrace rules try TABLE` then shows what it makes of rows.",
    cause:
      "A computed column names a file that does not exist or can't be loaded, or an export that it does not have, that is no function, or that is async.",
  },
  MR1036: {
    title: "A function failed on a row, or a document is too large",
    remedy:
      "The message names the function, the file and the line. Correct it, try it with `millrace rules try TABLE` (a document: `millrace documents show NAME KEY`), then start again: Millrace reads the table again, and its letters are gone. If the row is wrong, correct it at the source: its next change replaces the letter. If a document is too large, give its relations a `limit`.",
    cause:
      "The function of a computed column or of a document threw, or returned a promise or what the type can't hold; or a document is larger than 511 MB. The row is a dead letter in every sink of its table, which keeps its earlier state; all other rows go on.",
  },
} as const satisfies ErrorPages;

/** What is wrong with a rule; its position in the file is separate. */
export interface RuleProblem {
  readonly code: keyof typeof pages;
  readonly place: string;
  readonly message: string;
  /** Set if there is more to say than on the code's page. */
  readonly fix?: string;
  /** It suspends its table, and stops nothing else. */
  readonly isContained?: true;
  /** The column that the server computes from hidden ones. */
  readonly computed?: string;
}

/**
 * `where`: the condition under the former name, as far as the configuration still has it. `isOthers`: another table had the
 * present name.
 */
export function otherName(
  shape: TableShape,
  former: Former,
  { place, where, isOthers }: { readonly place: string; readonly where: string | null; readonly isOthers: boolean },
): RuleProblem {
  const hidden = former.hidden.map(({ name }) => JSON.stringify(name)).join(", ");
  const did = [...(hidden === "" ? [] : [`hide ${hidden}`]), ...(former.filtered ? ["leave rows out"] : [])].join(
    " and ",
  );
  const is = whatItIs(shape, former);
  const masks = former.hidden.map(({ name, how }) => [name, how === "drop" ? { drop: true } : { mask: how }]);
  const rule = {
    ...(masks.length === 0 ? {} : { columns: Object.fromEntries(masks) }),
    ...(where === null ? {} : { where }),
  };
  const all = isOthers
    ? {
        ...(masks.length === 0 ? {} : { columns: Object.fromEntries(masks.map(([one]) => [one, { mask: "none" }])) }),
        ...(former.filtered ? { where: "true" } : {}),
      }
    : {};
  const name = JSON.stringify(`${shape.schema}.${shape.table}`);
  return {
    code: "MR1033",
    place,
    message: `table ${shape.id} ${is}; rules for that name ${did}, and none does so for this one`,
    fix: `put under \`tables:\` the line ${name}: ${JSON.stringify(rule)} or, to show all that the table has, ${name}: ${JSON.stringify(all)}; then start again`,
  };
}

/** Why rows that come under a name which means something else further on in the log do not pass. */
interface Ahead {
  readonly place: string;
  /** Names of columns that these rows would show. */
  readonly hidden: readonly string[];
  readonly filtered: boolean;
  /** The table's id there; null: it has none, or nobody knows. */
  readonly later: string | null;
  /** Whose rules hide it: those that the table stood under here, or those for what it becomes. */
  readonly by: "former" | "later";
}

/** What the table becomes, or what it stood under, hides more than the rules for its name. */
export function namedOtherwiseLater({ id }: TableShape, { place, hidden, filtered, later, by }: Ahead): RuleProblem {
  const names = hidden.map((name) => JSON.stringify(name)).join(", ");
  const isColumns = later === id && names !== "";
  const did = [...(names === "" ? [] : [`hide ${names}`]), ...(filtered ? ["leave rows out"] : [])].join(" and ");
  const what = did === "" ? "may hide what it has" : did;
  const becomes = later === null ? "goes or gets another name" : isColumns ? "gets other columns" : `becomes ${later}`;
  const others = later === null ? "rules for what it becomes" : `rules for ${later}`;
  const rules = by === "former" ? "the rules that it stood under before" : others;
  return {
    code: "MR1033",
    place,
    message: `table ${id} ${becomes} further on in the log; ${rules} ${what}, and those that ${id} has now are not for these rows`,
    fix: "Nothing has to be done: when the stream is there, what has the name then goes on and is read by itself. To have the changes from before in histories and topics, give this name rules that hide the same, and start again.",
  };
}

function whatItIs(shape: TableShape, former: Former): string {
  const { id, held } = former;
  if (held === "heir") return `inherits from ${id}, which shows its rows`;
  if (held === "part") return `was a partition of ${id}`;
  if (isPart(former, shape)) return `shows the rows of ${id}, its partition now`;
  return held === undefined && isSameTable(former, shape) ? `is ${id} under another name` : `has the columns of ${id}`;
}

export function faultOf({ code, place, message, fix, computed }: RuleProblem): RulesFault {
  const fault = { code, message: `${place}: ${message}`, hint: fix ?? pages[code].remedy };
  return computed === undefined ? fault : { ...fault, computed };
}

/** All problems as one error, with the code of the first. */
export function rulesError(problems: readonly [RuleProblem, ...RuleProblem[]]): MillraceError {
  const { code, hint } = faultOf(problems[0]);
  const message = problems.map((problem) => faultOf(problem).message).join("\n");
  return new MillraceError({ code, kind: "fatal", message, hint });
}

/** Of a condition that an operator gave to a command. */
export function conditionAsksHidden(why: string): MillraceError {
  return new MillraceError({
    code: "MR1323",
    kind: "fatal",
    message: `${why}; where rules hide something, a condition is in the language of \`where\` in \`tables\``,
  });
}

/** A version of the registry that was made with other rules: its rows are read as its successor version. */
export function otherRules(table: string): MillraceError {
  const message = `${table} can't be read under rules that are no longer in force, or do not fit it`;
  return new MillraceError({ code: "MR1025", kind: "retryable", message });
}
