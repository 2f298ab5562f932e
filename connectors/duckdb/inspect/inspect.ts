/** Reads the file by SQL over separate connections: see core/contracts/comparing. */
import { listedKeyOf } from "../../kit/listed-keys.ts";
import type { Json } from "@duckdb/node-api";
import { type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import type {
  EqualRows,
  Inspection,
  KeyPage,
  ListedKey,
  RowsInOrder,
  StoredRow,
} from "../../../src/core/contracts/comparing.ts";
import { rowIdOf } from "../../../src/core/model/row-id.ts";
import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import type { KeyText } from "../../../src/core/contracts/row-reads.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import type { DuckdbForm } from "../write/layout.ts";
import { Database, type DatabaseSettings } from "../file/database.ts";
import { classify, stopped } from "../errors.ts";
import { expectedBeside, expectedText, REAL, sourceText } from "./expected.ts";
import { interrupting, wholeResult } from "../../kit/duckdb-engine/reading.ts";
import { columnNames, fold, inScope, quoteIdentifier, quoteLiteral, quoteName, targetKey, targetOf } from "../names.ts";
import type { Store } from "../store.ts";
import { duckType, LIST } from "../types.ts";
import { type LineTable, linesQuery, MetLines } from "./row-lines.ts";
import { DELETED_COLUMN, EXACT_COLUMN, OFFSET_COLUMN, OP_COLUMN, VERSION_COLUMN } from "../../warehouse/own-columns.ts";
import { invariant } from "../../../src/core/invariant.ts";

/** The present form of a table in the file. */
interface PresentTable extends LineTable {
  readonly names: readonly string[];
  /** In the order of the source's columns, each in a form that JSON can carry; a missing column shows NULL. */
  readonly cells: readonly string[];
  readonly keys: readonly string[];
}

const KEYS_PER_PIECE = 5_000;
/** A lake has no index: each page reads the keys of all files that may have some. */
const KEYS_PER_LAKE_PAGE = 20_000;

export class DuckdbInspection implements Inspection {
  readonly #store: Store;
  readonly #connection: EngineConnection;
  readonly #schema: string | undefined;
  readonly #form: DuckdbForm;
  /** DuckDB never answers on a connection that is closed while it works. */
  readonly #reading = new Set<Promise<unknown>>();

  private constructor(
    store: Store,
    connection: EngineConnection,
    { schema, form }: { readonly schema: string | undefined; readonly form: DuckdbForm },
  ) {
    this.#store = store;
    this.#connection = connection;
    this.#schema = schema;
    this.#form = form;
  }

  static async open(
    settings: DatabaseSettings,
    options: { readonly schema: string | undefined; readonly form: DuckdbForm },
  ): Promise<DuckdbInspection> {
    return await DuckdbInspection.over(await Database.acquire(settings), options);
  }

  /** Releases the store at the end. */
  static async over(
    store: Store,
    options: { readonly schema: string | undefined; readonly form: DuckdbForm },
  ): Promise<DuckdbInspection> {
    try {
      return new DuckdbInspection(store, await store.connect(), options);
    } catch (error) {
      await store.release();
      throw classify(error, "reading rows to compare");
    }
  }

  expected(table: TableVersion, ordinal: number, text: string): string {
    return expectedText(table.columns[ordinal]!, table.key.includes(ordinal), this.#form.isLake === true, text);
  }

  id(table: TableVersion, key: KeyText): string {
    return rowIdOf(key.map((text, part) => this.expected(table, table.key[part]!, text)));
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    return await this.#guarded(signal, async () => {
      const found = await this.#find(this.#connection, table);
      if (found === null || keys.length === 0) return [];
      const one = (key: KeyText) =>
        `(${key.map((text, part) => quoteLiteral(this.expected(table, table.key[part]!, text))).join(", ")})`;
      const aliases = found.keys.map((_, part) => `c${part}`).join(", ");
      // DuckLake takes what a column is joined with into SQL of its own, which ends at a NUL.
      const isCut = this.#form.isLake === true && keys.some((key) => key.some((text) => text.includes("\0")));
      const own = (name: string, part: number): string =>
        isCut && found.keyTypes[part] === "VARCHAR" ? `t.${name} || ''` : `t.${name}`;
      const match = found.keys
        .map((name, part) => `${own(name, part)} = ${typed(found.keyTypes[part]!, part)}`)
        .join(" AND ");
      const wanted = `(SELECT DISTINCT * FROM (VALUES ${keys.map(one).join(", ")})) AS k (${aliases})`;
      const there = `(SELECT t.* FROM ${wanted} JOIN ${found.sqlName} AS t ON ${match})`;
      const list = [`${VERSION_COLUMN}::VARCHAR`, `${found.exact ?? "NULL"}::VARCHAR`, ...found.cells].join(", ");
      const sql = `SELECT ${list} FROM ${this.#live(found, there)}`;
      const reader = await this.#store.whole(() => this.#connection.runAndReadAll(sql));
      return reader.getRowsJson().map((row) => storedRow(table, found.names, this.#form.isLake === true, row));
    });
  }

  async equal(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null> {
    return await this.#guarded(signal, async () => {
      const found = this.#form.mode === "mirror" ? await this.#find(this.#connection, table) : null;
      if (found === null || asked.keys.length === 0) return null;
      const spelt = (key: string): string => this.expected(table, table.key[0]!, key);
      const query = linesQuery(table, found, asked, spelt, (rows) => this.#live(found, rows));
      if (query === null) return null;
      return await this.#store.whole(async () => {
        const reading = this.#connection.stream(query);
        // DuckDB's threads work meanwhile.
        const [result, lines] = await Promise.all([reading, MetLines.of(asked)]);
        for await (const rows of wholeResult(result, (it) => it.yieldRows())) {
          for (const [line] of rows) lines.meet(line);
        }
        return lines.equal;
      });
    });
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    const doing = `listing keys of ${table.id}`;
    const connection = await this.#store.connect().catch((error: unknown) => {
      throw classify(error, doing);
    });
    using _ = interrupting(connection, signal);
    try {
      const found = await this.#find(connection, table);
      if (found === null) return;
      const list = table.key.map((ordinal) => found.cells[ordinal]!).join(", ");
      const sql = `SELECT ${list} FROM ${this.#live(found, `(SELECT * FROM ${found.sqlName} WHERE true${inScope(table, this.#form)})`)}`;
      const result = await connection.stream(await this.#store.listed(connection, sql, signal));
      let piece: ListedKey[] = [];
      for await (const rows of wholeResult(result, (it) => it.yieldRowsJson())) {
        for (const row of rows) piece.push(listedKey(table, row));
        if (piece.length < KEYS_PER_PIECE) continue;
        yield piece;
        piece = [];
      }
      yield piece;
    } catch (error) {
      if (signal.aborted) throw stopped();
      throw classify(error, doing);
    } finally {
      connection.disconnectSync();
    }
  }

  /** In the order of the key. Two steps: whatever a table keeps of a key, a page reads no rows behind its own. */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    return await this.#guarded(signal, async () => {
      const found = await this.#find(this.#connection, table);
      if (found === null) return { keys: [], next: null };
      const from = after === null ? "true" : afterBound(found, boundOf(after));
      const behind = `${from}${inScope(table, this.#form)}`;
      const list = table.key.map((ordinal) => found.cells[ordinal]!).join(", ");
      const count = this.#form.isLake === true ? KEYS_PER_LAKE_PAGE : KEYS_PER_PIECE;
      const [last] = await this.#shown(
        `SELECT ${list} FROM ${found.sqlName} WHERE ${behind} ORDER BY ${orderOf(found)} LIMIT 1 OFFSET ${count - 1}`,
      );
      const next = last === undefined ? null : boundAt(table, last);
      const within = next === null ? behind : `${behind} AND ${upToBound(found, next)}`;
      const rows = `(SELECT * FROM ${found.sqlName} WHERE ${within})`;
      const read = await this.#shown(`SELECT ${list} FROM ${this.#live(found, rows)}`);
      return {
        keys: read.map((row) => listedKey(table, row)),
        next: next === null ? null : JSON.stringify(next),
      };
    });
  }

  async #shown(sql: string): Promise<readonly (readonly Json[])[]> {
    const reader = await this.#store.whole(() => this.#connection.runAndReadAll(sql));
    return reader.getRowsJson();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection.interrupt();
    await Promise.allSettled(this.#reading);
    this.#connection.disconnectSync();
    await this.#store.release();
  }

  async #guarded<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (signal.aborted) throw stopped();
    using _ = interrupting(this.#connection, signal);
    const reading = work();
    this.#reading.add(reading);
    try {
      return await reading;
    } catch (error) {
      if (signal.aborted) throw stopped();
      throw classify(error, "reading rows to compare");
    } finally {
      this.#reading.delete(reading);
    }
  }

  async #find(connection: EngineConnection, table: TableVersion): Promise<PresentTable | null> {
    const { catalogue } = this.#store;
    const { schema, table: name } = targetOf(table, this.#schema);
    const rows = await readTextRows(
      connection,
      "SELECT schema_name, table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = $1 AND lower(table_name) = lower($2)",
      [catalogue, name],
    );
    // lower() folds more letters than DuckDB's comparison of names does.
    const key = targetKey({ schema, table: name });
    const own = rows.filter(([ofSchema = "", ofTable = ""]) => targetKey({ schema: ofSchema, table: ofTable }) === key);
    const types = new Map(own.map(([, , column = "", type = ""]) => [fold(column), type]));
    const there = { has: (column: string) => types.has(fold(column)) };
    const names = columnNames(table.columns, this.#form);
    if (!there.has(VERSION_COLUMN) || !table.key.every((ordinal) => there.has(names[ordinal]!))) return null;
    return {
      sqlName: quoteName(catalogue, schema, name),
      names,
      cells: table.columns.map((column, i) =>
        there.has(names[i]!) ? this.#readable(column, quoteIdentifier(names[i]!), table.key.includes(i)) : "NULL",
      ),
      columns: names.map((column) => (there.has(column) ? quoteIdentifier(column) : null)),
      exact: there.has(EXACT_COLUMN) ? EXACT_COLUMN : null,
      keys: table.key.map((ordinal) => quoteIdentifier(names[ordinal]!)),
      keyTypes: table.key.map((ordinal) => types.get(fold(names[ordinal]!))!),
    };
  }

  #readable(column: Column, name: string, isKey: boolean): string {
    const { type } = column;
    const isList = duckType(column, isKey, this.#form.isLake === true).form === LIST;
    if (!isList) return readable(type, name);
    const of: ColumnType = type.kind === "array" ? type.of : REAL;
    return `list_transform(${name}, lambda x: ${readable(of, "x")})`;
  }

  /** The rows of these that exist. */
  #live({ sqlName, keys }: PresentTable, rows: string): string {
    if (this.#form.mode === "history") {
      const later = `(e.${VERSION_COLUMN}, e.${OFFSET_COLUMN}) > (latest.${VERSION_COLUMN}, latest.${OFFSET_COLUMN})`;
      const latest = `SELECT * FROM ${rows} AS r WHERE ${OP_COLUMN} <> 't' QUALIFY row_number() OVER (PARTITION BY ${keys.join(", ")} ORDER BY ${VERSION_COLUMN} DESC, ${OFFSET_COLUMN} DESC) = 1`;
      return `(${latest}) AS latest WHERE ${OP_COLUMN} <> 'd' AND NOT EXISTS (SELECT 1 FROM ${sqlName} AS e WHERE e.${OP_COLUMN} = 't' AND ${later})`;
    }
    return this.#form.deletes === "soft" ? `${rows} AS live WHERE NOT ${DELETED_COLUMN}` : `${rows} AS live`;
  }
}

