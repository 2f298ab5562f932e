/** A database with the encoding SQL_ASCII takes any bytes: what is no UTF-8 concerns its own table alone. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { freshDatabase, postgres } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const BAD = String.raw`convert_from('\xe9'::bytea, 'SQL_ASCII')`;
const PREPARE = `
  create table good (id int primary key, v text);
  create table later (id int primary key, v text, f float8 default 0.1);
  create table before (id int primary key, v text);
  insert into good values (1, 'größe'); insert into later values (1, 'a');
  insert into before values (1, 'a'), (2, ${BAD}), (3, 'c');
  do $$ begin execute format('create table named (id int primary key, %I int)', 'n' || ${BAD}); end $$`;

test("rows that are no UTF-8, in the log and at reads, and names", async () => {
  const source = await freshDatabase(postgres(), "SQL_ASCII");
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres"], source });
  const { installation, sinks } = pipeline;
  const arrives = async (id: number): Promise<void> => {
    await pipeline.run(`insert into good values (${id}, 'é')`);
    await eventually(async () =>
      expect((await sinks.target!.query(`select v from public.good where id = ${id}`)).rows).toEqual([{ v: "é" }]),
    );
  };
  await arrives(2);
  // What can't be read is tried again, and nothing else waits.
  await eventually(async () => {
    const { tables } = await installation.status();
    expect(tables.unreadable).toMatchObject([{ table: "public.before", error: { code: "MR2037" } }]);
    expect(tables.refused).toMatchObject([{ reason: expect.stringContaining("no UTF-8") }]);
  });
  await pipeline.run("update before set v = 'b' where id = 2");
  await pipeline.run(`insert into later values (2, ${BAD}), (3, 'c'); insert into good values (10, 'with it')`);
  await arrives(3);
  await eventually(async () =>
    expect((await installation.status()).tables.aside).toMatchObject([
      { table: "public.later", error: { code: "MR2037" } },
    ]),
  );
  await pipeline.run("update later set v = 'b' where id = 2");
  await pipeline.daemon.stop();
  await pipeline.start();
  await arrives(4);
  await pipeline.readAgain("public.later");
  await pipeline.run("update later set v = 'd' where id = 1");
  await pipeline.settled();
  for (const table of ["good", "later", "before"]) {
    const sql = `select id, v from public.${table} order by id`;
    expect((await sinks.target!.query(sql)).rows, table).toEqual((await source.query(sql)).rows);
  }
  expect((await installation.command("check")).stdout).toMatch(/SQL_ASCII/);
});
