/**
 * MySQL and MariaDB behind a log in Kafka: every type lands as it does without Kafka, and a hostile load ends equal.
 * @module-tag heavy
 */
import { Redis } from "ioredis";
import { describe, expect, test } from "vitest";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { EDGE_TYPES } from "../../support/mysql/mysql-edge-values.ts";
import { MysqlPipeline, type MysqlPipelineOptions } from "../../support/mysql/mysql-pipeline.ts";
import { CONTENDED_TABLES, Writers } from "../../support/load/mysql-writers.ts";
import { testSeed } from "../../support/run/random.ts";
import { keysUnder } from "../../support/caches/redis-rows.ts";
import { isMysqlFrom, kafkaBroker, mysqlFlavours, type MysqlFlavour, redisUrl } from "../../support/run/services.ts";
import { SinkSet } from "../../support/daemon/sink-set.ts";

const KINDS = ["postgres", "redis"] as const;

/** A daemon that captures into a log and into sinks of its own, and one that follows the log. */
class Through implements AsyncDisposable {
  readonly direct: SinkSet;
  readonly pipeline: MysqlPipeline;
  readonly #owned: AsyncDisposableStack;

  private constructor(direct: SinkSet, pipeline: MysqlPipeline, owned: AsyncDisposableStack) {
    this.direct = direct;
    this.pipeline = pipeline;
    this.#owned = owned;
  }

  static async start(
    flavour: MysqlFlavour,
    prepare: readonly string[],
    beside: readonly "postgres"[] | typeof KINDS | [],
    options: Pick<MysqlPipelineOptions, "documents" | "sinks"> = {},
  ): Promise<Through> {
    await using owned = new AsyncDisposableStack();
    const topics = owned.use(new KafkaTopics(kafkaBroker()));
    const direct = owned.use(await SinkSet.create(beside));
    const { broker, prefix } = topics;
    const through = async (name: string, url: string): Promise<object> => {
      const log = { kind: "kafka", brokers: [broker], prefix, format: "log" };
      const source = { kind: "mysql", url, heartbeat: "500ms" };
      const capture = owned.use(new Installation({ name, source, sinks: { log, ...direct.config } }));
      await capture.run().streaming();
      return { kind: "kafka", brokers: [broker], prefix, from: name, heartbeat: "500ms" };
    };
    const pipeline = await MysqlPipeline.start(flavour, prepare, { kinds: KINDS, through, ...options });
    return new Through(direct, pipeline, owned.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pipeline.installation[Symbol.asyncDispose]();
    await this.#owned.disposeAsync();
    await this.pipeline[Symbol.asyncDispose]();
  }
}

/** What the sinks hold of these tables, without the columns of Millrace. */
async function held({ target, keyPrefix }: SinkSet, schema: string, tables: readonly string[]): Promise<object> {
  const rows: Record<string, readonly object[]> = {};
  for (const table of tables) {
    const found = await target!.query<{ row: Record<string, unknown> }>(
      `select to_jsonb(t) as row from "${schema}"."${table}" t order by id`,
    );
    rows[table] = found.rows.map(({ row }) => plain(row));
  }
  const client = new Redis(redisUrl());
  try {
    const cached: Record<string, object> = {};
    for (const key of (await keysUnder(client, keyPrefix)).toSorted()) {
      const name = key.slice(keyPrefix.length);
      const isRow = tables.some((table) => name.startsWith(`${schema}:${table}:`));
      if (!isRow) continue;
      const fields = await client.hgetallBuffer(key);
      cached[name] = plain(
        Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, value.toString("latin1")])),
      );
    }
    return { rows, cached };
  } finally {
    client.disconnect();
  }
}

function plain(row: Readonly<Record<string, unknown>>): object {
  return Object.fromEntries(Object.entries(row).filter(([name]) => !name.startsWith("_millrace_")));
}

