/** The form of a sink's tables: `deletes` and `mode` of its configuration, and how to convert a table into it. */
import { otherMode } from "../errors.ts";
import { DELETED_COLUMN, OP_COLUMN, quoteIdentifier } from "../names.ts";

export interface TargetForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
  /** The tables are in a lake (DuckLake), which knows no keys, indexes or ON CONFLICT. Default: in a file. */
  readonly isLake?: boolean;
}

export const DEFAULT_FORM: TargetForm = { deletes: "hard", mode: "mirror" };

/**
 * The statements that convert a table of ours into the form, given the (folded) names of its columns; empty: it has the
 * form. Rows need not be read again: rows that are not marked are the same in both forms. Each statement is a separate
 * transaction, because DuckDB alters no table with uncommitted changes. Invariant: marked rows are removed before the
 * column that marks them, so that no deleted row appears as existing; an interrupted conversion starts again.
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

/** DuckDB can't add a column with a constraint to an existing table; DuckLake takes the default as text only. */
export const deletedDefinition = `${quoteIdentifier(DELETED_COLUMN)} BOOLEAN DEFAULT 'false'`;
