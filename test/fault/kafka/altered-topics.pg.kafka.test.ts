/**
 * Topics of a Kafka sink that others delete, make again, widen or narrow: the sink says so, and what it can do by itself it does.
 * @module-tag heavy
 */
import { Producer, stringSerializers } from "@platformatic/kafka";
import { afterAll, beforeAll, expect, test } from "vitest";
import { definition, factory } from "../../../connectors/kafka/config.ts";
import { timeout } from "../../conformance/stage.ts";
import { KafkaTopics } from "../../support/kafka/kafka-topics.ts";
import { quietLog } from "../../support/run/quiet-log.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import {
  change,
  failsAlone,
  filledByItself,
  PREPARE,
  restartWith,
  running,
  sinkOf,
  start,
  TABLES,
} from "../../support/faults/sink-loss.ts";
import { kafkaBroker } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

const MESSAGE_BYTES_MAX = 60_000;
/** As in the protocol. */
const [TOPIC, SET] = [2, 0] as const;
const COMPACT = [{ name: "cleanup.policy", value: "compact" }];
const OPTIONS = { topics: { partitions: 3, settings: { "max.message.bytes": MESSAGE_BYTES_MAX } } };

let pipeline: RunningPipeline;

beforeAll(async () => {
  pipeline = await running("kafka", OPTIONS);
});

afterAll(async () => {
  await pipeline?.[Symbol.asyncDispose]();
});

function topicOf(table: string, { sinks, source }: RunningPipeline = pipeline): string {
  return `${sinks.topics!.prefix}${source.name}.public.${table}`;
}

async function removed(...tables: readonly string[]): Promise<void> {
  const topics = pipeline.sinks.topics!;
  await topics.remove(tables.map((table) => topicOf(table)));
  await eventually(async () => {
    const names = await topics.names();
    return tables.every((table) => !names.includes(topicOf(table)));
  });
}

test("topics that are deleted while the daemon runs are filled again", async () => {
  await removed(...TABLES);
  await filledByItself(pipeline, "kafka", /MR3110/);
  const { conditions } = await pipeline.installation.status();
  const lost = conditions.filter(({ kind }) => kind === "sink.lost-changes");
  expect(lost).toMatchObject([
    { sink: "kafka", what: expect.stringMatching(/public\.(kept|moving).*lost to its readers/) },
  ]);
});

test("topics that are deleted, or deleted and made again, while it is stopped are filled again", async () => {
  await pipeline.daemon.stop();
  await removed(...TABLES);
  const { admin } = pipeline.sinks.topics!;
  await admin.createTopics({ topics: [topicOf("moving")], partitions: 5, replicas: 1 });
  await start(pipeline);
  await change(pipeline, "since it is back");
  await pipeline.expectEqual(TABLES);
  const records = await pipeline.sinks.topics!.read(topicOf("moving"));
  expect(new Set(records.map(({ partition }) => partition)).size).toBe(5);
});

test("partitions that are added suspend that table, and `snapshot start` takes them", async () => {
  const { admin } = pipeline.sinks.topics!;
  await admin.createPartitions({ topics: [{ name: topicOf("moving"), count: 7 }] });
  await eventually(async () => {
    await change(pipeline, "by seven");
    const { tables } = await pipeline.installation.status();
    expect(JSON.stringify(tables)).toContain("MR3107");
  });
  await pipeline.run("update kept set body = 'meanwhile' where id % 2 = 0");
  await eventually(async () => {
    expect(await pipeline.sinks.differences(pipeline.source.url, pipeline.installation.folder, ["kept"])).toEqual([]);
  });
  expect(await sinkOf(pipeline, "kafka")).toMatchObject({ state: "streaming" });
  // No record of a suspended table is in a partition that its keys did not have before.
  const before = await pipeline.sinks.topics!.read(topicOf("moving"));
  expect(before.filter(({ partition }) => partition > 4)).toEqual([]);
  await pipeline.daemon.stop();
  await start(pipeline);
  expect(JSON.stringify((await pipeline.installation.status()).tables)).toContain("MR3107");
  const started = await pipeline.installation.command(
    "snapshot",
    "start",
    "--tables",
    "public.moving",
    "--sink",
    "kafka",
  );
  expect(started).toMatchObject({ exitCode: 0 });
  await eventually(async () => {
    const { tables } = await pipeline.installation.status();
    expect(JSON.stringify(tables)).not.toContain("MR3107");
  });
  await change(pipeline, "since then");
  await pipeline.expectEqual(TABLES);
  const after = await pipeline.sinks.topics!.read(topicOf("moving"));
  expect(new Set(after.map(({ partition }) => partition)).size).toBe(7);
});

