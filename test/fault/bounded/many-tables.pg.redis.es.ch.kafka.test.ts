/**
 * A transaction over more tables than the target has locks for, and their preparation, go in parts that fit; targets in files need
 * no open file for each table; servers get all of it in place.
 * @module-tag heavy
 */
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { expect, test } from "vitest";
import { createFreshDatabase } from "../../support/run/fresh-database.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase, ownPostgres } from "../../support/run/services.ts";

const TABLE_COUNT = 600;
/** More than the target has locks for. */
const TRUNCATED_COUNT = 300;
/** More than files that the daemon may open. */
const FILED_COUNT = 150;
const OPENED_COUNT = 40;
const SERVED_COUNT = 200;

function inEach(statement: string, count = TABLE_COUNT): string {
  return `do $$ begin for i in 1..${count} loop execute format('${statement}', i); end loop; end $$`;
}

test("600 tables in one transaction reach a target with room for some 200 locks", async () => {
  await using server = await ownPostgres({ settings: { max_locks_per_transaction: 10, max_connections: 20 } });
  await using target = await createFreshDatabase(server);
  const source = await freshDatabase();
  await using pipeline = await RunningPipeline.start(inEach("create table t_%s (id int primary key, v text)"), {
    source,
    kinds: [],
    configure: (config) => ({ ...config, sinks: { warehouse: { kind: "postgres", url: target.url } } }),
    untilStreaming: false,
  });
  await pipeline.daemon.streaming(120_000);
  await pipeline.run(inEach("insert into t_%s values (1, repeat(''x'', 100))"));
  await pipeline.settled();
  await pipeline.run(inEach("update t_%s set v = ''y''"));
  await pipeline.settled();
  const emptied = Array.from({ length: TRUNCATED_COUNT }, (_, i) => `t_${i + 1}`);
  await pipeline.run(`truncate ${emptied.join(", ")}; ${inEach("insert into t_%s values (2, ''y'')")}`);
  await pipeline.settled();
  // A row that only the sweep of all these tables removes.
  await target.query(inEach("insert into t_%s values (3, ''z'', 1, now())"));
  await pipeline.readAgain(...emptied.map((table) => `public.${table}`));
  await pipeline.settled();
  const union = Array.from({ length: TABLE_COUNT }, (_, i) => `select id, v from t_${i + 1}`);
  for (let i = 0; i < TABLE_COUNT; i += 20) {
    const { rows } = await target.query(
      `select count(*)::int, min(v) as v from (${union.slice(i, i + 20).join(" union all ")}) u`,
    );
    const perTable = i < TRUNCATED_COUNT ? 1 : 3;
    expect(rows).toEqual([{ count: 20 * perTable, v: "y" }]);
  }
});

test("150 tables in one transaction reach files, lakes and embedded databases, of which few may be open", async () => {
  const inFiled = (statement: string): string => inEach(statement, FILED_COUNT);
  await using pipeline = await RunningPipeline.start(inFiled("create table t_%s (id int primary key, v text)"), {
    kinds: ["files", "sqlite", "duckdb", "ducklake"],
    configure: ({ sinks, ...config }) => {
      // It opens files of its own.
      const maintenance = { every: "10m" };
      return { ...config, sinks: { ...sinks, ducklake: { ...sinks["ducklake"], maintenance } } };
    },
    untilStreaming: false,
  });
  const { daemon } = pipeline;
  await daemon.streaming(120_000);
  await pipeline.settled();
  const allowed = readdirSync(`/proc/${daemon.pid}/fd`).length + OPENED_COUNT;
  execFileSync("prlimit", [`--nofile=${allowed}`, "--pid", String(daemon.pid)]);
  await pipeline.run(inFiled("insert into t_%s values (1, repeat(''x'', 100))"));
  await pipeline.settled();
  // As many rows as make a file of each table of a lake.
  await pipeline.run(inFiled("insert into t_%s select g, ''y'' from generate_series(2, 120) g"));
  await pipeline.settled();
  await pipeline.run(inFiled("update t_%s set v = ''z'' where mod(id, 2) = 0"));
  await pipeline.expectEqual(["t_1", "t_17", "t_99", `t_${FILED_COUNT}`]);
  expect(daemon.said).not.toMatch(/EMFILE|too many open files|unable to open|MR3202/i);
});

test("200 tables in one transaction reach ClickHouse, a search engine, a cache and topics", async () => {
  const inServed = (statement: string): string => inEach(statement, SERVED_COUNT);
  await using pipeline = await RunningPipeline.start(inServed("create table t_%s (id int primary key, v text)"), {
    kinds: ["clickhouse", "elasticsearch", "redis", "kafka"],
    configure: ({ sinks, ...config }) => {
      const topics = { partitions: 1 };
      return { ...config, sinks: { ...sinks, kafka: { ...sinks["kafka"], topics, batch: {} } } };
    },
    untilStreaming: false,
  });
  await pipeline.daemon.streaming(300_000);
  await pipeline.run(inServed("insert into t_%s select g, repeat(''x'', 100) from generate_series(1, 5) g"));
  await pipeline.settled();
  const emptied = Array.from({ length: SERVED_COUNT / 2 }, (_, i) => `t_${i + 1}`);
  await pipeline.run(`${inServed("update t_%s set v = ''y'' where id < 4")}; ${inServed("delete from t_%s where id = 5")};
    truncate ${emptied.join(", ")}; ${inServed("insert into t_%s values (6, ''z'')")}`);
  await pipeline.expectEqual(Array.from({ length: 20 }, (_, i) => `t_${(i + 1) * (SERVED_COUNT / 20)}`));
  expect(pipeline.daemon.said).not.toMatch(/MR2006|MR2027|MR3112/);
});
