/** What a sink keeps of a table: `deletes` and `mode` of its configuration, and how a table is brought into that form. */
import { quoteLiteral } from "../../quote.ts";
import { fatal } from "../errors.ts";

export const VERSION_COLUMN = "_millrace_version";
export const TIME_COLUMN = "_millrace_commit_time";
/** Only where deletes are soft. A row that is not marked has false here, never null. */
export const DELETED_COLUMN = "_millrace_deleted";
/** Only in a history. */
export const OP_COLUMN = "_millrace_op";

export interface TargetForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
}

export const DEFAULT_FORM: TargetForm = { deletes: "hard", mode: "mirror" };

/** How a table of ours that is there looks. */
export interface FoundForm {
  readonly hasDeleted: boolean;
  readonly hasOp: boolean;
}

/**
 * The statements that bring a table that is there into the form; empty: it has it. Rows need not be read again: what is
 * not marked is the same in both. Invariant: marked rows and the column that marks them go in one transaction, so that
 * nobody takes a deleted row for one that is there.
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
    // Before rows are removed, so that no reader sees a part of it.
    `LOCK TABLE ${quoted} IN ACCESS EXCLUSIVE MODE`,
    `DELETE FROM ${quoted} WHERE ${DELETED_COLUMN}`,
    `ALTER TABLE ${quoted} DROP COLUMN ${DELETED_COLUMN}`,
  ];
}

export const deletedDefinition = `${DELETED_COLUMN} boolean NOT NULL DEFAULT false`;

/** Of these tables those that are there: their ordinals, whether they are ours, and whether they have the columns of a form. */
export function lookAtForms(quotedNames: readonly string[]): string {
  const names = quotedNames.map((name, i) => `(${i}, ${quoteLiteral(name)})`).join(", ");
  const has = (column: string) =>
    `EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = r AND a.attname = '${column}' AND NOT a.attisdropped)`;
  return `SELECT i, ${[VERSION_COLUMN, DELETED_COLUMN, OP_COLUMN].map(has).join(", ")} FROM (VALUES ${names}) AS v (i, name), to_regclass(name) AS r WHERE r IS NOT NULL ORDER BY i`;
}

function otherMode(quoted: string, isHistory: boolean) {
  const [there, wanted] = isHistory ? ["a history", "a mirror"] : ["a mirror", "a history"];
  return fatal(
    "MR3120",
    `${quoted} holds ${there}, and the sink is to keep ${wanted}`,
    "Give the sink another `schema`, or set `mode` back. A table that nobody needs any more may be dropped while Millrace is stopped: it is made and filled again.",
  );
}
