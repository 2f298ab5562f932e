import type { TableShape } from "../core/contracts/catalog.ts";
import { type ErrorCode, type ErrorPages, MillraceError } from "../core/errors.ts";
import { type Former, isPart, isSameTable } from "./former-rules.ts";

const AFTERWARDS =
  "If this is found at the start, the daemon does not start. If a table changes while the daemon runs, that table is " +
  "suspended and none of its rows reaches a sink: correct the rule, start again, change one of the table's rows so that the " +
  "log shows it, then `millrace snapshot start --tables TABLE`.";

export const pages = {
  MR1020: {
    title: "A `where` that can't be understood, or does not fit its table",
    cause:
      "The condition of a table's rule is not in the language of filters, names a column that the table does not have, or " +
      "compares a column with a value of another type. The message names the character. The language is SQL's without " +
      "functions and arithmetic: `=`, `<>`, `<`, `<=`, `>`, `>=`, `and`, `or`, `not`, parentheses, `is [not] null`, " +
      "`is [not] true`, `is [not] false`, `is [not] distinct from`, `[not] in (…)`, `[not] between … and …`, " +
      "`[not] like '…'`, and a truth-value column by itself, as in `status <> 'test' and (country is null or country in ('DE', 'AT'))`.",
    remedy: `Correct the condition. Put texts in single quotes, and names with capitals in double quotes. ${AFTERWARDS}`,
  },
  MR1021: {
    title: "A rule names a column that the table does not have",
    cause:
      "A key under `columns` is no column of the table, and as a glob matches none (for a glob over tables: of none of its " +
      "tables): it is misspelt, or the column was dropped or renamed at the source. It is refused, because a mask that hides " +
      "nothing is worse than none.",
    remedy: `Use the column's name at the source; its case counts. If the column comes later: \`optional: true\`. ${AFTERWARDS}`,
  },
  MR1022: {
    title: "Two columns would have one name",
    cause: "A `rename` gives a column the name of another one that is kept, or two columns get the same name.",
    remedy: `Choose another name, or drop or rename the other column too. ${AFTERWARDS}`,
  },
  MR1023: {
    title: "A rule hides a column of the key",
    cause: "Sinks find rows by their key, so its columns can't be masked or dropped. They may be renamed.",
    remedy: `Leave the key's columns out of the rule; to exempt a column from a glob, name it with \`mask: none\`. ${AFTERWARDS}`,
  },
  MR1024: {
    title: "A hash without its key",
    cause: "A rule says `mask: hash`, and there is no `maskKey` at the top of the config (at least 16 characters).",
    remedy:
      "Add `maskKey: ${MILLRACE_MASK_KEY}` and keep that value: another one changes all hashes, and the tables are read again.",
  },
  MR1025: {
    title: "A hidden column has a new name that its rule does not cover",
    cause:
      "A column whose values a rule masks or drops was renamed at the source. The rule does not cover its new name, " +
      "and its values would become visible.",
    remedy: `Use the column's present name. ${AFTERWARDS}`,
  },
  MR1033: {
    title: "A table that stood under rules has another name",
    cause:
      "Rules hide columns of the table, or leave rows out, and now it has another name: it was renamed, moved to another schema " +
      "or database, swapped with another table, or is a partition that was detached or attached elsewhere. Or a new table has all columns of a table " +
      "under rules, as a copy has. No rule hides the same under that name, and its values would become visible.",
    remedy:
      "Put what the message says under `tables`, with the new name: the same rules as before, or `{}` to show what the table " +
      "has. Then start again: Millrace reads the table by itself. Or give it its former name back, or leave it out of `source.tables`.",
  },
  MR1026: {
    title: "A `key` that can't identify its table's rows",
    cause:
      "The columns that a rule names as `key` are not all in the table's replica identity, so the log does not say which row " +
      "an update or a delete concerns; or no constraint keeps two rows from having the same values there, and the replica identity " +
      "is not FULL.",
    remedy:
      "Use columns of the replica identity that are NOT NULL and under a unique constraint or index; the message has the statement. " +
      "`REPLICA IDENTITY FULL` puts all columns in it; without a constraint you promise that no two rows have the same values there.",
  },
  MR1027: {
    title: "A change of a table's shape that can't be ignored",
    cause:
      "The table's rule says `schemaChange: ignore`, and its rows can't be written in the shape that the sinks keep: a column " +
      "now has a type whose values do not fit the kept one, the key has changed, or another table has the name.",
    remedy:
      "Set `schemaChange: evolve`, start again, then `millrace snapshot start --tables TABLE`: the sinks follow the table. Or " +
      "change it back at the source, then `millrace snapshot start --tables TABLE`.",
  },
  MR1034: {
    title: "A table or column that no rule fits by the case of its letters",
    cause:
      "No rule speaks of the table or column, but one that hides something would if letters of its name were capitals, or " +
      "small. A mask that is missed so is missed: the table is suspended, and none of its rows goes out.",
    remedy:
      "Name it as it is at the source: its own `mask`, `drop` or `where`, or `mask: none` for a column, and for a table a key of " +
      `its own in \`tables\`, if it is to go out as it is. ${AFTERWARDS}`,
  },
  MR1029: {
    title: "A rule or a sink's list fits no table",
    cause:
      "A key of `tables`, or a name in a sink's `tables`, names or matches none of the tables that `source.tables` takes: " +
      "schema or table is misspelt or in another case, the table was renamed or dropped, or it is a partition, which comes " +
      "under its parent's name. It is refused, because a mask that hides nothing is worse than none.",
    remedy:
      "Use the names at the source; their case counts. If the table comes later, say `optional: true` under that key of " +
      "`tables` (for a name in a sink's list, under the same key).",
  },
  MR1028: {
    title: "Two rules contradict each other",
    cause:
      "Two globs that are equally exact say different things of one column or table. The name itself is the most exact; " +
      "then the glob with more literal characters, then with fewer `*`, then with more `?`; globs over tables come before " +
      "globs over columns.",
    remedy: `Make one of them more exact, or name the table or column itself. ${AFTERWARDS}`,
  },
} as const satisfies ErrorPages;

