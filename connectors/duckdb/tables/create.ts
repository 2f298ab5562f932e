import { deletedDefinition } from "./form.ts";
import { HISTORY_COLUMNS } from "../write/history-statements.ts";
import { CHANGE_IDENTITY, COMMIT_TIME_COLUMN, quoteIdentifier, VERSION_COLUMN } from "../names.ts";
import type { TableLayout } from "../write/layout.ts";

/** `retired`: definitions of columns that the table no longer has and the target keeps. */
export function createSql(layout: TableLayout, sqlName = layout.sqlName, retired: readonly string[] = []): string {
  const columns = layout.columns.map(({ name, duck }) => `${quoteIdentifier(name)} ${duck.name}`);
  const key = layout.key.map(({ name }) => quoteIdentifier(name)).join(", ");
  columns.push(...retired);
  const isHistory = layout.form.mode === "history";
  if (isHistory) columns.push(...HISTORY_COLUMNS);
  else if (layout.form.deletes === "soft") columns.push(deletedDefinition);
  columns.push(
    `${quoteIdentifier(VERSION_COLUMN)} BIGINT NOT NULL`,
    `${quoteIdentifier(COMMIT_TIME_COLUMN)} TIMESTAMP WITH TIME ZONE NOT NULL`,
  );
  if (layout.form.isLake !== true) {
    const change = CHANGE_IDENTITY.map(quoteIdentifier).join(", ");
    columns.push(isHistory ? `UNIQUE (${key}, ${change})` : `PRIMARY KEY (${key})`);
  }
  return `CREATE TABLE ${sqlName} (${columns.join(", ")})`;
}
