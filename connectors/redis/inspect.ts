/** What the cache holds, asked over a connection of its own: see core/contracts/comparing. */
import type { EqualRows, Inspection, ListedKey, RowsInOrder, StoredRow } from "../../src/core/contracts/comparing.ts";
import {
  digitsOf,
  expectedJson,
  expectedPlain,
  normalFields,
  normalJson,
  plainOf,
} from "../../src/core/targets/expected-json.ts";
import { isDigestId, keyOfRowId, rowIdOf } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { Connection, type ConnectionSettings, textOf } from "./connection.ts";
import { classify, replyCode } from "./errors.ts";
import { rowKeyPages } from "./write/removal.ts";
import { equalRows } from "./row-lines.ts";
import { VERSION_FIELD } from "./write/script.ts";
import { type Format, tableKeyStart } from "./write/table-target.ts";

export interface InspectionSettings extends ConnectionSettings {
  readonly prefix: string;
  readonly format: Format;
}

/** A row's fields, in the spelling of the format; null: what lies under its key is no row of ours. */
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

  /** A cluster's keys lie in many slots, and in JSON white space does not count: there each is asked for by itself. */
  async equal(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null> {
    const { prefix, format } = this.#settings;
    // An array's elements are compared, not its text.
    if (!this.#mayScript || format !== "hash" || table.columns.some(({ type }) => type.kind === "array")) return null;
    try {
      const connection = await this.#connect(signal);
      if (connection.isCluster) return null;
      return await equalRows(connection, tableKeyStart(prefix, table), table, asked, signal);
    } catch (error) {
      if (!(error instanceof Error) || replyCode(error.message) !== "NOPERM") throw classify(error, signal);
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
          yield await this.#listed(
            table,
            page.map((key) => key.toString("utf8", start)),
            signal,
          );
        }
      }
    } catch (error) {
      throw classify(error, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection?.[Symbol.asyncDispose]();
    this.#connection = null;
  }

  /** The key of an id that is a digest is taken from the row. */
  async #listed(table: TableVersion, ids: readonly string[], signal: AbortSignal): Promise<readonly ListedKey[]> {
    const listed = ids.map((id) => ({ id, key: keyOfRowId(table, id) }));
    const unknown = listed.filter(({ id, key }) => key === null && isDigestId(id)).map(({ id }) => id);
    if (unknown.length === 0) return listed;
    const rows = new Map((await this.#byIds(table, unknown, signal)).map((row) => [row.id, row.key]));
    return listed.map((one) => ({ id: one.id, key: one.key ?? rows.get(one.id) ?? null }));
  }

  async #byIds(table: TableVersion, ids: readonly string[], signal: AbortSignal) {
    try {
      const connection = await this.#connect(signal);
      const keyStart = tableKeyStart(this.#settings.prefix, table);
      const rows = await Promise.all(ids.map(async (id) => await this.#row(connection, table, id, `${keyStart}${id}`)));
      signal.throwIfAborted();
      return rows.filter((row) => row !== null);
    } catch (error) {
      throw classify(error, signal);
    }
  }

  /** Null: nothing lies there. */
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
      key: keyIn(table, id, cells, isHash),
    };
  }

  /** Undefined: nothing lies there. */
  async #fields(connection: Connection, key: string): Promise<Fields | undefined> {
    try {
      if (this.#settings.format === "json") {
        const text = textOf(await connection.command("get", key));
        return text === null ? undefined : normalFields(text);
      }
      // The driver makes an object of it.
      const reply = await connection.command("hgetall", key);
      const fields = typeof reply === "object" && reply !== null ? Object.entries(reply) : [];
      return fields.length === 0 ? undefined : new Map(fields.map(([name, value]) => [name, textOf(value) ?? ""]));
    } catch (error) {
      // A value of another kind, or a text that is no JSON.
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

/** The key that a row's own cells say, where its id is theirs. */
function keyIn(table: TableVersion, id: string, cells: readonly (string | null)[], isHash: boolean): KeyText | null {
  const key = table.key.map((ordinal) => {
    const cell = cells[ordinal] ?? null;
    return cell === null ? "" : isHash ? cell : plainOf(cell);
  });
  return rowIdOf(key) === id ? key : null;
}

function normal(text: string): string {
  try {
    return normalJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}