/** What is wrong with a rule; its position in the file is separate. */
export interface RuleProblem {
  readonly code: keyof typeof pages;
  readonly place: string;
  readonly message: string;
  /** Set if there is more to say than on the code's page. */
  readonly fix?: string;
}

/** `where`: the condition under the former name, as far as the configuration still has it. */
export function otherName(
  shape: TableShape,
  former: Former,
  { place, where }: { readonly place: string; readonly where: string | null },
): RuleProblem {
  const hidden = former.hidden.map(({ name }) => JSON.stringify(name)).join(", ");
  const did = [...(hidden === "" ? [] : [`hide ${hidden}`]), ...(former.filtered ? ["leave rows out"] : [])].join(
    " and ",
  );
  const is = isSameTable(former, shape)
    ? `is ${former.id} under another name`
    : isPart(former, shape)
      ? `shows the rows of ${former.id}, its partition now`
      : `has all columns of ${former.id}`;
  const masks = former.hidden.map(({ name, how }) => [name, how === "drop" ? { drop: true } : { mask: how }]);
  const rule = {
    ...(masks.length === 0 ? {} : { columns: Object.fromEntries(masks) }),
    ...(where === null ? {} : { where }),
  };
  const name = JSON.stringify(`${shape.schema}.${shape.table}`);
  return {
    code: "MR1033",
    place,
    message: `table ${shape.id} ${is}; rules for that name ${did}, and none does so for this one`,
    fix: `put under \`tables:\` the line ${name}: ${JSON.stringify(rule)} or, to show all that the table has, ${name}: {}; then start again`,
  };
}

export function faultOf({ code, place, message, fix }: RuleProblem) {
  return { code, message: `${place}: ${message}`, hint: fix ?? pages[code].remedy };
}

/** All problems as one error, with the code of the first. */
export function rulesError(problems: readonly [RuleProblem, ...RuleProblem[]]): MillraceError {
  const [first] = problems;
  const { code } = first;
  const message = problems.map((problem) => faultOf(problem).message).join("\n");
  return new MillraceError({ code, kind: "fatal", message, hint: faultOf(first).hint });
}

/** A version of the registry that was made with other rules: its rows are read as its successor version. */
export function otherRules(table: string): MillraceError {
  const code: ErrorCode = "MR1025";
  return new MillraceError({
    code,
    kind: "retryable",
    message: `${table} can't be read under rules that are no longer in force, or do not fit it`,
  });
}
