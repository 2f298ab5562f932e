import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { fileFindings } from "../kit/file-target.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import type { CheckedTable, Finding, TableName } from "../../src/core/contracts/connector.ts";
import { failed, takenFrom } from "../kit/findings.ts";
import { successorOf } from "../warehouse/following.ts";
import { DEFAULT_FORM } from "../warehouse/own-columns.ts";
import { checkedParts, refusedParts } from "../warehouse/scopes.ts";
import { refusalOf, type Refused } from "../warehouse/table-change.ts";
import { classify, notOurs, sqliteError } from "./errors.ts";
import { openExisting, openForReading, rowsOf, unlessBusy } from "./file.ts";
import { SCOPES, SCOPES_NAME, targetKey, targetName } from "./names.ts";
import type { SqliteSinkOptions } from "./sink.ts";
import { KEY_NAME, lookUpTarget, PLACE, refusalAt } from "./tables/warehouse.ts";

/** Checks the folder and, if the file exists, opens it and looks at the targets; creates nothing. */
export async function checkFile(
  options: SqliteSinkOptions,
  signal: AbortSignal,
  tables: readonly CheckedTable[] = [],
): Promise<readonly Finding[]> {
  const { name, path } = options;
  signal.throwIfAborted();
  const known = (error: unknown): MillraceError => classify(error, "opening the file", path);
  return await fileFindings(`sqlite.file.${name}`, path, known, async () => {
    await access(path, constants.W_OK);
    return await unlessBusy(signal, () => targetFindings(options, tables));
  });
}

/** What a start would refuse of the tables' targets. Throws if the file is not ours. */
function targetFindings(
  { name, owner, path, schema, form = DEFAULT_FORM }: SqliteSinkOptions,
  tables: readonly CheckedTable[],
): readonly Finding[] {
  using ours = openExisting(path);
  if (ours !== null) {
    const shown = (table: TableName): string => targetName(table, schema);
    const refusal = (refused: Refused) => refusalAt(shown(refused.table), refused);
    const dialect = { place: PLACE, keyName: KEY_NAME, shown, refusal };
    const id = `sqlite.table.${name}`;
    const parts = checkedParts(tables, (table) => targetKey(shown(table)));
    const hasScopes = rowsOf(ours, "SELECT 1 FROM sqlite_schema WHERE name = ?", SCOPES_NAME).length > 0;
    const scopes = hasScopes ? parts.map(({ scope }) => scope) : [];
    const owners = SCOPES.findNow(scopes, (sql) => rowsOf(ours, sql));
    const taken = refusedParts(sqliteError, owner, parts, owners).map((error) => failed(id, error));
    const found = tables.flatMap((table): readonly Finding[] => {
      const existing = lookUpTarget((sql, ...values) => rowsOf(ours, sql, ...values), shown(table));
      if (existing === null) return [];
      const refused = refusalOf(dialect, { table, form }, existing);
      if (refused !== null) return [failed(id, refused)];
      return takenFrom(id, shown(table), successorOf(owner, existing.note), form.mode);
    });
    return [...taken, ...found];
  }
  using other = openForReading(path);
  if (rowsOf(other, "SELECT 1 FROM sqlite_schema LIMIT 1").length > 0) throw notOurs(path);
  return [];
}
