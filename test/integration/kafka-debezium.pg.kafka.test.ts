/** The formats of Debezium against Debezium itself: the same database, captured by its connector and by Millrace. */
import { test } from "vitest";
import { expectSame, type Scene } from "../support/debezium/scene.ts";
import { OWN_TYPES, TOLD_TYPES } from "../support/debezium/postgres-types.ts";
import { type FreshDatabase, freshDatabase } from "../support/run/services.ts";

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
const columns = TOLD_TYPES.map(([type], i) => `c${i} ${type}`);
const names = TOLD_TYPES.map((_, i) => `c${i}`).join(", ");
const rowCount = Math.max(...TOLD_TYPES.map((values) => values.length - 1));

/** Each row has the next value of each type. */
const values = (row: number): string => TOLD_TYPES.map(([, ...all]) => quoted(all[row % all.length]!)).join(", ");

const LARGE = `insert into large select 1, repeat('x', 5000), to_jsonb(repeat('x', 5000)), decode(repeat('00', 5000), 'hex'),
  array_fill('abc'::text, array[1000]), array_fill(1, array[2000]), array_fill(1::bigint, array[2000]), repeat('x', 5000),
  ('<a>' || repeat('x', 5000) || '</a>')::xml, array_fill('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, array[500]),
  hstore('a', repeat('x', 5000)), array_fill('2024-01-01'::date, array[2000]), repeat('x', 5000),
  (select string_agg('w' || i, ' ')::tsvector from generate_series(1, 2000) i)`;

const TABLES = `${OWN_TYPES};
  create table the_end (id int primary key);
  create table types (id int primary key, ${columns.join(", ")});
  create table filled (id int primary key, ${columns.map((column) => `${column} not null`).join(", ")});
  create table pairs (a int, b text, v text, primary key (a, b));
  create table whole_rows (a int primary key, v text, n int not null);
  alter table whole_rows replica identity full;
  create table "odd ta.ble" (id int primary key, "weird-c$l ""é" int);
  create table by_number (id numeric primary key, u uuid);
  create table large (id int primary key, t text, j jsonb, b bytea, ta text[], ia int[], ba bigint[], tn text not null,
    x xml, ua uuid[], h hstore, da date[], ct citext, tv tsvector);
  alter table large ${["t", "j", "b", "ta", "ia", "ba", "tn", "x", "ua", "h", "da", "ct", "tv"]
    .map((name) => `alter ${name} set storage external`)
    .join(", ")};
  insert into pairs values (9, 's', null);
  insert into types (id, ${names}) values (1, ${values(0)});
  ${LARGE}`;

/** Each a transaction. */
const WORK: readonly string[] = [
  ...Array.from(
    { length: rowCount },
    (_, row) => `insert into types (id, ${names}) values (${row + 10}, ${values(row)})`,
  ),
  "insert into types (id) values (50)",
  "update types set c1 = 3 where id = 50",
  "delete from types where id >= 50",
  `insert into filled (id, ${names}) values (1, ${values(0)})`,
  "delete from filled",
  "insert into pairs values (1, 'x', 'y')",
  "update pairs set v = 'z' where a = 1",
  "update pairs set a = 2, v = 'w' where a = 1",
  "delete from pairs where a = 2",
  "insert into whole_rows values (1, 'a', 5)",
  "update whole_rows set v = null",
  "update whole_rows set a = 3",
  "delete from whole_rows",
  'insert into "odd ta.ble" values (1, 2)',
  "begin; insert into pairs values (5, 'x', 'y'); insert into whole_rows values (5, 'x', 1); update pairs set a = a + 1; commit",
  "insert into by_number values (1.50, null), (-1e20, null)",
  "update by_number set u = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' where id > 0",
  "delete from by_number",
  "update large set id = id",
  // Not under another key: there Debezium shows placeholders, and Millrace a row that it reads.
  "update large set tn = 'short'",
  "truncate pairs, whole_rows",
  "insert into pairs values (7, 'x', 'y')",
];

async function compared(form: "json" | "cloudevents", sink: object, properties: object): Promise<void> {
  await using source = await freshDatabase();
  await source.query(TABLES);
  const isReady = async (): Promise<boolean> => {
    // A slot that is being made has no such position yet.
    const { rows } = await source.query(
      "select from pg_replication_slots where slot_name = $1 and active and confirmed_flush_lsn is not null",
      [`debezium_${source.name}`],
    );
    return rows.length > 0;
  };
  const scene: Scene = {
    // The daemon has the name that Debezium has, and slots are of the whole server.
    source: {
      kind: "postgres",
      url: source.url,
      heartbeat: "500ms",
      tables: ["public.*"],
      slot: `millrace_${source.name}`,
    },
    sink,
    form,
    properties: { ...connection(source), ...properties },
    isReady,
    work: async () => {
      for (const statement of [...WORK, "insert into the_end values (1)"]) await source.query(statement);
    },
  };
  await expectSame(scene);
}

function connection(source: FreshDatabase): Record<string, string> {
  const { hostname, port } = new URL(source.url);
  return {
    name: "oracle",
    "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
    "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
    "topic.prefix": "shop",
    "database.hostname": hostname,
    "database.port": port,
    "database.user": "postgres",
    "database.password": "none",
    "database.dbname": source.name,
    "plugin.name": "pgoutput",
    "slot.name": `debezium_${source.name}`,
    "publication.name": "debezium",
    "publication.autocreate.mode": "filtered",
    "table.include.list": "public.*",
    "snapshot.mode": "initial",
    "skipped.operations": "none",
    // Millrace writes some.
    "message.prefix.exclude.list": ".*",
  };
}

test("records, schemas and transactions are those of Debezium's connector", { tags: "heavy" }, async () => {
  const sink = { format: "debezium", transactions: true };
  await compared("json", sink, { "provide.transaction.metadata": "true" });
});

test(
  "flat records are those of ExtractNewRecordState, and decimals as texts those of decimal.handling.mode=string",
  { tags: "long" },
  async () => {
    const sink = { format: "debezium-flat", decimals: "string" };
    const properties = {
      "decimal.handling.mode": "string",
      transforms: "unwrap",
      "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
      "transforms.unwrap.delete.tombstone.handling.mode": "rewrite-with-tombstone",
      "transforms.unwrap.add.fields": "op,table,source.ts_ms,lsn",
    };
    await compared("json", sink, properties);
  },
);

test(
  "events have the data and attributes of Debezium's CloudEvents, without schemas too",
  { tags: "long" },
  async () => {
    const sink = { format: "cloudevents", schemas: false, decimals: "double" };
    const properties = {
      "decimal.handling.mode": "double",
      "converter.schemas.enable": "false",
      "key.converter.schemas.enable": "false",
      "value.converter.schemas.enable": "false",
      "value.converter.json.schemas.enable": "false",
      "converter.json.schemas.enable": "false",
    };
    await compared("cloudevents", sink, properties);
  },
);
