/**
 * Records in Avro and JSON Schema, with a real registry: they say what the JSON records say, and other programs can read them.
 * @module-tag heavy
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { RegistryReader, toldFloat, toldJson } from "../support/kafka/avro-records.ts";
import { OWN_TYPES, TOLD_TYPES } from "../support/debezium/postgres-types.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { type PipelineConfig, RunningPipeline } from "../support/daemon/running-pipeline.ts";
import { kafkaBroker, registryUrl } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";
import { python } from "../../scripts/services/packages/python.ts";

/** Records of topics, read by Confluent's own client and deserialisers for Python. */
const CLIENT = { name: "confluent-kafka", version: "2.16.1", extras: ["avro", "json"] };

interface ConfluentRecord {
  readonly topic: string;
  readonly key: unknown;
  readonly value: unknown;
}

interface WhatToRead {
  readonly broker: string;
  readonly registry: string;
  readonly encoding: "avro" | "json";
  readonly topics: readonly string[];
}

/** In the order of each partition; told as `RegistryReader` tells them. */
async function readByConfluent({ broker, registry, encoding, topics }: WhatToRead): Promise<ConfluentRecord[]> {
  const program = join(import.meta.dirname, "../support/kafka/confluent-records.py");
  const { exitCode, stdout, stderr } = await python(
    CLIENT,
    [program, broker, registry, encoding, ...topics],
    import.meta.dirname,
  );
  if (exitCode !== 0) throw new Error(`the client ended with ${exitCode}: ${stderr}`);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line): ConfluentRecord => JSON.parse(line, (_, value: unknown) => floatOf(value) ?? value));
}

function floatOf(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null || !("float" in value)) return undefined;
  return typeof value.float === "string" ? toldFloat(Number(value.float)) : undefined;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
const names = TOLD_TYPES.map((_, i) => `c${i}`).join(", ");
const rowCount = Math.max(...TOLD_TYPES.map((values) => values.length - 1));
/** Each row has the next value of each type. */
const values = (row: number): string => TOLD_TYPES.map(([, ...all]) => quoted(all[row % all.length]!)).join(", ");

const TABLES = `${OWN_TYPES};
  create table types (id int primary key, ${TOLD_TYPES.map(([type], i) => `c${i} ${type}`).join(", ")});
  create table "odd ta.ble" (id int, "2 weird-c$l" text, note text not null, tick int, primary key (id, "2 weird-c$l"));
  alter table "odd ta.ble" alter note set storage external;
  insert into types (id, ${names}) values (1, ${values(0)});
  insert into "odd ta.ble" values (1, 'é', repeat('x', 5000))`;

const WORK = [
  ...Array.from(
    { length: rowCount },
    (_, row) => `insert into types (id, ${names}) values (${row + 10}, ${values(row)})`,
  ),
  "insert into types (id) values (50)",
  "update types set c1 = 3 where id = 50",
  `update "odd ta.ble" set tick = 1`,
  // A changed key whose row the log has in part is read, at another moment for each sink.
  `update "odd ta.ble" set "2 weird-c$l" = 'other', note = 'short'`,
  "begin; delete from types where id >= 50; insert into types (id) values (60); commit",
  "truncate types",
];

/** Sinks with topics of their own, in one daemon. */
async function started(
  topics: KafkaTopics,
  prepare: string,
  sinks: Readonly<Record<string, object>>,
): Promise<RunningPipeline> {
  const kafka = { kind: "kafka", brokers: [topics.broker], format: "debezium", topics: { partitions: 1 } };
  const own = Object.entries(sinks).map(([name, options]) => {
    return [name, { ...kafka, prefix: `${topics.prefix}${name}-`, ...options }] as const;
  });
  const configure = (config: PipelineConfig) => ({ ...config, sinks: Object.fromEntries(own) });
  return await RunningPipeline.start(prepare, { kinds: [], configure });
}

/** Without the moments at which the records were made. */
function timeless(value: unknown): unknown {
  if (typeof value !== "object" || value === null || !("op" in value)) return value;
  return { ...value, ts_ms: 0, ts_us: 0, ts_ns: 0 };
}

