/** The ids of an index, slice after slice, while documents come and go. */
import { describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import { SearchClient } from "../../connectors/elasticsearch/http.ts";
import { ElasticsearchInspection } from "../../connectors/elasticsearch/inspect.ts";
import { listPages } from "../conformance/key-pages.ts";
import { failure, put, remove, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { httpGateway } from "../support/network/http-gateway.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshIndexPrefix, searchEngines } from "../support/run/services.ts";

const items = tableVersion({ table: "items", columns: { id: "text", v: "text" } });
const KEYS_PER_PAGE = 500;
const TLS = { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined };

describe.each(searchEngines())("pages on $name", ({ url }) => {
  test.for([1, 3])("each document that is there all the time is in one of the pages: %i shards", async (shards) => {
    await using indices = freshIndexPrefix(url());
    const options = definition.parse({ url: url(), prefix: indices.prefix, replicas: 0, shards });
    const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    const apply = (version: number, changes: Parameters<typeof rowsBatch>[1][1]) =>
      sink.apply(rowsBatch(BigInt(version), [items, changes]), new Reports(), timeout());
    // Some ids are too long to be the key itself.
    const all = Array.from({ length: 2_600 }, (_, i) => (i % 100 === 7 ? "k".repeat(600) : "k") + i);
    await apply(
      1,
      all.map((id) => put([id, "x"])),
    );
    await apply(
      2,
      all.slice(0, 100).map((id) => remove([id, null])),
    );
    const client = new SearchClient({ urls: [url()], apiKey: undefined, tls: TLS });
    await using inspection = new ElasticsearchInspection(client, (table) => sink.target(table), KEYS_PER_PAGE);
    const { keys, pageCount } = await listPages(inspection, items, (page) =>
      // Changed documents stay in their slice.
      apply(page + 2, [...all.slice(100, 400).map((id) => put([id, `y${page}`])), put([`later${page}`, "x"])]),
    );
    expect(pageCount).toBe(5);
    expect(new Set(keys).size).toBe(keys.length);
    expect(new Set(keys.filter((key) => key?.startsWith("k")))).toEqual(new Set(all.slice(100)));
    // In an index of another number of shards the slices are others.
    const again = await inspection.page(items, `1/5/${shards + 1}`, timeout());
    expect(again).toMatchObject({ isNew: true, next: expect.stringMatching(`^1/6/${shards}$`) });
    await sink.close();
  });

  test("a list that ends before all of its documents is none", async () => {
    await using indices = freshIndexPrefix(url());
    const options = definition.parse({ url: url(), prefix: indices.prefix, replicas: 0 });
    const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    await sink.open(1, timeout());
    await sink.prepare([items], timeout());
    await sink.apply(rowsBatch(10n, [items, ["1", "2"].map((id) => put([id, "x"]))]), new Reports(), timeout());
    let isCut = false;
    await using gateway = await httpGateway(url(), async ({ path, pass }) => {
      const reply = await pass();
      if (!isCut || !path.includes("_search?")) return reply;
      return { ...reply, body: String(reply.body).replace(/\{"_id":"1"\},|,\{"_id":"1"\}/, "") };
    });
    const client = new SearchClient({ urls: [gateway.url], apiKey: undefined, tls: TLS });
    await using inspection = new ElasticsearchInspection(client, (table) => sink.target(table));
    const listed = async () => {
      const ids: string[] = [];
      for await (const page of inspection.keys(items, timeout())) ids.push(...page.map(({ id }) => id));
      return ids.toSorted();
    };
    expect(await listed()).toEqual(["1", "2"]);
    isCut = true;
    expect(await failure(listed())).toMatchObject({ code: "MR2027", kind: "retryable" });
    await sink.close();
  });
});
