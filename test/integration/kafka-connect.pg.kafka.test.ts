/** A consumer of the format `debezium` that is not ours: Debezium's JDBC sink brings a second database to the source's state. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Installation } from "../support/daemon/daemon-process.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { type FreshDatabase, freshDatabase, kafkaBroker } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";
import { cached } from "../../scripts/services/packages/cache.ts";
import { findJava, provideJava } from "../../scripts/services/packages/java.ts";
import { fetchJars, readJarList } from "../../scripts/services/packages/maven.ts";
import { freePort } from "../../scripts/services/processes/port.ts";
import { printProgress } from "../../scripts/services/packages/progress.ts";
import { versions } from "../../scripts/services/versions.ts";

const NAME = `debezium-jdbc-${versions.debeziumJdbc}`;
const JAVA_MAJOR = 17;
const CONVERTER = "org.apache.kafka.connect.json.JsonConverter";

interface SinkConnectorOptions {
  readonly broker: string;
  /** A regular expression. */
  readonly topics: string;
  /** postgres:// */
  readonly target: string;
}

/** Debezium's JDBC sink connector in Kafka Connect: a consumer that knows nothing of Millrace. It needs Java 17. */
class SinkConnector implements AsyncDisposable {
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said = "";

  private constructor(folder: string, process: ChildProcess) {
    this.#folder = folder;
    this.#process = process;
    this.#ended = once(process, "close");
    for (const stream of [process.stdout!, process.stderr!]) {
      stream.on("data", (bytes: Buffer) => (this.#said = (this.#said + bytes.toString()).slice(-20_000)));
    }
  }

  static async start({ broker, topics, target }: SinkConnectorOptions): Promise<SinkConnector> {
    const found = await findJava(JAVA_MAJOR);
    if (found.kind === "missing") throw new Error(found.reason);
    const java = await provideJava(found, printProgress);
    const jars = await cached(NAME, async (dir) => fetchJars(NAME, await readJarList(NAME), dir, printProgress));
    const folder = await mkdtemp(join(tmpdir(), "millrace-connect-"));
    const { hostname, port, pathname, username } = new URL(target);
    const worker = await properties(folder, "worker.properties", {
      "bootstrap.servers": broker,
      "key.converter": CONVERTER,
      "value.converter": CONVERTER,
      "offset.storage.file.filename": join(folder, "offsets"),
      listeners: `http://127.0.0.1:${await freePort()}`,
      "plugin.discovery": "hybrid_warn",
      "consumer.isolation.level": "read_committed",
      "consumer.auto.offset.reset": "earliest",
      "consumer.metadata.max.age.ms": "1000",
      "offset.flush.interval.ms": "1000",
    });
    const sink = await properties(folder, "sink.properties", {
      name: `sink-${pathname.slice(1)}`,
      "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
      "tasks.max": "1",
      "topics.regex": topics,
      "connection.url": `jdbc:postgresql://${hostname}:${port}${pathname}`,
      "connection.username": username,
      "connection.password": "none",
      "insert.mode": "upsert",
      "delete.enabled": "true",
      "truncate.enabled": "true",
      "primary.key.mode": "record_key",
      "schema.evolution": "basic",
      "collection.name.format": "${source.table}",
    });
    const log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    const args = [...java.args, log, "-cp", join(jars, "*"), "org.apache.kafka.connect.cli.ConnectStandalone"];
    return new SinkConnector(
      folder,
      spawn(java.command, [...args, worker, sink], { stdio: ["ignore", "pipe", "pipe"] }),
    );
  }

  /** The last of what it logged. */
  get said(): string {
    return this.#said.slice(-4000);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#ended;
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function properties(folder: string, name: string, values: Readonly<Record<string, string>>): Promise<string> {
  const path = join(folder, name);
  const lines = Object.entries(values).map(([key, value]) => `${key}=${value.replaceAll("\\", "\\\\")}\n`);
  await writeFile(path, lines.join(""));
  return path;
}

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
