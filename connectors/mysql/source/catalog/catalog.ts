/** The tables as information_schema has them. */
import { isDeepStrictEqual } from "node:util";
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import { findMillraceError, reasonOf } from "../../../../src/core/errors.ts";
import { errorNumber } from "../errors.ts";
import { quoteTable, quoteText, unquoted } from "../../quote.ts";
import type {
  Equalities,
  Equality,
  ForeignKey,
  NamedTable,
  TableSize,
} from "../../../../src/core/contracts/catalog.ts";
import { tableId } from "../../../../src/core/model/schema.ts";
import type { Flavour } from "../wire/event-header.ts";
import type { Queryable } from "../wire/server-facts.ts";

export interface CatalogColumn {
  readonly name: string;
  /** Without length and attributes: `varchar`. */
  readonly dataType: string;
  readonly columnType: string;
  readonly nullable: boolean;
  readonly length: number;
  readonly precision: number;
  readonly scale: number;
  /** Digits of seconds. */
  readonly digits: number;
  /** MariaDB: a LONGTEXT that was declared as JSON, which a check of its column shows. */
  readonly isJson: boolean;
  /** Of a generated column, or of a default that is computed: the server's text. */
  readonly expression: string;
  /** False of a generated column that the server leaves out of the log's old rows. */
  readonly isLogged: boolean;
}

/** MariaDB marks columns in the format of before 10.1, which a table keeps until it is made again (mysql56_temporal_format). */
export function hasOldFraction({ columnType, digits }: CatalogColumn): boolean {
  return digits > 0 && columnType.includes("mariadb-5.3");
}

interface CatalogKey {
  readonly name: string;
  readonly columns: readonly string[];
}

/** MariaDB's SYSTEM VERSIONING by columns that the table's owner named. */
interface CatalogHistory {
  /** Until when a row was valid. It belongs to every key, and is the same in all present rows. */
  readonly rowEnd: string;
  /** By transactions in place of times: such a table's changes are logged as statements. */
  readonly isPrecise: boolean;
}

export interface CatalogTable {
  readonly schema: string;
  readonly table: string;
  readonly type: string;
  readonly engine: string;
  /** Distinguishes it from another table with the same name; of a table that was read alone only by when it was made. */
  readonly generation: string;
  /** When it was made or last altered, in seconds; with `~` if that may have been again since, in the same second. */
  readonly altered: string;
  /** Those that the user may see: the server hides what it may not read, as if the table had no such column. */
  readonly columns: readonly CatalogColumn[];
  /** The user may read all columns. */
  readonly isReadable: boolean;
  readonly history: CatalogHistory | undefined;
  /** Keys of the present rows. */
  readonly primary: CatalogKey | undefined;
  /** Over not-null columns, fewest columns first. */
  readonly uniques: readonly CatalogKey[];
  /** The first unique index over whole columns of which some may be null. */
  readonly nullableUnique: CatalogKey | undefined;
}

/** Since 1970, our sessions being in UTC; NaN: the server does not tell. */
export function alteredSeconds({ altered }: CatalogTable): number {
  return Date.parse(`${altered.replace("~", "")}Z`) / 1000;
}

const SYSTEM = "('mysql','sys','information_schema','performance_schema')";

/** Of InnoDB: what a row has beside its values. */
const ROW_OVERHEAD_BYTES = 20;

const READINGS_MAX = 4;

/**
 * From this version on, MariaDB logs generated columns in new rows only, whatever its settings are. The columns of a history
 * are listed as generated, and logged. MySQL skips the comment.
 */
const IS_LOGGED = "1 /*M!110800 - COALESCE(generation_expression NOT IN ('', 'ROW START', 'ROW END'), 0) */";

/** The text of a default that the server computes; from MariaDB that of every default. */
const DEFAULT_EXPRESSION =
  "CONCAT_WS('', NULL /*M!100201 , column_default */ /*!80013 , IF(extra LIKE '%DEFAULT_GENERATED%', column_default, NULL) */)";

/** Reads information_schema, and knows what of it need not be asked for again. */
export class CatalogReader {
  readonly #server: Queryable;
  /** Views that this server or user does not have. */
  readonly #missing: Set<string>;
  /** The generations of tables that are known to have no key, by schema and table with a zero between. */
  readonly #keyless = new Map<string, string>();
  /** Tables of which the server knows no time of a change: since when, in seconds, their figures are as they were. */
  readonly #timeless = new Map<string, { readonly since: number; readonly figures: string }>();

