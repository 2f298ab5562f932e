/** Reads the file by SQL over connections of its own: see core/contracts/comparing. */
import type { DatabaseSync, SQLInputValue, SQLOutputValue } from "node:sqlite";
import { setImmediate as turn } from "node:timers/promises";
import type { Inspection, KeyPage, ListedKey, StoredRow } from "../../../src/core/contracts/comparing.ts";
import type { KeyText } from "../../../src/core/contracts/row-reads.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { rowIdOf } from "../../../src/core/model/row-id.ts";
import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import { expectedPlain, normalJsonOrText, sourceTextOfPlain } from "../../../src/core/targets/expected-json.ts";
import { formatFloat } from "../../../src/core/values/float.ts";
import {
  DELETED_COLUMN,
  OFFSET_COLUMN,
  OP_COLUMN,
  type TargetForm,
  VERSION_COLUMN,
} from "../../warehouse/own-columns.ts";
import type { KeptColumns } from "../companion.ts";
import { classify, sqliteError, stopped } from "../errors.ts";
import { openExisting, prepareQuery, rowsBy, rowsOf, unlessBusy } from "../file.ts";
import { keyAtPageEnd, listedKeyOf } from "../../kit/listed-keys.ts";
import { columnNames, fold, inScope, quoteIdentifier, targetName } from "../names.ts";
import { momentText, packedText, uuidText } from "../packed.ts";
import { ARRAY, BOOL, BYTES, FLOAT, MOMENT, PACKED_MOMENT, PACKED_UUID, sqliteType, UNSIGNED } from "../types.ts";

const KEYS_PER_PIECE = 1_000;
const KEYS_PER_PAGE = 1_000;
/** Rows are looked for one by one; other work of the process gets its turn in between. */
const ROWS_PER_PIECE = 100;

interface Place {
  readonly schema: string | undefined;
  readonly form: TargetForm;
  readonly kept: KeptColumns;
}

/** The present form of a table in the file. */
interface PresentTable {
  readonly sqlName: string;
  /** In the order of the source's columns; a missing column shows NULL. */
  readonly cells: readonly string[];
  readonly keys: readonly string[];
}

export class SqliteInspection implements Inspection {
  readonly #database: DatabaseSync;
  readonly #path: string;
  readonly #place: Place;

  private constructor(database: DatabaseSync, path: string, place: Place) {
    this.#database = database;
    this.#path = path;
    this.#place = place;
  }

  static open(path: string, place: Place): SqliteInspection {
    return new SqliteInspection(opened(path), path, place);
  }