/**
 * What the daemon says above `info` of batches and rows that brokers refuse while `work` is done, as the number and the words of
 * each line. A slow machine has other complaints.
 */
async function saidOf(work: () => Promise<void>): Promise<readonly string[]> {
  const from = pipeline.daemon.said.length;
  await work();
  const lines = pipeline.daemon.said
    .slice(from)
    .split("\n")
    .filter((line) => /"level":"(warn|error)"/.test(line));
  return lines
    .map((line) => `${/\bMR\d{4}\b/.exec(line)?.[0]} ${/"msg":"([^"]*)"/.exec(line)?.[1]}`)
    .filter((line) => /^MR(?:2006|3111) /.test(line));
}

const REFUSED = "MR3111 a row was refused and is stored as a dead letter";

test("a row that is larger than its topic takes becomes a dead letter, and nothing else stops", async () => {
  // The sink is not opened again for it: that is a batch which failed.
  expect(new Set(await saidOf(refusedRow))).toEqual(new Set([REFUSED]));
  await pipeline.run("delete from kept where id = 9002");
  await eventually(async () => expect(await sinkOf(pipeline, "kafka")).toMatchObject({ deadLetters: 0 }));
  await pipeline.expectEqual(["kept"]);
});

async function refusedRow(): Promise<void> {
  await pipeline.run(
    `begin; delete from kept where id > 9000;
     insert into kept values (9001, 'before'), (9002, repeat('x', ${MESSAGE_BYTES_MAX})), (9003, 'after'); commit`,
  );
  await eventually(async () =>
    expect(await sinkOf(pipeline, "kafka")).toMatchObject({ deadLetters: 1, state: "streaming" }),
  );
  const { stdout } = await pipeline.installation.command("dlq", "list", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ letters: [{ sink: "kafka", key: "9002", code: "MR3111" }] });
  await pipeline.settled();
  const keys = (await pipeline.sinks.topics!.read(topicOf("kept"))).map(({ key }) => key);
  expect(keys).toEqual(expect.arrayContaining(['{"id":9001}', '{"id":9003}']));
  expect(keys).not.toContain('{"id":9002}');
}

test("a limit that becomes smaller while the sink runs is told once, and the sink goes on", async () => {
  const limited = async (bytes: number): Promise<void> => {
    const configs = [{ name: "max.message.bytes", value: String(bytes), configOperation: SET }];
    const resources = [{ resourceType: TOPIC, resourceName: topicOf("kept"), configs }];
    await pipeline.sinks.topics!.admin.incrementalAlterConfigs({ resources });
  };
  const said = await saidOf(async () => {
    await limited(MESSAGE_BYTES_MAX / 2);
    // The broker's log has the limit later than the controller.
    await eventually(async () => {
      await pipeline.run(
        `delete from kept where id > 9100;
         insert into kept values (9101, 'before'), (9102, repeat('x', ${MESSAGE_BYTES_MAX - 5_000})), (9103, 'after')`,
      );
      await pipeline.settled();
      expect(await sinkOf(pipeline, "kafka")).toMatchObject({ deadLetters: 1, state: "streaming" });
    });
  });
  expect(said.filter((line) => line !== REFUSED).length, said.join("\n")).toBeLessThan(2);
  for (const line of said) expect([REFUSED, "MR2006 a batch failed and is retried"]).toContain(line);
  await limited(MESSAGE_BYTES_MAX);
  const replayed = async (): Promise<void> => {
    await pipeline.installation.command("dlq", "replay", "--sink", "kafka", "--all");
    expect(await sinkOf(pipeline, "kafka")).toMatchObject({ deadLetters: 0 });
  };
  // The sink looks at its topics from time to time.
  await eventually(replayed, { everyMs: 500 });
  await pipeline.expectEqual(["kept"]);
});

test("another form of records is refused before it writes any; set back, the sink goes on; with another prefix it is filled", async () => {
  const topics = pipeline.sinks.topics!;
  const other = `${topics.prefix}other.`;
  const { config } = pipeline.sinks;
  const before = { ...config["kafka"], ...OPTIONS };
  const restarted = (kafka: object): Promise<void> => restartWith(pipeline, { ...config, kafka });
  const records = async () => (await topics.read(topicOf("moving"))).length;
  await pipeline.settled();
  const count = await records();
  await restarted({ ...before, format: "debezium" });
  await failsAlone(pipeline, "kafka", /MR3120/);
  expect(await records()).toBe(count);
  await restarted({ ...before, format: "debezium", prefix: other });
  await pipeline.settled();
  const [first] = await topics.read(`${other}${pipeline.source.name}.public.moving`);
  expect(first!.value).toContain('"schema":');
  await restarted(before);
  await topics.remove((await topics.names()).filter((name) => name.startsWith(other)));
  await change(pipeline, "in the first form again");
  await pipeline.expectEqual(TABLES);
  const { conditions } = await pipeline.installation.status();
  // Under another prefix its topics were others, and their readers lack what passed since.
  expect(conditions.map(({ kind }) => kind)).toEqual(["sink.lost-changes"]);
});