/**
 * A part of a wanted key, in the spelling of `expectedText`, cast to the column's type. A text that can't be cast is
 * not a key.
 */
function typed(type: string, part: number): string {
  return type === "BLOB" ? `from_hex(substr(k.c${part}, 3))` : `TRY_CAST(k.c${part} AS ${type})`;
}

/** As hex digits, because the client removes a byte order mark from the start of a text. */
function readable({ kind }: ColumnType, name: string): string {
  if (kind === "bytes") return `'\\x' || lower(hex(${name}))`;
  if (kind === "bool" || kind === "float") return name;
  return `hex(${name}::VARCHAR)`;
}

function storedRow(table: TableVersion, names: readonly string[], isLake: boolean, row: readonly Json[]): StoredRow {
  const [version = null, exact = null, ...values] = row;
  const beside = new Map<string, unknown>(Object.entries(parsedObject(exact)));
  const cells = values.map((value, i) => {
    const column = table.columns[i]!;
    const text = beside.get(names[i]!);
    const found = value === null ? null : shown(column.type, value, table.key.includes(i));
    return typeof text === "string" && found === expectedBeside(column, isLake, text) ? text : found;
  });
  return {
    id: rowIdOf(table.key.map((ordinal) => cells[ordinal] ?? "")),
    cells,
    version: typeof version === "string" ? BigInt(version) : null,
  };
}

