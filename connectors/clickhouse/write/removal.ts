/** Truncates and sweeps of a mirror. */
import { inScope, quoteIdentifier } from "../names.ts";
import type { TableLayout } from "../tables/layout.ts";
import { COMMIT_TIME_COLUMN, DELETED_COLUMN, EXACT_COLUMN, VERSION_COLUMN } from "../../warehouse/own-columns.ts";

interface Removal {
  readonly versionIs: string;
  readonly version: bigint;
  readonly commitTimeUs: bigint | undefined;
}

/**
 * Marks the rows whose version is so as deleted, under this version: a table's rows can't be changed, but a later one
 * takes the place of an earlier one. Hard deletes keep only the key, soft ones the whole row. `column`: the
 * fence's.
 */
export function removeSql(
  { table, sqlName, columns, form }: TableLayout,
  column: string,
  { versionIs, version, commitTimeUs }: Removal,
): string {
  const isSoft = form.deletes === "soft";
  const names = columns.filter(({ isKey }) => isSoft || isKey).map(({ name }) => quoteIdentifier(name));
  const [versionName, timeName, deletedName, exactName] = [
    VERSION_COLUMN,
    COMMIT_TIME_COLUMN,
    DELETED_COLUMN,
    EXACT_COLUMN,
  ].map(quoteIdentifier);
  const exact = isSoft ? [exactName!] : [];
  return (
    `INSERT INTO ${sqlName} (${[...names, versionName, timeName, deletedName, ...exact, quoteIdentifier(column)].join(", ")}) ` +
    `SELECT ${[...names, version, timeSql(commitTimeUs), 1, ...exact, 0].join(", ")} ` +
    `FROM ${sqlName} FINAL WHERE ${versionName} ${versionIs} AND ${deletedName} = 0${inScope(table)}`
  );
}

/** Undefined: now. */
export function timeSql(commitTimeUs: bigint | undefined): string {
  return commitTimeUs === undefined ? "now64(6, 'UTC')" : `fromUnixTimestamp64Micro(toInt64(${commitTimeUs}), 'UTC')`;
}
