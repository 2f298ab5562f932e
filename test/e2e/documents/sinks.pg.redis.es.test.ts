/** Documents in search and cache, warehouse and SQLite: named as the pages say, one state in all of them, also while many change. */
import { DuckDBInstance } from "@duckdb/node-api";
import { Redis } from "ioredis";
import { join } from "node:path";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { elasticsearchUrl, redisUrl } from "../../support/run/services.ts";
import {
  documentsInRedis,
  documentsInSearch,
  documentsInSqlite,
  expectSame,
  POSTGRES_DOCUMENTS,
  SHOP_TABLES,
  shopDocuments,
} from "../../support/documents/shop-documents.ts";

const ROWS = `insert into customers select g, 'c' || g, null, null from generate_series(1, 5) g;
  insert into products select g, 'sku' || g, 'title ' || g from generate_series(1, 10) g;
  insert into tags select g, 'tag' || g from generate_series(1, 6) g;
  insert into orders select g, 1 + g % 5, 'new', g * 1.5 from generate_series(1, 2000) g;
  insert into order_items select o, l, 1 + (o + l) % 10, l from generate_series(1, 2000) o, generate_series(1, 2) l;
  insert into order_tags select o, 1 + o % 6 from generate_series(1, 2000) o;`;

const OPTIONS: Readonly<Record<string, object>> = {
  redis: { format: "json" },
  elasticsearch: { index: { orders: { mappings: { properties: { items: { type: "nested" } } } } } },
};

test("five sinks, a customer with all orders, a document that is gone", async () => {
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      for (const sql of SHOP_TABLES) await source.query(sql);
      await source.query(ROWS);
    },
    {
      kinds: ["sqlite", "postgres", "duckdb", "redis", "elasticsearch"],
      configure: (config) => ({
        ...config,
        documents: shopDocuments("public"),
        sinks: Object.fromEntries(
          Object.entries(config.sinks).map(([name, sink]) => [
            name,
            { ...sink, documents: ["orders"], ...OPTIONS[name] },
          ]),
        ),
      }),
    },
  );
  const { installation, sinks } = pipeline;
  using redis = disposable(new Redis(redisUrl()));
  const expectEqual = async (): Promise<void> => {
    await pipeline.settled();
    const { rows } = await pipeline.source.query<{ document: Record<string, unknown> }>(POSTGRES_DOCUMENTS);
    const wanted = rows.map(({ document }) => document);
    expectSame(documentsInSqlite(join(installation.folder, "replica.sqlite")), wanted);
    expectSame(await documentsInRedis(redis.client, sinks.keyPrefix), wanted);
    expectSame(await documentsInSearch(elasticsearchUrl(), `${sinks.indexPrefix}orders`), wanted);
    const { rows: inPostgres } = await sinks.target!.query(
      "select id, status, amount::text, customer, items, tags from documents.orders order by id",
    );
    expectSame(inPostgres, wanted);
  };
  await expectEqual();
  await pipeline.run("update customers set name = 'everybody', email = 'e@x' where id = 1");
  await pipeline.run("update order_items set quantity = 10 where order_id between 100 and 300");
  await pipeline.run(
    "delete from order_tags where order_id = 7; delete from order_items where order_id = 7; delete from orders where id = 7",
  );
  await expectEqual();
  const nested = { nested: { path: "items", query: { bool: { filter: [{ term: { "items.quantity": 10 } }] } } } };
  const answer = await fetch(`${elasticsearchUrl()}/${sinks.indexPrefix}orders/_count`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: nested }),
  });
  expect(await answer.json()).toMatchObject({ count: 201 });
  await pipeline.run(
    "alter table orders add column note text default 'n'; alter table products rename column title to label",
  );
  const status = await installation.status();
  expect(status.sinks.map(({ name }) => name)).toContain("documents");
  await pipeline.daemon.stop();
  const instance = await DuckDBInstance.create(join(installation.folder, "warehouse.duckdb"));
  const connection = await instance.connect();
  const reader = await connection.runAndReadAll(
    `select count(*), sum(json_array_length(items)) from documents.orders where customer->>'name' = 'everybody'`,
  );
  expect(reader.getRowsJson()).toEqual([["400", "800"]]);
  connection.closeSync();
});

function disposable(client: Redis): { readonly client: Redis } & Disposable {
  return { client, [Symbol.dispose]: () => client.disconnect() };
}