test("without `topics.create` a missing topic is named, and the sink goes on when it is there", async () => {
  await using bound = await RunningPipeline.start(PREPARE, {
    kinds: ["kafka"],
    untilStreaming: false,
    configure: (config) => ({
      ...config,
      sinks: { kafka: { ...config.sinks["kafka"], transactions: false, topics: { create: false } } },
    }),
  });
  const topics = bound.sinks.topics!;
  const own = `${topics.prefix}${bound.source.name}._`;
  const made = async (name: string): Promise<void> => {
    const isOwn = name.startsWith(own);
    const configs = isOwn ? COMPACT : [];
    await topics.admin.createTopics({ topics: [name], partitions: isOwn ? 1 : 2, replicas: 1, configs });
  };
  for (const name of [`${own}checkpoint.kafka`, `${own}schemas`]) {
    await eventually(async () => {
      expect(await sinkOf(bound, "kafka")).toMatchObject({
        state: "retrying",
        needsPerson: true,
        error: { code: "MR3507", message: expect.stringContaining(name) },
      });
    });
    await made(name);
  }
  const [kept, moving] = TABLES.map((table) => topicOf(table, bound));
  await made(moving!);
  // The one table waits for its topic, and the other goes on.
  await eventually(async () => {
    const { suspended } = (await bound.installation.status()).tables;
    expect(suspended).toMatchObject([
      { table: "public.kept", sink: "kafka", error: { message: expect.stringMatching(`MR3507.*${kept}`) } },
    ]);
  });
  await change(bound, "without the other");
  await eventually(async () => {
    expect(await bound.sinks.differences(bound.source.url, bound.installation.folder, ["moving"])).toEqual([]);
  });
  await made(kept!);
  await eventually(async () => expect((await bound.installation.status()).tables.suspended).toEqual([]), {
    withinMs: 60_000,
  });
  await bound.expectEqual(TABLES);
});

test("with the slot and all topics gone, recover fills the topics, and what readers lack is told until somebody has seen it", async () => {
  await pipeline.installation.command("resume", "--sink", "kafka");
  const told = async () =>
    (await pipeline.installation.status()).conditions.filter(({ kind }) => kind === "sink.lost-changes");
  await eventually(async () => expect(await told()).toEqual([]));
  await pipeline.daemon.stop();
  const { source, installation } = pipeline;
  await change(pipeline, "unseen");
  await source.query("select pg_drop_replication_slot($1)", [`millrace_${source.name}`]);
  const topics = pipeline.sinks.topics!;
  await topics.remove();
  expect(await installation.run().ended).toMatchObject({ exitCode: 1 });
  expect(await installation.command("recover", "--yes")).toMatchObject({ exitCode: 0 });
  await start(pipeline);
  await change(pipeline, "since it is back");
  await pipeline.expectEqual(TABLES);
  expect(await told()).toMatchObject([
    { sink: "kafka", level: "act", what: expect.stringContaining("lost to its readers") },
  ]);
  await installation.command("resume", "--sink", "kafka");
  await eventually(async () => expect(await told()).toEqual([]));
});

test("a checkpoint topic that was deleted within a transaction, and has nothing but its end, is an empty one", async () => {
  await using topics = new KafkaTopics(kafkaBroker());
  const { broker, prefix, admin } = topics;
  const topic = `${prefix}shop._checkpoint.stream`;
  await admin.createTopics({ topics: [topic], partitions: 1, replicas: 1, configs: COMPACT });
  const producer = new Producer({
    clientId: "test",
    bootstrapBrokers: [broker],
    idempotent: true,
    transactionalId: `${prefix}given-up`,
    serializers: stringSerializers,
  });
  try {
    const transaction = await producer.beginTransaction();
    await transaction.send({ messages: [{ topic, key: "position", value: "no checkpoint" }] });
    await transaction.abort();
  } finally {
    await producer.close();
  }
  const options = definition.parse({ brokers: [broker], prefix });
  const sink = await factory.create({ name: "stream", daemon: "shop", folder: "/", options }, quietLog);
  try {
    expect(await sink.open(1, timeout())).toBeNull();
  } finally {
    await sink.close();
  }
});
