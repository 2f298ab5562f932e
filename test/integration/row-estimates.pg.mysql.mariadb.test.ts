/** How many rows a table has by the server's statistics. A look at them waits for no lock. */
import { expect, test } from "vitest";
import { sourceFactory } from "../../connectors/mysql/source/config.ts";
import type { Source } from "../../src/core/contracts/source.ts";
import { tableId } from "../../src/core/model/schema.ts";
import { never, openSource } from "../support/postgres/postgres-source.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshDatabase, freshMysqlDatabase, mysqlFlavours, mysqlUrl } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

async function estimates({ catalog }: Source, schema: string, tables: readonly string[]): Promise<object> {
  const named = tables.map((table) => ({ id: tableId(schema, table), schema, table }));
  return Object.fromEntries((await catalog.estimates!(named, never)) as Iterable<readonly [string, number]>);
}

async function sizes({ catalog }: Source, schema: string, tables: readonly string[]) {
  const named = tables.map((table) => ({ id: tableId(schema, table), schema, table }));
  const found = await catalog.sizes!(named, never);
  return [...found].map(([id, size]) => ({ id, ...size, columnBytes: Object.fromEntries(size.columnBytes) }));
}

test("Postgres: bytes of a column, without nulls, of all partitions; of large values those of the table where they lie", async () => {
  await using database = await freshDatabase();
  await using source = await openSource(database);
  await database.query(
    `create table parted (id int primary key, said text) partition by range (id);
     create table low partition of parted for values from (0) to (1000);
     create table high partition of parted for values from (1000) to (9000);
     insert into parted select g, case when g % 2 = 0 then repeat('x', 99) end from generate_series(0, 1999) g;
     create table large (id int primary key, said text);
     alter table large alter said set storage external;
     insert into large select g, repeat('x', 20000) from generate_series(1, 100) g`,
  );
  for (const table of ["low", "high", "large"]) await database.query(`vacuum analyze ${table}`);
  const [parted, large] = await sizes(source, "public", ["parted", "large", "gone"]);
  expect(parted).toMatchObject({ rowCount: 2_000, columnBytes: { id: 4 }, restBytes: 0 });
  expect(parted).toHaveProperty("columnBytes.said", expect.closeTo(50, 0));
  expect(large).toMatchObject({ rowCount: 100, columnBytes: { id: 4 } });
  expect(large).toHaveProperty("restBytes", expect.closeTo(22_000, -4));
});

test("Postgres: rows of a table that was never analysed, of all partitions, and of a locked table", async () => {
  await using database = await freshDatabase();
  await using source = await openSource(database);
  await database.query(
    `create table plain (id int primary key) with (autovacuum_enabled = false);
     create table parted (id int primary key) partition by range (id);
     create table low partition of parted for values from (0) to (100) with (autovacuum_enabled = false);
     create table high partition of parted for values from (100) to (1000) partition by range (id);
     create table higher partition of high for values from (100) to (1000) with (autovacuum_enabled = false);
     create table other (id int primary key) with (autovacuum_enabled = false)`,
  );
  const asked = ["plain", "parted", "other", "gone"];
  expect(await estimates(source, "public", asked)).toEqual({});
  {
    // A session tells its counts when it ends; an idle one seconds later.
    await using writer = await database.connect();
    await writer.query(
      "insert into plain select generate_series(1, 3000); insert into parted select generate_series(0, 499)",
    );
  }
  await eventually(async () =>
    expect(await estimates(source, "public", asked)).toEqual({ "public.plain": 3000, "public.parted": 500 }),
  );
  await database.query("analyze other");
  expect(await estimates(source, "public", asked)).toMatchObject({ "public.other": 0 });
  const locker = await database.connect();
  try {
    await locker.query("begin; lock table plain, parted in access exclusive mode");
    expect(await estimates(source, "public", asked)).toMatchObject({ "public.plain": 3000, "public.parted": 500 });
  } finally {
    await locker.end();
  }
});

test.each(mysqlFlavours)("%s: rows by the engine's statistics, now and not as of yesterday", async (flavour) => {
  await using database = await freshMysqlDatabase(mysqlUrl(flavour));
  const { name, connection } = database;
  const url = new URL(mysqlUrl(flavour));
  url.pathname = `/${name}`;
  const source = await sourceFactory.create(
    { daemon: name, folder: ".", tables: [`${name}.*`], options: { url: url.href } },
    quietLog,
  );
  try {
    await connection.query("create table plain (id int primary key auto_increment, t int)");
    await connection.query("insert into plain (t) values (1)");
    for (let i = 0; i < 10; i++) await connection.query("insert into plain (t) select t from plain");
    expect(Object.keys(await estimates(source, name, ["plain", "gone"]))).toEqual([`${name}.plain`]);
    await connection.query("analyze table plain");
    expect(await estimates(source, name, ["plain"])).toEqual({ [`${name}.plain`]: 1024 });
    await connection.query("insert into plain (t) select t from plain");
    await connection.query("analyze table plain");
    const [size] = await sizes(source, name, ["plain"]);
    expect(size?.rowCount).toBe(2048);
    expect(size?.restBytes).toBeGreaterThan(5);
    expect(size?.restBytes).toBeLessThan(60);
    await connection.query("lock tables plain write");
    expect(await estimates(source, name, ["plain"])).toEqual({ [`${name}.plain`]: 2048 });
  } finally {
    await source.close();
  }
});
