/** The columns, key and form of one table version in the file, and so the statements that write its rows. */
import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import {
  CHANGE_IDENTITY,
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  SEEN_COLUMN,
  type TargetForm,
  UNCHANGED_COLUMN,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";
import type { TableLayout } from "../../warehouse/table-change.ts";
import { columnNames, quoteIdentifier } from "../names.ts";
import { FLOAT, type SqliteType, sqliteType } from "../types.ts";

export interface LayoutColumn {
  readonly source: Column;
  /** Of its cell in a tuple. */
  readonly ordinal: number;
  /** Name in the target, and quoted. */
  readonly name: string;
  readonly sqlName: string;
  readonly sqlite: SqliteType;
  readonly isKey: boolean;
  /** Takes ASCII alone. */
  readonly isFolded: boolean;
  /** An index beside that of the key may have it. */
  readonly isIndexed: boolean;
}

export interface SqliteLayout extends TableLayout {
  /** Of the target. */
  readonly name: string;
  readonly columns: readonly LayoutColumn[];
  /** In key order. */
  readonly key: readonly LayoutColumn[];
  /** Columns that the table no longer has and the target keeps: they are null in written rows. */
  readonly retired: readonly string[];
  /** Beside a companion. */
  readonly isPacked: boolean;
  /** A newest row of a target is noted (tables/newest): not in a history, nor beside a companion. */
  readonly notesNewest: boolean;
}

/**
 * `isPacked`: the file has a companion. `ordinals`: where the columns are in tuples, if the table is a part of another one
 * (`KeptColumns`), which of them take ASCII alone, and which ones indexes may have.
 */
export function layoutOf(
  table: TableVersion,
  name: string,
  rest: Pick<SqliteLayout, "form" | "owner" | "dropsColumns">,
  isPacked: boolean,
  {
    ordinals,
    folded,
    indexed,
  }: {
    readonly ordinals?: readonly number[] | undefined;
    readonly folded?: ReadonlySet<string>;
    readonly indexed?: ReadonlySet<string>;
  } = {},
): SqliteLayout {
  const names = columnNames(table.columns);
  const columns = table.columns.map((source, i): LayoutColumn => {
    const isKey = table.key.includes(i);
    return {
      source,
      ordinal: ordinals?.[i] ?? i,
      name: names[i]!,
      sqlName: quoteIdentifier(names[i]!),
      sqlite: sqliteType(source, isKey, isPacked),
      isKey,
      isFolded: folded?.has(source.name) === true,
      isIndexed: indexed?.has(source.name) === true,
    };
  });
  const key = table.key.map((ordinal) => columns[ordinal]!);
  const notesNewest = rest.form.mode === "mirror" && !isPacked;
  return { ...rest, table, name, sqlName: quoteIdentifier(name), columns, key, retired: [], isPacked, notesNewest };
}

const OWN_DEFINITIONS = `${VERSION_COLUMN} INTEGER NOT NULL, ${COMMIT_TIME_COLUMN} TEXT NOT NULL`;
/** A column that is added to rows needs the default. */
export const DELETED_DEFINITION = `${DELETED_COLUMN} INTEGER NOT NULL DEFAULT 0`;

/** `kept`: definitions of columns that the table no longer has and the target keeps. */
export function createSql(layout: SqliteLayout, sqlName = layout.sqlName, kept: readonly string[] = []): string {
  const { mode, deletes } = layout.form;
  const isHistory = mode === "history";
  const columns = layout.columns.map(
    ({ sqlName: name, sqlite, isKey }) => `${name} ${sqlite.name}${isKey && !isHistory ? " NOT NULL" : ""}`,
  );
  columns.push(...kept);
  if (isHistory) columns.push(`${OP_COLUMN} TEXT NOT NULL, ${OFFSET_COLUMN} INTEGER NOT NULL`);
  if (isHistory) columns.push(`${UNCHANGED_COLUMN} TEXT, ${SEEN_COLUMN} INTEGER`);
  else if (deletes === "soft") columns.push(DELETED_DEFINITION);
  columns.push(OWN_DEFINITIONS);
  const key = layout.key.map(({ sqlName: name }) => name).join(", ");
  columns.push(isHistory ? `UNIQUE (${key}, ${CHANGE_IDENTITY.join(", ")})` : `PRIMARY KEY (${key})`);
  return `CREATE TABLE ${sqlName} (${columns.join(", ")}) STRICT${isInKeyOrder(layout) ? ", WITHOUT ROWID" : ""}`;
}

const NARROW: ReadonlySet<ColumnType["kind"]> = new Set([
  "bool",
  "int",
  "float",
  "decimal",
  "date",
  "time",
  "timestamp",
  "uuid",
  "enum",
]);

/**
 * Whether the rows lie in the tree of their key, which so is stored once. Wide rows would make that tree deep; and a key of one
 * integer is the number of the row.
 */
export function isInKeyOrder({ isPacked, columns, key }: SqliteLayout): boolean {
  if (!isPacked || (key.length === 1 && key[0]!.sqlite.name === "INTEGER")) return false;
  return columns.every(({ source }) => NARROW.has(source.type.kind));
}

/** Finds a history's truncates at once. */
export function indexTruncatesSql({ name, sqlName }: Pick<SqliteLayout, "name" | "sqlName">): string {
  const index = quoteIdentifier(`_millrace_truncates ${name}`);
  return `CREATE INDEX ${index} ON ${sqlName} (${CHANGE_IDENTITY.join(", ")}) WHERE ${OP_COLUMN} = 't'`;
}

/** `?1` and so on. */
export function parameters(count: number, from = 1): readonly string[] {
  return Array.from({ length: count }, (_, i) => `?${from + i}`);
}

/** SQLite takes an expression of 1,000 levels at most, and each operator of a chain is one. A table may have more columns. */
const CHAIN_MAX = 100;

export function chained(operator: "AND" | "OR", terms: readonly string[]): string {
  if (terms.length <= CHAIN_MAX) return terms.join(` ${operator} `);
  const middle = terms.length >> 1;
  const half = (part: readonly string[]): string => `(${chained(operator, part)})`;
  return `${half(terms.slice(0, middle))} ${operator} ${half(terms.slice(middle))}`;
}

/** `"id" = ?1 AND …`: the parameters begin at `from`. */
export function isRow({ key }: SqliteLayout, from: number): string {
  return key.map(({ sqlName }, i) => `${sqlName} = ?${from + i}`).join(" AND ");
}

export function keyNames({ key }: SqliteLayout): string {
  return key.map(({ sqlName }) => sqlName).join(", ");
}

/** The other columns of a written row: it is no longer deleted, and retired columns are null. */
export function alsoSets({ form, retired }: SqliteLayout): readonly string[] {
  return [
    ...(form.deletes === "soft" && form.mode === "mirror" ? [`${DELETED_COLUMN} = 0`] : []),
    ...retired.map((name) => `${quoteIdentifier(name)} = NULL`),
  ];
}

export function isSoft({ deletes, mode }: TargetForm): boolean {
  return deletes === "soft" && mode === "mirror";
}

/** Whether a change may leave it as it is. Zeros of a float that differ are equal to SQLite: it is written, and so are its indexes. */
function isKeptIndexed({ isKey, isIndexed, sqlite }: LayoutColumn): boolean {
  return isIndexed && !isKey && sqlite.form !== FLOAT;
}

/** What writes the rows of a mirror. A row's values are its cells, version and commit time; a key's are its parts and those. */
export class MirrorSql {
  readonly put: string;
  /**
   * The same where the row is there, and its indexed columns have the values that they get: then they are not written. SQLite
   * writes the indexes of all columns that a statement sets, whatever their values. Null: there are none.
   */
  readonly change: string | null;
  readonly remove: string;
  /** Version of the row that is there, and whether it is deleted. */
  readonly version: string;
  /** Puts a row that `collect` has collected: its value is the entry. */
  readonly putCollected: string;
  readonly #layout: SqliteLayout;
  readonly #patches = new Map<string, ReturnType<MirrorSql["patch"]>>();
  readonly #collects = new Map<string, string>();

  constructor(layout: SqliteLayout) {
    this.#layout = layout;
    const { columns, key, sqlName, form } = layout;
    const names = [...columns.map((column) => column.sqlName), VERSION_COLUMN, COMMIT_TIME_COLUMN];
    const others = columns.filter(({ isKey }) => !isKey).map((column) => column.sqlName);
    const sets = [...others, VERSION_COLUMN, COMMIT_TIME_COLUMN].map((name) => `${name} = excluded.${name}`);
    // Invariant: a newer row is never replaced by an older one. Equal versions write.
    const merge =
      `ON CONFLICT (${keyNames(layout)}) DO UPDATE SET ${[...sets, ...alsoSets(layout)].join(", ")} ` +
      `WHERE ${VERSION_COLUMN} <= excluded.${VERSION_COLUMN}`;
    const into = `INSERT INTO ${sqlName} (${names.join(", ")})`;
    this.put = `${into} VALUES (${parameters(names.length).join(", ")}) ${merge}`;
    const set = columns.filter(({ isKey }) => !isKey);
    this.change = set.some(isKeptIndexed) ? this.#update(names, set, "change") : null;
    this.putCollected = `${into} SELECT ${names.join(", ")} FROM ${COLLECTED} WHERE ${ENTRY} = ?1 ${merge}`;
    const [version, time] = parameters(2, key.length + 1);
    const where = `WHERE ${isRow(layout, 1)} AND ${VERSION_COLUMN} <= ${version}`;
    this.remove = isSoft(form)
      ? `UPDATE ${sqlName} SET ${DELETED_COLUMN} = 1, ${VERSION_COLUMN} = ${version}, ${COMMIT_TIME_COLUMN} = ${time} ${where}`
      : `DELETE FROM ${sqlName} ${where}`;
    this.version = `SELECT ${VERSION_COLUMN}, ${isSoft(form) ? DELETED_COLUMN : "0"} FROM ${sqlName} WHERE ${isRow(layout, 1)}`;
  }

  /**
   * Changes the columns of a row that the log carried: `mask` has a `u` for each of the others. `change`: see there; null: the log
   * carried none that is indexed.
   */
  patch(mask: string): { readonly patch: string; readonly change: string | null } {
    let sql = this.#patches.get(mask);
    if (sql === undefined) {
      const { columns, key } = this.#layout;
      const carried = columns.filter(({ isKey }, i) => !isKey && mask[i] !== "u");
      const names = [...[...key, ...carried].map((column) => column.sqlName), VERSION_COLUMN, COMMIT_TIME_COLUMN];
      const isLive = this.#andLive();
      sql = {
        patch: this.#update(names, carried, "patch") + isLive,
        change: carried.some(isKeptIndexed) ? this.#update(names, carried, "change") + isLive : null,
      };
      this.#patches.set(mask, sql);
    }
    return sql;
  }

  /** Of the row that is there. `names`: in the order of the parameters; `set`: these columns, or in a change those that have no index. */
  #update(names: readonly string[], set: readonly LayoutColumn[], as: "patch" | "change"): string {
    const { key, sqlName } = this.#layout;
    const value = (name: string): string => `?${names.indexOf(name) + 1}`;
    const kept = as === "change" ? set.filter(isKeptIndexed) : [];
    const written = set.filter((column) => !kept.includes(column)).map((column) => column.sqlName);
    const sets = [...written, VERSION_COLUMN, COMMIT_TIME_COLUMN].map((name) => `${name} = ${value(name)}`);
    const found = [
      ...key.map((column) => `${column.sqlName} = ${value(column.sqlName)}`),
      `${VERSION_COLUMN} <= ${value(VERSION_COLUMN)}`,
      // The row is found by its key, never by an index of such a column: that is what the sign says.
      ...kept.map((column) => `+${column.sqlName} IS ${value(column.sqlName)}`),
    ];
    return `UPDATE ${sqlName} SET ${[...sets, ...alsoSets(this.#layout)].join(", ")} WHERE ${found.join(" AND ")}`;
  }

  /**
   * Collects a row under a new key, with the unchanged cells of the row under the old one. A row there that is newer than the
   * change is another one by now: it supplies nothing.
   */
  collect(mask: string): string {
    let sql = this.#collects.get(mask);
    if (sql === undefined) {
      const { columns, key, sqlName } = this.#layout;
      let at = key.length;
      const values = columns.map((column, i) => (mask[i] === "u" ? column.sqlName : `?${++at}`));
      const [version, time, entry] = [`?${++at}`, `?${++at}`, `?${++at}`];
      sql =
        `INSERT INTO ${COLLECTED} SELECT ${[entry, ...values, version, time].join(", ")} FROM ${sqlName} ` +
        `WHERE ${isRow(this.#layout, 1)} AND ${VERSION_COLUMN} <= ${version}${this.#andLive()}`;
      this.#collects.set(mask, sql);
    }
    return sql;
  }

  get makeCollected(): string {
    const names = this.#layout.columns.map(({ sqlName }) => sqlName);
    // Without types, so that values stay as they are.
    return `CREATE TABLE ${COLLECTED} (${[`${ENTRY} INTEGER PRIMARY KEY`, ...names, VERSION_COLUMN, COMMIT_TIME_COLUMN].join(", ")})`;
  }

  #andLive(): string {
    return isSoft(this.#layout.form) ? ` AND NOT ${DELETED_COLUMN}` : "";
  }
}

const COLLECTED = "temp._millrace_collected";
const ENTRY = "_millrace_entry";
export const DROP_COLLECTED = `DROP TABLE ${COLLECTED}`;
