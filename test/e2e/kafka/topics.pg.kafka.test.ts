/**
 * The daemon from Postgres to Kafka: what a reader of the topics makes of them is the source, and they tell every change in order.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { streamFaults } from "../../support/kafka/kafka-stream.ts";
import type { ReadRecord } from "../../support/kafka/kafka-topics.ts";
import { EDGE_TYPES, edgeValues } from "../../support/postgres/postgres-edge-values.ts";
import { FURTHER_TYPES, furtherValues } from "../../support/postgres/postgres-further-values.ts";
import { roundTrip } from "../../support/postgres/postgres-round-trip.ts";
import { testSeed } from "../../support/run/random.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { STREAM_KINDS } from "../../support/daemon/sink-set.ts";
import { Workload, WORKLOAD_TABLES } from "../../support/load/workload.ts";

const PARTITIONED = `
  create table parts (id int primary key, note text, body text) partition by range (id);
  create table parts_a partition of parts for values from (0) to (1000);
  create table parts_b partition of parts for values from (1000) to (2000);
  alter table parts alter column body set storage external;
  insert into parts select n, 'first', repeat(md5(n::text), 90) from generate_series(900, 1100) n`;
const TABLES = [...WORKLOAD_TABLES, "parts"];
/** More than a batch of the smallest batch that a sink under test has. */
const LARGE_ROWS = 2_000;

let pipeline: RunningPipeline;
let workload: Workload;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(
    async (source) => {
      workload = new Workload(source.url, testSeed());
      await workload.createTables(300);
      await source.query(PARTITIONED);
    },
    { kinds: STREAM_KINDS },
  );
});

afterAll(async () => {
  await workload?.stop();
  await pipeline?.[Symbol.asyncDispose]();
});

async function recordsOf(table: string): Promise<readonly ReadRecord[]> {
  const { topics } = pipeline.sinks;
  return await topics!.read(`${topics!.prefix}${pipeline.source.name}.public.${table}`);
}

test("the first copy is in the topics, in all of their partitions", async () => {
  await pipeline.expectEqual(TABLES);
  const records = await recordsOf("account");
  expect(new Set(records.map(({ partition }) => partition))).toEqual(new Set([0, 1, 2]));
  const rows = records.filter(({ value }) => JSON.parse(value!).op === "r");
  expect(rows).toHaveLength(300);
});

test(
  "a workload with changes of keys and shapes: the topics equal the source, and no key goes back",
  { tags: "heavy" },
  async () => {
    workload.start(5);
    await workload.written(100);
    await pipeline.run("alter table account add column extra int default 7");
    await workload.written(50);
    await pipeline.run("insert into parts select n, 'more', repeat(md5(n::text), 90) from generate_series(200, 400) n");
    await pipeline.run("update parts set id = id + 500 where id between 950 and 1049; update parts set note = 'later'");
    await pipeline.run("create table late (id int primary key, n int, body text)");
    await pipeline.run("insert into late select g, 0, repeat(md5(g::text), 90) from generate_series(1, 300) g");
    await pipeline.run("update late set n = n + 1 where id % 2 = 0; update late set id = id + 1000 where id % 5 = 0");
    await workload.written(50);
    await pipeline.run(
      "alter table line rename column status to state; alter table line rename column state to status",
    );
    await pipeline.run("alter table pair alter column label type varchar(40)");
    await pipeline.run("alter table account alter column extra type text");
    await workload.written(50);
    await pipeline.run("alter table account drop column extra; truncate late; insert into late values (1, 1, 'again')");
    await workload.written(50);
    await workload.stop();
    await pipeline.run(
      "update account set touched = touched + 1; update line set status = 'last'; update late set n = 2",
    );
    await pipeline.expectEqual([...TABLES, "late"]);
    for (const table of [...TABLES, "late"])
      expect({ [table]: streamFaults(await recordsOf(table)) }).toEqual({ [table]: [] });
  },
);

