/**
 * Another role's publication brings rows of tables that are refused. The reason may end without a word in the log: the changes
 * that follow are not missed.
 */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase, postgres } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** In each statement, `#` becomes a byte that WIN1252 takes and UTF-8 lacks. */
function named(...statements: readonly string[]): string {
  const run = (sql: string): string => `execute replace($s$${sql}$s$, '#', convert_from('\\x81', 'WIN1252'))`;
  return `do $$ begin ${statements.map((sql) => `${run(sql)};`).join(" ")} end $$`;
}

test("tables whose reason to be refused has ended have the changes since then", async () => {
  const source = await freshDatabase(postgres(), "WIN1252");
  await using pipeline = await RunningPipeline.start(
    `create table good (id int primary key, v text); create publication everything for all tables;
     create table orders (id int primary key, v text); create table _orders_old (id int primary key, v text);
     create table member (id int primary key, v text); alter extension plpgsql add table member;
     create table indexed (id int primary key, v text);
     create schema one; create table one.kept (id int primary key, v text);
     ${named(
       `create domain "d#" as text`,
       `create table typed (id int primary key, v "d#")`,
       `create unique index "i#" on indexed (v)`,
       `create schema "s#"`,
       `create table "s#".inside (id int primary key, v text)`,
     )}`,
    {
      kinds: ["postgres"],
      source,
      configure: (config) => ({ ...config, source: { ...config.source, publication: "everything", tables: ["*.*"] } }),
    },
  );
  const target = pipeline.sinks.target!;
  const refused = async (): Promise<readonly string[]> => {
    await pipeline.settled();
    return (await pipeline.installation.status()).tables.refused.map(({ table }) => table);
  };
  const expectChanges = async (id: number, ...tables: readonly string[]): Promise<void> => {
    await pipeline.run(tables.map((table) => `insert into ${table} values (${id}, 'v${id}')`).join("; "));
    await pipeline.settled();
    for (const table of tables) {
      const read = `select id, v from ${table} order by id`;
      expect((await target.query(read)).rows, table).toEqual((await source.query(read)).rows);
    }
  };
  const insert = (table: string): string => `insert into ${table} values (1, 'v1')`;
  await pipeline.run(named(...["_orders_old", "member", "indexed", "typed", `"s#".inside`].map(insert)));
  await expectChanges(1, "good", "orders");
  await pipeline.run(
    named(
      "drop table orders",
      "alter extension plpgsql drop table member",
      `alter index "i#" rename to i`,
      `alter domain "d#" rename to d`,
    ),
  );
  await eventually(async () => expect(await refused()).toEqual([expect.stringMatching("inside")]));
  await expectChanges(2, "good", "_orders_old", "member", "indexed", "typed");
  // Postgres 14 and 15 may go on with the former names.
  await expectChanges(3, "one.kept");
  await pipeline.run(named(`alter schema "s#" rename to s`, "alter schema one rename to two"));
  await eventually(async () => expect(await refused()).toEqual([]));
  await expectChanges(4, "good", "s.inside", "two.kept");
  expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
  // A table that was captured once is a copy again where the copied one is there.
  const untilCaptured = async (count: number): Promise<void> => {
    await eventually(async () => expect((await pipeline.installation.status()).tables.captured).toBe(count));
  };
  const { captured } = (await pipeline.installation.status()).tables;
  await pipeline.run("drop table _orders_old");
  await untilCaptured(captured - 1);
  await pipeline.run("create table orders (id int primary key, v text)");
  await untilCaptured(captured);
  await pipeline.run("create table _orders_old (id int primary key, v text); insert into _orders_old values (5, 'v5')");
  await eventually(async () => {
    const { suspended } = (await pipeline.installation.status()).tables;
    expect(suspended.map(({ table, error }) => [table, error.code])).toEqual([["public._orders_old", "MR1309"]]);
  });
  await pipeline.run("insert into orders values (5, 'v5')");
  await eventually(async () =>
    expect((await target.query("select v from orders where id = 5")).rows).toEqual([{ v: "v5" }]),
  );
  expect((await target.query("select 1 from _orders_old where id = 5")).rows).toEqual([]);
});
