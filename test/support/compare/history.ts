/**
 * A history in a Postgres target against the log of its source, as another decoder of the server shows it: every change
 * once, in the order of the log. Rows that were read are left out, and so are the deletes that stand for a key's change.
 */
import type { FreshDatabase } from "../run/fresh-database.ts";
import { quoted, type TableName } from "./source-table.ts";

interface Keyed extends TableName {
  readonly key: readonly string[];
}

/** Has the server keep the log from here on. At most one for each database. */
export async function keepLog(source: FreshDatabase): Promise<void> {
  await source.query("select pg_create_logical_replication_slot(current_database() || '_journal', 'test_decoding')");
}

/**
 * One line for each table whose history is not the end of the log since `keepLog`: a copy that began later has seen what
 * came before (`earlierCount` changes). `tables`: with keys of integers. Also counts the changes that were looked at.
 */
export async function historyFaults(
  source: FreshDatabase,
  target: FreshDatabase,
  schema: string,
  tables: readonly Keyed[],
): Promise<{ readonly faults: readonly string[]; readonly changeCount: number; readonly earlierCount: number }> {
  const { rows } = await source.query<{ data: string }>(
    "select data from pg_logical_slot_get_changes(current_database() || '_journal', null, null)",
  );
  await source.query("select pg_drop_replication_slot(current_database() || '_journal')");
  const log = rows.map(({ data }) => data).filter((data) => data.startsWith("table "));
  const faults: string[] = [];
  let changeCount = 0;
  let earlierCount = 0;
  for (const table of tables) {
    const expected = log.flatMap((line) => changeOf(line, table) ?? []);
    const actual = await changesIn(target, schema, table);
    changeCount += actual.length;
    const since = Math.max(0, expected.length - actual.length);
    earlierCount += since;
    const wrong = actual.findIndex((change, i) => change !== expected[since + i]);
    if (wrong < 0) continue;
    const around = (changes: readonly string[], i: number) => changes.slice(Math.max(0, i - 2), i + 3).join(", ");
    faults.push(
      `history of ${table.table}: ${actual.length} of ${expected.length} changes, number ${wrong} is not the log's ` +
        `(${around(actual, wrong)} instead of ${around(expected, since + wrong)})`,
    );
  }
  return { faults, changeCount, earlierCount };
}

/** A line of test_decoding, such as `table public.line: UPDATE: old-key: tenant[integer]:1 id[integer]:2 new-tuple: …`. */
function changeOf(line: string, { schema, table, key }: Keyed): string | null {
  const match = /^table ([^:]+): (INSERT|UPDATE|DELETE|TRUNCATE): (.*)$/s.exec(line);
  if (match === null || !match[1]!.split(", ").includes(`${schema}.${table}`)) return null;
  const [, , kind, cells = ""] = match;
  if (kind === "TRUNCATE") return "t";
  const row = kind === "UPDATE" ? cells.replace(/^old-key: .*? new-tuple: /s, "") : cells;
  const values = key.map((column) => new RegExp(`(?:^| )${column}\\[integer\\]:(-?\\d+)`).exec(row)?.[1]);
  return `${{ INSERT: "c", UPDATE: "u", DELETE: "d" }[String(kind)]} ${values.join(":")}`;
}

async function changesIn(target: FreshDatabase, schema: string, { table, key }: Keyed): Promise<string[]> {
  const name = `${quoted(schema)}.${quoted(table)}`;
  const keys = key.map((column) => `${quoted(column)}::text`).join(", ");
  const { rows } = await target.query<{ op: string; key: string }>(
    `select _millrace_op as op, concat_ws(':', ${keys}) as key from ${name} as h
     where _millrace_op <> 'r' and _millrace_offset < 4294967296 and not (_millrace_op = 'd' and exists (
       select 1 from ${name} as u where u._millrace_op = 'u' and u._millrace_version = h._millrace_version
         and u._millrace_offset = h._millrace_offset))
     order by _millrace_version, _millrace_offset`,
  );
  return rows.map((row) => (row.op === "t" ? "t" : `${row.op} ${row.key}`));
}
