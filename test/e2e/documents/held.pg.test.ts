/** Documents of a table that is read again wait until the nest has it whole; others go on, and nothing is forgotten. */
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = `create table shops (id int primary key, name text);
  create table orders (id int primary key, shop_id int references shops, status text not null);
  create table items (order_id int references orders, line_no int, quantity int not null, primary key (order_id, line_no));
  insert into shops values (1, 'one'), (2, 'two');
  insert into orders select g, 1 + g % 2, 'new' from generate_series(1, 20) g;
  insert into items select g, l, l from generate_series(1, 20) g, generate_series(1, 3) l;`;

const DOCUMENTS = {
  orders: { from: "public.orders", with: { items: { from: "public.items", many: true, columns: ["quantity"] } } },
  shops: { from: "public.shops", with: { orders: { from: "public.orders", many: true, columns: ["status"] } } },
};

const EXPECTED = `select o.id, o.status, coalesce((select jsonb_agg(jsonb_build_object('quantity', i.quantity) order by i.line_no)
  from items i where i.order_id = o.id), '[]') as items from orders o order by o.id`;

test("a table whose values are read again, or that is suspended, holds back its documents alone", async () => {
  await using pipeline = await RunningPipeline.start(TABLES, {
    kinds: ["sqlite"],
    configure: (config) => ({
      ...config,
      documents: DOCUMENTS,
      sinks: { sqlite: { ...config.sinks["sqlite"], documents: ["orders", "shops"] } },
    }),
  });
  const { installation } = pipeline;
  const path = join(installation.folder, "replica.sqlite");
  const read = (sql: string): unknown[] => {
    using file = new DatabaseSync(path, { readOnly: true });
    return file.prepare(sql).all();
  };
  const orders = (): unknown[] =>
    read(`select id, status, items from "documents.orders" order by id`).map((row) => {
      const { items, ...rest } = Object(row);
      return { ...rest, items: JSON.parse(String(items)) as unknown };
    });
  const pending = async (): Promise<unknown> => (await installation.status()).tables.pending;
  const expectEqual = async (): Promise<void> => {
    await pipeline.settled();
    expect(orders()).toEqual((await pipeline.source.query(EXPECTED)).rows);
  };
  await expectEqual();
  const before = orders();

  await using holder = await pipeline.source.connect();
  await holder.query(
    `begin; alter table items alter column quantity type text using ('q' || quantity); commit;
     begin; lock table items in access exclusive mode`,
  );
  const isHeld = async (): Promise<void> =>
    expect(await pending()).toContainEqual({
      table: "documents.orders",
      why: "public.items is not whole in the nest",
      fix: null,
    });
  await eventually(isHeld);
  await pipeline.run(
    "update orders set status = 'held' where id in (3, 4); update shops set name = 'other' where id = 1",
  );
  await eventually(() => expect(read(`select name from "documents.shops" where id = 1`)).toEqual([{ name: "other" }]));
  expect(orders()).toEqual(before);
  // A daemon that begins again meanwhile follows the others too.
  await pipeline.daemon.stop();
  await pipeline.start(false);
  await pipeline.run("update shops set name = 'third' where id = 1");
  await eventually(() => expect(read(`select name from "documents.shops" where id = 1`)).toEqual([{ name: "third" }]));
  expect(orders()).toEqual(before);
  await holder.query("rollback");
  await expectEqual();
  expect(await pending()).toEqual([]);

  // Without a key nothing can be followed: the table is suspended, and comes back.
  await pipeline.run("alter table items drop constraint items_pkey");
  await pipeline.run("insert into items values (5, 9, 'lost'); update orders set status = 'later' where id = 6");
  await pipeline.run("update shops set name = 'fourth' where id = 1");
  await eventually(() => expect(read(`select name from "documents.shops" where id = 1`)).toEqual([{ name: "fourth" }]));
  await eventually(isHeld);
  await pipeline.run("alter table items add primary key (order_id, line_no)");
  await eventually(async () => void (await installation.command("resume", "--tables", "public.items")));
  await eventually(expectEqual);

  // What was asked for can be cancelled.
  await installation.ask("POST", "/api/v1/pause", { sink: "sqlite" });
  const asked = { sinks: ["sqlite"], tables: ["documents.orders"] };
  expect(await installation.ask<object>("POST", "/api/v1/snapshots", asked)).toEqual({ tables: asked.tables });
  const listed = await installation.ask<readonly { id: number; tableId: string; state: string }[]>(
    "GET",
    "/api/v1/snapshots",
  );
  const { id } = listed!.find(({ tableId, state }) => tableId === "documents.orders" && state === "waiting")!;
  expect(await installation.command("snapshot", "cancel", String(id))).toMatchObject({ exitCode: 0 });
});

test("a schema `documents` that the source gets beside documents is left out, and holds up nothing", async () => {
  await using pipeline = await RunningPipeline.start(TABLES, {
    kinds: ["sqlite", "postgres"],
    configure: (config) => ({
      ...config,
      source: { ...config.source, tables: ["public.*", "documents.*"] },
      documents: DOCUMENTS,
      sinks: { ...config.sinks, sqlite: { ...config.sinks["sqlite"], documents: ["orders", "shops"] } },
    }),
  });
  const { installation, sinks } = pipeline;
  await pipeline.settled();
  await pipeline.run("create schema documents; create table documents.odd (id int primary key)");
  await eventually(async () => {
    const { refused } = (await installation.status()).tables;
    expect(refused).toMatchObject([{ table: "documents.odd", reason: expect.stringContaining("`documents`") }]);
  });
  await pipeline.run("insert into documents.odd values (1); update shops set name = 'later' where id = 1");
  await pipeline.settled();
  expect((await sinks.target!.query("select to_regclass('documents.odd') as odd")).rows).toEqual([{ odd: null }]);
});
