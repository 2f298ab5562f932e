/** Documents of Elasticsearch or OpenSearch, through plain HTTP. */
import { createHash } from "node:crypto";
import { jsonLanding } from "../model/json-landing.ts";
import { Digits, fieldsOf, itemsOf, type Json, plainOf, readJson, spelledJson } from "../model/json-text.ts";
import { rowId, type SinkReader, type SinkRow, VERSION, versionFlaws } from "./reader.ts";
import type { SourceColumn, SourceTable } from "./source-table.ts";

export interface ElasticsearchSinkAddress {
  readonly kind: "elasticsearch";
  readonly url: string;
  readonly prefix?: string;
}

const DOCUMENTS_PER_PAGE = 1_000;
const ANSWER_WITHIN_MS = 60_000;
const INDEX_NAME_BYTES_MAX = 248;

export async function elasticsearchReader({ url, prefix }: ElasticsearchSinkAddress): Promise<SinkReader> {
  return {
    mayRepeat: false,
    expected: (column, text) => documentLanding(column, text),
    idOf: (key) => rowId(key),
    rows: (table) => readRows(url.replace(/\/+$/, ""), prefix ?? "", table),
    async [Symbol.asyncDispose]() {},
  };
}

/** A JSON null in a json column and a null cell look alike in a document. */
export function documentLanding({ type }: SourceColumn, text: string): string | null {
  const landing = jsonLanding(type, text);
  return landing === "null" ? null : landing;
}

async function* readRows(url: string, prefix: string, table: SourceTable): AsyncGenerator<SinkRow[]> {
  const index = `${url}/${encodeURIComponent(indexNameOf(prefix, table))}`;
  if ((await ask("POST", `${index}/_refresh`)) === undefined) return;
  let page = fieldsOf(
    await ask("POST", `${index}/_search?scroll=1m`, { size: DOCUMENTS_PER_PAGE, sort: ["_doc"], version: true }),
  );
  for (;;) {
    const hits = itemsOf(fieldsOf(page.get("hits")).get("hits"));
    if (hits.length === 0) break;
    yield hits.map((hit) => documentRow(table, fieldsOf(hit)));
    page = fieldsOf(
      await ask("POST", `${url}/_search/scroll`, { scroll: "1m", scroll_id: plainOf(page.get("_scroll_id")) }),
    );
  }
  await ask("DELETE", `${url}/_search/scroll`, { scroll_id: [plainOf(page.get("_scroll_id"))] });
}

function documentRow(table: SourceTable, hit: ReadonlyMap<string, Json>): SinkRow {
  const fields = fieldsOf(hit.get("_source"));
  const names = table.columns.map(({ name }) => fieldNameOf(name));
  const version = plainOf(fields.get(VERSION));
  const surplus = [...fields.keys()].filter((name) => !name.startsWith("_millrace_") && !names.includes(name));
  // Guards work on the engine's own number: the field must not say another one.
  const own = hit.get("_version");
  if (!(own instanceof Digits) || own.text !== version) surplus.push("_version");
  return {
    id: plainOf(hit.get("_id")),
    cells: names.map((name) => {
      const value = fields.get(name) ?? null;
      return value === null ? null : spelledJson(value);
    }),
    flaws: [...versionFlaws(version), ...surplus],
  };
}

/** Undefined for 404. */
async function ask(method: "POST" | "DELETE", address: string, body?: object): Promise<Json | undefined> {
  const answer = await fetch(address, {
    method,
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const text = await answer.text();
  if (answer.status === 404) return undefined;
  if (!answer.ok) throw new Error(`${new URL(address).pathname} was answered with ${answer.status}`);
  return readJson(text);
}

/** connectors/elasticsearch/README.md: lower case, what an index name can't hold percent-encoded, cut with a hash where it is too long. */
export function indexNameOf(prefix: string, { schema, table }: { schema: string; table: string }): string {
  let name = "";
  for (const character of `${prefix}${schema}.${table}`.toLowerCase()) {
    const isRefused = '%\\/*?"<>| ,#:'.includes(character) || /\p{Cc}/u.test(character);
    name += isRefused || (name === "" && "-_+.".includes(character)) ? percentEncoded(character) : character;
  }
  const bytes = Buffer.from(name);
  if (bytes.length <= INDEX_NAME_BYTES_MAX) return name;
  const digest = createHash("sha256").update(name).digest("hex").slice(0, 8);
  let end = INDEX_NAME_BYTES_MAX - 9;
  while (end > 0 && bytes[end]! >= 0x80 && bytes[end]! < 0xc0) end--;
  return `${bytes.toString("utf8", 0, end)}_${digest}`;
}

const ENGINE_FIELDS =
  /^_(id|source|index|type|routing|version|seq_no|primary_term|ignored|field_names|size|tier|doc_count|nested_path|data_stream_timestamp|meta|all|parent|timestamp|ttl|uid|score|feature|ignored_source|index_mode|inference_fields|recovery_source|routing_hash|tombstone|ts_routing_hash|tsid)$/;

/** connectors/elasticsearch/README.md: a dot, an empty name and the engine's own names are percent-encoded. */
function fieldNameOf(column: string): string {
  if (column === "") return "%";
  if (column.trim() === "") return column.replaceAll(/\s/gu, percentEncoded);
  const name = column.replaceAll(/%(?=[0-9A-Fa-f]{2})/g, "%25").replaceAll(".", "%2E");
  return ENGINE_FIELDS.test(name) ? `%5F${name.slice(1)}` : name;
}

function percentEncoded(character: string): string {
  return Array.from(Buffer.from(character), (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
}
