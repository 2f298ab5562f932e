/**
 * The daemon from Postgres to files: what the SQL of docs/warehouses makes of them is the source.
 * @module-tag heavy
 */
import { afterAll, beforeAll, test } from "vitest";
import { EDGE_TYPES, edgeValues } from "../support/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../support/postgres-further-values.ts";
import { roundTrip } from "../support/postgres-round-trip.ts";
import { testSeed } from "../support/random.ts";
import { RunningPipeline } from "../support/running-pipeline.ts";
import { LOG_KINDS } from "../support/sink-set.ts";
import { eventually } from "../support/waiting.ts";
import { Workload, WORKLOAD_TABLES } from "../support/workload.ts";

let pipeline: RunningPipeline;
let workload: Workload;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(
    async (source) => {
      workload = new Workload(source.url, testSeed());
      await workload.createTables(300);
    },
    { kinds: LOG_KINDS },
  );
});

afterAll(async () => {
  await workload?.stop();
  await pipeline?.[Symbol.asyncDispose]();
});

test("a workload with changes of keys and shapes: the merged files equal the source", async () => {
  await pipeline.expectEqual(WORKLOAD_TABLES);
  workload.start(5);
  const past = async (count: number): Promise<void> => {
    const until = workload.transactionCount + count;
    await eventually(() => workload.transactionCount >= until, { withinMs: 60_000 });
  };
  await past(100);
  await pipeline.run("alter table account add column extra int default 7");
  await past(50);
  await pipeline.run(
    "create table late (id int primary key, n int, body text); alter table late alter body set storage external",
  );
  await pipeline.run("insert into late select g, 0, repeat(md5(g::text), 90) from generate_series(1, 300) g");
  await pipeline.run("update late set n = n + 1 where id % 2 = 0; update late set id = id + 1000 where id % 5 = 0");
  await pipeline.run("update late set id = id + 1000, n = 5 where id % 10 = 0; update late set n = 6 where id > 2000");
  await past(50);
  await pipeline.run("alter table line rename column status to state; alter table line rename column state to status");
  await pipeline.run("alter table account alter column extra type text");
  await past(50);
  await workload.stop();
  await pipeline.expectEqual([...WORKLOAD_TABLES, "late"]);
  await pipeline.run("truncate late; insert into late values (1, 1, 'again')");
  await pipeline.expectEqual([...WORKLOAD_TABLES, "late"]);
});

test("all types land as the README has them", async () => {
  await roundTrip([...edgeValues, ...furtherValues], `${EDGE_TYPES}; ${FURTHER_TYPES}`, LOG_KINDS);
});
