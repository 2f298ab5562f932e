import { expect, test } from "vitest";
import { documentField, indexName } from "../../src/core/targets/names.ts";
import { rowIdOf } from "../../src/core/model/row-id.ts";
import { elasticsearchUrl, freshIndexPrefix } from "../support/run/services.ts";

async function call(method: string, path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(new URL(path, elasticsearchUrl()), {
    method,
    headers: { "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const answer: unknown = await response.json();
  if (!response.ok) throw new Error(JSON.stringify(answer));
  return answer;
}

const printable = Array.from({ length: 0x7f - 0x20 }, (_, i) => String.fromCharCode(0x20 + i));

/** Names of 31 characters that hold every ASCII character between them, and some that are hostile as a whole. */
const hostile = [
  printable.slice(0, 31).join(""),
  printable.slice(31, 62).join(""),
  printable.slice(62).join(""),
  "\u0001\t\n\u007f",
  "_x",
  "İstanbul",
  "ÀÉÎ🚀",
  ".",
  "..",
  "__proto__",
  "é".repeat(31),
];

test("the engine takes the index of every table", async () => {
  await using prefix = freshIndexPrefix();
  for (const table of hostile) {
    const index = indexName(prefix.prefix, "Public", table);
    await call("PUT", `/${encodeURIComponent(`${index}-000001`)}`, { settings: { number_of_replicas: 0 } });
    await call("POST", "/_aliases", { actions: [{ add: { index: `${index}-000001`, alias: index } }] });
    await call("DELETE", `/${encodeURIComponent(`${index}-000001`)}`);
  }
});

const engineNames = [
  "_id",
  "_index",
  "_source",
  "_type",
  "_routing",
  "_ignored",
  "_field_names",
  "_seq_no",
  "_primary_term",
  "_version",
  "_doc_count",
  "_tier",
  "_nested_path",
  "_feature",
  "_data_stream_timestamp",
  "_tsid",
  "_meta",
  "_size",
];

test("the engine takes the field of every column, and the longest id", async () => {
  await using prefix = freshIndexPrefix();
  const index = `${prefix.prefix}fields`;
  const columns = [...hostile, ...engineNames, "a.b", "a", ".a.", " ", "%2E", "_millrace_version"];
  const document = Object.fromEntries(columns.map((column, i) => [documentField(column), i]));
  const id = rowIdOf(["x".repeat(512)]);
  await call("PUT", `/${index}/_doc/${encodeURIComponent(id)}?refresh=true`, document);
  const found = await call("GET", `/${index}/_search`);
  expect(found).toMatchObject({ hits: { hits: [{ _id: id, _source: document }] } });
  const mapping = await call("GET", `/${index}/_mapping`);
  const properties = Object.fromEntries(columns.map((column) => [documentField(column), { type: "long" }]));
  expect(mapping).toEqual({ [index]: { mappings: { properties } } });
});