  constructor(server: Queryable, missing: readonly string[] = []) {
    this.#server = server;
    this.#missing = new Set(missing);
  }

  /**
   * One table, or all of the user's. The views are read one after another, so a table that is altered, dropped or created
   * meanwhile may seem to have no key, or a key over columns that it does not have. It counts as keyless if two readings in
   * a row say so. A table that no reading shows whole is left out, as one that is gone.
   */
  async read(only: TableName | null, signal: AbortSignal): Promise<readonly CatalogTable[]> {
    const keyless = only === null ? this.#keyless : new Map<string, string>();
    let tables = await this.#views(only, signal);
    for (let i = 1; i < READINGS_MAX; i++) {
      const doubtful = new Map(
        tables.filter((table) => isDoubtful(table, keyless)).map((table) => [idOf(table), table]),
      );
      if (doubtful.size === 0) break;
      tables = await this.#views(only, signal);
      for (const table of tables)
        if (isDeepStrictEqual(doubtful.get(idOf(table)), table)) keyless.set(idOf(table), table.generation);
    }
    return tables.filter((table) => !isTorn(table));
  }

  /** Of one database. */
  async names(schema: string, signal: AbortSignal): Promise<readonly string[]> {
    const sql = `SELECT table_name FROM information_schema.tables WHERE table_schema = ${quoteText(schema)} AND table_type <> 'VIEW'`;
    const rows = await this.#server.rows("reading the names of tables", sql, signal);
    return rows.map(([name]) => name ?? "");
  }

