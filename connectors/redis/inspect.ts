/** Reads the cache over a separate connection: see core/contracts/comparing. */
import { randomUUID } from "node:crypto";
import type {
  EqualRows,
  Inspection,
  KeyPage,
  ListedKey,
  RowsInOrder,
  StoredRow,
} from "../../src/core/contracts/comparing.ts";
import {
  digitsOf,
  expectedJson,
  expectedPlain,
  normalFields,
  normalJsonOrText,
  sourceText,
  sourceTextOfPlain,
} from "../../src/core/targets/expected-json.ts";
import { rowIdOf } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { formatFloat32 } from "../../src/core/values/float.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { keyInRow, listedKeys } from "../kit/listed-keys.ts";
import {
  type Commands,
  Connection,
  type ConnectionSettings,
  serverOf,
  textOf,
  listOf,
  type Reply,
} from "./connection.ts";
import { classify, replyCode } from "./errors.ts";
import { rowKeyPage, rowKeyPages } from "./write/key-pages.ts";
import { VERSION_FIELD, TIME_FIELD } from "./write/script.ts";
import { type Format, type KeyNaming, tableKeyStart } from "./write/table-target.ts";
import { sizedLine } from "../../src/core/targets/sized-line.ts";
import { eachOf } from "../../src/core/each-of.ts";

interface InspectionSettings extends ConnectionSettings, KeyNaming {
  readonly format: Format;
}

/** A page ends with so many keys of the table, or after so many steps: other keys may be much more. */
const KEYS_PER_PAGE = 1_000;
const STEPS_MAX = 100;

/** A row's fields in the spelling of the format; null: the value is not a row of ours. */
type Fields = ReadonlyMap<string, string> | null;

export class RedisInspection implements Inspection {
  readonly #settings: InspectionSettings;
  #connection: Connection | null = null;
  #mayScript = true;
  #connectionName = "";

  constructor(settings: InspectionSettings) {
    this.#settings = settings;
  }

