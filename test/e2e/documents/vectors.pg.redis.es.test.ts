/**
 * Vectors in relations of documents: arrays in every sink, equal to the source's, found by search where the relation is nested.
 * @module-tag heavy
 */
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { searchCall } from "../../support/caches/search-rows.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { vectorServer } from "../../support/postgres/vector-server.ts";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { freshIndexPrefix, searchEngines } from "../../support/run/services.ts";

const TABLES = `create extension vector;
  create table texts (id int primary key, title text, near vector(2));
  create table chunks (id int primary key, text_id int references texts, embedding vector(3), half halfvec(2), sparse sparsevec(5));
  insert into texts values (1, 'one', '[1,-0.5]'), (2, 'two', null), (3, 'none', '[0,0]');
  insert into chunks values
    (10, 1, '[1,0,0]', '[1,-0.25]', '{1:1.5,4:-2}/5'), (11, 1, '[0,1,0]', null, '{}/5'),
    (12, 1, null, '[0,0]', null), (20, 2, '[0,-3e-05,1e+10]', '[0.5,2]', '{5:1e20}/5')`;

const rows = { from: "public.chunks", many: true, orderBy: ["id"] };
const columns = ["id", "embedding", "half", "sparse"];

/** As the source's own SQL has them. */
const WANTED = `select t.id, (select jsonb_agg(jsonb_build_object('id', c.id, 'embedding', c.embedding::text::jsonb,
    'half', c.half::text::jsonb, 'sparse',
    regexp_replace(regexp_replace(c.sparse::text, '/\\d+$', ''), '(\\d+):', '"\\1":', 'g')::jsonb) order by c.id)
  from chunks c where c.text_id = t.id) as chunks,
  (select jsonb_agg(c.embedding::text::jsonb order by c.id) from chunks c where c.text_id = t.id) as embeddings
  from texts t order by t.id`;

const HITS = z.object({ hits: z.object({ hits: z.array(z.object({ _id: z.string() })) }) });

describe.each(searchEngines())("$name", ({ name, url }) => {
  test("vectors below a document", async (context) => {
    await using server = await vectorServer(context);
    const source = await createFreshDatabase(server);
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using pipeline = await RunningPipeline.start(TABLES, {
      source,
      kinds: ["redis", "duckdb"],
      configure: (config) => ({
        ...config,
        documents: {
          texts: {
            from: "public.texts",
            with: { chunks: { ...rows, columns }, embeddings: { ...rows, value: "embedding" } },
          },
        },
        sinks: {
          redis: { ...config.sinks["redis"], documents: ["texts"], format: "json" },
          duckdb: { ...config.sinks["duckdb"], documents: ["texts"] },
          search: {
            kind: "elasticsearch",
            url: url(),
            prefix,
            replicas: 0,
            documents: ["texts"],
            index: { texts: { mappings: { properties: { chunks: { type: "nested" } } } } },
          },
        },
      }),
    });
    const { installation, sinks } = pipeline;
    using cache = pipeline.cache();
    const call = async (method: string, path: string, body?: object): Promise<string> =>
      (await searchCall(url(), method, `/${prefix}texts${path}`, body && JSON.stringify(body))).text;
    const expectEqual = async (): Promise<void> => {
      await pipeline.settled();
      const wanted = await source.query<{ id: number; chunks: unknown; embeddings: unknown }>(WANTED);
      for (const { id, chunks, embeddings } of wanted.rows) {
        const made = { chunks: chunks ?? [], embeddings: embeddings ?? [] };
        expect(JSON.parse((await cache.get(`${sinks.keyPrefix}texts:${id}`)) ?? "")).toMatchObject(made);
        expect(JSON.parse(await call("GET", `/_source/${id}`))).toMatchObject(made);
      }
      const { exitCode, found } = await reconcile(installation, "--deep");
      expect({ exitCode, drift: driftOf(found) }).toEqual({ exitCode: 0, drift: {} });
    };
    await expectEqual();
    await source.query("update chunks set embedding = '[0,0,1]' where id = 11");
    await source.query("insert into chunks values (30, 3, '[0,1,0.1]', null, null)");
    await expectEqual();

    // The tests' OpenSearch is without the plugin that searches vectors: there they are kept.
    if (name.startsWith("opensearch")) return;
    await call("POST", "/_refresh");
    const knn = { field: "chunks.embedding", query_vector: [0, 1, 0], k: 1, num_candidates: 10 };
    const query = { nested: { path: "chunks", query: { knn } } };
    const found = HITS.parse(JSON.parse(await call("POST", "/_search", { query, size: 1 })));
    expect(found.hits.hits).toEqual([expect.objectContaining({ _id: "3" })]);
  });
});
