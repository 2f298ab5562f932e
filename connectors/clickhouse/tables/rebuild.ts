/**
 * Makes a table again where ClickHouse can't change it: its key, a column of the key, how it hides deleted rows, a type.
 * The rows are copied into another table, which then takes the name in one batch; if that is interrupted, it begins again.
 */
import { type Following, nameUntil } from "../../../src/core/targets/following.ts";
import type { Client } from "../client.ts";
import type { WriteFence } from "../fence.ts";
import { DELETED_COLUMN, OWN_PREFIX, quoteIdentifier, quoteLiteral, rebuiltPrefix, sqlNameOf } from "../names.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { ExistingTarget } from "./existing.ts";
import type { LayoutColumn, TableLayout } from "./layout.ts";
import { createSql, onCluster, ownColumns } from "./statements.ts";

/** What a target becomes. */
export interface Change {
  readonly layout: TableLayout;
  readonly existing: ExistingTarget;
  readonly following: Following;
}

export async function rebuild(client: Client, fence: WriteFence, change: Change, signal: AbortSignal): Promise<void> {
  const { layout, existing, following } = change;
  const { sqlName, target, placement, form, table } = layout;
  const on = onCluster(placement);
  const { database } = target;
  const prefix = rebuiltPrefix(target);
  // Statements that come late know only tables that are gone.
  const rebuilt = sqlNameOf({ database, table: `${prefix}${fence.column}` });
  const isHistory = form.mode === "history";
  const lossy = isHistory ? await lossyColumns(client, change, signal) : NONE;
  const { names, values, kept, needed } = copied(change, lossy);
  const rows = [
    ...needed.map((value) => `${value} IS NOT NULL`),
    // Rows that were marked under soft deletes are gone under hard ones, and the reverse.
    ...(!isHistory && existing.form?.deletes !== form.deletes ? [`${quoteIdentifier(DELETED_COLUMN)} = 0`] : []),
  ];
  const where = rows.length === 0 ? "" : ` WHERE ${rows.join(" AND ")}`;
  const left = await client.rows(
    `SELECT name FROM system.tables WHERE database = ${quoteLiteral(database)} AND startsWith(name, ${quoteLiteral(prefix)})`,
    signal,
  );
  for (const [name] of left) {
    await client.run(`DROP TABLE IF EXISTS ${sqlNameOf({ database, table: name! })}${on} SYNC`, signal);
  }
  await client.run(createSql(layout, { column: fence.column, sqlName: rebuilt, kept }), signal);
  // A key with a new column has no values in the rows that are there.
  const hasKeys = layout.table.key.every((ordinal) => following.from[ordinal] !== null);
  const insert = async (): Promise<void> =>
    await client.run(
      `INSERT INTO ${rebuilt} (${names.join(", ")}) SELECT ${values.join(", ")} FROM ${sqlName} FINAL${where}`,
      signal,
    );
  if (hasKeys) await insert();
  failpoint("clickhouse.target-rebuilt", table);
  await client.run(`EXCHANGE TABLES ${rebuilt} AND ${sqlName}${on}`, signal);
  await client.run(`DROP TABLE ${rebuilt}${on} SYNC`, signal);
}

const NONE: ReadonlySet<number> = new Set();

/** Replaced columns stay under new names, unless dropped columns are removed. A history keeps all values. */
function copied({ layout, existing, following }: Change, lossy: ReadonlySet<number>) {
  const { from, retired, replaced } = following;
  const names: string[] = [];
  const values: string[] = [];
  const kept: string[] = [];
  const needed: string[] = [];
  const taken = new Set(existing.columns.keys());
  const keep = (column: string, name: string): void => {
    kept.push(`${quoteIdentifier(name)} ${existing.columns.get(column)!}`);
    names.push(quoteIdentifier(name));
    values.push(quoteIdentifier(column));
  };
  const putBy = (column: string): void => keep(column, nameUntil(column, layout.table.version, taken));
  for (const [i, column] of layout.columns.entries()) {
    const before = from[i] ?? null;
    if (before === null && !column.isKey) continue;
    const value = before === null ? "NULL" : cast(before, existing.columns.get(before)!, column);
    if (column.isKey) needed.push(value);
    names.push(quoteIdentifier(column.name));
    values.push(column.isKey ? `assumeNotNull(${value})` : value);
    if (lossy.has(i)) putBy(before!);
  }
  for (const column of retired) keep(column, column);
  for (const column of replaced) putBy(column);
  const own = new Set(ownColumns(layout.form).map(([name]) => name));
  for (const column of existing.columns.keys()) {
    if (!column.startsWith(OWN_PREFIX) || !own.has(column)) continue;
    if (column === DELETED_COLUMN && layout.form.mode === "history") continue;
    names.push(quoteIdentifier(column));
    values.push(quoteIdentifier(column));
  }
  return { names, values, kept, needed };
}

/** Columns of a history with values that the new type can't hold. */
async function lossyColumns(
  client: Client,
  { layout, existing, following: { from } }: Change,
  signal: AbortSignal,
): Promise<ReadonlySet<number>> {
  const lossy = new Set<number>();
  for (const [i, column] of layout.columns.entries()) {
    const before = from[i] ?? null;
    const type = before === null ? undefined : existing.columns.get(before);
    if (before === null || type === undefined || type === column.type.name) continue;
    const lost = `${quoteIdentifier(before)} IS NOT NULL AND ${cast(before, type, column)} IS NULL`;
    const rows = await client.rows(`SELECT 1 FROM ${layout.sqlName} WHERE ${lost} LIMIT 1`, signal);
    if (rows.length > 0) lossy.add(i);
  }
  return lossy;
}

/** Null if the value does not fit the new type. Every type converts to text and back. */
function cast(name: string, type: string, column: LayoutColumn): string {
  const value = quoteIdentifier(name);
  if (type === column.type.name) return value;
  if (column.type.base === "String") return `toString(${value})`;
  return `accurateCastOrNull(toString(${value}), ${quoteLiteral(column.type.base)})`;
}
