/** What somebody wrote into sinks of documents is found, by the document and the place inside it, and repaired. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import {
  expectDocuments,
  HOSTILE_TABLES,
  hostileDocuments,
  HostileShop,
  postgresShop,
  readRedis,
  readSqlite,
  type ShopDatabase,
} from "../../support/documents/hostile-shop.ts";
import { Random } from "../../support/run/random.ts";
import { redisUrl } from "../../support/run/services.ts";

test("differences inside documents, and documents that are missing or too many", async () => {
  let database: ShopDatabase | undefined;
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      database = postgresShop(source);
      await source.query(HOSTILE_TABLES.join("; "));
      await new HostileShop(database, new Random(1)).fill();
    },
    {
      kinds: ["redis", "sqlite", "postgres"],
      configure: (config) => ({
        ...config,
        documents: hostileDocuments("public"),
        sinks: {
          redis: { ...config.sinks["redis"], format: "json", documents: ["orders", "people"] },
          sqlite: { ...config.sinks["sqlite"], documents: ["orders", "people"] },
          // It writes JSON in its own way; nothing differs there.
          postgres: { ...config.sinks["postgres"], documents: ["orders", "people"] },
        },
      }),
    },
  );
  const { installation, sinks } = pipeline;
  const path = join(installation.folder, "replica.sqlite");
  await pipeline.settled();
  {
    using file = new DatabaseSync(path);
    file.exec(`update "documents.orders" set items = json_set(items, '$[1].product.sku', 'planted') where id = 5;
      update "documents.people" set orders = json_remove(orders, '$[0].items[2]'), name = 'planted' where id = 2;
      update "documents.orders" set tags = json_insert(tags, '$[#]', 'planted'), customer = null where id = 7;
      delete from "documents.orders" where id = 6;
      insert into "documents.orders" select 900, status, amount, customer, items, tags, _millrace_version, _millrace_commit_time from "documents.orders" where id = 5`);
  }
  using cache = pipeline.cache();
  const key = `${sinks.keyPrefix}orders:8`;
  const found = Object(JSON.parse((await cache.get(key)) ?? "null"));
  found.items[0].quantity = 12_345;
  await cache.set(key, JSON.stringify(found));
  const first = await reconcile(installation, "--repair", "--patience", "5s");
  expect(driftOf(first.found)).toEqual({
    redis: ["documents.orders 8 different items[0].quantity"],
    sqlite: [
      "documents.orders 5 different items[1].product.sku",
      "documents.orders 6 missing",
      "documents.orders 7 different customer tags[2]",
      "documents.orders 900 extra",
      "documents.people 2 different name orders[0].items[2]",
    ],
  });
  await pipeline.settled();
  const readers = { redis: readRedis(redisUrl(), sinks.keyPrefix), sqlite: readSqlite(path) };
  await expectDocuments(database!, readers, "after the repair");
  expect(driftOf((await reconcile(installation)).found)).toEqual({});
});
