/** Index control for documents: analyzers, fields with several forms, places, dates with a format; a change fills the next index. */
import { describe, expect, test } from "vitest";
import * as z from "zod";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { type PipelineConfig, RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { searchEngines } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const shops = {
  from: "public.shops",
  with: { reviews: { from: "public.reviews", many: true, columns: ["id", "body", "seen"], orderBy: ["id"] } },
};
const INDEX = {
  settings: { number_of_replicas: 0 },
  analyzers: { folded: { type: "standard", stopwords: ["the"] } },
  mappings: {
    properties: {
      name: { fields: { folded: { type: "text", analyzer: "folded" } } },
      place: { type: "geo_point" },
      opened: { type: "date", format: "yyyy-MM-dd" },
      reviews: {
        type: "nested",
        properties: { body: { type: "text", analyzer: "folded" }, seen: { type: "date", format: "yyyy-MM-dd" } },
      },
    },
  },
};
const CHANGED = { ...INDEX, analyzers: { folded: { type: "standard", stopwords: ["inn"] } } };

describe.each(searchEngines())("$name", (engine) => {
  test(
    "documents are searched as the configuration says, and a change of it moves the alias to the next index",
    { tags: "heavy" },
    async () => {
      const withIndex = (config: PipelineConfig, index: object): PipelineConfig => ({
        ...config,
        documents: { shops },
        sinks: { elasticsearch: { ...config.sinks["elasticsearch"], documents: ["shops"], index: { shops: index } } },
      });
      let given: PipelineConfig | null = null;
      await using pipeline = await RunningPipeline.start(
        `create table shops (id int primary key, name text, place text, opened date);
     create table reviews (id int primary key, shop_id int references shops, body text, seen date);
     insert into shops values (1, 'The CAFE Zürich', '47.4,8.5', '2020-02-29'), (2, 'Bäckerei', '48.1,11.5', '2021-01-01');
     insert into reviews values (1, 1, 'Tres bon', '2026-01-02'), (2, 1, 'schlecht', '2026-03-04'), (3, 2, 'bon', '2026-05-06')`,
        {
          kinds: ["elasticsearch"],
          search: engine.url(),
          configure: (config) => {
            given = config;
            return withIndex(config, INDEX);
          },
        },
      );
      const { installation, sinks } = pipeline;
      const alias = `${sinks.indexPrefix}shops`;
      const call = async (method: string, path: string, body?: object): Promise<unknown> => {
        const headers = { "content-type": "application/json" };
        const answer = await fetch(`${engine.url()}/${path}`, {
          method,
          headers,
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        });
        return await answer.json();
      };
      const found = async (query: object): Promise<readonly string[]> => {
        await call("POST", `${alias}/_refresh`);
        const FOUND = z.object({ hits: z.object({ hits: z.array(z.object({ _id: z.string() })) }) });
        return FOUND.parse(await call("POST", `${alias}/_search`, { query }))
          .hits.hits.map(({ _id }) => _id)
          .toSorted();
      };
      const nested = (query: object): object => ({ nested: { path: "reviews", query } });
      const indexOf = async (): Promise<string> =>
        Object.keys(z.record(z.string(), z.unknown()).parse(await call("GET", alias)))[0] ?? "";
      const expectSearched = async (): Promise<void> => {
        expect(await found({ match: { "name.folded": "cafe" } })).toEqual(["1"]);
        expect(await found({ geo_distance: { distance: "50km", place: "48.1,11.5" } })).toEqual(["2"]);
        expect(await found({ range: { opened: { lte: "2020-12-31", format: "yyyy-MM-dd" } } })).toEqual(["1"]);
        const both = [
          { match: { "reviews.body": "tres" } },
          { range: { "reviews.seen": { gte: "2026-02-01", format: "yyyy-MM-dd" } } },
        ];
        expect(await found(nested({ bool: { filter: both } }))).toEqual([]);
        expect(await found(nested({ bool: { filter: both.slice(0, 1) } }))).toEqual(["1"]);
      };
      await pipeline.settled();
      await expectSearched();
      const before = await indexOf();
      await pipeline.run("update reviews set body = 'tres bien' where id = 3");
      await pipeline.settled();
      expect(await found(nested({ match: { "reviews.body": "tres" } }))).toEqual(["1", "2"]);

      await pipeline.daemon.stop();
      installation.configure(withIndex(given!, CHANGED));
      await pipeline.run("insert into shops values (3, 'Cafe Inn', null, null)");
      await pipeline.start();
      await eventually(async () => {
        await pipeline.settled();
        expect(await indexOf()).not.toBe(before);
        await expectOtherStopwords();
      });
      expect(driftOf((await reconcile(installation)).found)).toEqual({});

      async function expectOtherStopwords(): Promise<void> {
        expect(await found({ match: { "name.folded": "cafe" } })).toEqual(["1", "3"]);
        const { tokens } = z
          .object({ tokens: z.array(z.object({ token: z.string() })) })
          .parse(await call("POST", `${alias}/_analyze`, { analyzer: "folded", text: "The Inn" }));
        expect(tokens.map(({ token }) => token)).toEqual(["the"]);
      }
    },
  );
});