  expected(table: TableVersion, ordinal: number, text: string): string | null {
    const { type } = table.columns[ordinal]!;
    if (this.#settings.format !== "hash") return expectedJson(type, text);
    // The numbers, as they are shown of the bytes.
    if (type.kind === "vector") return text;
    return expectedPlain(type, text);
  }

  id(_table: TableVersion, key: KeyText): string {
    return rowIdOf(key);
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    return await this.#byIds(table, keys.map(rowIdOf), signal);
  }

  /** A cluster's keys are in many slots, and JSON has insignificant white space: both need single reads. */
  async equal(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null> {
    const { format } = this.#settings;
    // Arrays are compared by element, not as text, and vectors are none.
    const isText = table.columns.every(({ type }) => type.kind !== "array" && type.kind !== "vector");
    if (!this.#mayScript || format !== "hash" || !isText) return null;
    try {
      const connection = await this.#connect(signal);
      if (connection.isCluster) return null;
      return await equalRows(connection, tableKeyStart(this.#settings, table), table, asked, signal);
    } catch (error) {
      if (!(error instanceof Error) || replyCode(error.message) !== "NOPERM")
        throw classify(error, signal, serverOf(this.#settings.url));
      this.#mayScript = false;
      return null;
    }
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    const keyStart = tableKeyStart(this.#settings, table);
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

  /**
   * SCAN's cursors count for one process of the server, however long ago they were given: another process hashes the keys
   * otherwise.
   */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    const keyStart = tableKeyStart(this.#settings, table);
    const listed = { keyStart, keyWidths: [table.key.length] };
    try {
      const primaries = (await this.#connect(signal)).primaries();
      const runs = (await Promise.all(primaries.map((one) => this.#runOf(one)))).join();
      const [from = "", at = "0", cursor = "0"] = after?.split("/") ?? [];
      const isNew = after !== null && from !== runs;
      let [node, next] = isNew ? [0, "0"] : [Number(at), cursor];
      const ids = new Set<string>();
      for (let step = 0; step < STEPS_MAX && ids.size < KEYS_PER_PAGE && node < primaries.length; step++) {
        signal.throwIfAborted();
        const [following, keys] = await rowKeyPage(primaries[node]!, listed, next);
        for (const key of keys) ids.add(key.toString("utf8", Buffer.byteLength(keyStart)));
        next = following;
        if (following === "0") node++;
      }
      return {
        keys: await listedKeys(table, [...ids], (unknown) => this.#byIds(table, unknown, signal)),
        next: node < primaries.length ? `${runs}/${node}/${next}` : null,
        isNew,
      };
    } catch (error) {
      throw classify(error, signal, serverOf(this.#settings.url));
    }
  }

  /** Names the server's process. Of one that does not tell it, this connection: it does not outlive the process. */
  async #runOf(primary: Commands): Promise<string> {
    try {
      const run = /^run_id:(\w+)/m.exec(textOf(await primary.command("info", "server")) ?? "");
      return run?.[1] ?? this.#connectionName;
    } catch (error) {
      if (!(error instanceof Error) || replyCode(error.message) !== "NOPERM") throw error;
      return this.#connectionName;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection?.[Symbol.asyncDispose]();
    this.#connection = null;
  }

  async #byIds(table: TableVersion, ids: readonly string[], signal: AbortSignal) {
    try {
      const connection = await this.#connect(signal);
      const keyStart = tableKeyStart(this.#settings, table);
      const rows = await Promise.all(ids.map(async (id) => await this.#row(connection, table, id, `${keyStart}${id}`)));
      signal.throwIfAborted();
      return rows.filter((row) => row !== null);
    } catch (error) {
      throw classify(error, signal, serverOf(this.#settings.url));
    }
  }

  /** Null: the key does not exist. */
  async #row(connection: Connection, table: TableVersion, id: string, key: string) {
    const fields = await this.#fields(connection, table, key);
    if (fields === undefined) return null;
    const isHash = this.#settings.format === "hash";
    const cells = table.columns.map(({ name, type }) => {
      const value = fields?.get(name) ?? null;
      if (value === null || !isHash) return value === "null" ? null : value;
      return type.kind === "array" ? normalJsonOrText(value) : value;
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
        if (isHash && type.kind === "vector") return cell ?? "";
        return isHash ? sourceTextOfPlain(type, cell ?? "") : sourceText(type, cell ?? "null");
      }),
    };
  }

  /** Undefined: the key does not exist. */
  async #fields(connection: Connection, { columns }: TableVersion, key: string): Promise<Fields | undefined> {
    try {
      if (this.#settings.format === "json") {
        const text = textOf(await connection.command("get", key));
        return text === null ? undefined : normalFields(text);
      }
      // The driver converts the reply into an object.
      const reply = await connection.command("hgetall", key);
      const fields = typeof reply === "object" && reply !== null ? Object.entries(reply) : [];
      if (fields.length === 0) return undefined;
      const vectors = new Set(columns.filter(({ type }) => isDense(type)).map(({ name }) => name));
      return new Map(
        fields.map(([name, value]) => [name, (vectors.has(name) ? shownVector(value) : textOf(value)) ?? ""]),
      );
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
    this.#connectionName = randomUUID();
    return this.#connection;
  }
}

function isDense(type: ColumnType): boolean {
  return type.kind === "vector" && type.form !== "sparse";
}

/** As the source prints it; bytes that are no vector as hexadecimal digits. */
function shownVector(value: unknown): string | null {
  if (!Buffer.isBuffer(value)) return null;
  if (value.length % 4 !== 0) return value.toString("hex");
  const numbers = Array.from({ length: value.length / 4 }, (_, i) => formatFloat32(value.readFloatLE(i * 4)));
  return `[${numbers.join(",")}]`;
}

// Has the server read each row that is a hash as one text (core/targets/sized-line): one reply per row instead of two
// per field.

/** A call ends at whichever limit comes first: the server does nothing else meanwhile. */
const ROWS_PER_CALL = 100;
const CHARACTERS_PER_CALL = 256 * 1024;
const CALLS_IN_FLIGHT = 4;

/**
 *   KEYS  the rows' keys
 *   ARGV  1 the highest allowed version     then the columns, the fields of version and time
 *
 * Answers with one text per row; nothing for a row that does not exist, is not a hash, has no version or a too high one,
 * or has further fields. Compares versions as text, by length first: see script.ts.
 */
const READ_LINES = `
local max, n = ARGV[1], #ARGV - 1
local lines = {}
for i, key in ipairs(KEYS) do
  lines[i] = false
  local values = redis.pcall('HMGET', key, unpack(ARGV, 2))
  local version = not values.err and values[n - 1]
  if version and string.find(version, '^%d+$') and (#version < #max or (#version == #max and version <= max)) then
    local parts, found = {}, 0
    for f = 1, n do
      local value = values[f]
      if value then found = found + 1 end
      if f < n - 1 then parts[f] = value and (#value .. ':' .. value) or '~' end
    end
    if redis.call('HLEN', key) == found then lines[i] = table.concat(parts) end
  end
end
return lines
`;

async function equalRows(
  connection: Connection,
  keyStart: string,
  { columns }: TableVersion,
  { ids, cells, versionMax }: RowsInOrder,
  signal: AbortSignal,
): Promise<EqualRows> {
  let byteCount = 0;
  const isEqual = new Uint8Array(ids.length);
  const fields = [...columns.map(({ name }) => name), VERSION_FIELD, TIME_FIELD];
  const pieces = function* () {
    for (let from = 0; from < ids.length;) {
      const expected: string[] = [];
      for (let length = 0; expected.length < ROWS_PER_CALL && length < CHARACTERS_PER_CALL;) {
        if (from + expected.length === ids.length) break;
        const line = sizedLine(cells(from + expected.length));
        expected.push(line);
        length += line.length;
      }
      yield { from, expected };
      from += expected.length;
    }
  };
  await eachOf(pieces(), CALLS_IN_FLIGHT, async ({ from, expected }) => {
    signal.throwIfAborted();
    const keys = expected.map((_, i) => `${keyStart}${ids[from + i]!}`);
    const reply: Reply = await connection.command(
      "eval",
      READ_LINES,
      String(keys.length),
      ...keys,
      String(versionMax),
      ...fields,
    );
    listOf(reply)?.forEach((line, i) => {
      if (Buffer.isBuffer(line)) byteCount += line.length;
      if (textOf(line) === expected[i]) isEqual[from + i] = 1;
    });
  });
  return { isEqual, byteCount };
}
