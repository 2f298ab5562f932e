/** Keys that another tool fills, for `millrace verify`: rows as hashes, or as strings of JSON. */
import { isUtf8 } from "node:buffer";
import type {
  Readable,
  ReadableColumn,
  ReadableTable,
  ReadableTables,
  SoughtTable,
  TextRow,
} from "../../src/core/contracts/readable.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { isRecord } from "../../src/core/stored-json.ts";
import { exactJson, plainText } from "../../src/core/targets/expected-json.ts";
import { namesByStart } from "../../src/core/targets/row-name.ts";
import { groupsOf } from "../../src/core/each-of.ts";
import { Connection, type ConnectionSettings, permitted, serverOf, textOf } from "./connection.ts";
import { classify, replyCode } from "./errors.ts";
import { keyPages } from "./write/key-pages.ts";

/** Of all keys, to find those that are named like a table. */
const LOOKED_MAX = 100_000;
const SAMPLE = 200;
const KEYS_AT_ONCE = 1_000;

type Form = "hash" | "json";

export class ReadableKeys implements Readable {
  readonly #connection: Connection;
  readonly #server: string;
  /** By the start of a table's keys. */
  readonly #forms = new Map<string, Form>();

  private constructor(connection: Connection, server: string) {
    this.#connection = connection;
    this.#server = server;
  }

  /** A URL does not tell whether its server is one of a cluster: the server does. */
  static async open(settings: Omit<ConnectionSettings, "cluster">, signal: AbortSignal): Promise<ReadableKeys> {
    const one = { ...settings, isReader: true, cluster: false };
    let connection = await Connection.open(one, signal);
    const info = textOf(await permitted(connection.command("info", "cluster")));
    if (info !== null && /^cluster_enabled:1/m.test(info)) {
      await connection[Symbol.asyncDispose]();
      connection = await Connection.open({ ...one, cluster: true }, signal);
    }
    return new ReadableKeys(connection, serverOf(settings.url));
  }

  async tables(signal: AbortSignal, sought: readonly SoughtTable[]): Promise<ReadableTables> {
    return await this.#classified(signal, async () => {
      const all = sought.some(({ name }) => name === null) ? await this.#someKeys("", LOOKED_MAX, signal) : [];
      const tables: ReadableTable[] = [];
      for (const table of sought) {
        const { name, key } = table;
        const found =
          name === null
            ? namesByStart(all, table, key)
            : new Map([[name.start, await this.#someKeys(name.start, SAMPLE, signal)]]);
        for (const [start, names] of found) tables.push(await this.#table(table, start, names.slice(0, SAMPLE)));
      }
      return { tables, refused: [] };
    });
  }

  async #someKeys(start: string, countMax: number, signal: AbortSignal): Promise<readonly string[]> {
    const found = new Set<string>();
    for (const primary of this.#connection.primaries()) {
      for await (const keys of keyPages(primary, start, signal)) {
        for (const key of keys) found.add(key.toString("utf8"));
        if (found.size >= countMax) return [...found];
      }
    }
    return [...found];
  }

  /** Fields are those of some rows: a hash has no list of them. */
  async #table({ schema, table }: SoughtTable, start: string, some: readonly string[]): Promise<ReadableTable> {
    const kinds = await Promise.all(some.map(async (key) => String(await this.#connection.command("type", key))));
    const hashes = kinds.filter((kind) => kind === "hash").length;
    const form = hashes >= kinds.filter((kind) => kind === "string").length ? "hash" : "json";
    this.#forms.set(start, form);
    const rows = await Promise.all(some.map(async (key) => await this.#fields(form, key)));
    const names = new Set(rows.flatMap((fields) => [...(fields?.keys() ?? [])]));
    const columns = [...names].map((name): ReadableColumn => ({
      name,
      native: form === "hash" ? "field" : "json",
      type: { kind: "untyped", hasNulls: form === "json" },
    }));
    return { id: start, schema, table, columns, key: [], names: { start, some } };
  }

  async *rows(
    table: ReadableTable,
    columns: readonly number[],
    signal: AbortSignal,
  ): AsyncGenerator<readonly TextRow[]> {
    try {
      for (const primary of this.#connection.primaries())
        for await (const keys of keyPages(primary, table.id, signal))
          yield await this.#rows(
            table,
            columns,
            keys.map((key) => key.toString("utf8")),
          );
    } catch (error) {
      throw classify(error, signal, this.#server);
    }
  }

  async rowsAt(
    table: ReadableTable,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]> {
    return await this.#classified(signal, async () => {
      const found: TextRow[] = [];
      for (const group of groupsOf(keys, KEYS_AT_ONCE)) {
        signal.throwIfAborted();
        const some = group.map(([key]) => key!);
        found.push(...(await this.#rows(table, columns, some)));
      }
      return found;
    });
  }

  /** Some of the rows whose keys begin so: the fields of a hash, or of an object of JSON. */
  async first(start: string, countMax: number, signal: AbortSignal): Promise<readonly ReadonlyMap<string, string>[]> {
    return await this.#classified(signal, async () => {
      const keys = [...(await this.#someKeys(start, countMax, signal))].slice(0, countMax);
      const rows = await Promise.all(
        keys.map(async (key) => (await this.#fields("hash", key)) ?? (await this.#fields("json", key))),
      );
      return rows.filter((row) => row !== null);
    });
  }

  async #rows(table: ReadableTable, columns: readonly number[], keys: readonly string[]): Promise<readonly TextRow[]> {
    const form = this.#forms.get(table.id)!;
    const rows = await Promise.all(
      keys.map(async (key) => {
        const fields = await this.#fields(form, key);
        if (fields === null) return null;
        return [...columns.map((ordinal) => fields.get(table.columns[ordinal]!.name) ?? null), key];
      }),
    );
    return rows.filter((row) => row !== null);
  }

  /** Null: there is no such key, or none of this kind. Text that is no object has no fields. */
  async #fields(form: Form, key: string): Promise<ReadonlyMap<string, string> | null> {
    try {
      if (form === "json") {
        const text = textOf(await this.#connection.command("get", key));
        return text === null ? null : jsonFields(text);
      }
      // The driver converts the reply into an object.
      const reply = await this.#connection.command("hgetall", key);
      const fields = isRecord(reply) ? Object.entries(reply) : [];
      return fields.length === 0 ? null : new Map(fields.map(([name, value]) => [name, shown(value)]));
    } catch (error) {
      if (error instanceof Error && replyCode(error.message) === "WRONGTYPE") return null;
      throw error;
    }
  }

  async #classified<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw classify(error, signal, this.#server);
    }
  }

  async close(): Promise<void> {
    await this.#connection[Symbol.asyncDispose]();
  }
}

function jsonFields(text: string): ReadonlyMap<string, string> {
  try {
    const value = exactJson(text);
    const fields = isRecord(value) ? Object.entries(value).filter(([, field]) => field !== null) : [];
    return new Map(fields.map(([name, field]) => [name, plainText(field)]));
  } catch (error) {
    if (error instanceof SyntaxError) return new Map();
    throw error;
  }
}

/** Bytes that are no text in the form of Postgres. */
function shown(value: unknown): string {
  if (!Buffer.isBuffer(value)) return "";
  return isUtf8(value) ? value.toString("utf8") : String.raw`\x${value.toString("hex")}`;
}