function boundAt({ key, columns }: TableVersion, row: readonly Json[]): PageBound {
  return row.map((value, part) => (value === null ? null : shown(columns[key[part]!]!.type, value, true)));
}

function listedKey(table: TableVersion, row: readonly Json[]): ListedKey {
  const types = table.key.map((ordinal) => table.columns[ordinal]!.type);
  const texts = boundAt(table, row).map((text) => text ?? "");
  const key = texts.map((text, part) => sourceText(types[part]!, text));
  return listedKeyOf(table, texts, key);
}

/** In the spelling of `expectedText`. */
function shown(type: ColumnType, value: Json, isKey: boolean): string {
  if (type.kind === "bool") return value === true ? "t" : "f";
  // The sign of a zero is in the exact text alone.
  if (type.kind === "float") return String(Number(value));
  if ((type.kind === "array" || type.kind === "vector") && !isKey && Array.isArray(value)) {
    const of: ColumnType = type.kind === "array" ? type.of : REAL;
    return JSON.stringify(value.map((element) => (element === null ? null : shown(of, element, false))));
  }
  if (typeof value !== "string") return JSON.stringify(value);
  if (type.kind === "bytes") return value;
  const text = Buffer.from(value, "hex").toString();
  // For a decimal below 1, DuckDB prints no zero before the point.
  return type.kind === "decimal" ? text.replace(/^(-?)\./, "$10.") : text;
}

