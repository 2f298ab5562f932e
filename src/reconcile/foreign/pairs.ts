/** Which table and column of the target stands for which one of the source: by names, by convention, or as a map says. */
import type { ReadableColumn, ReadableTable, ReadableTables, SoughtTable } from "../../core/contracts/readable.ts";
import { guessedName, plain, RowName } from "../../core/targets/row-name.ts";
import { type SaidSpelling, spellings } from "../../core/values/alike.ts";

/** By the source's table, what stands for it. */
export interface VerifyMap {
  readonly tables: Readonly<Record<string, TableMap>>;
}

export interface TableMap {
  /** `schema.table` at the target, or its index. */
  readonly target?: string | undefined;
  /** Of a store that finds a row by one text (RowName). */
  readonly key?: string | undefined;
  /** By the source's name, the target's. */
  readonly columns: Readonly<Record<string, string>>;
  /** Columns of the source that the target is not to have. */
  readonly ignore: readonly string[];
  /** The target's column that marks a deleted row. */
  readonly deleted?: string | undefined;
}

interface ColumnPair {
  readonly name: string;
  readonly source: number;
  readonly target: number;
  readonly spell: readonly [source: SaidSpelling, target: SaidSpelling];
}

/** A table of the source and the one that holds its rows. */
export interface TablePair {
  readonly source: ReadableTable;
  readonly target: ReadableTable;
  readonly columns: readonly ColumnPair[];
  /** Indices in `columns`, in key order; or how the target names a row. */
  readonly key: readonly number[] | RowName;
  /** Columns that can't be compared. */
  readonly gaps: readonly string[];
  /** Ordinal of the target's column that marks a deleted row; null: deleted rows are gone. */
  readonly deleted: number | null;
}

/** Columns by which tools mark deleted rows: for `--suggest` alone, because a table may have one of its own. */
const DELETED_MARKS = ["_peerdb_is_deleted", "__deleted", "_fivetran_deleted", "_sdc_deleted_at", "_ab_cdc_deleted_at"];

export interface Pairs {
  readonly pairs: readonly TablePair[];
  readonly unpaired: readonly { readonly table: string; readonly reason: string }[];
}

/** What a target that knows no tables is asked for. */
export function soughtIn({ tables }: ReadableTables, map: VerifyMap): readonly SoughtTable[] {
  return tables.map((table) => {
    const { schema, table: own, id } = table;
    const template = map.tables[id]?.key;
    const name = template === undefined ? null : RowName.from(template, keyOf(table));
    return { schema, table: own, key: keyOf(table), name: typeof name === "string" ? null : name };
  });
}

function keyOf({ key, columns }: ReadableTable): readonly ReadableColumn[] {
  return key.map((ordinal) => columns[ordinal]!);
}

export function pairsOf(source: ReadableTables, target: ReadableTables, map: VerifyMap): Pairs {
  const pairs: TablePair[] = [];
  const unpaired: { table: string; reason: string }[] = source.refused.map(({ id, reason }) => ({ table: id, reason }));
  for (const shape of source.tables) {
    const found = targetOf(shape, source, target, map);
    const pair = typeof found === "string" ? found : paired(shape, found, map);
    if (typeof pair === "string") unpaired.push({ table: shape.id, reason: pair });
    else pairs.push(pair);
  }
  const known = new Set(source.tables.map(({ id }) => id));
  for (const table of Object.keys(map.tables))
    if (!known.has(table)) unpaired.push({ table, reason: "the map names it, and the source has no such table" });
  return { pairs, unpaired };
}

/** The pairs as a map, for a person to correct. */
export function suggested({ pairs, unpaired }: Pairs): object {
  const found = pairs.map(({ source, target, columns, key, gaps }) => {
    const renamed = columns.filter((one) => target.columns[one.target]!.name !== one.name);
    return [
      source.id,
      {
        target: target.id,
        ...(key instanceof RowName ? { key: key.template } : {}),
        ...deletedIn(target),
        ...(renamed.length === 0
          ? {}
          : { columns: Object.fromEntries(renamed.map((one) => [one.name, target.columns[one.target]!.name])) }),
        ...(gaps.length === 0
          ? {}
          : {
              ignore: source.columns
                .map(({ name }) => name)
                .filter((name) => columns.every((one) => one.name !== name)),
            }),
      },
    ] as const;
  });
  const open = unpaired.map(({ table }) => [table, {}] as const);
  return { tables: Object.fromEntries([...found, ...open]) };
}

function deletedIn({ columns }: ReadableTable): Pick<TableMap, "deleted"> {
  const mark = DELETED_MARKS.find((name) => columns.some((column) => column.name === name));
  return mark === undefined ? {} : { deleted: mark };
}

