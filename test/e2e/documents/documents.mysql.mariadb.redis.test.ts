/** Documents of MySQL and MariaDB: equal to what the source's own SQL makes of the same rows. */
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { MysqlPipeline } from "../../support/mysql/mysql-pipeline.ts";
import { redisUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";
import {
  documentsInRedis,
  expectSame,
  MYSQL_DOCUMENTS,
  SHOP_TABLES,
  shopDocuments,
} from "../../support/documents/shop-documents.ts";

const ROWS = [
  "insert into customers values (1, 'ada', 'a@x', null), (2, 'bob', null, 1), (3, 'cy', 'c@x', 2)",
  "insert into products values (1, 's1', 'one'), (2, 's2', null)",
  "insert into tags values (1, 'x'), (2, 'y'), (3, 'z')",
  "insert into orders values (1, 1, 'new', 1.50), (2, 2, 'new', null), (3, null, 'none', 10.00)",
  "insert into order_items values (1, 1, 1, 1), (1, 2, 2, 2), (2, 1, null, 3), (1, 3, 1, 1), (1, 4, 1, 1)",
  "insert into order_tags values (1, 1), (1, 3), (2, 2)",
];
const CHANGES = [
  "update order_items set order_id = 3 where order_id = 1 and line_no = 2",
  "update customers set name = 'ada!' where id = 1",
  "delete from order_tags where order_id = 1",
  "insert into order_tags values (3, 1), (3, 2)",
  // No cascade: MariaDB's log does not have what a foreign key does.
  "insert into orders values (30, null, 'none', 10.00)",
  "update order_items set order_id = 30 where order_id = 3",
  "update order_tags set order_id = 30 where order_id = 3",
  "delete from orders where id = 3",
  "update products set sku = 's9' where id = 1",
  "alter table products add column more int default 3",
  "insert into orders values (4, 3, 'late', 7.25)",
  "delete from order_items where order_id = 2",
];
/** What people do to the tables; between two of them the documents are compared. */
const TABLES_CHANGED = [
  ["drop table order_items", SHOP_TABLES[3]!, "insert into order_items values (1, 1, 1, 1), (30, 5, 2, 5)"],
  ["rename table order_items to items_before", SHOP_TABLES[3]!, "insert into order_items values (30, 3, 2, 3)"],
  ["rename table order_items to items_after, items_before to order_items", "update order_items set quantity = 9"],
  [
    "alter table order_items modify quantity bigint not null",
    "update order_items set quantity = 12 where order_id = 1",
  ],
  [
    "set foreign_key_checks = 0",
    "truncate table order_tags",
    "drop table orders",
    SHOP_TABLES[1]!,
    "insert into orders values (9, 2, 'x', 1), (1, 3, 'x', 1), (30, 2, 'y', 3)",
    "set foreign_key_checks = 1",
  ],
];

describe.each(["mysql", "mariadb"] as const)("%s", (flavour) => {
  test("children move, keys change, the daemon is killed, tables are made again", async () => {
    await using pipeline = await MysqlPipeline.start(flavour, [...SHOP_TABLES, ...ROWS], {
      kinds: ["redis"],
      documents: shopDocuments,
      sinks: (sinks) => ({ redis: { ...sinks["redis"], format: "json", documents: ["orders"] } }),
    });
    const redis = new Redis(redisUrl());
    try {
      const expectEqual = async (): Promise<void> => {
        await pipeline.settled();
        const [rows] = await pipeline.source.connection.query(MYSQL_DOCUMENTS);
        const wanted = Array.isArray(rows)
          ? rows.map((row) => JSON.parse(String(Object.values(row)[1])) as unknown)
          : [];
        expect(wanted.length).toBeGreaterThan(2);
        expectSame(await documentsInRedis(redis, pipeline.sinks.keyPrefix), wanted);
      };
      await expectEqual();
      for (const sql of CHANGES.slice(0, 8)) await pipeline.source.connection.query(sql);
      await expectEqual();
      await pipeline.kill();
      for (const sql of CHANGES.slice(8)) await pipeline.source.connection.query(sql);
      await pipeline.start();
      await expectEqual();
      for (const statements of TABLES_CHANGED) {
        for (const sql of statements) await pipeline.source.connection.query(sql);
        await eventually(expectEqual);
      }
      await pipeline.settled();
      const { exitCode, found } = await reconcile(pipeline.installation, "--deep", "--tables", "documents.orders");
      const deep = found.tables.find(({ sink }) => sink === "documents");
      expect({ exitCode, deep: [deep?.sourceRows, deep?.sinkRows], drift: driftOf(found) }).toEqual({
        exitCode: 0,
        deep: [3, 3],
        drift: {},
      });
    } finally {
      redis.disconnect();
    }
  });
});
