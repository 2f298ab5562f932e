/**
 * Limits that administrators of a search engine set for everybody: they cut no answer, and where the sink needs more it says
 * which and how much.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import { failure, checkpointAt, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { readDocuments, searchCall } from "../support/caches/search-rows.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { ownElasticsearch } from "../support/run/services.ts";

const tableNamed = (table: string) => tableVersion({ table, columns: { id: "int8", name: "text" } });

test("limits of searches, of memory and of shards", async () => {
  await using server = await ownElasticsearch();
  const { url } = server;
  const set = async (settings: object): Promise<void> => {
    const { status, text } = await searchCall(
      url,
      "PUT",
      "/_cluster/settings",
      JSON.stringify({ transient: settings }),
    );
    if (status !== 200) throw new Error(text);
  };
  const options = definition.parse({ url, replicas: 0 });
  const context = { name: "search", daemon: "shop", folder: "/", options };
  const sink = await factory.create(context, quietLog);
  await sink.open(1, timeout());
  const [first, second, third, fourth] = ["first", "second", "third", "fourth"].map(tableNamed);
  await sink.prepare([first!], timeout());
  const rows = Array.from({ length: 12_000 }, (_, i) => put([`${i}`, "a"]));
  await sink.apply(rowsBatch(10n, [first!, rows]), new Reports(), timeout());

  await set({
    "search.default_search_timeout": "1ms",
    "search.allow_expensive_queries": false,
    "search.max_buckets": 1,
    "search.default_allow_partial_results": true,
  });
  {
    await using inspection = await sink.comparison!.inspect(timeout());
    let count = 0;
    for await (const page of inspection.keys(first!, timeout())) count += page.length;
    expect(count).toBe(12_000);
  }
  expect(await sink.rows!.highestVersion("own", timeout())).toBeGreaterThan(0n);
  await sink.rows!.expel([first!], 1n << 60n, timeout());

  // What the breaker refuses is tried again, and is no answer in the meantime.
  await set({ "indices.breaker.total.limit": "1kb" });
  const batch = { kind: "truncate", table: first!, version: 1n << 60n, checkpoint: checkpointAt(20n) } as const;
  const { code, kind } = await failure(sink.apply(batch, new Reports(), timeout()));
  expect([code, kind]).toEqual(["MR2006", "retryable"]);
  await set({ "indices.breaker.total.limit": null });
  await sink.apply(batch, new Reports(), timeout());
  expect(await readDocuments(url, "", first!)).toEqual([]);

  await set({ "cluster.max_shards_per_node": 3 });
  await sink.prepare([second!], timeout());
  // All are named at once, with the room that they need together.
  const error = await failure(sink.prepare([third!, first!, fourth!], timeout()));
  expect([error.code, error.kind, error.table]).toEqual(["MR2006", "blocked", third!.id]);
  expect(error.further.map(({ table }) => table)).toEqual([fourth!.id]);
  expect(error.message).toContain("needs 1 more shards, and the cluster has 3 of the 3");
  expect(error.hint).toContain("times the data nodes is 5 or more");
  const told = (await factory.check(context, timeout(), [first!, second!, third!])).find(
    ({ id }) => id === "elasticsearch.shards",
  );
  expect(told).toMatchObject({
    level: "warning",
    what: expect.stringMatching(/^1 tables without an index, .* need 1 shards more/),
    fix: expect.stringContaining('"cluster.max_shards_per_node": 4'),
  });
  // Before a first start the index of the checkpoints is missing too.
  const before = { ...context, options: { ...options, prefix: "other-" } };
  expect(await factory.check(before, timeout(), [first!, second!])).toContainEqual(
    expect.objectContaining({
      id: "elasticsearch.shards",
      what: expect.stringMatching(/^2 tables without an index, .* need 3 shards more/),
      fix: expect.stringContaining('"cluster.max_shards_per_node": 6'),
    }),
  );
  // Those that have an index go on.
  await sink.apply(rowsBatch(30n, [second!, [put(["1", "b"])]]), new Reports(), timeout());
  await set({ "cluster.max_shards_per_node": 4 });
  await sink.prepare([third!], timeout());
  await sink.close();
});