/** The first convention that fits any table decides. */
function targetOf(
  { id, schema, table }: ReadableTable,
  source: ReadableTables,
  target: ReadableTables,
  map: VerifyMap,
): ReadableTable | string {
  const others = source.tables.map((one) => one.table).filter((other) => other.length > table.length);
  const asked = map.tables[id]?.target;
  const all = target.tables;
  const conventions: readonly ((one: ReadableTable) => boolean)[] =
    asked === undefined
      ? [
          (one) => one.schema === schema && one.table === table,
          (one) => one.table === table,
          (one) => plain(one.table) === plain(schema + table),
          // Behind a prefix of topics.
          (one) => one.table.toLowerCase().endsWith(`_${schema}_${table}`.toLowerCase()),
          (one) => plain(one.table) === plain(table),
          // Behind a prefix of indices, which is no part of another table's name.
          (one) => isBehindPrefix(one, table) && others.every((other) => !isBehindPrefix(one, other)),
        ]
      : [(one) => one.id === asked];
  for (const fits of conventions) {
    const found = all.filter(fits);
    if (found.length === 1) return found[0]!;
    if (found.length > 1)
      return `the target has several tables for it: ${found.map((one) => one.id).join(", ")}; name one in --map`;
  }
  const refused = target.refused.find((one) => one.id === (asked ?? id));
  if (refused !== undefined) return `the target's ${refused.id} can't be read by key: ${refused.reason}`;
  return asked === undefined ? "the target has no table for it; name one in --map" : `the target has no table ${asked}`;
}

function isBehindPrefix({ table }: ReadableTable, name: string): boolean {
  return [...table.matchAll(/[-.]/g)].some(({ index }) => plain(table.slice(index + 1)) === plain(name));
}

function paired(source: ReadableTable, target: ReadableTable, map: VerifyMap): TablePair | string {
  const { columns: renamed = {}, ignore = [], deleted: mark } = map.tables[source.id] ?? {};
  const unknown = [...Object.keys(renamed), ...ignore].find((name) => source.columns.every((one) => one.name !== name));
  if (unknown !== undefined) return `the map names its column ${unknown}, which the source does not have`;
  const deleted = mark === undefined ? null : target.columns.findIndex(({ name }) => name === mark);
  if (deleted === -1) return `the map names the target's column ${mark}, which ${target.id} does not have`;
  const name = nameOf(source, target, map);
  if (typeof name === "string") return name;
  const columns: ColumnPair[] = [];
  const gaps: string[] = [];
  for (const [ordinal, column] of source.columns.entries()) {
    if (ignore.includes(column.name)) continue;
    const found = columnOf(column, target, renamed[column.name]);
    if (typeof found !== "string") columns.push({ name: column.name, source: ordinal, ...found });
    // A row's name has its key.
    else if (name === null || !source.key.includes(ordinal)) gaps.push(found);
  }
  if (name !== null) return { source, target, columns, key: name, gaps, deleted };
  const key = source.key.map((ordinal) => columns.findIndex((one) => one.source === ordinal));
  if (key.includes(-1)) return `columns of its key can't be compared: ${gaps.join("; ")}`;
  return { source, target, columns, key, gaps, deleted };
}

/** Null: the target finds a row by columns. */
function nameOf(source: ReadableTable, { id, names }: ReadableTable, map: VerifyMap): RowName | string | null {
  const asked = map.tables[source.id]?.key;
  if (names === undefined)
    return asked === undefined ? null : "the map names a `key`, and the target finds its rows by columns";
  if (asked !== undefined) return RowName.from(asked, keyOf(source));
  const found = guessedName(names, source, keyOf(source));
  return found ?? `how ${id} names its rows is not clear; name it as \`key\` in --map`;
}

function columnOf(
  column: ReadableColumn,
  target: ReadableTable,
  asked: string | undefined,
): Pick<ColumnPair, "target" | "spell"> | string {
  const conventions =
    asked === undefined
      ? [(name: string) => name === column.name, (name: string) => plain(name) === plain(column.name)]
      : [(name: string) => name === asked];
  for (const fits of conventions) {
    const found = target.columns.findIndex(({ name }) => fits(name));
    if (found < 0) continue;
    const there = target.columns[found]!;
    const spell = spellings(column.type, there.type);
    return spell === null
      ? `column ${column.name} is ${column.native} at the source and ${there.native} at the target; leave it out by \`ignore\` in --map`
      : { target: found, spell };
  }
  return `column ${column.name} has no counterpart; name it under \`columns\` or \`ignore\` in --map`;
}
