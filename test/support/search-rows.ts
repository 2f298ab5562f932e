/** Documents as a search engine holds them, read back by other means than the product's. */
import { documentField, indexName } from "../../src/core/targets/names.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { TargetRow } from "../conformance/sink.ts";
import { exactJson } from "./json-landing.ts";

export interface SearchAnswer {
  readonly status: number;
  readonly text: string;
}

export async function searchCall(url: string, method: string, path: string, body?: string): Promise<SearchAnswer> {
  const answer = await fetch(`${url}${path}`, {
    method,
    headers: { "content-type": "application/json" },
    ...(body === undefined ? {} : { body }),
  });
  return { status: answer.status, text: await answer.text() };
}

export function aliasOf(prefix: string, table: TableVersion): string {
  return indexName(prefix, table.schema, table.table);
}

export async function readDocuments(url: string, prefix: string, table: TableVersion): Promise<TargetRow[]> {
  const path = `/${encodeURIComponent(aliasOf(prefix, table))}`;
  await searchCall(url, "POST", `${path}/_refresh`);
  const found = await searchCall(url, "POST", `${path}/_search`, '{"size":10000,"version":true}');
  if (found.status === 404) return [];
  if (found.status !== 200) throw new Error(`search failed: ${found.text}`);
  const hits = at(at(exactJson(found.text), "hits"), "hits");
  if (!Array.isArray(hits)) throw new Error(`no hits in ${found.text}`);
  return hits.map((hit: unknown) => {
    const source = at(hit, "_source");
    const version = digits(at(source, "_millrace_version"));
    if (version !== digits(at(hit, "_version"))) throw new Error("a document's version and its field differ");
    return {
      version: BigInt(version),
      cells: table.columns.map((column) => {
        const value = at(source, documentField(column.name)) ?? null;
        return value === null ? null : JSON.stringify(value);
      }),
    };
  });
}

function at(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.getOwnPropertyDescriptor(value, name)?.value;
}

function digits(value: unknown): string {
  return String(value).replace("number:", "");
}
