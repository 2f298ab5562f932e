/** What a sink keeps of a table: `deletes` and `mode` of its configuration, and how a table is brought into that form. */
import { otherMode } from "../errors.ts";
import { DELETED_COLUMN, OP_COLUMN, quoteIdentifier } from "../names.ts";

export interface TargetForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
}

export const DEFAULT_FORM: TargetForm = { deletes: "hard", mode: "mirror" };

/**
 * The statements that bring a table of ours into the form, given the (folded) names of its columns; empty: it has it. Rows
 * need not be read again: what is not marked is the same in both. Each is a transaction of its own, as DuckDB alters no
 * table that has uncommitted changes; invariant: marked rows go before the column that marks them, so that nobody takes a
 * deleted row for one that is there, and what a crash interrupts is begun again.
 */
export function conversion(
  sqlName: string,
  form: TargetForm,
  columns: { has(name: string): boolean },
): readonly string[] {
  const isHistory = form.mode === "history";
  if (isHistory !== columns.has(OP_COLUMN)) throw otherMode(sqlName, columns.has(OP_COLUMN));
  if (isHistory) return [];
  const deleted = quoteIdentifier(DELETED_COLUMN);
  const has = columns.has(DELETED_COLUMN);
  if (form.deletes === "soft") {
    return has ? [] : [`ALTER TABLE ${sqlName} ADD COLUMN ${deletedDefinition}`];
  }
  return has ? [`DELETE FROM ${sqlName} WHERE ${deleted}`, `ALTER TABLE ${sqlName} DROP COLUMN ${deleted}`] : [];
}

/** DuckDB adds no column with a constraint to a table that is there. */
export const deletedDefinition = `${quoteIdentifier(DELETED_COLUMN)} BOOLEAN DEFAULT false`;
