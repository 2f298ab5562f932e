import { deletedDefinition } from "./form.ts";
import { HISTORY_COLUMNS } from "../write/history-plan.ts";
import { CHANGE_IDENTITY, COMMIT_TIME_COLUMN, quoteIdentifier, VERSION_COLUMN } from "../names.ts";
import type { Plan } from "../write/plan.ts";

/** `retired`: definitions of columns that the table no longer has and the target keeps. */
export function createSql(plan: Plan, sqlName = plan.sqlName, retired: readonly string[] = []): string {
  const columns = plan.columns.map(({ name, duck }) => `${quoteIdentifier(name)} ${duck.name}`);
  const key = plan.key.map(({ name }) => quoteIdentifier(name)).join(", ");
  columns.push(...retired);
  const isHistory = plan.form.mode === "history";
  if (isHistory) columns.push(...HISTORY_COLUMNS);
  else if (plan.form.deletes === "soft") columns.push(deletedDefinition);
  const unique = isHistory
    ? `UNIQUE (${key}, ${CHANGE_IDENTITY.map(quoteIdentifier).join(", ")})`
    : `PRIMARY KEY (${key})`;
  return (
    `CREATE TABLE ${sqlName} (${columns.join(", ")}, ${quoteIdentifier(VERSION_COLUMN)} BIGINT NOT NULL, ` +
    `${quoteIdentifier(COMMIT_TIME_COLUMN)} TIMESTAMP WITH TIME ZONE NOT NULL, ${unique})`
  );
}
