/** A consumer of the format `debezium` that is not ours: Debezium's JDBC sink brings a second database to the source's state. */
import { expect, test } from "vitest";
import { Installation } from "../support/daemon/daemon-process.ts";
import { SinkConnector } from "../support/debezium/sink-connector.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { type FreshDatabase, freshDatabase, kafkaBroker } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const EQUAL_WITHIN_MS = 60_000;

const TABLES = `
  create table items (id int primary key, big bigint, price numeric(12,2), ratio numeric, f double precision, ok boolean,
    name text not null, code varchar(10), day date, at timestamp, seen timestamptz, ref uuid, doc jsonb, raw bytea,
    small smallint, clock time);
  create table moves (a int, b text, v text, primary key (a, b));
  create table large (id int primary key, body text, n int);
  alter table large alter body set storage external;
  alter table large replica identity full;
  create table emptied (id int primary key, v text);
  insert into items select i, i * 1000000007::bigint, i / 8.0, i / 16.0, i / 3.0, i % 2 = 0, 'name ' || i, 'c' || i,
    date '2024-02-29' + i, timestamp '2024-02-29 12:30:00.123456' + i * interval '1 hour',
    timestamptz '2024-02-29 12:30:00.123456+00' + i * interval '1 day',
    ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, jsonb_build_object('i', i, 'é', null),
    decode(lpad(to_hex(i), 4, '0'), 'hex'), i, time '12:00:00.5' from generate_series(1, 300) i;
  insert into moves select i, 'x' || i, 'v' from generate_series(1, 100) i;
  insert into large select i, repeat('x', 5000 + i), i from generate_series(1, 20) i;
  insert into emptied select i, 'v' from generate_series(1, 20) i`;

/** Each a transaction. */
const WORK = [
  "insert into items (id, name) select i, '' from generate_series(301, 400) i",
  "update items set name = name || '!', price = -price, doc = null, ok = not ok where id % 3 = 0",
  "update items set price = 9999999999.99, ratio = -0.00000001, big = -9223372036854775808 where id = 7",
  "update items set id = id + 1000 where id % 7 = 0",
  "delete from items where id % 5 = 0",
  "update moves set a = a + 1000, v = 'moved' where a % 2 = 0; update moves set b = b || 'y' where a % 3 = 0",
  "delete from moves where a % 11 = 0",
  "insert into moves values (11, 'x11', 'again')",
  "update large set n = n + 1",
  "update large set id = id + 100 where id % 4 = 0",
  "update large set body = repeat('y', 6000) where id = 1; delete from large where id = 2",
  "truncate emptied",
];

/** Rows as text, in forms that do not depend on how the sink has declared the columns. */
const ROWS: Readonly<Record<string, string>> = {
  items: `select id, big, trim_scale(price) as price, trim_scale(ratio::numeric) as ratio, f, ok, name, code, day, at,
    seen at time zone 'UTC' as seen, ref::text, doc::jsonb, encode(raw, 'hex') as raw, small, clock from items`,
  moves: "select a, b, v from moves",
  large: "select id, md5(body) as body, n from large",
  emptied: "select id, v from emptied",
};

test(
  "after a workload with changed keys, large values and a truncate, Debezium's JDBC sink has the rows of the source",
  { tags: "long" },
  async () => {
    await using source = await freshDatabase();
    await using target = await freshDatabase();
    await source.query(TABLES);
    await using topics = new KafkaTopics(kafkaBroker());
    await using installation = new Installation({
      name: source.name,
      source: { kind: "postgres", url: source.url, heartbeat: "500ms", tables: ["public.*"] },
      sinks: {
        stream: {
          kind: "kafka",
          format: "debezium",
          brokers: [topics.broker],
          prefix: topics.prefix,
          topics: { partitions: 1 },
        },
      },
    });
    const daemon = installation.run();
    await daemon.streaming();
    await using connector = await SinkConnector.start({
      broker: topics.broker,
      topics: `${topics.prefix}${source.name}\\.public\\..*`,
      target: target.url,
    });
    for (const statement of WORK) await source.query(statement);
    for (const [table, sql] of Object.entries(ROWS)) {
      const expected = await rowsOf(source, sql);
      expect(expected.length > 0, table).toBe(table !== "emptied");
      await eventually(
        async () => {
          const found = await rowsOf(target, sql).catch((error: unknown) => [String(error)]);
          expect(found, `${table}: ${connector.said}`).toEqual(expected);
        },
        { withinMs: EQUAL_WITHIN_MS, everyMs: 500 },
      );
    }
    await daemon.stop();
  },
);

async function rowsOf(database: FreshDatabase, sql: string): Promise<readonly string[]> {
  const { rows } = await database.query<{ row: string }>(`select r::text as row from (${sql}) as r order by 1`);
  return rows.map(({ row }) => row);
}
