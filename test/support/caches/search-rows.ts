/** Documents as a search engine holds them, read back by other means than the product's. */
import { documentField, indexName } from "../../../src/core/targets/names.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { TargetRow } from "../../conformance/sink.ts";
import { fieldsOf, itemsOf, plainOf, readJson, spelledJson } from "../model/json-text.ts";

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
  const hits = itemsOf(fieldsOf(fieldsOf(readJson(found.text)).get("hits")).get("hits"));
  return hits.map((hit) => {
    const source = fieldsOf(fieldsOf(hit).get("_source"));
    const version = plainOf(source.get("_millrace_version"));
    if (version !== plainOf(fieldsOf(hit).get("_version")))
      throw new Error("a document's version and its field differ");
    return {
      version: BigInt(version),
      cells: table.columns.map((column) => {
        const value = source.get(documentField(column.name)) ?? null;
        return value === null ? null : spelledJson(value);
      }),
    };
  });
}