function parsedObject(json: Json): object {
  if (typeof json !== "string") return {};
  const parsed: unknown = JSON.parse(json);
  return typeof parsed === "object" && parsed !== null ? parsed : {};
}

// Conditions that cut a table's rows into pages by their keys: nulls first, as ORDER_OF_KEYS sorts them.

/** Null: the row of somebody else, in a lake, which enforces no key. */
type PageBound = readonly (string | null)[];

interface KeyColumns {
  readonly keys: readonly string[];
  readonly keyTypes: readonly string[];
}

function orderOf({ keys }: KeyColumns): string {
  return keys.map((key) => `${key} NULLS FIRST`).join(", ");
}

/** A bound that is no key any more fails: a page that lacks rows must not look like the last one. */
function boundOf(text: string): PageBound {
  const texts: unknown = JSON.parse(text);
  invariant(
    Array.isArray(texts) && texts.every((one) => one === null || typeof one === "string"),
    "a page ends at a key",
  );
  return texts;
}

/** The rows behind it. */
function afterBound(columns: KeyColumns, bound: PageBound): string {
  return beyond(columns, bound, (key, value) => (value === null ? `${key} IS NOT NULL` : `${key} > ${value}`), "false");
}

/** The rows up to and with it. */
function upToBound(columns: KeyColumns, bound: PageBound): string {
  return beyond(
    columns,
    bound,
    (key, value) => (value === null ? "false" : `(${key} < ${value} OR ${key} IS NULL)`),
    "true",
  );
}

/** By the first part that is not the same. */
function beyond(
  { keys, keyTypes }: KeyColumns,
  bound: PageBound,
  isBeyond: (key: string, value: string | null) => string,
  isSame: string,
): string {
  return keys.reduceRight((rest, key, part) => {
    const text = bound[part]!;
    const value = text === null ? null : castKey(keyTypes[part]!, quoteLiteral(text));
    const same = value === null ? `${key} IS NULL` : `${key} = ${value}`;
    return `(${isBeyond(key, value)} OR (${same} AND ${rest}))`;
  }, isSame);
}

function castKey(type: string, literal: string): string {
  return type === "BLOB" ? `from_hex(substr(${literal}, 3))` : `CAST(${literal} AS ${type})`;
}
