/** Rows as a cache holds them, read back by other means than the product's. */
import { randomUUID } from "node:crypto";
import type { Cluster, Redis } from "ioredis";
import { cacheKeyPart } from "../../../src/core/targets/names.ts";
import type { Column, TableVersion } from "../../../src/core/model/schema.ts";
import type { ColumnType } from "../../../src/core/model/types.ts";
import type { TargetRow } from "../../conformance/sink.ts";
import { jsonLanding, landingOf } from "../model/json-landing.ts";
import { fieldsOf, plainOf, readJson, spelledJson } from "../model/json-text.ts";

type Client = Redis | Cluster;

export async function readHashRows(
  client: Client,
  nodes: readonly Redis[],
  prefix: string,
  table: TableVersion,
): Promise<TargetRow[]> {
  const keys = await rowKeys(nodes, prefix, table);
  return Promise.all(keys.map((key) => readHash(client, key, table)));
}

export async function readJsonRows(client: Redis, prefix: string, table: TableVersion): Promise<TargetRow[]> {
  const keys = await rowKeys([client], prefix, table);
  return Promise.all(keys.map((key) => readDocument(client, key, table)));
}

async function rowKeys(nodes: readonly Redis[], prefix: string, table: TableVersion): Promise<string[]> {
  const start = `${prefix}${cacheKeyPart(table.schema)}:${cacheKeyPart(table.table)}:`;
  const pages = await Promise.all(nodes.map((node) => keysUnder(node, prefix)));
  return pages.flat().filter((key) => key.startsWith(start));
}

export async function keysUnder(node: Redis, prefix: string): Promise<string[]> {
  const found: string[] = [];
  for await (const page of node.scanStream({ match: `${prefix}*`, count: 1_000 })) {
    if (Array.isArray(page)) found.push(...page.map(String));
  }
  return found;
}

async function readHash(client: Client, key: string, table: TableVersion): Promise<TargetRow> {
  const flat: unknown = await client.callBuffer("HGETALL", key);
  const parts = Array.isArray(flat)
    ? flat.map((part: unknown) => (Buffer.isBuffer(part) ? part : Buffer.alloc(0)))
    : [];
  const fields = new Map(parts.flatMap((name, i) => (i % 2 === 0 ? [[name.toString(), parts[i + 1]!] as const] : [])));
  return {
    version: BigInt(fields.get("_millrace_version")?.toString() ?? -1),
    cells: table.columns.map(({ name, type }) => {
      const bytes = fields.get(name);
      if (bytes === undefined) return null;
      if (isDense(type)) return bytes.toString("hex");
      return type.kind === "array" ? spelledJson(readJson(bytes.toString())) : bytes.toString();
    }),
  };
}

function isDense(type: ColumnType): boolean {
  return type.kind === "vector" && type.form !== "sparse";
}

async function readDocument(client: Redis, key: string, table: TableVersion): Promise<TargetRow> {
  const fields = fieldsOf(readJson((await client.get(key)) ?? "{}"));
  return {
    version: BigInt(plainOf(fields.get("_millrace_version"))),
    cells: table.columns.map((column) => {
      const value = fields.get(column.name) ?? null;
      return value === null ? null : spelledJson(value);
    }),
  };
}

/** A JSON null in a json column and a null cell look alike in a document. */
export function documentLanding(column: Column, text: string): string | null {
  const landing = jsonLanding(column.type, text);
  return landing === "null" ? null : landing;
}

/** A hash field holds what stands between the quotes, and the JSON text of json as it is. */
export function fieldLanding({ type }: Column, text: string): string {
  if (type.kind === "json") return text.replaceAll(/[\r\n]/g, " ");
  // As a search index takes them: float32, lowest byte first.
  if (isDense(type)) return Buffer.from(Float32Array.from(JSON.parse(text)).buffer).toString("hex");
  if (type.kind === "vector") return text;
  return plainOf(landingOf(type, text));
}

export interface ClusterPrefix {
  readonly prefix: string;
  wipe(): Promise<void>;
}

export function freshClusterPrefix(client: Cluster): ClusterPrefix {
  const prefix = `test-${randomUUID().slice(0, 8)}:`;
  return {
    prefix,
    async wipe() {
      for (const node of client.nodes("master")) {
        const keys = await keysUnder(node, prefix);
        await Promise.all(keys.map((key) => client.unlink(key)));
      }
    },
  };
}