  expected(table: TableVersion, ordinal: number, text: string): string | null {
    if (!this.#place.kept.has(table, ordinal)) return null;
    return expectedText(table.columns[ordinal]!, table.key.includes(ordinal), text);
  }

  id(table: TableVersion, key: KeyText): string {
    return rowIdOf(key.map((text, part) => expectedText(table.columns[table.key[part]!]!, true, text)));
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    const { kept } = this.#place;
    return await this.#guarded(signal, async () => {
      const found = this.#find(this.#database, table);
      if (found === null) return [];
      const wanted = found.keys
        .map((name, part) => `${name} = ${keyTerm(table.columns[table.key[part]!]!, part + 1, kept.isPacked)}`)
        .join(" AND ");
      const sql = `SELECT ${[VERSION_COLUMN, ...found.cells].join(", ")} FROM ${this.#live(found, wanted)}`;
      const statement = prepareQuery(this.#database, sql);
      const ids = new Set<string>();
      const rows: StoredRow[] = [];
      for (const [i, key] of keys.entries()) {
        if (i % ROWS_PER_PIECE === ROWS_PER_PIECE - 1) await turn();
        if (signal.aborted) throw stopped();
        const values = key.map((text, part) => keyValue(table.columns[table.key[part]!]!, text, kept.isPacked));
        for (const row of await unlessBusy(signal, () => rowsBy(statement, ...values))) {
          const stored = storedRow(table, row, kept);
          // Two keys that SQLite takes for one have one row.
          if (ids.has(stored.id)) continue;
          ids.add(stored.id);
          rows.push(stored);
        }
      }
      return rows;
    });
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    try {
      using database = opened(this.#path);
      const found = this.#find(database, table);
      if (found === null) return;
      const list = table.key.map((ordinal) => found.cells[ordinal]!).join(", ");
      const statement = prepareQuery(database, `SELECT ${list} FROM ${this.#live(found, `true${inScope(table)}`)}`);
      let piece: ListedKey[] = [];
      for (const row of statement.iterate()) {
        piece.push(listedKey(table, Object.values(row), this.#place.kept.isPacked));
        if (piece.length < KEYS_PER_PIECE) continue;
        yield piece;
        piece = [];
        await turn();
        if (signal.aborted) throw stopped();
      }
      yield piece;
    } catch (error) {
      if (signal.aborted) throw stopped();
      throw classify(error, `listing keys of ${table.id}`, this.#path);
    }
  }

  /** In the order of the primary key. */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    return await this.#guarded(signal, async () => {
      const found = this.#find(this.#database, table);
      if (found === null) return { keys: [], next: null };
      const columns = table.key.map((ordinal) => table.columns[ordinal]!);
      const key = found.keys.join(", ");
      const { isPacked } = this.#place.kept;
      const bound =
        after === null ? [] : keyAtPageEnd(after).map((text, part) => keyValue(columns[part]!, text, isPacked));
      const terms = columns.map((column, part) => keyTerm(column, part + 1, isPacked)).join(", ");
      const rows = this.#live(found, `${after === null ? "true" : `(${key}) > (${terms})`}${inScope(table)}`);
      const list = table.key.map((ordinal) => found.cells[ordinal]!).join(", ");
      const statement = prepareQuery(
        this.#database,
        `SELECT ${list} FROM ${rows} ORDER BY ${key} LIMIT ${KEYS_PER_PAGE}`,
      );
      const read = await unlessBusy(signal, () => rowsBy(statement, ...bound));
      const keys = read.map((row) => listedKey(table, row, isPacked));
      if (keys.length < KEYS_PER_PAGE) return { keys, next: null };
      const last = keys.findLast((one) => one.key !== null)?.key;
      // A page that goes on elsewhere could pass rows by.
      invariant(last !== undefined, "a page has a key that the source can have");
      return { keys, next: JSON.stringify(last) };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#database.isOpen) this.#database.close();
  }

  async #guarded<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (signal.aborted) throw stopped();
    try {
      return await work();
    } catch (error) {
      if (signal.aborted) throw stopped();
      throw classify(error, "reading rows to compare", this.#path);
    }
  }

  #find(database: DatabaseSync, table: TableVersion): PresentTable | null {
    const name = targetName(table, this.#place.schema);
    const described = rowsOf(database, "SELECT name FROM pragma_table_xinfo(?)", name);
    const there = new Set(described.map(([column]) => fold(String(column))));
    const names = columnNames(table.columns);
    const has = (column: string): boolean => there.has(fold(column));
    if (!has(VERSION_COLUMN) || !table.key.every((ordinal) => has(names[ordinal]!))) return null;
    return {
      sqlName: quoteIdentifier(name),
      // As bytes: the driver ends a text at a NUL.
      cells: names.map((column, i) =>
        has(column) && this.#place.kept.has(table, i) ? readable(quoteIdentifier(column)) : "NULL",
      ),
      keys: table.key.map((ordinal) => quoteIdentifier(names[ordinal]!)),
    };
  }

  /** The rows that exist and that `condition` selects. */
  #live({ sqlName, keys }: PresentTable, condition: string): string {
    if (this.#place.form.mode === "history") {
      const place = (of: string): string => `(${of}.${VERSION_COLUMN}, ${of}.${OFFSET_COLUMN})`;
      const isKey = keys.map((name) => `later.${name} = r.${name}`).join(" AND ");
      return (
        `${sqlName} AS r WHERE ${condition} AND r.${OP_COLUMN} NOT IN ('d', 't') ` +
        `AND NOT EXISTS (SELECT 1 FROM ${sqlName} AS later WHERE ${isKey} AND ${place("later")} > ${place("r")}) ` +
        `AND NOT EXISTS (SELECT 1 FROM ${sqlName} AS t WHERE t.${OP_COLUMN} = 't' AND ${place("t")} > ${place("r")})`
      );
    }
    return `${sqlName} WHERE ${condition}${this.#place.form.deletes === "soft" ? ` AND NOT ${DELETED_COLUMN}` : ""}`;
  }
}

function opened(path: string): DatabaseSync {
  const database = openExisting(path);
  if (database !== null) return database;
  throw sqliteError("MR3203", "fatal", `there is no SQLite file of Millrace at ${path} yet`, {
    hint: "start `millrace run`: it creates and fills the file",
  });
}

function readable(name: string): string {
  return `CASE typeof(${name}) WHEN 'text' THEN 't' || hex(${name}) WHEN 'blob' THEN 'b' || hex(${name}) ELSE ${name} END`;
}

/** What parameter `number` is for a part of a key: `keyValue` binds text by its bytes. `isPacked`: beside a companion. */
export function keyTerm(column: Column, number: number, isPacked: boolean): string {
  const { form } = sqliteType(column, true, isPacked);
  return form === BYTES || form === PACKED_UUID
    ? `?${number}`
    : `iif(typeof(?${number}) = 'blob', CAST(?${number} AS TEXT), ?${number})`;
}

/** The value that a key's text has in the file. */
export function keyValue(column: Column, text: string, isPacked: boolean): SQLInputValue {
  const { name, form } = sqliteType(column, true, isPacked);
  if (form === BOOL) return text === "t" ? 1 : 0;
  if (form === BYTES) return Buffer.from(text.slice(2), "hex");
  const shown = expectedText(column, true, text);
  if (form === PACKED_UUID || form === PACKED_MOMENT) return packedText(column.type, shown);
  if (form === FLOAT) return shown === "NaN" ? Buffer.from(shown) : Number(shown);
  const isInteger = name === "INTEGER" || (form === UNSIGNED && BigInt(shown) < 2n ** 63n);
  return isInteger ? BigInt(shown) : Buffer.from(shown);
}

/** How the file must show a value that the source prints as `text`. */
function expectedText(column: Column, isKey: boolean, text: string): string {
  const { type } = column;
  const { form } = sqliteType(column, isKey, false);
  if (form === BOOL) return text === "t" ? "1" : "0";
  if (form === MOMENT || form === ARRAY) return expectedPlain(type, text);
  if (form !== FLOAT || type.kind !== "float" || text === "NaN") return text;
  const value = type.bits === 32 ? Math.fround(Number(text)) : Number(text);
  // Of a key, both zeros are one.
  return Object.is(value, -0) && !isKey ? "-0" : String(value);
}

/** In the spelling of `expectedText`. */
function shown(column: Column, isKey: boolean, value: SQLOutputValue, isPacked: boolean): string | null {
  if (value === null) return null;
  const { form } = sqliteType(column, isKey, isPacked);
  if (form === PACKED_MOMENT && typeof value === "bigint") return momentText(column.type, value);
  if (form === PACKED_UUID && typeof value === "string" && value.startsWith("b"))
    return uuidText(Buffer.from(value.slice(1), "hex"));
  if (typeof value === "number") return Object.is(value, -0) && !isKey ? "-0" : String(value);
  if (typeof value !== "string") return String(value);
  if (value.startsWith("b")) return `\\x${value.slice(1).toLowerCase()}`;
  const text = Buffer.from(value.slice(1), "hex").toString();
  return form === ARRAY ? normalJsonOrText(text) : text;
}

function storedRow(
  table: TableVersion,
  [version = null, ...values]: readonly SQLOutputValue[],
  kept: KeptColumns,
): StoredRow {
  const cells = values.map((value, i) => shown(table.columns[i]!, table.key.includes(i), value, kept.isPacked));
  return {
    id: rowIdOf(table.key.map((ordinal) => cells[ordinal] ?? "")),
    cells,
    version: typeof version === "bigint" ? kept.versionOf(version) : null,
  };
}

function listedKey(table: TableVersion, row: readonly SQLOutputValue[], isPacked: boolean): ListedKey {
  const columns = table.key.map((ordinal) => table.columns[ordinal]!);
  const texts = row.map((value, part) => shown(columns[part]!, true, value, isPacked) ?? "");
  const key = texts.map((text, part) => sourceText(columns[part]!, text));
  return listedKeyOf(table, texts, key);
}

/** The source's text of a key value that is expected as `text`. */
function sourceText(column: Column, text: string): string {
  const { type } = column;
  const { form } = sqliteType(column, true, false);
  if (form === BOOL) return text === "1" ? "t" : "f";
  if (form === MOMENT) return sourceTextOfPlain(type, text);
  if (type.kind !== "float") return text;
  return formatFloat(type.bits, Number(text));
}
