/** The daemon from Postgres to files: what the SQL of docs/warehouses makes of them is the source. */
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openState } from "../../../src/state/open.ts";
import { connectedDuckdb } from "../../support/warehouses/files-reader.ts";
import { manifestPaths } from "../../support/warehouses/files-sample.ts";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { roundTrip } from "../../support/postgres/postgres-round-trip.ts";
import { testSeed } from "../../support/run/random.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { restartWith } from "../../support/faults/sink-loss.ts";
import { LOG_KINDS } from "../../support/daemon/sink-set.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

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
  await workload.written(100);
  await pipeline.run("alter table account add column extra int default 7");
  await workload.written(50);
  await pipeline.run(
    "create table late (id int primary key, n int, body text); alter table late alter body set storage external",
  );
  await pipeline.run("insert into late select g, 0, repeat(md5(g::text), 90) from generate_series(1, 300) g");
  await pipeline.run("update late set n = n + 1 where id % 2 = 0; update late set id = id + 1000 where id % 5 = 0");
  await pipeline.run("update late set id = id + 1000, n = 5 where id % 10 = 0; update late set n = 6 where id > 2000");
  await workload.written(50);
  await pipeline.run("alter table line rename column status to state; alter table line rename column state to status");
  await pipeline.run("alter table account alter column extra type text");
  await workload.written(50);
  await workload.stop();
  await pipeline.expectEqual([...WORKLOAD_TABLES, "late"]);
  await pipeline.run("truncate late; insert into late values (1, 1, 'again')");
  await pipeline.expectEqual([...WORKLOAD_TABLES, "late"]);
  const { folder, name } = pipeline.installation;
  const state = await openState(`sqlite:${join(folder, ".millrace", `${name}.db`)}`, { name, readOnly: true });
  const numbers = manifestPaths(join(folder, "changes")).map((path) => Number.parseInt(basename(path), 10));
  expect(await state.numbers.reserved("files")).toBeGreaterThan(Math.max(...numbers));
  await state.close();
});

test(
  "another format is another place: each format's files alone are whole, also when the first one comes back",
  { tags: "heavy" },
  async () => {
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        await source.query("create table kept (id int primary key, v text)");
        await source.query("insert into kept select g, 'first' from generate_series(1, 10) g");
      },
      { kinds: LOG_KINDS },
    );
    await pipeline.expectEqual(["kept"]);
    await restartWith(pipeline, { files: { ...pipeline.sinks.config["files"], format: "ndjson" } });
    await pipeline.run("update kept set v = 'second' where id <= 3; delete from kept where id = 4");
    await pipeline.settled();
    await pipeline.daemon.stop();
    expect(await inNdjson(pipeline)).toEqual([["9", "3"]]);
    await restartWith(pipeline, pipeline.sinks.config);
    await pipeline.run("update kept set v = 'third' where id <= 2");
    await pipeline.expectEqual(["kept"]);
  },
);

/** How many rows of `kept` the NDJSON files leave, and of these how many are `second`. */
async function inNdjson({ installation }: RunningPipeline): Promise<readonly (readonly unknown[])[]> {
  const files = join(installation.folder, "changes/public.kept/*/*.ndjson").replaceAll("'", "''");
  using duckdb = await connectedDuckdb();
  const result = await duckdb.connection.runAndReadAll(
    `SELECT count(*), count(*) FILTER (v = 'second') FROM (
       SELECT last(_millrace_op ORDER BY _millrace_sequence) AS op, last(v ORDER BY _millrace_sequence) AS v
       FROM read_ndjson('${files}') WHERE id IS NOT NULL GROUP BY id) WHERE op <> 'd'`,
  );
  return result.getRowsJson();
}

test("all types land as the README has them", { tags: "heavy" }, async () => {
  await roundTrip([...edgeValues, ...furtherValues], `${EDGE_TYPES}; ${FURTHER_TYPES}`, LOG_KINDS);
});
