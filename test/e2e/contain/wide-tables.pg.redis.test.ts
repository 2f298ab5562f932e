/**
 * A table of as many columns as Postgres takes: each form of sink has its rows, or lacks that table alone.
 * @module-tag heavy
 */
import { expect, test } from "vitest";
import { driftOf, reconcile } from "../../support/daemon/reconciled.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { eventually } from "../../support/run/waiting.ts";

const COLUMNS = Array.from({ length: 1_598 }, (_, i) => `c${i} ${i % 2 === 0 ? "int" : "text"}`).join(", ");
const LARGE = "alter table wide alter large set storage external";
const ROW = "insert into wide (id, c0, c1597, large) values";
const CHANGES = [
  `${ROW} (3, 1, 'x', repeat('y', 10000))`,
  // The log leaves out what is large.
  "update wide set c4 = 5, c3 = 'q'",
  "update wide set id = 20 where id = 2",
  "delete from wide where id = 1",
  "insert into beside values (1)",
];

test("it lands in all but the target whose tables take fewer, which is told", async () => {
  await using pipeline = await RunningPipeline.start(
    `create table beside (id int primary key); create table wide (id int primary key, ${COLUMNS}, large text); ${LARGE};
     ${ROW} (1, 1, 'x', repeat('y', 10000)), (2, null, null, repeat('z', 10000))`,
    {
      kinds: ["postgres", "duckdb", "sqlite", "redis"],
      configure: (config) => ({
        ...config,
        documents: { all: { from: "public.wide" } },
        sinks: {
          ...config.sinks,
          duckdbHistory: { kind: "duckdb", path: "./history.duckdb", mode: "history" },
          sqliteHistory: { kind: "sqlite", path: "./history.sqlite", mode: "history" },
          sqliteSoft: { kind: "sqlite", path: "./soft.sqlite", deletes: "soft" },
          joined: { kind: "sqlite", path: "./joined.sqlite", documents: ["all"] },
        },
      }),
    },
  );
  for (const sql of CHANGES) await pipeline.run(sql);
  const { installation } = pipeline;
  await eventually(
    async () => {
      const { conditions, sinks } = await installation.status();
      expect(conditions).toMatchObject([
        { kind: "table.suspended-in-sink", table: "public.wide", sink: "postgres", code: "MR2027" },
      ]);
      expect(conditions[0]).toMatchObject({
        message: expect.stringContaining("more than the 1,600 that a table of the target takes"),
        fix: expect.stringContaining("Leave columns out"),
      });
      expect(sinks.map(({ lagBytes }) => lagBytes)).toEqual(sinks.map(() => 0));
    },
    { withinMs: 120_000 },
  );
  const { found } = await reconcile(installation);
  expect({ drift: driftOf(found), rest: found.notComparable }).toMatchObject({
    drift: {},
    rest: [{ sink: "postgres", table: "public.wide" }],
  });
  const compared = Object.groupBy(found.tables, ({ sourceRows, sinkRows }) => `${sourceRows} ${sinkRows}`);
  // All sinks but one, and the nest.
  expect(compared["2 2"]).toHaveLength(8);
  expect(compared["1 1"]).toHaveLength(7);
});
