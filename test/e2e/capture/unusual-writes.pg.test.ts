/** Ways of writing that go past triggers, sequences of rows or the usual files: the log has them, or the table is read again. */
import { expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const TABLES = ["plain", "child", "parts", "frozen", "late", "moved"];
const PREPARE = `create table plain (id int primary key, v text);
  create table child (id int primary key, plain_id int references plain, v text);
  create table parts (id int primary key, v text) partition by range (id);
  create table parts_low partition of parts for values from (0) to (100);
  create table parts_high partition of parts for values from (100) to (1000);
  create table moved (id int primary key, v text);
  create unlogged table late (id int primary key, v text);
  insert into plain select g, 'v' || g from generate_series(1, 200) g;
  insert into child select g, g, 'c' from generate_series(1, 100) g;
  insert into parts select g, 'p' from generate_series(1, 300) g;
  insert into moved select g, 'm' from generate_series(1, 100) g;
  insert into late select g, 'l' from generate_series(1, 50) g`;

test("writes without triggers, frozen, replicated, unlogged before, and rewritten files arrive", async () => {
  await using pipeline = await RunningPipeline.start(PREPARE, { kinds: ["postgres"] });
  await pipeline.settled();
  const { name } = pipeline.source;
  for (const sql of [
    // No trigger runs: neither those of foreign keys nor others.
    "set session_replication_role = replica; delete from plain where id <= 10; update child set plain_id = -1 where id < 5; truncate moved; insert into moved values (1, 'again'); reset session_replication_role",
    // As a subscription applies them.
    `select pg_replication_origin_create('o_${name}'); select pg_replication_origin_session_setup('o_${name}');
     insert into plain values (1001, 'from another server'); update child set v = 'replicated' where id = 20; select pg_replication_origin_session_reset()`,
    `select pg_replication_origin_drop('o_${name}')`,
    // The rows count as old from the beginning.
    "begin; create table frozen (id int primary key, v text); copy frozen from program 'seq -f \"%g\tf\" 1 500' with (freeze); commit",
    "begin; truncate parts_high; copy parts_high from program 'seq -f \"%g\tagain\" 100 160' with (freeze); commit",
    "alter table late set logged",
    "update late set v = 'logged' where id < 10",
    // Other files, the same rows.
    "update plain set v = 'before' where id between 20 and 30",
    "vacuum full plain",
    "cluster plain using plain_pkey",
    "update plain set v = 'after' where id between 25 and 35",
    "reindex table plain",
    "alter table plain set tablespace pg_default",
    "alter table child set access method heap",
    "alter table parts detach partition parts_high; begin; insert into parts_high values (999, 'alone'); alter table parts attach partition parts_high for values from (100) to (1000); commit",
  ])
    await pipeline.source.query(sql);
  await eventually(() => pipeline.expectEqual(TABLES));
  expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
});

test(
  "rows that a statement rewrites, or that stand in a table of the same name from one transaction on, arrive",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      `create table rewritten (id int primary key, n int, t text);
     create table computed (id int primary key, n int, twice int generated always as (n * 2) stored);
     create table again (id int primary key, n int);
     create table nothing (id int primary key, n int);
     create table swapped (id int primary key, n int);
     ${["rewritten", "computed", "again", "nothing", "swapped"]
       .map((table) => `insert into ${table} (id, n) select g, g from generate_series(1, 50) g`)
       .join("; ")}`,
      { kinds: ["postgres", "duckdb"] },
    );
    await pipeline.settled();
    for (const sql of [
      "alter table rewritten alter n type int using n * 2",
      "alter table rewritten add made double precision default random()",
      "alter table rewritten alter t type text using 'made ' || id",
      "update rewritten set n = 0 where id = 1",
      "begin; drop table again; create table again (id int primary key, n int); insert into again values (1, 7), (99, 7); commit",
      "begin; delete from again; drop table again; create table again (id int primary key, n int); insert into again values (2, 8); update again set n = 9; commit",
      "alter table nothing replica identity nothing; insert into nothing values (100, 1)",
      "alter table nothing replica identity default; update nothing set n = 5 where id < 10",
      "begin; alter table swapped rename to other; create table swapped (id int primary key, n int); insert into swapped values (1, 1); commit",
      "begin; drop table swapped; alter table other rename to swapped; update swapped set n = 3 where id = 3; commit",
    ])
      await pipeline.source.query(sql);
    await eventually(() => pipeline.expectEqual(["rewritten", "computed", "again", "nothing", "swapped"]), {
      withinMs: 60_000,
    });
    expect((await pipeline.installation.status()).tables.suspended).toEqual([]);
  },
);