test("records of every type say the same in each encoding", async () => {
  const registry = { url: registryUrl() };
  await using topics = new KafkaTopics(kafkaBroker());
  await using pipeline = await started(topics, TABLES, {
    plain: { schemas: false, transactions: true },
    avro: { encoding: "avro", registry, transactions: true },
    described: { encoding: "json-schema", registry, transactions: true },
  });
  await pipeline.settled();
  for (const statement of WORK) await pipeline.run(statement);
  await pipeline.settled();
  const reader = new RegistryReader(registry.url);
  for (const table of ["public.types", "public.odd_ta.ble", "transaction"]) {
    const of = (sink: string): string => `${topics.prefix}${sink}-${pipeline.source.name}.${table}`;
    const plain = await topics.read(of("plain"));
    const expected = plain.map(({ key, value }) => [toldJson(key), timeless(toldJson(value))]);
    expect(expected.length).toBeGreaterThan(3);
    const rename = (text: string): string => text.replaceAll("2 weird-c$l", "_2_weird_c_l").replaceAll("plain-", "");
    const named = (told: unknown, sink: string): unknown =>
      JSON.parse(rename(JSON.stringify(told)).replaceAll(`${sink}-`, ""));
    const read = { avro: reader.avro.bind(reader), described: reader.json.bind(reader) };
    const brokerAndRegistry = { broker: topics.broker, registry: registry.url };
    const byConfluent = await readByConfluent({ ...brokerAndRegistry, encoding: "avro", topics: [of("avro")] });
    const alike = byConfluent.map(({ key, value }) => [key, timeless(value)]);
    expect.soft(named(alike, "avro"), `avro ${table}, by Confluent's deserialiser`).toEqual(named(expected, "plain"));
    // Each is compared with its schema.
    const compared = await readByConfluent({ ...brokerAndRegistry, encoding: "json", topics: [of("described")] });
    expect.soft(compared).toHaveLength(expected.length);
    for (const [sink, decode] of Object.entries(read)) {
      const records = await topics.readRaw(of(sink));
      const found = [];
      for (const { key, value } of records) found.push([await decode(key), timeless(await decode(value))]);
      expect.soft(named(found, sink), `${sink} ${table}`).toEqual(named(expected, "plain"));
    }
  }
});

test("a schema that the registry refuses suspends its table alone, until it is allowed", async () => {
  const registry = { url: registryUrl() };
  const reader = new RegistryReader(registry.url);
  await using topics = new KafkaTopics(kafkaBroker());
  const prepare = "create table t (id int primary key); create table other (id int primary key)";
  await using pipeline = await started(topics, prepare, {
    avro: { format: "debezium-flat", encoding: "avro", registry },
  });
  const topicOf = (table: string): string => `${topics.prefix}avro-${pipeline.source.name}.public.${table}`;
  await pipeline.run("insert into t values (1); insert into other values (1)");
  await pipeline.settled();
  await reader.setCompatibility(`${topicOf("t")}-value`, "BACKWARD");
  await pipeline.run("alter table t add column must int not null default 7; insert into t values (2, 8)");
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(tables.suspended).toMatchObject([{ table: "public.t", error: { code: "MR3532" } }]);
  });
  await pipeline.run("insert into other values (2)");
  await eventually(async () => expect(await topics.readRaw(topicOf("other"))).toHaveLength(2));
  await reader.setCompatibility(`${topicOf("t")}-value`, "NONE");
  await pipeline.readAgain("public.t");
  await pipeline.settled();
  const records = await topics.readRaw(topicOf("t"));
  const rows = new Map<unknown, unknown>();
  for (const { value } of records) {
    const row = await reader.avro(value);
    if (typeof row === "object" && row !== null && "id" in row) rows.set(row.id, "must" in row ? row.must : "none");
  }
  expect(rows).toEqual(
    new Map([
      ["1", "7"],
      ["2", "8"],
    ]),
  );
});