  /** Row counts as the storage engine's statistics estimate them: nothing is counted. */
  async rowEstimates(
    flavour: Flavour,
    tables: readonly NamedTable[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, number>> {
    return new Map([...(await this.sizes(flavour, tables, signal))].map(([id, { rowCount }]) => [id, rowCount]));
  }

  /** The server knows the length of whole rows alone. */
  async sizes(
    flavour: Flavour,
    tables: readonly NamedTable[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, TableSize>> {
    const schemas = [...new Set(tables.map(({ schema }) => quoteText(schema)))];
    if (schemas.length === 0) return new Map();
    await freshStatistics(this.#server, flavour, signal);
    const sql = `SELECT table_schema, table_name, table_rows, avg_row_length FROM information_schema.tables WHERE table_schema IN (${schemas.join(",")})`;
    const rows = await this.#server.rows("reading the statistics of tables", sql, signal);
    const wanted = new Set(tables.map(({ id }) => id));
    return new Map(
      rows.flatMap(([schema, table, count, length]) => {
        const id = tableId(schema ?? "", table ?? "");
        if (!wanted.has(id) || count === null || count === undefined) return [];
        const restBytes = Math.max(0, Number(length ?? 0) - ROW_OVERHEAD_BYTES);
        return [[id, { rowCount: Number(count), columnBytes: new Map<string, number>(), restBytes }] as const];
      }),
    );
  }

  /**
   * Of the tables, those to which somebody has written, but not in the last seconds. The server knows no time of a table to
   * which nobody has written since it began, or has opened the table: if it has rows, and no other figures when it is asked
   * again later, nobody writes. Of a table with partitions it may never know a time, and counts rows where none are.
   */
  async quietTables(flavour: Flavour, tables: readonly NamedTable[], signal: AbortSignal): Promise<readonly string[]> {
    await freshStatistics(this.#server, flavour, signal);
    const quiet: string[] = [];
    const asked = new Set(tables.map(({ id }) => id));
    for (const id of this.#timeless.keys()) if (!asked.has(id)) this.#timeless.delete(id);
    for (const { id, schema, table } of tables) {
      const where = `table_schema = ${quoteText(schema)} AND table_name = ${quoteText(table)}`;
      const sql = `SELECT update_time < NOW() - INTERVAL ${QUIET_SECONDS} SECOND, table_rows > 0 AND create_options NOT LIKE '%partitioned%', UNIX_TIMESTAMP(), CONCAT_WS('/', table_rows, data_length, index_length) FROM information_schema.tables WHERE ${where}`;
      const [row] = await this.#server.rows("reading when a table was written to", sql, signal);
      if (this.#isQuiet(id, row ?? [])) quiet.push(id);
    }
    return quiet;
  }

  #isQuiet(id: string, [isBefore, hasRows, now, figures]: readonly (string | null)[]): boolean {
    if (isBefore !== null || hasRows !== "1") {
      this.#timeless.delete(id);
      return isBefore === "1";
    }
    const known = this.#timeless.get(id);
    const since = known !== undefined && known.figures === figures ? known.since : Number(now);
    this.#timeless.set(id, { since, figures: figures ?? "" });
    return Number(now) - since >= QUIET_SECONDS;
  }

  /** By the tables' own statements: the information schema shows keys only to users who may do more than read. */
  async foreignKeys(tables: readonly NamedTable[], signal: AbortSignal): Promise<readonly ForeignKey[]> {
    const found: ForeignKey[] = [];
    for (const { schema, table } of tables) {
      const sql = `SHOW CREATE TABLE ${quoteTable(schema, table)}`;
      const [row] = await this.#server.rows("reading foreign keys", sql, signal);
      found.push(...foreignKeysIn(row?.[1] ?? "", { schema, table }));
    }
    return found;
  }

  async equalities(tables: readonly NamedTable[], signal: AbortSignal): Promise<Equalities> {
    const schemas = [...new Set(tables.map(({ schema }) => quoteText(schema)))];
    if (schemas.length === 0) return new Map();
    const sql = `SELECT table_schema, table_name, column_name, collation_name FROM information_schema.columns WHERE table_schema IN (${schemas.join(",")}) AND collation_name IS NOT NULL`;
    const rows = await this.#server.rows("reading the collations of columns", sql, signal);
    const found = new Map(tables.map(({ id }) => [id, new Map<string, Equality>()]));
    for (const [schema, table, column, collation] of rows) {
      const equality = equalityOf(collation ?? "");
      if (equality !== null) found.get(tableId(schema ?? "", table ?? ""))?.set(column ?? "", equality);
    }
    return found;
  }

  async #views(only: TableName | null, signal: AbortSignal): Promise<readonly CatalogTable[]> {
    const where =
      only === null
        ? `table_schema NOT IN ${SYSTEM}`
        : `table_schema = ${quoteText(only.schema)} AND table_name = ${quoteText(only.table)}`;
    const doing = "reading the catalogue";
    const tables = await this.#server.rows(
      doing,
      `SELECT table_schema, table_name, table_type, engine, create_time, create_time >= NOW() - INTERVAL 1 SECOND FROM information_schema.tables WHERE ${where} ORDER BY table_schema, table_name`,
      signal,
    );
    // Where many tables come and go, a stream that is behind names most of them when they are gone.
    if (tables.length === 0) return [];
    const columns = await this.#server.rows(
      doing,
      `SELECT table_schema, table_name, column_name, data_type, column_type, is_nullable, character_maximum_length, numeric_precision, numeric_scale, datetime_precision, generation_expression, ${IS_LOGGED}, ${DEFAULT_EXPRESSION}, privileges FROM information_schema.columns WHERE ${where} ORDER BY table_schema, table_name, ordinal_position`,
      signal,
    );
    const indexes = await this.#server.rows(
      doing,
      `SELECT table_schema, table_name, index_name, column_name, sub_part FROM information_schema.statistics WHERE ${where} AND non_unique = 0 ORDER BY table_schema, table_name, index_name, seq_in_index`,
      signal,
    );
    // The server gives the numbers of all its tables or none: too much for each of thousands of them.
    const ids = only === null ? await this.#ids(signal) : NO_IDS;
    const checked = await this.#jsonColumns(only, signal);
    const columnsOf = grouped(columns);
    const cut = await this.#cutTables(tables, columnsOf, signal);
    const indexesOf = grouped(indexes);
    return tables.map(([schema, table, type, engine, created, isFresh]) => {
      const id = idOf({ schema: schema ?? "", table: table ?? "" });
      const listed = columnsOf.get(id) ?? [];
      const own = listed.map((row) => columnOf(row, checked.has(`${id}\0${row[2]}`)));
      const history = type === VERSIONED ? historyOf(listed) : undefined;
      const keys = keysOf(indexesOf.get(id) ?? [], history?.rowEnd);
      const others = keys
        .filter(({ name }) => name !== "PRIMARY")
        .toSorted((a, b) => a.columns.length - b.columns.length);
      const nullable = new Set(own.filter((column) => column.nullable).map((column) => column.name));
      const isNullable = (key: CatalogKey): boolean => key.columns.some((name) => nullable.has(name));
      return {
        schema: schema ?? "",
        table: table ?? "",
        type: type ?? "",
        engine: engine ?? "",
        generation: ids.get(`${schema}/${table}`) ?? created ?? "-",
        altered: `${created ?? "-"}${isFresh === "1" ? "~" : ""}`,
        columns: own,
        isReadable: !cut.has(id) && listed.every((row) => SELECTABLE.test(row[13] ?? "")),
        history,
        primary: keys.find(({ name }) => name === "PRIMARY"),
        uniques: others.filter((key) => !isNullable(key)),
        nullableUnique: others.find(isNullable),
      };
    });
  }

  /**
   * InnoDB's numbers of its tables, by `database/table`; those of its partitions for a table that has some. They change if a
   * table or a partition was created again, emptied, rewritten or swapped. Without the privilege PROCESS, for other engines, or in a shared tablespace of MySQL, there is only the time of
   * creation, in seconds.
   */
  async #ids(signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    for (const { view, sql } of IDS) {
      if (this.#missing.has(view)) continue;
      try {
        const rows = await this.#server.rows("reading the tables' numbers", sql, signal);
        return generationsIn(rows.map(([name, id]) => [name ?? "", `#${id}`]));
      } catch (error) {
        const known = findMillraceError(error);
        if (known?.reason !== "privilege" && !UNKNOWN.has(errorNumber(known?.cause) ?? 0)) throw error;
        this.#missing.add(view);
      }
    }
    return new Map();
  }

  /**
   * Tables of which the user may read some columns alone, as schema and table with a zero between. A privilege on columns shows
   * in the list of its grants; the statement that makes the table has all columns, and is refused to who has no privilege, of
   * whatever kind, on the whole table.
   */
  async #cutTables(
    tables: readonly Row[],
    columnsOf: ReadonlyMap<string, readonly Row[]>,
    signal: AbortSignal,
  ): Promise<ReadonlySet<string>> {
    const doing = "reading the user's grants";
    const granted = await this.#server.rows(doing, "SHOW GRANTS", signal);
    const byColumns = new Set(granted.flatMap(([line]) => tableGrantedByColumns(line ?? "")));
    const cut = new Set<string>();
    if (byColumns.size === 0) return cut;
    for (const [schema, table] of tables) {
      const name = { schema: schema ?? "", table: table ?? "" };
      if (!byColumns.has(idOf(name).toLowerCase())) continue;
      try {
        const sql = `SHOW CREATE TABLE ${quoteTable(name.schema, name.table)}`;
        const [row] = await this.#server.rows(doing, sql, signal);
        const shown = new Set(columnsOf.get(idOf(name))?.map(([, , column]) => column));
        if (columnsMade(row?.[1] ?? "").some((column) => !shown.has(column))) cut.add(idOf(name));
      } catch (error) {
        if (reasonOf(error) === "privilege") cut.add(idOf(name));
        // It is just being made again or altered: the next look shows it.
        else if (errorNumber(findMillraceError(error)?.cause) === undefined) throw error;
      }
    }
    return cut;
  }

  /** MariaDB's columns with a check for JSON, as schema, table and name with zeros between them. */
  async #jsonColumns(only: TableName | null, signal: AbortSignal): Promise<ReadonlySet<string>> {
    if (this.#missing.has(CHECKS)) return new Set();
    const one =
      only === null
        ? ""
        : ` AND constraint_schema = ${quoteText(only.schema)} AND table_name = ${quoteText(only.table)}`;
    const sql = `SELECT constraint_schema, table_name, check_clause FROM information_schema.check_constraints WHERE check_clause LIKE 'json_valid(%'${one}`;
    try {
      const rows = await this.#server.rows("reading the checks", sql, signal);
      return new Set(
        rows.flatMap(([schema, table, clause]) => {
          const column = JSON_CHECK.exec(clause ?? "")?.[1];
          return column === undefined ? [] : [`${schema}\0${table}\0${unquoted(column)}`];
        }),
      );
    } catch (error) {
      // MySQL's view has no such column, and its JSON is a type of its own.
      if (errorNumber(findMillraceError(error)?.cause) !== UNKNOWN_COLUMN) throw error;
      this.#missing.add(CHECKS);
      return new Set();
    }
  }
}

const NO_IDS: ReadonlyMap<string, string> = new Map();

function isDoubtful(table: CatalogTable, keyless: Map<string, string>): boolean {
  const isKeyless = table.primary === undefined && table.uniques.length === 0;
  if (!isKeyless) keyless.delete(idOf(table));
  const isNew = keyless.get(idOf(table)) !== table.generation;
  return isTorn(table) || (BASE.has(table.type) && isKeyless && isNew);
}

function isTorn({ type, columns, primary, uniques }: CatalogTable): boolean {
  const names = new Set(columns.map(({ name }) => name));
  const keys = primary === undefined ? uniques : [primary, ...uniques];
  return BASE.has(type) && (names.size === 0 || keys.some((key) => !key.columns.every((name) => names.has(name))));
}

function idOf({ schema, table }: TableName): string {
  return `${schema}\0${table}`;
}

/** MariaDB's tables with history: what a SELECT shows of them are the present rows. */
export const VERSIONED = "SYSTEM VERSIONED";
const BASE: ReadonlySet<string> = new Set(["BASE TABLE", VERSIONED]);

/**
 * MySQL's INNODB_TABLES opens each table of the server, and so waits if any of them is locked (error 1205 while an ALTER of
 * any table waits for a transaction); its list of tablespaces takes no locks. MariaDB reads its own records.
 */
const IDS = [
  { view: "INNODB_TABLESPACES", sql: "SELECT name, space FROM information_schema.INNODB_TABLESPACES" },
  {
    // MariaDB's names are those of files: other characters than digits and letters are codes.
    view: "INNODB_SYS_TABLES",
    sql: "SELECT CONVERT(CONVERT(CAST(REPLACE(REPLACE(name, '/', '@002f'), '#', '@0023') AS BINARY) USING filename) USING utf8mb4), table_id FROM information_schema.INNODB_SYS_TABLES",
  },
] as const;
/** The server is not the one that has this view: no such table, or no such character set. */
const UNKNOWN: ReadonlySet<number> = new Set([1109, 1115]);
/** Who fills a table does not pause for so long between two commits. */
export const QUIET_SECONDS = 10;
/** Between a table and its partition. */
const PARTITION = /#p#/gi;

function generationsIn(found: readonly (readonly [name: string, id: string])[]): ReadonlyMap<string, string> {
  // A name of a table may look the same.
  const parts = found.flatMap(([name, id]) =>
    Array.from(name.matchAll(PARTITION), ({ index }) => ({ table: name.slice(0, index), id })),
  );
  const ofParts = Array.from(
    Map.groupBy(parts, ({ table }) => table),
    ([table, of]): [string, string] => [
      table,
      of
        .map(({ id }) => id)
        .toSorted()
        .join(""),
    ],
  );
  return new Map([...ofParts, ...found]);
}

/** Of a column, in a list of what the user may do. */
const SELECTABLE = /\bselect\b/i;
const GRANTED = /^GRANT .*\bSELECT \(.* ON (?:TABLE )?`((?:[^`]|``)+)`\.`((?:[^`]|``)+)` TO /i;

/** As schema and table in lower case, with a zero between: a server may show other capitals than the catalogue. */
function tableGrantedByColumns(line: string): readonly string[] {
  const [, schema, table] = GRANTED.exec(line) ?? [];
  if (schema === undefined || table === undefined) return [];
  return [idOf({ schema: unquoted(schema), table: unquoted(table) }).toLowerCase()];
}

/** By a statement that makes a table: each has a line, which begins with its name. */
function columnsMade(statement: string): readonly string[] {
  return Array.from(statement.matchAll(/^ +`((?:[^`]|``)+)` /gm), ([, name]) => unquoted(name!));
}

const CHECKS = "CHECK_CONSTRAINTS";
const UNKNOWN_COLUMN = 1054;
const JSON_CHECK = /^json_valid\(`((?:[^`]|``)+)`\)$/i;

type Row = readonly (string | null)[];

function grouped(rows: readonly Row[]): Map<string, Row[]> {
  return Map.groupBy(rows, ([schema, table]) => `${schema}\0${table}`);
}

function columnOf(row: Row, isChecked: boolean): CatalogColumn {
  return {
    name: row[2] ?? "",
    dataType: (row[3] ?? "").toLowerCase(),
    columnType: row[4] ?? "",
    nullable: row[5] === "YES",
    length: Number(row[6] ?? 0),
    precision: Number(row[7] ?? 0),
    scale: Number(row[8] ?? 0),
    digits: Number(row[9] ?? 0),
    isJson: isChecked && row[3]?.toLowerCase() === "longtext",
    expression: row[10] || row[12] || "",
    isLogged: row[11] !== "0",
  };
}

/** Those that ignore case and are of no one language: in these ASCII's letters are equal to nothing else in ASCII. */
const FOLDED =
  /^(?:(?:utf8(?:mb[34])?|utf16(?:le)?|utf32|ucs2|latin1|ascii)_(?:general|unicode|unicode_520|0900|uca1400)(?:_nopad)?(?:_a[is])?|latin1_swedish(?:_nopad)?)_ci$/;

/** Null: texts are equal if they are the same. */
export function equalityOf(collation: string): Equality | null {
  const isPadded = !/_(?:0900|nopad)_/.test(collation);
  if (collation.endsWith("_bin")) return isPadded ? { by: collation, alike: { isPadded, isFolded: false } } : null;
  return { by: collation, alike: FOLDED.test(collation) ? { isPadded, isFolded: true } : null };
}

function historyOf(rows: readonly Row[]): CatalogHistory | undefined {
  const end = rows.find((row) => row[10] === "ROW END");
  return end === undefined ? undefined : { rowEnd: end[2] ?? "", isPrecise: end[3]?.toLowerCase() === "bigint" };
}

/** The primary key, and unique indexes over whole columns. */
function keysOf(rows: readonly Row[], rowEnd: string | undefined): CatalogKey[] {
  const keys = new Map<string, { columns: string[]; isWhole: boolean }>();
  for (const [, , index, column, prefix] of rows) {
    const key = keys.get(index ?? "") ?? { columns: [], isWhole: true };
    keys.set(index ?? "", key);
    // An index over an expression names no column.
    if (column == null || (index !== "PRIMARY" && prefix !== null)) key.isWhole = false;
    else key.columns.push(column);
  }
  return [...keys]
    .map(([name, { columns, isWhole }]) => ({ name, isWhole, columns: columns.filter((column) => column !== rowEnd) }))
    .filter(({ columns, isWhole }) => isWhole && columns.length > 0)
    .map(({ name, columns }) => ({ name, columns }));
}

/** MySQL would show the figures of its last look, which may be a day old. */
export async function freshStatistics(server: Queryable, flavour: Flavour, signal: AbortSignal): Promise<void> {
  const sql = "SET SESSION information_schema_stats_expiry = 0";
  if (flavour === "mysql") await server.rows("reading the statistics of tables", sql, signal);
}

const NAME = "`((?:[^`]|``)*)`";
const NAMES = "\\(((?:`(?:[^`]|``)*`(?:,\\s*)?)+)\\)";
/** Each on a line of its own: the server writes line breaks in comments as `\n`. */
const FOREIGN_KEY = new RegExp(
  `^\\s*CONSTRAINT ${NAME} FOREIGN KEY ${NAMES} REFERENCES (?:${NAME}\\.)?${NAME} ${NAMES}`,
  "gm",
);

function foreignKeysIn(statement: string, table: TableName): readonly ForeignKey[] {
  return Array.from(statement.matchAll(FOREIGN_KEY), ([, , columns = "", schema, other = "", referenced = ""]) => ({
    table,
    columns: namesIn(columns),
    references: { schema: schema === undefined ? table.schema : unquoted(schema), table: unquoted(other) },
    referenced: namesIn(referenced),
  }));
}

function namesIn(list: string): readonly string[] {
  return Array.from(list.matchAll(new RegExp(NAME, "g")), ([, name = ""]) => unquoted(name));
}
