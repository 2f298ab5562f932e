/** The types that columns of vectors get, as each target's own catalogue has them; and a search by them. */
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { definition as columnsDefinition, factory as columnsFactory } from "../../connectors/clickhouse/config.ts";
import { definition as searchDefinition, factory as searchFactory } from "../../connectors/elasticsearch/config.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import type { ColumnType } from "../../src/core/model/types.ts";
import { put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { searchCall } from "../support/caches/search-rows.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { clickhouseUrl, freshColumns, freshIndexPrefix, searchEngines } from "../support/run/services.ts";
import { askClickhouse } from "../support/warehouses/clickhouse-values.ts";
import { lakeTarget } from "../support/warehouses/ducklake-target.ts";
import { duckdbTarget, nameOf, type RunSql } from "../support/warehouses/duckdb-target.ts";

const TYPES: Readonly<Record<string, readonly [native: string, type: ColumnType]>> = {
  single: ["public.vector(3)", { kind: "vector", form: "single", dimension: 3 }],
  half: ["public.halfvec(4)", { kind: "vector", form: "half", dimension: 4 }],
  // MySQL's: it may have fewer numbers.
  up_to: ["vector(3)", { kind: "vector", form: "single", dimension: 3, isUpTo: true }],
  any_length: ["public.vector", { kind: "vector", form: "single", dimension: null }],
  large: ["public.vector(5000)", { kind: "vector", form: "single", dimension: 5_000 }],
  sparse: ["public.sparsevec(5)", { kind: "vector", form: "sparse", dimension: 5 }],
};
const names = Object.keys(TYPES);
const vectors = tableVersion({
  table: "vectors",
  columns: [["id", "integer"], ...Object.entries(TYPES).map(([name, [native, type]]) => [name, native, type] as const)],
  key: ["id"],
});

/** With the table there. */
async function prepared(making: Sink | Promise<Sink>): Promise<Sink & AsyncDisposable> {
  const sink = await making;
  await sink.open(1, timeout());
  await sink.prepare([vectors], timeout());
  return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
}

async function typesIn(query: RunSql, catalogue: string): Promise<unknown> {
  return ofVectors(await query(`select column_name, column_type from (describe ${nameOf(vectors, catalogue)})`));
}

/** By name, without the other columns. */
function ofVectors(columns: readonly (readonly unknown[])[]): Readonly<Record<string, string>> {
  const all = columns.map(([name, type]) => [String(name), String(type)] as const);
  return Object.fromEntries(all.filter(([name]) => names.includes(name)));
}

test("DuckDB: arrays of the dimension", async () => {
  await using target = duckdbTarget();
  await using _ = await prepared(target.makeSink());
  expect(await typesIn(target.query, "warehouse")).toEqual({
    single: "FLOAT[3]",
    half: "FLOAT[4]",
    up_to: "FLOAT[]",
    any_length: "FLOAT[]",
    large: "FLOAT[5000]",
    sparse: "VARCHAR",
  });
});

test("DuckLake, which has no arrays: lists", async () => {
  await using target = await lakeTarget("sqlite");
  await using _ = await prepared(target.makeSink());
  const lists = Object.fromEntries(names.map((name) => [name, "FLOAT[]"]));
  expect(await typesIn(target.query, "lake")).toEqual({ ...lists, sparse: "VARCHAR" });
});

test("ClickHouse: arrays of Float32", async () => {
  await using database = freshColumns();
  const options = columnsDefinition.parse({ url: clickhouseUrl(), schema: database.prefix });
  const context = { name: "columns", daemon: database.prefix, folder: "/", options };
  await using _ = await prepared(columnsFactory.create(context, quietLog));
  const found = await askClickhouse(
    clickhouseUrl(),
    `select name, type from system.columns where database = '${database.prefix}' and table = 'vectors'`,
  );
  const arrays = Object.fromEntries(names.map((name) => [name, "Array(Float32)"]));
  expect(ofVectors(found)).toEqual({ ...arrays, sparse: "Nullable(String)" });
});

const MAPPINGS = z.record(
  z.string(),
  z.object({ mappings: z.object({ properties: z.record(z.string(), z.looseObject({})) }) }),
);
const HITS = z.object({ hits: z.object({ hits: z.array(z.object({ _id: z.string() })) }) });
/** Not searchable. */
const KEPT = { type: "object", enabled: false };

describe.each(searchEngines())("$name", ({ name, url }) => {
  test("fields of the dimension, which a search finds", async ({ skip }) => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const options = searchDefinition.parse({ url: url(), prefix, replicas: 0 });
    const context = { name: "search", daemon: "shop", folder: "/", options };
    await using sink = await prepared(searchFactory.create(context, quietLog));
    const path = `/${prefix}public.vectors`;
    const [index] = Object.values(
      MAPPINGS.parse(JSON.parse((await searchCall(url(), "GET", `${path}/_mapping`)).text)),
    );
    const fields = index!.mappings.properties;

    const isOpenSearch = name.startsWith("opensearch");
    if (isOpenSearch) for (const field of names) expect({ field, ...fields[field] }).toEqual({ field, ...KEPT });
    skip(isOpenSearch, "the tests' OpenSearch has no k-NN plugin: no test has `knn_vector`, only what takes its place");
    const dense = (dims: number): object => ({ type: "dense_vector", dims, index: true, similarity: "l2_norm" });
    expect(fields).toMatchObject({
      single: dense(3),
      half: dense(4),
      up_to: dense(3),
      any_length: KEPT,
      large: KEPT,
      sparse: KEPT,
    });

    const reports = new Reports();
    const rest = ["[1,2,3,4]", "[3,2,1]", "[1]", null, "{1:1.5}/5"];
    const rows = ["[1,0,0]", "[0,1,0]", "[0,0,1]"].map((one, i) => put([`${i}`, one, ...rest]));
    await sink.apply(rowsBatch(10n, [vectors, rows]), reports, timeout());
    expect(reports.poisons).toEqual([]);
    await searchCall(url(), "POST", `${path}/_refresh`);
    const knn = { field: "single", query_vector: [0.1, 0.9, 0], k: 1, num_candidates: 10 };
    const { text } = await searchCall(url(), "POST", `${path}/_search`, JSON.stringify({ knn }));
    expect(HITS.parse(JSON.parse(text)).hits.hits).toEqual([{ _id: "1" }]);
  });
});
