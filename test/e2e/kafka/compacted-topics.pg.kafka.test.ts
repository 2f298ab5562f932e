/**
 * Topics that the broker compacts: of each key only the newest record is sure to stay, so each record is whole, each table's
 * truncate stays beside those of the others, and what the broker refuses is not counted as written.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import type { ReadRecord } from "../../support/kafka/kafka-topics.ts";
import { eventually } from "../../support/run/waiting.ts";

const PREPARE = `
  create table doc (id int primary key, n int, body text);
  create table side (id int primary key, n int, body text);
  create table gone (id int primary key, n int, body text);
  alter table doc alter column body set storage external;
  alter table side alter column body set storage external;
  insert into doc select g, 0, repeat(md5(g::text), 90) from generate_series(1, 40) g;
  insert into side select g, 0, repeat(md5(g::text), 90) from generate_series(1, 20) g;
  insert into gone select g, 0, 'x' from generate_series(1, 10) g`;

const COMPACTED = { partitions: 2, settings: { "cleanup.policy": "compact" } };
const FORMATS: Readonly<Record<string, object>> = {
  kafka: { topics: COMPACTED },
  one: { topics: COMPACTED, topic: "all" },
  dbz: { topics: COMPACTED, format: "debezium", schemas: false },
  flat: { topics: COMPACTED, format: "debezium-flat", schemas: false },
  cloud: { topics: COMPACTED, format: "cloudevents", schemas: false },
  whole: { topics: { partitions: 2 } },
};

/** A record that lists values which it lacks. */
const IN_PART = /"unchanged":\["|unavailable_value/;

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await RunningPipeline.start(PREPARE, {
    kinds: ["kafka"],
    configure: (config) => ({
      ...config,
      sinks: Object.fromEntries(
        Object.entries(FORMATS).map(([name, options]) => [
          name,
          { ...config.sinks["kafka"], prefix: prefixOf(config.sinks["kafka"]!, name), ...options },
        ]),
      ),
    }),
  });
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

function prefixOf(sink: object, name: string): string {
  return `${"prefix" in sink ? String(sink.prefix) : ""}${name}.`;
}

async function recordsOf(sink: string, table: string): Promise<readonly ReadRecord[]> {
  const { topics } = pipeline.sinks;
  const prefix = `${topics!.prefix}${sink}.`;
  return await topics!.read(sink === "one" ? `${prefix}all` : `${prefix}${pipeline.source.name}.public.${table}`);
}

/** What compaction leaves in the end. */
function compacted(records: readonly ReadRecord[]): readonly ReadRecord[] {
  const newest = new Map(records.map((record) => [`${record.partition} ${record.key}`, record]));
  return records.filter((record) => newest.get(`${record.partition} ${record.key}`) === record);
}

/** A row of the source, as text. */
type Row = readonly [id: number, n: number, body: string];

/** What a reader holds who knows nothing but these records. */
function rowsOf(records: readonly ReadRecord[], table: string): readonly Row[] {
  const held = new Map<string, Row & { version?: bigint }>();
  const versions = new Map<string, bigint>();
  for (const { partition, key, value } of records) {
    const place = `${partition} ${key}`;
    if (value === null) {
      held.delete(place);
      continue;
    }
    const record = JSON.parse(value);
    const from = record.source?.table ?? record.data?.source?.table ?? record.iodebeziumtable ?? record.__table;
    if (from !== table) continue;
    const op: string = record.op ?? record.iodebeziumop ?? record.__op;
    if (op === "t" || op === "s") {
      const below = BigInt(record.version) + (op === "t" ? 1n : 0n);
      for (const [other, version] of versions)
        if (other.startsWith(`${partition} `) && version < below) held.delete(other);
      continue;
    }
    if (op === "d") {
      held.delete(place);
      continue;
    }
    const { id, n, body } = record.after ?? record.data?.after ?? record;
    held.set(place, [id, n, body]);
    versions.set(place, BigInt(record.version ?? 0));
  }
  return [...held.values()].toSorted((a, b) => a[0] - b[0]);
}

async function source(table: string): Promise<readonly Row[]> {
  const { rows } = await pipeline.source.query(`select id, n, body from ${table} order by id`);
  return rows.map(({ id, n, body }) => [Number(id), Number(n), String(body)] as const);
}

async function expectRows(table: string, sinks: readonly string[]): Promise<void> {
  await eventually(async () => {
    const expected = await source(table);
    for (const sink of sinks) {
      const rows = rowsOf(compacted(await recordsOf(sink, table)), table);
      expect({ sink, rows }).toEqual({ sink, rows: expected });
    }
  });
  for (const sink of sinks) {
    const values = (await recordsOf(sink, table)).map(({ value }) => value ?? "");
    if (sink !== "whole") expect(values.filter((value) => IN_PART.test(value))).toEqual([]);
  }
}

const ALL = Object.keys(FORMATS);
const OF_COMPACTED = ALL.filter((name) => name !== "whole");

test("a row whose large value stays the same is whole in its newest record", async () => {
  await pipeline.run("update doc set n = n + 1 where id <= 20");
  await pipeline.run("update doc set n = n + 1 where id <= 10; delete from doc where id = 3");
  await expectRows("doc", OF_COMPACTED);
});

test("a row that goes under another key is whole there, in topics that are not compacted too", async () => {
  await pipeline.run("update side set id = id + 100, n = n + 1 where id <= 8");
  await pipeline.run(
    "begin; update side set id = id + 1000 where id > 104; update side set n = 7 where id > 1104; commit",
  );
  await expectRows("side", OF_COMPACTED);
  // Of a reader that has one partition: what a record of a new key lists as unchanged it never had.
  const records = await recordsOf("whole", "side");
  const first = new Map<string, ReadRecord>();
  for (const record of records) if (!first.has(record.key!)) first.set(record.key!, record);
  expect([...first.values()].filter(({ value }) => IN_PART.test(value!))).toEqual([]);
});

test("a topic that becomes compacted is filled again, with whole records", async () => {
  const { admin, prefix } = pipeline.sinks.topics!;
  await pipeline.run("update doc set n = n + 1 where id between 5 and 15");
  await pipeline.settled();
  const topic = `${prefix}whole.${pipeline.source.name}.public.doc`;
  const { length } = await recordsOf("whole", "doc");
  await admin.incrementalAlterConfigs({
    resources: [
      {
        resourceType: 2,
        resourceName: topic,
        configs: [{ name: "cleanup.policy", configOperation: 0, value: "compact,delete" }],
      },
    ],
  });
  await eventually(
    async () => expect(pipeline.daemon.said).toMatch(/MR3110.*is compacted now|is compacted now.*MR3110/),
    { withinMs: 60_000 },
  );
  await pipeline.run("update doc set n = n + 1 where id between 10 and 12");
  await eventually(async () => {
    const records = await recordsOf("whole", "doc");
    expect(records.length).toBeGreaterThan(length + 39);
    expect(rowsOf(compacted(records), "doc")).toEqual(await source("doc"));
  });
});

test("tables that share a topic are truncated each for itself; a format that has no key for it suspends its table", async () => {
  await pipeline.settled();
  await pipeline.run("truncate gone; truncate side; insert into side values (1, 1, 'again')");
  await pipeline.run("insert into gone values (5, 5, 'new'); update doc set n = n + 1");
  for (const table of ["gone", "side"]) await expectRows(table, ["kafka", "one"]);
  await expectRows("doc", OF_COMPACTED);
  await eventually(async () => {
    const { exitCode, stdout } = await pipeline.installation.command("wait", "--timeout", "1s");
    expect(exitCode).toBe(5);
    for (const sink of ["dbz", "cloud"])
      for (const table of ["gone", "side"])
        expect(stdout).toContain(`table public.${table} is suspended in sink ${sink}, which lacks it: MR3519`);
  });
  const { sinks } = await pipeline.installation.status();
  expect(sinks.map(({ name, state }) => ({ name, state }))).toEqual(ALL.map((name) => ({ name, state: "streaming" })));
});

test("whose topic is deleted then, and the table read again", async () => {
  const topics = pipeline.sinks.topics!;
  const names = ["gone", "side"].map((table) => `${topics.prefix}dbz.${pipeline.source.name}.public.${table}`);
  await topics.remove(names);
  await eventually(async () => expect(await topics.names()).not.toContain(names[0]));
  for (const table of ["gone", "side"]) {
    const started = await pipeline.installation.command(
      "snapshot",
      "start",
      "--tables",
      `public.${table}`,
      "--sink",
      "dbz",
    );
    expect(started).toMatchObject({ exitCode: 0 });
    await expectRows(table, ["dbz"]);
  }
});
