/** Rows as keys of one Redis or Valkey server, in both formats. */
import { Redis } from "ioredis";
import { landingOf } from "../model/json-landing.ts";
import { fieldsOf, plainOf, readJson, spelledJson } from "../model/json-text.ts";
import { documentLanding } from "./elasticsearch.ts";
import { encodedPart, rowId, type SinkReader, type SinkRow, VERSION, versionFlaws } from "./reader.ts";
import type { SourceColumn, SourceTable } from "./source-table.ts";

export interface RedisSinkAddress {
  readonly kind: "redis";
  readonly url: string;
  readonly prefix?: string;
  readonly format?: "hash" | "json";
}

const KEYS_PER_SCAN = 1_000;

export async function redisReader({ url, prefix, format }: RedisSinkAddress): Promise<SinkReader> {
  const client = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: 1 });
  await client.connect();
  const isHash = format !== "json";
  return {
    mayRepeat: true,
    expected: (column, text) => (isHash ? fieldLanding(column, text) : documentLanding(column, text)),
    idOf: (key) => rowId(key),
    rows: (table) => readRows(client, prefix ?? "", isHash, table),
    async [Symbol.asyncDispose]() {
      client.disconnect();
    },
  };
}

/** A hash field holds what stands between the quotes, and the JSON text of json on one line. */
function fieldLanding({ type }: SourceColumn, text: string): string {
  if (type.kind === "vector") return type.form === "sparse" ? text : vectorBytes(text).toString("hex");
  if (type.kind === "json") return text.replaceAll(/[\r\n]/g, " ");
  return plainOf(landingOf(type, text));
}

/** Float32, lowest byte first. */
function vectorBytes(text: string): Buffer {
  const numbers = text.slice(1, -1).split(",").map(Number);
  const bytes = Buffer.alloc(numbers.length * 4);
  for (const [i, number] of numbers.entries()) bytes.writeFloatLE(number, i * 4);
  return bytes;
}

async function* readRows(
  client: Redis,
  prefix: string,
  isHash: boolean,
  table: SourceTable,
): AsyncGenerator<SinkRow[]> {
  const start = `${prefix}${encodedPart(table.schema)}:${encodedPart(table.table)}:`;
  const match = `${start.replaceAll(/[*?[\]\\^-]/g, String.raw`\$&`)}*`;
  for await (const page of client.scanStream({ match, count: KEYS_PER_SCAN })) {
    if (!Array.isArray(page) || page.length === 0) continue;
    const keys = page.map(String);
    const pipeline = client.pipeline();
    for (const key of keys) {
      if (isHash) pipeline.hgetallBuffer(key);
      else pipeline.get(key);
    }
    const answers = (await pipeline.exec()) ?? [];
    yield answers.map(([error, value], i) => {
      if (error !== null) throw error;
      const id = keys[i]!.slice(start.length);
      return isHash ? hashRow(table, id, value) : documentRow(table, id, value);
    });
  }
}

function hashRow(table: SourceTable, id: string, value: unknown): SinkRow {
  const entries: [string, unknown][] = Object.entries(typeof value === "object" && value !== null ? value : {});
  const fields = new Map(entries.map(asTexts));
  const dense = new Map(entries);
  const cells = table.columns.map(({ name, type }) => {
    const text = fields.get(name) ?? null;
    const bytes = dense.get(name);
    if (type.kind === "vector" && type.form !== "sparse") return Buffer.isBuffer(bytes) ? bytes.toString("hex") : null;
    return text !== null && type.kind === "array" ? spelledJson(readJson(text)) : text;
  });
  return { id, cells, flaws: [...versionFlaws(fields.get(VERSION)), ...surplus(table, fields.keys())] };
}

function documentRow(table: SourceTable, id: string, value: unknown): SinkRow {
  const fields = fieldsOf(readJson(typeof value === "string" ? value : "{}"));
  const cells = table.columns.map(({ name }) => {
    const field = fields.get(name) ?? null;
    return field === null ? null : spelledJson(field);
  });
  const version = plainOf(fields.get(VERSION));
  return { id, cells, flaws: [...versionFlaws(version), ...surplus(table, fields.keys())] };
}

function asTexts([name, value]: [string, unknown]): [string, string] {
  return [name, String(value)];
}

function surplus({ columns }: SourceTable, names: Iterable<string>): string[] {
  const known = new Set(columns.map(({ name }) => name));
  return [...names].filter((name) => !known.has(name) && !name.startsWith("_millrace_"));
}