describe.each(mysqlFlavours)("%s", (flavour) => {
  test("every type, copied and from the log, lands as it does without Kafka between", async () => {
    const types = EDGE_TYPES.filter(
      ({ only = flavour, since }) => only === flavour && (since === undefined || isMysqlFrom(flavour, since)),
    );
    const columns = types.map(({ native }, i) => `c${i} ${native}`).join(", ");
    const make = (table: string): string =>
      `create table ${table} (id int auto_increment primary key, ${columns}) character set utf8mb4`;
    const fill = (table: string): string[] =>
      types.flatMap(({ values }, i) => values.map((value) => `insert into ${table} (c${i}) values (${value})`));
    const lenient = "set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00', names utf8mb4";
    const tables = ["copied", "streamed"];
    await using through = await Through.start(flavour, [lenient, ...tables.map(make), ...fill("copied")], KINDS);
    const { pipeline, direct } = through;
    await pipeline.run(...fill("streamed"), "update copied set c0 = null where id % 7 = 0");
    await pipeline.settled();
    const { name } = pipeline.source;
    const behind = await held(pipeline.sinks, name, tables);
    await expect.poll(() => held(direct, name, tables)).toEqual(behind);
    expect(behind).toMatchObject({
      rows: { copied: { length: fill("").length }, streamed: { length: fill("").length } },
    });
  });

  test("under writers that contend, changed shapes, truncates and kills, the sinks equal the source", async () => {
    const made = [...CONTENDED_TABLES, "create table part (id int primary key, n int, body text)"];
    const filled =
      "insert into part with recursive g (id) as (select 1 union all select id + 1 from g where id < 200) select id, 0, repeat('b', 300) from g";
    await using through = await Through.start(flavour, [...made, filled], []);
    const { pipeline } = through;
    const tables = ["account", "seat", "part"];
    {
      await using writers = new Writers(pipeline.url, testSeed());
      await expect.poll(() => writers.count).toBeGreaterThan(150);
      await pipeline.kill();
      await pipeline.run(
        "alter table account add column later int default 3",
        "update account set later = id where id % 2 = 0",
        "update part set n = n + 1",
        "truncate part",
        "insert into part values (1, 1, 'again'), (2, 2, null)",
      );
      await pipeline.start();
      await pipeline.run("rename table seat to bench, bench to seat");
      await expect.poll(() => writers.count).toBeGreaterThan(400);
      await pipeline.run("alter table account modify balance bigint");
      await pipeline.readAgain("account");
      await expect.poll(() => writers.count).toBeGreaterThan(550);
    }
    await pipeline.expectEqual(...tables);
  });

  test("documents join by texts as the server compares them, and by its foreign keys", async () => {
    const code = "code varchar(8) character set utf8mb4 collate utf8mb4_general_ci";
    const things = (database: string, besides: object): object => ({
      from: `${database}.things`,
      many: true,
      value: "id",
      ...besides,
    });
    await using through = await Through.start(
      flavour,
      [
        `create table owners (id int primary key, ${code})`,
        `create table things (id int primary key, owner_id int, ${code}, foreign key (owner_id) references owners (id))`,
        "insert into owners values (1, 'ab'), (2, 'AC '), (3, null)",
        "insert into things values (1, 1, 'AB'), (2, 1, 'aB '), (3, 2, 'ac'), (4, null, 'a')",
      ],
      [],
      {
        documents: (database) => ({
          owners: {
            from: `${database}.owners`,
            columns: ["id"],
            with: { alike: things(database, { on: { code: "code" } }), own: things(database, {}) },
          },
        }),
        sinks: ({ redis }) => ({ redis: { ...redis, documents: ["owners"], tables: [], format: "json" } }),
      },
    );
    const { pipeline } = through;
    const joined = (on: string): string =>
      `coalesce((select concat('[', group_concat(t.id order by t.id), ']') from things t where ${on}), '[]')`;
    const made = `select id, ${joined("t.code = o.code")}, ${joined("t.owner_id = o.id")} from owners o order by id`;
    const client = new Redis(redisUrl());
    await using _ = { [Symbol.asyncDispose]: async () => void (await client.quit()) };
    for (const sql of [
      "do 0",
      "update things set code = 'Ac', owner_id = 3 where id < 3",
      "delete from owners where id = 1",
    ]) {
      await pipeline.run(sql);
      await pipeline.settled();
      const wanted = await pipeline.source.texts(made);
      const keys = (await keysUnder(client, `${pipeline.sinks.keyPrefix}owners:`)).toSorted();
      const found = keys.length === 0 ? [] : await client.mget(keys);
      expect(found.map((text) => JSON.parse(text ?? "null") as unknown)).toEqual(
        wanted.map(([id, alike, own]) =>
          expect.objectContaining({ id: Number(id), alike: JSON.parse(alike!), own: JSON.parse(own!) }),
        ),
      );
    }
  });
});
