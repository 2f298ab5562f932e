/** Documents of a daemon that follows a log in Kafka: it has the nest. */
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import {
  documentsInRedis,
  expectSame,
  POSTGRES_DOCUMENTS,
  SHOP_TABLES,
} from "../../support/documents/shop-documents.ts";
import { ThroughKafka } from "../../support/kafka/through-kafka.ts";
import { redisUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const ROWS = `insert into customers select g, 'c' || g, 'c' || g || '@x', nullif(g / 2, 0) from generate_series(1, 10) g;
  insert into products select g, 'sku' || g, 'title ' || g from generate_series(1, 10) g;
  insert into tags select g, 'tag' || g from generate_series(1, 6) g;
  insert into orders select g, 1 + g % 10, 'new', g * 1.5 from generate_series(1, 60) g;
  insert into order_items select o, l, 1 + (o + l) % 10, l from generate_series(1, 60) o, generate_series(1, 4) l where (o + l) % 5 > 0;
  insert into order_tags select o, t from generate_series(1, 60) o, generate_series(1, 6) t where (o * t) % 4 = 0;`;

const ITEMS = {
  from: "public.order_items",
  many: true,
  columns: ["line_no", "quantity"],
  orderBy: ["line_no"],
  limit: 3,
  with: { product: { from: "public.products", columns: ["sku", "title"] } },
};
const ORDERS = {
  from: "public.orders",
  columns: ["status", "amount"],
  with: {
    customer: {
      from: "public.customers",
      columns: ["name", "email"],
      with: { referrer: { from: "public.customers", columns: ["name"], on: { id: "referrer_id" } } },
    },
    items: ITEMS,
    tags: {
      from: "public.tags",
      many: true,
      through: "public.order_tags",
      value: "name",
      orderBy: ["-name"],
    },
  },
};

test(
  "documents follow the log, and survive a kill; the source's foreign keys join them, and what it compares in another way is refused",
  { tags: "heavy" },
  async () => {
    await using through = await ThroughKafka.start(
      async (source) => {
        for (const sql of SHOP_TABLES) await source.query(sql);
        await source.query("create extension citext; create table shops (id int primary key, code citext)");
        await source.query(ROWS);
      },
      {
        kinds: ["redis"],
        apply: (config) => ({
          ...config,
          documents: { orders: ORDERS },
          sinks: { redis: { ...config.sinks["redis"], documents: ["orders"], format: "json" } },
        }),
      },
    );
    const { applying } = through;
    const { installation, sinks } = applying;
    const redis = new Redis(redisUrl());
    await using _ = { [Symbol.asyncDispose]: async () => void (await redis.quit()) };
    const expectEqual = () =>
      eventually(async () => {
        await applying.settled();
        const { rows } = await applying.source.query<{ document: unknown }>(POSTGRES_DOCUMENTS);
        expectSame(
          await documentsInRedis(redis, sinks.keyPrefix),
          rows.map(({ document }) => document),
        );
      });
    await expectEqual();
    for (const sql of [
      "update order_items set order_id = order_id + 1, line_no = line_no + 10 where order_id % 10 = 3",
      "update customers set name = name || '!', referrer_id = null where id % 4 = 0",
      "update tags set name = 'a' || name where id = 4; delete from order_tags where tag_id = 2",
      "update orders set id = id + 1000 where id between 50 and 52",
      "delete from order_items where order_id = 11; delete from order_tags where order_id = 11; delete from orders where id = 11",
    ])
      await applying.run(sql);
    await expectEqual();
    await applying.kill();
    await applying.run("update products set title = 'killed'; insert into orders values (300, 2, 'late', null)");
    await applying.start();
    await expectEqual();
    expect(driftOf((await reconcile(installation)).found)).toEqual({});
    const { found } = await reconcile(installation, "--deep", "--tables", "documents.*");
    const compared = found.tables.find(({ sink }) => sink === "documents")?.compared;
    expect({ compared, drift: driftOf(found), not: found.notComparable }).toEqual({ compared: 60, drift: {}, not: [] });
    const shown = await installation.command("documents", "show", "orders", "300", "--json");
    expect(JSON.parse(shown.stdout)).toMatchObject({
      document: { id: 300, status: "late" },
      rows: [{ key: ["300"] }, {}, {}],
    });

    const { text } = installation;
    const checked = async (documents: object): Promise<string> => {
      installation.text = text.replace(/^documents:[^]*/m, `documents: ${JSON.stringify(documents)}\n`);
      expect(installation.text).not.toBe(text);
      const { stdout } = await installation.command("check");
      installation.text = text;
      return stdout;
    };
    const shops = { from: "public.shops", many: true, on: { code: "status" } };
    const said = await checked({ orders: { ...ORDERS, with: { items: ITEMS, shops } } });
    expect(said).toMatch(/code \(.*citext, citext\) and status .* can't be joined/);
    expect(said).not.toContain("foreign key");
  },
);
