/** The form of a sink's tables: `deletes` and `mode` of its configuration, and how to convert a table into it. */
import { quoteLiteral } from "../../../../src/postgres/quote.ts";
import { fatal } from "../errors.ts";

export const VERSION_COLUMN = "_millrace_version";
export const TIME_COLUMN = "_millrace_commit_time";
/** Only with soft deletes. A row that is not deleted has false here, never null. */
export const DELETED_COLUMN = "_millrace_deleted";
/** Only in a history. */
export const OP_COLUMN = "_millrace_op";

export interface TargetForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
}

export const DEFAULT_FORM: TargetForm = { deletes: "hard", mode: "mirror" };

/** The present form of a table of ours. */
export interface FoundForm {
  readonly hasDeleted: boolean;
  readonly hasOp: boolean;
}

/**
 * The statements that convert an existing table into the form; empty: it has the form. Rows need not be read again:
 * rows that are not marked are the same in both forms. Invariant: marked rows and the column that marks them are
 * removed in one transaction, so that no deleted row appears as existing.
 */
export function conversion(quoted: string, form: TargetForm, found: FoundForm): readonly string[] {
  const isHistory = form.mode === "history";
  if (isHistory !== found.hasOp) throw otherMode(quoted, found.hasOp);
  if (isHistory) return [];
  if (form.deletes === "soft") {
    return found.hasDeleted ? [] : [`ALTER TABLE ${quoted} ADD COLUMN ${deletedDefinition}`];
  }
  if (!found.hasDeleted) return [];
  return [
    // Locks before it removes rows, so that no reader sees a partial conversion.
    `LOCK TABLE ${quoted} IN ACCESS EXCLUSIVE MODE`,
    `DELETE FROM ${quoted} WHERE ${DELETED_COLUMN}`,
    `ALTER TABLE ${quoted} DROP COLUMN ${DELETED_COLUMN}`,
  ];
}

export const deletedDefinition = `${DELETED_COLUMN} boolean NOT NULL DEFAULT false`;

/** Finds the existing ones of these tables: their ordinals, their columns' names as JSON, and their comments. */
export function lookAtForms(quotedNames: readonly string[]): string {
  const names = quotedNames.map((name, i) => `(${i}, ${quoteLiteral(name)})`).join(", ");
  const columns =
    "(SELECT json_agg(a.attname) FROM pg_attribute a WHERE a.attrelid = r AND a.attnum > 0 AND NOT a.attisdropped)";
  return `SELECT i, ${columns}, obj_description(r, 'pg_class') FROM (VALUES ${names}) AS v (i, name), to_regclass(name) AS r WHERE r IS NOT NULL ORDER BY i`;
}

/** The columns of a row of `lookAtForms`. */
export function columnsIn(json: string | null | undefined): ReadonlySet<string> {
  const names: unknown = JSON.parse(json ?? "[]");
  return new Set(Array.isArray(names) ? names.map(String) : []);
}

function otherMode(quoted: string, isHistory: boolean) {
  const [there, wanted] = isHistory ? ["a history", "a mirror"] : ["a mirror", "a history"];
  return fatal(
    "MR3120",
    `${quoted} holds ${there}, and the sink is to keep ${wanted}`,
    "Give the sink another `schema`, or set `mode` back. If nobody needs the table any more, drop it while Millrace is stopped: Millrace creates and fills it again.",
  );
}
