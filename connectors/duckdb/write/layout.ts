import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import { columnNames, inScope, quoteIdentifier, quoteLiteral, quoteName, type TargetName } from "../names.ts";
import { DECIMAL, duckType, type DuckType, FLOAT, HEX, INSTANT, JSON_TEXT, LIST, TEXT, TIMESTAMP } from "../types.ts";
import {
  COMMIT_TIME_COLUMN,
  DELETED_COLUMN,
  EXACT_COLUMN,
  type TargetForm,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";

export interface DuckdbForm extends TargetForm {
  /** The tables are in a lake (DuckLake), which knows no keys, indexes or ON CONFLICT. Default: in a file. */
  readonly isLake?: boolean;
}

export interface LayoutColumn {
  readonly source: Column;
  /** Name in the target. */
  readonly name: string;
  readonly duck: DuckType;
  readonly isKey: boolean;
  /** True if the source may hold values that the target's type can't. */
  readonly mayNotFit: boolean;
  /** `"name":`, the start of the column's field in `_millrace_exact`. */
  readonly exactField: Buffer;
}

/** The columns, key and form of one table version in the file, and so how its rows are written. */
export interface TableLayout {
  readonly table: TableVersion;
  readonly catalogue: string;
  readonly target: TargetName;
  /** Quoted, with the catalogue. */
  readonly sqlName: string;
  readonly columns: readonly LayoutColumn[];
  /** In key order. */
  readonly key: readonly LayoutColumn[];
  /** Whether columns that the table no longer has are dropped. */
  readonly dropsColumns: boolean;
  /** Columns that the table no longer has and the target keeps: they are null in written rows. */
  readonly retired: readonly string[];
  readonly form: DuckdbForm;
  /** See TargetNote. */
  readonly owner?: string | undefined;
}

export function layoutOf(table: TableVersion, target: TargetName, catalogue: string, form: DuckdbForm): TableLayout {
  const names = columnNames(table.columns, form);
  const columns = table.columns.map((source, i): LayoutColumn => {
    const isKey = table.key.includes(i);
    const duck = duckType(source, isKey, form.isLake === true);
    const name = names[i]!;
    const mayNotFit = [DECIMAL, FLOAT, TIMESTAMP, INSTANT, JSON_TEXT, LIST].some((form) => form === duck.form);
    return { source, name, duck, isKey, mayNotFit, exactField: Buffer.from(`${JSON.stringify(name)}:`) };
  });
  return {
    table,
    catalogue,
    target,
    sqlName: quoteName(catalogue, target.schema, target.table),
    columns,
    key: table.key.map((ordinal) => columns[ordinal]!),
    dropsColumns: false,
    retired: [],
    form,
  };
}

export function addExactSql({ sqlName }: TableLayout): string {
  return `ALTER TABLE ${sqlName} ADD COLUMN IF NOT EXISTS ${quoteIdentifier(EXACT_COLUMN)} JSON`;
}

/** What the reader of a staged file must know. */
export interface StagedFile {
  readonly path: string;
  readonly hasLineBreak: boolean;
  readonly rowBytesMax: number;
}

/** The reader refuses longer rows by default, and its buffer must hold a row. A longer row counts as large. */
export const ROW_BYTES_DEFAULT = 1024 * 1024;
/** DuckDB's default of 32 MB costs the process some 40 MB more than these (docs/benchmarks.md). */
const BUFFER_BYTES = 2 * ROW_BYTES_DEFAULT;

type Field = readonly [name: string, type: string];

export function readCsv(file: StagedFile, fields: readonly Field[]): string {
  const columns = fields.map(([name, type]) => `${quoteLiteral(name)}: ${quoteLiteral(type)}`).join(", ");
  const options = [
    "auto_detect = false, header = false, delim = ',', quote = '\"', escape = '\"', new_line = '\\n'",
    // An empty field is null, an empty quoted one is the empty string.
    "nullstr = '', allow_quoted_nulls = false",
    `columns = {${columns}}`,
  ];
  if (file.hasLineBreak) options.push("parallel = false");
  if (file.rowBytesMax > ROW_BYTES_DEFAULT) {
    const size = file.rowBytesMax + 1024;
    options.push(`max_line_size = ${size}, buffer_size = ${size}`);
  } else options.push(`buffer_size = ${BUFFER_BYTES}`);
  return `read_csv(${quoteLiteral(file.path)}, ${options.join(", ")})`;
}

/** Fields have our own names, so that no column name conflicts with a keyword of the reader. */
export const field = (i: number): string => `c${i}`;

export const cellFields = (layout: TableLayout): Field[] =>
  layout.columns.map(({ duck }, i): Field => [field(i), duck.field]);
export const TAIL: readonly Field[] = [
  ["version", "BIGINT"],
  ["commit_us", "BIGINT"],
  ["exact", "VARCHAR"],
];
export const COMMIT_TIME = "make_timestamptz(commit_us)";

/** Inserts rows whose keys should be new; the statement fails if one exists. */
export function insertSql(layout: TableLayout, file: StagedFile, withExact: boolean): string {
  return `${insert(layout, withExact)} ${selectStaged(layout, file, withExact)}`;
}

/** Into a lake. */
export function putSql(layout: TableLayout, file: StagedFile, withExact: boolean): string {
  return merge(layout, selectStaged(layout, file, withExact), withExact);
}

/** The same rows, so that also new ones go into the lake's catalogue: a merge makes a file for a single one. */
export function putFewSql(layout: TableLayout, file: StagedFile, withExact: boolean): string {
  const select = selectStaged(layout, file, withExact);
  return `${updateMatching(layout, select, withExact)}; ${insertMissing(layout, select, withExact)}`;
}

function insertMissing(layout: TableLayout, select: string, withExact: boolean): string {
  const keyed = { sqlName: layout.sqlName, columns: columnsOf(layout, withExact), key: keyNames(layout) };
  return insertNew(layout.form, keyed, select);
}

/** Replaces rows, or adds them, straight from the file: two copies of a large row less than by way of a table. */
export function displaceSql(layout: TableLayout, file: StagedFile, withExact: boolean): string {
  return `${removeSql(layout, stagedKeys(layout, file))}; ${insertMissing(layout, selectStaged(layout, file, withExact), withExact)}`;
}

export function stagedKeys(layout: TableLayout, file: StagedFile): StagedRows {
  const keys = layout.table.key.map(
    (ordinal, k) => `${layout.columns[ordinal]!.duck.expression(field(ordinal))} AS k${k}`,
  );
  const from = readCsv(file, [...cellFields(layout), ...TAIL]);
  return { sql: `(SELECT ${[...keys, "version"].join(", ")} FROM ${from})`, key: (k) => `k${k}` };
}

function selectStaged(layout: TableLayout, file: StagedFile, withExact: boolean): string {
  const values = layout.columns.map(({ duck }, i) => duck.expression(field(i)));
  const from = readCsv(file, [...cellFields(layout), ...TAIL]);
  return `SELECT ${[...values, ...tailValues(withExact)].join(", ")} FROM ${from}`;
}

/** Inserts a skeleton for each staged key without a row; none if all rows exist. */
export function missingBasesSql(layout: TableLayout, file: StagedFile): string {
  const names = [...layout.key.map(({ name }) => name), ...metaColumns(false)].map(quoteIdentifier).join(", ");
  const keys = layout.table.key.map((ordinal) => layout.columns[ordinal]!.duck.expression(field(ordinal)));
  return (
    `INSERT INTO ${layout.sqlName} (${names}) SELECT ${[...keys, ...tailValues(false)].join(", ")} ` +
    `FROM ${readCsv(file, [...cellFields(layout), ...TAIL])} ON CONFLICT DO NOTHING`
  );
}

/** Writes the changed columns of existing rows; `unchanged` says which to leave alone. */
export function updateSql(layout: TableLayout, file: StagedFile, withExact: boolean, unchanged: string): string {
  const carried = layout.columns.flatMap((column, i) => (unchanged[i] === "u" ? [] : [{ column, i }]));
  const names = [...carried.map(({ column }) => column.name), ...metaColumns(withExact)].map(quoteIdentifier);
  const values = [...carried.map(({ column, i }) => column.duck.expression(field(i))), ...tailValues(withExact)];
  const sets = [
    ...carried.filter(({ column }) => !column.isKey).map(({ column }) => column.name),
    ...metaColumns(false),
  ]
    .map(quoteIdentifier)
    .map((name) => `${name} = excluded.${name}`);
  sets.push(...alsoSets(layout));
  if (withExact) {
    const exact = quoteIdentifier(EXACT_COLUMN);
    sets.push(`${exact} = ${mergedExact(`millrace_row.${exact}`, `excluded.${exact}`)}`);
  }
  return (
    `INSERT INTO ${layout.sqlName} AS millrace_row (${names.join(", ")}) SELECT ${values.join(", ")} ` +
    `FROM ${readCsv(file, [...cellFields(layout), ...TAIL])} ON CONFLICT (${keyNames(layout).join(", ")}) DO UPDATE SET ${sets.join(", ")} ${GUARD}`
  );
}

/** Rows, or keys, that a batch has for a table: a relation with a column `version`, and one for each column of the key. */
export interface StagedRows {
  readonly sql: string;
  /** The column with the value of the key's k-th column. */
  readonly key: (k: number) => string;
}

const PUTS = "temp.main.millrace_puts";

/** Collects puts so that one statement can write them all: each may read all keys. `isMore`: some are staged already. */
export function stagePutsSql(layout: TableLayout, file: StagedFile, isMore: boolean): string {
  const values = layout.columns.map(({ duck }, i) => `${duck.expression(field(i))} AS ${field(i)}`);
  const from = readCsv(file, [...cellFields(layout), ...TAIL]);
  const select = `SELECT ${values.join(", ")}, version, commit_us, exact FROM ${from}`;
  return isMore ? `INSERT INTO ${PUTS} ${select}` : `CREATE OR REPLACE TEMP TABLE millrace_puts AS ${select}`;
}

export const stagedPuts = (layout: TableLayout): StagedRows => withRows(layout, PUTS);

/** The staged patches that have their base (`completeSql`). */
export const completedPatches = (layout: TableLayout): StagedRows => withRows(layout, COMPLETED);

export const stagedPatches: StagedRows = { sql: "temp.main.millrace_patches", key: (k) => `k${k}` };

export const DROP_PUTS = `DROP TABLE ${PUTS}`;

const withRows = ({ table }: TableLayout, sql: string): StagedRows => ({ sql, key: (k) => field(table.key[k]!) });

/** Deletes the rows that the staged ones replace. */
export function removeSql(layout: TableLayout, staged: StagedRows): string {
  return `DELETE FROM ${layout.sqlName} AS millrace_row USING ${staged.sql} AS staged WHERE ${replaced(layout, staged)}`;
}

/** Deletes the rows with these keys, whatever their versions. */
export function removeAnySql(layout: TableLayout, staged: readonly StagedRows[]): string {
  const named: StagedRows["key"] = (k) => `k${k}`;
  const keys = staged.map(
    ({ sql, key }) => `SELECT ${layout.key.map((_, k) => `${key(k)} AS ${named(k)}`).join(", ")} FROM ${sql}`,
  );
  const all = { sql: `(${keys.join(" UNION ")})`, key: named };
  return `DELETE FROM ${layout.sqlName} AS millrace_row USING ${all.sql} AS staged WHERE ${matching(layout, all)}`;
}

export function newestSql({ sqlName }: TableLayout): string {
  return `SELECT max(${quoteIdentifier(VERSION_COLUMN)})::VARCHAR FROM ${sqlName}`;
}

/** Invariant: a newer row is never replaced by an older one. Equal versions write, as in `IS_NOT_OLDER`. */
function replaced(layout: TableLayout, staged: StagedRows): string {
  return `${matching(layout, staged)} AND ${upTo("staged.version")}`;
}

function matching(layout: TableLayout, { key }: StagedRows): string {
  return layout.key.map(({ name }, k) => `millrace_row.${quoteIdentifier(name)} = staged.${key(k)}`).join(" AND ");
}

/**
 * Appends the staged rows: in the order of their keys the index takes half the time. `isEach`: fails if the table has a
 * row of such a key; otherwise such a row is newer and stays.
 */
export function appendStagedSql(layout: TableLayout, staged: StagedRows, withExact: boolean, isEach: boolean): string {
  const keys = layout.key.map((_, k) => staged.key(k));
  const select = `${selectFrom(layout, staged.sql, withExact)} ORDER BY ${keys.join(", ")}`;
  return isEach ? `${insert(layout, withExact)} ${select}` : insertMissing(layout, select, withExact);
}

/** Writes the staged rows, changing in place those that exist and are not newer. */
export function upsertStagedSql(layout: TableLayout, { sql }: StagedRows, withExact: boolean): string {
  const [keys, sets] = [keyNames(layout).join(", "), setsOf(layout, withExact).join(", ")];
  return `${insert(layout, withExact)} ${selectFrom(layout, sql, withExact)} ON CONFLICT (${keys}) DO UPDATE SET ${sets} ${GUARD}`;
}

/** Writes the staged rows into a lake. */
export function mergeStagedSql(layout: TableLayout, { sql }: StagedRows, withExact: boolean): string {
  return merge(layout, selectFrom(layout, sql, withExact), withExact);
}

function selectFrom(layout: TableLayout, from: string, withExact: boolean): string {
  const values = layout.columns.map((_, i) => field(i));
  return `SELECT ${[...values, ...tailValues(withExact)].join(", ")} FROM ${from}`;
}

function tailValues(withExact: boolean): string[] {
  return withExact ? ["version", COMMIT_TIME, "exact"] : ["version", COMMIT_TIME];
}

function metaColumns(withExact: boolean): string[] {
  return [VERSION_COLUMN, COMMIT_TIME_COLUMN, ...(withExact ? [EXACT_COLUMN] : [])];
}

export function insert(layout: TableLayout, withExact: boolean): string {
  return `INSERT INTO ${layout.sqlName} AS millrace_row (${columnsOf(layout, withExact).join(", ")})`;
}

function columnsOf(layout: TableLayout, withExact: boolean): string[] {
  return [...layout.columns.map(({ name }) => name), ...metaColumns(withExact)].map(quoteIdentifier);
}

/** Writes the rows of `select`, in the order of `insert`'s columns, that are not older than those in the lake. */
function merge(layout: TableLayout, select: string, withExact: boolean): string {
  const columns = columnsOf(layout, withExact);
  return (
    `${updateMatching(layout, select, withExact)} ` +
    `WHEN NOT MATCHED THEN INSERT (${columns.join(", ")}) VALUES (${columns.map((name) => `excluded.${name}`).join(", ")})`
  );
}

function updateMatching(layout: TableLayout, select: string, withExact: boolean): string {
  const matches = keyNames(layout).map((key) => `millrace_row.${key} = excluded.${key}`);
  return (
    `MERGE INTO ${layout.sqlName} AS millrace_row USING (${select}) AS excluded (${columnsOf(layout, withExact).join(", ")}) ` +
    `ON ${matches.join(" AND ")} WHEN MATCHED AND ${IS_NOT_OLDER} THEN UPDATE SET ${setsOf(layout, withExact).join(", ")}`
  );
}

function setsOf(layout: TableLayout, withExact: boolean): string[] {
  const notKey = layout.columns.filter(({ isKey }) => !isKey).map(({ name }) => name);
  const others = [...notKey, ...metaColumns(withExact)].map(quoteIdentifier);
  return [...others.map((name) => `${name} = excluded.${name}`), ...alsoSets(layout)];
}

/** A table whose rows `key` identifies; all names are quoted. */
interface Keyed {
  readonly sqlName: string;
  /** Those that get values. */
  readonly columns: readonly string[];
  readonly key: readonly string[];
}

/** Inserts the rows of `select` whose key the table does not have. */
export function insertNew({ isLake }: DuckdbForm, { sqlName, columns, key }: Keyed, select: string): string {
  const into = `INSERT INTO ${sqlName} AS millrace_row (${columns.join(", ")})`;
  if (isLake !== true) return `${into} ${select} ON CONFLICT DO NOTHING`;
  const matches = key.map((name) => `held.${name} = added.${name}`).join(" AND ");
  return (
    `${into} SELECT * FROM (${select}) AS added (${columns.join(", ")}) ` +
    `WHERE NOT EXISTS (SELECT 1 FROM ${sqlName} AS held WHERE ${matches})`
  );
}

/** The other columns of a written row: it is no longer deleted, and retired columns are null. */
export function alsoSets(layout: TableLayout): string[] {
  return [...unmarked(layout), ...layout.retired.map((name) => `${quoteIdentifier(name)} = NULL`)];
}

const keyNames = (layout: TableLayout): string[] => layout.key.map(({ name }) => quoteIdentifier(name));

const DELETED = quoteIdentifier(DELETED_COLUMN);

/** A written row is no longer deleted. */
function unmarked(layout: TableLayout): readonly string[] {
  return layout.form.deletes === "soft" ? [`${DELETED} = false`] : [];
}

function andLive(layout: TableLayout): string {
  return layout.form.deletes === "soft" ? ` AND ${besideKey(`NOT millrace_row.${DELETED}`)}` : "";
}

/**
 * Beside a condition on another column alone, also one that a join makes, DuckDB does not use the key's index; the commit time
 * is never null.
 */
function besideKey(condition: string): string {
  return `(${condition} OR millrace_row.${quoteIdentifier(COMMIT_TIME_COLUMN)} IS NULL)`;
}

/** Beside a condition on keys: the row is not newer. */
export function upTo(version: bigint | string): string {
  return besideKey(`millrace_row.${quoteIdentifier(VERSION_COLUMN)} <= ${version}`);
}

/**
 * Invariant: a newer row is never replaced by an older one. Equal versions write: inside a transaction the order of
 * delivery decides.
 */
const IS_NOT_OLDER = `excluded.${quoteIdentifier(VERSION_COLUMN)} >= millrace_row.${quoteIdentifier(VERSION_COLUMN)}`;
const GUARD = `WHERE ${IS_NOT_OLDER}`;

/** The keys of deletes in a file, with `version` and, for soft deletes, `commit_us`. */
export function stagedDeletes(layout: TableLayout, file: StagedFile): StagedRows {
  const isSoft = layout.form.deletes === "soft";
  const tail: readonly Field[] = [["version", "BIGINT"], ...(isSoft ? [["commit_us", "BIGINT"] as const] : [])];
  const columns = [...keyValues(layout), ...tail.map(([name]) => name)].join(", ");
  return {
    sql: `(SELECT ${columns} FROM ${readCsv(file, [...keyFields(layout), ...tail])})`,
    key: (k) => `k${k}`,
  };
}

export const DELETES: StagedRows = { sql: "temp.main.millrace_deletes", key: (k) => `k${k}` };

export function stageDeletesSql(layout: TableLayout, file: StagedFile): string {
  return `CREATE OR REPLACE TEMP TABLE millrace_deletes AS SELECT * FROM ${stagedDeletes(layout, file).sql}`;
}

export function deleteSql(layout: TableLayout, staged: StagedRows): string {
  if (layout.form.deletes === "hard") return removeSql(layout, staged);
  const sets = markedCells.map(([name, value]) => `${name} = ${value}`).join(", ");
  return `UPDATE ${layout.sqlName} AS millrace_row SET ${sets} FROM ${staged.sql} AS staged WHERE ${replaced(layout, staged)}`;
}

const markedCells = [
  [DELETED, "true"],
  [quoteIdentifier(VERSION_COLUMN), "staged.version"],
  [quoteIdentifier(COMMIT_TIME_COLUMN), "make_timestamptz(staged.commit_us)"],
] as const;

export const MARKED = "temp.main.millrace_marked";

/** Copies the rows that the staged ones delete, marked as deleted; each once, though 0 and -0 are one key. */
export function markSql(layout: TableLayout, staged: StagedRows): string {
  const marked = markedCells.map(([name, value]) => `${value} AS ${name}`).join(", ");
  const keys = keyNames(layout).map((name) => `millrace_row.${name}`);
  return (
    `CREATE OR REPLACE TEMP TABLE millrace_marked AS SELECT millrace_row.* REPLACE (${marked}) ` +
    `FROM ${layout.sqlName} AS millrace_row JOIN ${staged.sql} AS staged ON ${replaced(layout, staged)} ` +
    `QUALIFY row_number() OVER (PARTITION BY ${keys.join(", ")} ORDER BY staged.version DESC) = 1`
  );
}

export function markedRows({ key }: TableLayout): StagedRows {
  return { sql: MARKED, key: (k) => quoteIdentifier(key[k]!.name) };
}

/** The keys in a file of touched rows, each once, as k0, k1 … */
export function selectTouched(layout: TableLayout, file: StagedFile): string {
  const keys = keyValues(layout).join(", ");
  return `SELECT DISTINCT ${keys} FROM ${readCsv(file, [...keyFields(layout), ["version", "BIGINT"]])}`;
}

function keyFields(layout: TableLayout): Field[] {
  return layout.key.map(({ duck }, i): Field => [field(i), duck.field]);
}

function keyValues(layout: TableLayout): string[] {
  return layout.key.map(({ duck }, i) => `${duck.expression(field(i))} AS k${i}`);
}

const COMPLETED = "temp.main.millrace_completed";

/** Stages rows with unchanged cells. `mask` has a `u` for each unchanged cell; b0 … is the key of the base row. */
export function stagePatchesSql(layout: TableLayout, file: StagedFile): string {
  const fields: Field[] = [
    ["entry", "INTEGER"],
    ["moved", "BOOLEAN"],
    ["mask", "VARCHAR"],
    ...cellFields(layout),
    ...layout.key.map(({ duck }, i): Field => [`k${i}`, duck.field]),
    ...TAIL,
  ];
  const values = layout.columns.map(({ duck }, i) => `${duck.expression(field(i))} AS ${field(i)}`);
  const base = layout.key.map(({ duck }, i) => `${duck.expression(`k${i}`)} AS k${i}`);
  return (
    `CREATE OR REPLACE TEMP TABLE millrace_patches AS SELECT entry, moved, mask, ${[...values, ...base].join(", ")}, ` +
    `version, commit_us, exact FROM ${readCsv(file, fields)}`
  );
}

/**
 * Completes staged rows from their base rows. A base under the old key that is newer than the change is another row by
 * now (its key was reused): it supplies nothing.
 */
export function completeSql(layout: TableLayout, withExact: boolean): string {
  const cells = layout.columns.map(
    ({ name, isKey }, i) =>
      (isKey
        ? `staged.${field(i)}`
        : `CASE WHEN staged.mask[${i + 1}] = 'u' THEN millrace_row.${quoteIdentifier(name)} ELSE staged.${field(i)} END`) +
      ` AS ${field(i)}`,
  );
  const exact = withExact ? mergedExact(`millrace_row.${quoteIdentifier(EXACT_COLUMN)}`, "staged.exact") : "NULL";
  const version = quoteIdentifier(VERSION_COLUMN);
  return (
    `CREATE OR REPLACE TEMP TABLE millrace_completed AS SELECT staged.entry, ${cells.join(", ")}, staged.version, ` +
    `staged.commit_us, ${exact} AS exact FROM ${stagedPatches.sql} AS staged JOIN ${layout.sqlName} AS millrace_row ` +
    `ON ${matching(layout, stagedPatches)} WHERE (NOT staged.moved OR millrace_row.${version} <= staged.version)${andLive(layout)}`
  );
}

/** The size of the largest completed row; values of fixed size don't count. */
export function completedBytesSql(layout: TableLayout): string {
  const sizes = layout.columns.flatMap(({ duck }, i) => {
    if (duck.form === LIST) return [`coalesce(strlen(${field(i)}::VARCHAR), 0)`];
    if (duck.form === HEX) return [`coalesce(octet_length(${field(i)}), 0)`];
    return duck.form === TEXT || duck.form === JSON_TEXT ? [`coalesce(strlen(${field(i)}), 0)`] : [];
  });
  return `SELECT coalesce(max(list_sum([${["0", ...sizes].join(", ")}])), 0)::VARCHAR FROM ${COMPLETED}`;
}

/** Exact texts of the base row stay if the change does not set them. */
export function mergedExact(base: string, change: string): string {
  return `nullif(json_merge_patch(coalesce(${base}, '{}'), coalesce(${change}, '{}')), '{}')`;
}

export const INCOMPLETE_SQL = `SELECT entry FROM ${stagedPatches.sql} WHERE entry NOT IN (SELECT entry FROM ${COMPLETED}) ORDER BY entry`;

/** Soft: a row that was already deleted keeps the version and the time of its own delete. */
export function deleteUpToSql(layout: TableLayout, comparison: "<=" | "<", version: bigint, timeUs?: bigint): string {
  const guard = `WHERE ${quoteIdentifier(VERSION_COLUMN)} ${comparison} ${version}${inScope(layout.table, layout.form)}`;
  if (layout.form.deletes === "hard") return `DELETE FROM ${layout.sqlName} ${guard}`;
  const time = timeUs === undefined ? "now()" : `make_timestamptz(${timeUs})`;
  const sets = `${DELETED} = true, ${quoteIdentifier(VERSION_COLUMN)} = ${version}, ${quoteIdentifier(COMMIT_TIME_COLUMN)} = ${time}`;
  return `UPDATE ${layout.sqlName} AS millrace_row SET ${sets} ${guard}${andLive(layout)}`;
}
