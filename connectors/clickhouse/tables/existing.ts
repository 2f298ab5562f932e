/** Finds existing targets in the server's catalogue. */
import { decodeNote } from "../../warehouse/following.ts";
import type { Client } from "../client.ts";
import { quoteLiteral, sqlNameOf, type TargetName } from "../names.ts";
import { ownColumns, replacingColumns } from "./statements.ts";
import { DELETED_COLUMN, EXACT_COLUMN, formOf } from "../../warehouse/own-columns.ts";
import type { ExistingColumn, ExistingTarget } from "../../warehouse/table-change.ts";
import type { Placement } from "./layout.ts";
import { groupsOf } from "../../../src/core/each-of.ts";

/** Its one key, if it has one, is what it is sorted by, and consists of columns alone. */
export interface ClickhouseTarget extends ExistingTarget {
  /** Names of the columns that decide in which partition a row is. */
  readonly partitioned: readonly string[];
  readonly engine: Engine;
  readonly comment: string;
}

interface Engine {
  readonly name: string;
  /** Its columns: which of rows with one sorting key stays. */
  readonly columns: readonly string[];
  /** Rows go by themselves. */
  readonly expires: boolean;
}

/** How many names one statement asks for. */
const NAMES_MAX = 500;

/** By `sqlNameOf`; missing targets are left out. */
export async function lookUpTargets(
  client: Client,
  targets: readonly TargetName[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ClickhouseTarget>> {
  const found = new Map<string, ClickhouseTarget>();
  const wanted = new Set(targets.map(sqlNameOf));
  for (const where of listsOf(targets)) {
    const tables = await client.rows(
      `SELECT database, name, engine, engine_full, comment, sorting_key FROM system.tables WHERE ${where("name")}`,
      signal,
    );
    if (tables.length === 0) continue;
    const columns = await client.rows(
      `SELECT database, table, name, type, is_in_partition_key FROM system.columns WHERE ${where("table")} ORDER BY position`,
      signal,
    );
    const byTable = Map.groupBy(columns, nameOf);
    for (const row of tables) {
      if (wanted.has(nameOf(row))) found.set(nameOf(row), existing(row, byTable.get(nameOf(row)) ?? []));
    }
  }
  return found;
}

/** Conditions that the server decides before it looks at each table. `column`: of the table's name. */
function* listsOf(targets: readonly TargetName[]): Generator<(column: string) => string> {
  const listed = (names: readonly string[]): string => [...new Set(names)].map(quoteLiteral).join(", ");
  for (const some of groupsOf(targets, NAMES_MAX)) {
    const databases = listed(some.map(({ database }) => database));
    const tables = listed(some.map(({ table }) => table));
    yield (column) => `database IN (${databases}) AND ${column} IN (${tables})`;
  }
}

type Row = readonly (string | null)[];

function nameOf([database, table]: Row): string {
  return sqlNameOf({ database: database ?? "", table: table ?? "" });
}

function existing([, , engine, engineFull, comment, sortingKey]: Row, columns: readonly Row[]): ClickhouseTarget {
  const described = new Map(
    columns.map(([, , name, type]): [string, ExistingColumn] => [name ?? "", { name: name ?? "", type: type ?? "" }]),
  );
  // What leads to other tables (Distributed, Buffer, Merge, views) has their columns and is none of ours.
  const isTable = engine?.endsWith("MergeTree") === true;
  const form = isTable && described.has(EXACT_COLUMN) ? formOf(described) : null;
  const sorted = identifiersOf(sortingKey ?? "");
  const parts = engineOf(engine ?? "", engineFull ?? "");
  const isHard = form?.mode === "mirror" && parts.columns.includes(DELETED_COLUMN);
  return {
    isView: engine === "View",
    form: isHard ? { mode: "mirror", deletes: "hard" } : form,
    columns: described,
    keys: sorted === null ? [] : [sorted],
    note: decodeNote(comment ?? null),
    partitioned: columns.filter((row) => row[4] === "1").map(([, , name]) => name ?? ""),
    engine: parts,
    comment: comment ?? "",
  };
}

/** `full`: as the server prints it, `Engine('path', column, …) ORDER BY … TTL …`. */
function engineOf(name: string, full: string): Engine {
  const [, listed = ""] = /^\w+\(((?:'(?:[^'\\]|\\.)*'|[^')])*)\)/.exec(full) ?? [];
  const columns = listed
    .replaceAll(/'(?:[^'\\]|\\.)*'/g, "")
    .split(",")
    .map((part) => part.trim());
  return { name, columns: columns.filter((column) => column !== ""), expires: full.includes(" TTL ") };
}

const IDENTIFIER = /^(?:`(?:[^`\\]|\\.)*`|[A-Za-z_]\w*)/;

/** Null: these are not names alone. One name can have parentheses around it. */
function identifiersOf(list: string): readonly string[] | null {
  const names: string[] = [];
  for (let rest = list.replace(/^\((.*)\)$/s, "$1"); rest !== "";) {
    const [name] = IDENTIFIER.exec(rest) ?? [];
    if (name === undefined) return null;
    names.push(name.startsWith("`") ? unquoted(name) : name);
    rest = rest.slice(name.length);
    if (rest !== "" && !rest.startsWith(", ")) return null;
    rest = rest.slice(2);
  }
  return names;
}

/** Of `quoteIdentifier`, and of the server's own escapes. */
function unquoted(name: string): string {
  return name.slice(1, -1).replaceAll(/\\(.)/g, (_, escaped: string) => ESCAPES[escaped] ?? escaped);
}

const ESCAPES: Readonly<Record<string, string>> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", 0: "\0" };

/** Whether other servers hold its rows too, each as far as it has received them. */
export function isReplicated(engine: string | null | undefined): boolean {
  return /^(?:Replicated|Shared)/.test(engine ?? "");
}

/** What somebody made otherwise than Millrace does, so that the table can't hold what is written to it. Null: nothing. */
export function alterationOf(
  { form, engine, keys, partitioned, columns }: ClickhouseTarget,
  { cluster }: Placement,
): string | null {
  if (form === null) return null;
  const wanted =
    cluster === undefined ? /^(?:Replicated|Shared)?ReplacingMergeTree$/ : /^(?:Replicated|Shared)ReplacingMergeTree$/;
  if (!wanted.test(engine.name))
    return `its engine is ${engine.name}, and not ${cluster === undefined ? "" : "Replicated"}ReplacingMergeTree`;
  const replacing = replacingColumns(form);
  if (engine.columns.join() !== replacing.join())
    return `its engine has (${engine.columns.join(", ")}), and not (${replacing.join(", ")})`;
  const split = partitioned.filter((name) => keys[0]?.includes(name) !== true);
  // Each change is a row of its own in a history.
  if (form.mode === "mirror" && split.length > 0)
    return `its partitions depend on ${split.join(", ")}, outside of the key: an old row would stay in another partition`;
  for (const [name, definition] of ownColumns(form)) {
    const [type = ""] = definition.split(" ALIAS ");
    const found = columns.get(name)?.type;
    if (found !== type) return `its column ${name} is ${found ?? "missing"}, and not ${type}`;
  }
  return null;
}
