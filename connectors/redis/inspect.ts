/** Reads the cache over a separate connection: see core/contracts/comparing. */
import type { EqualRows, Inspection, ListedKey, RowsInOrder, StoredRow } from "../../src/core/contracts/comparing.ts";
import {
  digitsOf,
  expectedJson,
  expectedPlain,
  normalFields,
  normalJson,
  sourceText,
  sourceTextOfPlain,
} from "../../src/core/targets/expected-json.ts";
import { rowIdOf } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { keyInRow, listedKeys } from "../kit/listed-keys.ts";
import { Connection, type ConnectionSettings, serverOf, textOf } from "./connection.ts";
import { classify, replyCode } from "./errors.ts";
import { rowKeyPages } from "./write/key-pages.ts";
import { equalRows } from "./row-lines.ts";
import { VERSION_FIELD } from "./write/script.ts";
import { type Format, tableKeyStart } from "./write/table-target.ts";

export interface InspectionSettings extends ConnectionSettings {
  readonly prefix: string;
  readonly format: Format;
}

/** A row's fields in the spelling of the format; null: the value is not a row of ours. */
type Fields = ReadonlyMap<string, string> | null;

export class RedisInspection implements Inspection {
  readonly #settings: InspectionSettings;
  #connection: Connection | null = null;
  #mayScript = true;

  constructor(settings: InspectionSettings) {
    this.#settings = settings;
  }

  expected(table: TableVersion, ordinal: number, text: string): string | null {
    const { type } = table.columns[ordinal]!;
    return this.#settings.format === "hash" ? expectedPlain(type, text) : expectedJson(type, text);
  }

  id(_table: TableVersion, key: KeyText): string {
    return rowIdOf(key);
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    return await this.#byIds(table, keys.map(rowIdOf), signal);
  }

  /** A cluster's keys are in many slots, and JSON has insignificant white space: both need single reads. */
  async equal(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null> {
    const { prefix, format } = this.#settings;
    // Arrays are compared by element, not as text.
    if (!this.#mayScript || format !== "hash" || table.columns.some(({ type }) => type.kind === "array")) return null;
    try {
      const connection = await this.#connect(signal);
      if (connection.isCluster) return null;
      return await equalRows(connection, tableKeyStart(prefix, table), table, asked, signal);
    } catch (error) {
      if (!(error instanceof Error) || replyCode(error.message) !== "NOPERM")
        throw classify(error, signal, serverOf(this.#settings.url));
      this.#mayScript = false;
      return null;
    }
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    const keyStart = tableKeyStart(this.#settings.prefix, table);
    const start = Buffer.byteLength(keyStart);
    const listed = { keyStart, keyWidths: [table.key.length] };
    try {
      const connection = await this.#connect(signal);
      for (const primary of connection.primaries()) {
        for await (const page of rowKeyPages(primary, listed, signal)) {
          const ids = page.map((key) => key.toString("utf8", start));
          yield await listedKeys(table, ids, (unknown) => this.#byIds(table, unknown, signal));
        }
      }
    } catch (error) {
      throw classify(error, signal, serverOf(this.#settings.url));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection?.[Symbol.asyncDispose]();
    this.#connection = null;
  }

  async #byIds(table: TableVersion, ids: readonly string[], signal: AbortSignal) {
    try {
      const connection = await this.#connect(signal);
      const keyStart = tableKeyStart(this.#settings.prefix, table);
      const rows = await Promise.all(ids.map(async (id) => await this.#row(connection, table, id, `${keyStart}${id}`)));
      signal.throwIfAborted();
      return rows.filter((row) => row !== null);
    } catch (error) {
      throw classify(error, signal, serverOf(this.#settings.url));
    }
  }

  /** Null: the key does not exist. */
  async #row(connection: Connection, table: TableVersion, id: string, key: string) {
    const fields = await this.#fields(connection, key);
    if (fields === undefined) return null;
    const isHash = this.#settings.format === "hash";
    const cells = table.columns.map(({ name, type }) => {
      const value = fields?.get(name) ?? null;
      if (value === null || !isHash) return value === "null" ? null : value;
      return type.kind === "array" ? normal(value) : value;
    });
    const digits = isHash ? fields?.get(VERSION_FIELD) : digitsOf(fields?.get(VERSION_FIELD));
    const names = new Set(table.columns.map(({ name }) => name));
    return {
      id,
      cells,
      version: digits != null && /^\d+$/.test(digits) ? BigInt(digits) : null,
      surplus: [...(fields?.keys() ?? [])].filter((name) => !names.has(name) && !name.startsWith("_millrace_")),
      key: keyInRow(table, id, (ordinal) => {
        const [{ type }, cell] = [table.columns[ordinal]!, cells[ordinal] ?? null];
        return isHash ? sourceTextOfPlain(type, cell ?? "") : sourceText(type, cell ?? "null");
      }),
    };
  }

  /** Undefined: the key does not exist. */
  async #fields(connection: Connection, key: string): Promise<Fields | undefined> {
    try {
      if (this.#settings.format === "json") {
        const text = textOf(await connection.command("get", key));
        return text === null ? undefined : normalFields(text);
      }
      // The driver converts the reply into an object.
      const reply = await connection.command("hgetall", key);
      const fields = typeof reply === "object" && reply !== null ? Object.entries(reply) : [];
      return fields.length === 0 ? undefined : new Map(fields.map(([name, value]) => [name, textOf(value) ?? ""]));
    } catch (error) {
      // A value of another kind, or text that is not JSON.
      if (error instanceof SyntaxError) return null;
      if (error instanceof Error && replyCode(error.message) === "WRONGTYPE") return null;
      throw error;
    }
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    if (this.#connection?.isUp === true) return this.#connection;
    await this.#connection?.[Symbol.asyncDispose]();
    this.#connection = await Connection.open(this.#settings, signal);
    return this.#connection;
  }
}

function normal(text: string): string {
  try {
    return normalJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}
