/** Millrace's own columns in a warehouse's table, beside the source's, and the form that they show. */

/** Begins their names. */
export const OWN_PREFIX = "_millrace_";
export const VERSION_COLUMN = "_millrace_version";
export const COMMIT_TIME_COLUMN = "_millrace_commit_time";
/** Marks a row that was deleted at the source. A row that is not deleted has false here, never null. */
export const DELETED_COLUMN = "_millrace_deleted";
/** Only in a history. */
export const OP_COLUMN = "_millrace_op";
export const OFFSET_COLUMN = "_millrace_offset";
/** In a history: names of the columns whose value is unknown, from the log and from earlier rows. */
export const UNCHANGED_COLUMN = "_millrace_unchanged";
/** In a history: version of the last read beside the stream that found the row as it is. */
export const SEEN_COLUMN = "_millrace_seen";
/** JSON object of the cells that do not fit their columns' types. */
export const EXACT_COLUMN = "_millrace_exact";

/** What an engine that can add them at any time makes its targets with, whatever their form. */
export const WRITTEN_COLUMNS: readonly string[] = [
  VERSION_COLUMN,
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  OP_COLUMN,
  OFFSET_COLUMN,
  UNCHANGED_COLUMN,
  SEEN_COLUMN,
];
/** The names that no column of a table may take. */
export const OWN_COLUMNS: readonly string[] = [...WRITTEN_COLUMNS, EXACT_COLUMN];

/** Follows the key of a history's rows; distinguishes the changes of a row. */
export const CHANGE_IDENTITY: readonly string[] = [VERSION_COLUMN, OFFSET_COLUMN];

/** `deletes` and `mode` of a sink's configuration. */
export interface TargetForm {
  readonly deletes: "hard" | "soft";
  readonly mode: "mirror" | "history";
}

export const DEFAULT_FORM: TargetForm = { deletes: "hard", mode: "mirror" };

export function isOwn(column: string): boolean {
  return column.startsWith(OWN_PREFIX);
}

/** The form of a table with these columns; null: Millrace did not make it. */
export function formOf(columns: { has(name: string): boolean }): TargetForm | null {
  if (!columns.has(VERSION_COLUMN) || !columns.has(COMMIT_TIME_COLUMN)) return null;
  if (columns.has(OP_COLUMN)) return { mode: "history", deletes: "hard" };
  return { mode: "mirror", deletes: columns.has(DELETED_COLUMN) ? "soft" : "hard" };
}
