/** From Postgres into ClickHouse: every type, the workload in every form, shapes, planted faults. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { askClickhouse, nameIn } from "../../support/warehouses/clickhouse-values.ts";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { roundTrip } from "../../support/postgres/postgres-round-trip.ts";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { clickhouseUrl } from "../../support/run/services.ts";
import { COLUMN_KINDS } from "../../support/daemon/sink-set.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

const LOAD_MS = 2_000;

test("every type lands exactly, or as the table of types says", { tags: "heavy" }, async () => {
  await roundTrip([...edgeValues, ...furtherValues], `${EDGE_TYPES}; ${FURTHER_TYPES}`, ["clickhouse"]);
});

test("under load, read again and killed: the live rows of every form equal the source", { tags: "long" }, async () => {
  await using pipeline = await RunningPipeline.start(
    async (source) => {
      await using workload = new Workload(source.url, 5);
      await workload.createTables(200);
    },
    { kinds: COLUMN_KINDS },
  );
  await using workload = new Workload(pipeline.source.url, 11);
  for (let round = 0; round < 2; round++) {
    workload.start(15);
    await pipeline.readAgain("public.account", "public.seat");
    await sleep(LOAD_MS);
    if (round === 0) {
      await pipeline.kill();
      await pipeline.start();
    }
    await workload.stop();
  }
  await pipeline.expectEqual(WORKLOAD_TABLES);
  const { exitCode, found } = await reconcile(pipeline.installation);
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({ exitCode: 0, drift: {}, rest: [] });
});

test("a zero in a key that changes its sign stays one row", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(
    `create table by_float (k float8 primary key, n int, body text); alter table by_float alter body set storage external;
     create table by_pair (a real, b text, n int, primary key (a, b));
     insert into by_float values (0, 1, repeat('x', 3000)), (1, 1, 'x'), ('NaN', 1, 'x');
     insert into by_pair values (0, 'a', 1), (0, 'b', 1)`,
    { kinds: COLUMN_KINDS },
  );
  const batches = [
    "update by_float set k = '-0' where k = 0",
    "update by_pair set a = '-0', n = 2 where b = 'a'; update by_pair set a = '-0', b = 'c' where b = 'b'",
    "begin; delete from by_float where k = 0; insert into by_float values (0, 7, 'y'); commit",
    "begin; update by_float set k = '-0' where k = 0; update by_float set k = '0', n = 8 where k = 0; commit",
    "update by_float set k = '-0' where k = 0; update by_float set n = n + 1",
    "update by_float set k = 0 where k = 0; delete from by_float where k = 0",
    "insert into by_float values ('-0', 9, 'z')",
  ];
  for (const batch of batches) {
    await pipeline.run(batch);
    await pipeline.expectEqual(["by_float", "by_pair"]);
  }
});

test("rows under long keys of many bytes a character are built on, and compared", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(
    `create table long_key (k text primary key, n int, body text); alter table long_key alter body set storage external;
     insert into long_key select repeat('日', 800) || g, 0, repeat('x', 3000) from generate_series(1, 300) g`,
    { kinds: ["clickhouse", "clickhouse-history"] },
  );
  await pipeline.settled();
  const before = await pipeline.lastRead();
  await pipeline.run("update long_key set n = 1");
  await pipeline.expectEqual(["long_key"]);
  expect(await pipeline.readers(before)).toEqual({});
  const { exitCode, found } = await reconcile(pipeline.installation);
  expect({ exitCode, drift: driftOf(found), rest: found.notComparable }).toEqual({ exitCode: 0, drift: {}, rest: [] });
});

/** The statement, and what `reconcile` says of it; `$` stands for the database. */
const FAULTS: readonly (readonly [sql: string, found: string])[] = [
  ["ALTER TABLE $.item DELETE WHERE id = 3", "public.item 3 missing"],
  ["ALTER TABLE $.item UPDATE name = 'x' WHERE id = 4", "public.item 4 different name"],
  ["ALTER TABLE $.item UPDATE price = 1.51 WHERE id = 5", "public.item 5 different price"],
  ["ALTER TABLE $.item UPDATE at = at + toIntervalMicrosecond(1) WHERE id = 6", "public.item 6 different at"],
  ["ALTER TABLE $.item UPDATE name = NULL WHERE id = 7", "public.item 7 different name"],
  ["ALTER TABLE $.item UPDATE day = NULL, _millrace_exact = '' WHERE id = 8", "public.item 8 different day"],
  ["INSERT INTO $.item (id, name, _millrace_version) VALUES (1000, 'extra', 1)", "public.item 1000 extra"],
];