test("a column that was renamed or changed its type has its new name and form in every row", async () => {
  await pipeline.run("create table reshaped (id int primary key, n int, old text)");
  await pipeline.run("insert into reshaped select g, g, 'o' || g from generate_series(1, 50) g");
  await pipeline.expectEqual(["reshaped"]);
  await pipeline.run("alter table reshaped rename column old to new; update reshaped set new = 'x' where id < 10");
  await pipeline.expectEqual(["reshaped"]);
  await pipeline.run("alter table reshaped alter column n type numeric(10,2); delete from reshaped where id = 3");
  await pipeline.expectEqual(["reshaped"]);
});

test("the ends of transactions count their changes, of those too that are larger than a step", async () => {
  await pipeline.settled();
  await pipeline.run("create table wide (id int primary key, n int); create table beside (id int primary key)");
  await pipeline.expectEqual(["wide", "beside"]);
  await pipeline.run(`insert into wide select g, 0 from generate_series(1, ${LARGE_ROWS}) g; insert into beside values (1), (2);
    update wide set id = -id where id <= 3; delete from beside where id = 2`);
  await pipeline.run("truncate beside");
  await pipeline.run("update wide set n = 1 where id between 10 and 14");
  await pipeline.expectEqual(["wide", "beside"]);
  const { topics } = pipeline.sinks;
  const ends = (await topics!.read(`${topics!.prefix}${pipeline.source.name}._transactions`)).map(({ value }) =>
    JSON.parse(value!),
  );
  const versions = ends.map(({ version }) => BigInt(version));
  expect(versions).toEqual(versions.toSorted((a, b) => (a < b ? -1 : 1)));
  expect(new Set(versions).size).toBe(versions.length);
  const large = ends.find(({ changes }) => changes > LARGE_ROWS);
  // Each change of a key is two records.
  expect(large).toMatchObject({
    changes: LARGE_ROWS + 9,
    tables: expect.arrayContaining([{ table: "public.beside", changes: 3 }]),
  });
  expect(ends.slice(ends.indexOf(large) + 1).map(({ changes, tables }) => [changes, tables])).toEqual([
    [1, [{ table: "public.beside", changes: 1 }]],
    [5, [{ table: "public.wide", changes: 5 }]],
  ]);
  // The end counts what the topics have of the transaction.
  const records = [...(await recordsOf("wide")), ...(await recordsOf("beside"))];
  const ofLarge = records.filter(
    ({ value, headers }) => value !== null && headers.get("millrace-version") === large.version,
  );
  expect(ofLarge).toHaveLength(large.changes);
});

test("the comparison finds a row that is missing, one too many and one that differs", async () => {
  await pipeline.run(
    "create table spoiled (id int primary key, n int); insert into spoiled select g, g from generate_series(1, 9) g",
  );
  await pipeline.expectEqual(["spoiled"]);
  const { topics } = pipeline.sinks;
  const topic = `${topics!.prefix}${pipeline.source.name}.public.spoiled`;
  const records = await topics!.read(topic);
  const ofKey = (id: number): ReadRecord => records.find(({ key }) => key === `{"id":${id}}`)!;
  const spoiled = [
    { ...ofKey(3), value: ofKey(3).value!.replace('"op":"r"', '"op":"d"') },
    { ...ofKey(4), value: ofKey(4).value!.replace('"n":4', '"n":5') },
    { ...ofKey(5), key: '{"id":55}', value: ofKey(5).value!.replaceAll('"id":5', '"id":55') },
  ];
  await topics!.write(spoiled);
  const differences = await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, ["spoiled"]);
  expect(differences).toEqual([
    "kafka public.spoiled: 1 missing, 1 extra, 1 different (different 4: n; extra 55; missing 3)",
  ]);
});

test("all types land as the envelope has them", { tags: "heavy" }, async () => {
  await roundTrip([...edgeValues, ...furtherValues], `${EDGE_TYPES}; ${FURTHER_TYPES}`, STREAM_KINDS);
});