test("planted faults are found, each with its key and column, and repaired", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(
    `create table item (id int primary key, name text, price numeric(10,2), at timestamptz, day date, tags text[]);
     insert into item select g, 'n' || g, g + 0.5, '2026-01-01 00:00:00.5+00', 'infinity', '{a,NULL}' from generate_series(1, 50) g`,
    { kinds: ["clickhouse"] },
  );
  await pipeline.settled();
  await pipeline.daemon.stop();
  const [schema = ""] = pipeline.sinks.databases;
  for (const [sql] of FAULTS) await askClickhouse(clickhouseUrl(), sql.replaceAll("$", nameIn(schema)));
  await pipeline.start();
  const mended = await reconcile(pipeline.installation, "--repair", "--sample", "100");
  expect(driftOf(mended.found)).toEqual({ clickhouse: FAULTS.map(([, found]) => found).toSorted() });
  const again = await reconcile(pipeline.installation);
  expect({ exitCode: again.exitCode, drift: driftOf(again.found) }).toEqual({ exitCode: 0, drift: {} });
  await pipeline.expectEqual(["item"]);
});

test("columns come, go and change, tables are renamed and truncated, and the view shows the live rows", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table item (id int primary key, name text, n int);
     insert into item select g, repeat('n', g), g from generate_series(1, 100) g`,
    { kinds: COLUMN_KINDS },
  );
  await pipeline.run("alter table item add column price numeric(8,2); update item set price = 1.5 where id < 50");
  await pipeline.run("alter table item rename column name to title; delete from item where id > 90");
  await pipeline.run("alter table item alter column n type bigint; update item set n = 5000000000 where id = 1");
  await pipeline.run("alter table item drop column price");
  await pipeline.run(
    "create table item_current (id int primary key, v text); insert into item_current values (1, 'x')",
  );
  await pipeline.expectEqual(["item", "item_current"]);
  await pipeline.run(
    "create table other (id int primary key); insert into other values (1), (2); delete from other where id = 1",
  );
  await pipeline.run("truncate item; insert into item values (7, 'seven', 7)");
  await pipeline.expectEqual(["item", "other"]);
  for (const schema of pipeline.sinks.databases) {
    const rows = await askClickhouse(clickhouseUrl(), `SELECT id FROM ${nameIn(schema, "other_current")}`);
    expect(rows).toEqual([["2"]]);
  }
});

test("the view shows a column in the type that it has now", { tags: "heavy" }, async () => {
  await using pipeline = await RunningPipeline.start(
    "create table item (id int primary key, n int, v int); insert into item values (1, 1, 1)",
    { kinds: ["clickhouse"] },
  );
  const [schema = ""] = pipeline.sinks.databases;
  const shown = async () => {
    await pipeline.settled();
    return await askClickhouse(clickhouseUrl(), `SELECT n, v FROM ${nameIn(schema, "item_current")}`);
  };
  expect(await shown()).toEqual([["1", "1"]]);
  await pipeline.run("alter table item alter n type bigint, alter v type text using 'v' || v");
  await pipeline.run("update item set n = 5000000000");
  expect(await shown()).toEqual([["5000000000", "v1"]]);
});
