/** Transactions that the brokers count as ended, and never ended in some partitions: the next writer ends them there. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { topicsOf } from "../../connectors/kafka/client/cluster.ts";
import { extentOf } from "../../connectors/kafka/client/partition.ts";
import { TransactionalWriter } from "../../connectors/kafka/client/transactions.ts";
import { TopicSink } from "../../connectors/kafka/sink/topic-sink.ts";
import type { RunningService } from "../../scripts/services/service.ts";
import { systemClock } from "../../src/core/clock.ts";
import { failure, timeout } from "../conformance/stage.ts";
import { FORGETFUL } from "../support/faults/forgetful-cluster.ts";
import { begunBy, CHECKPOINT, item, note, SinkScene } from "../support/kafka/kafka-scene.ts";
import { ownKafka } from "../support/run/services.ts";

let broker: RunningService;

beforeAll(async () => {
  broker = await ownKafka({ settings: () => FORGETFUL });
});

afterAll(async () => {
  await broker?.[Symbol.asyncDispose]();
});

function address(): string {
  return `127.0.0.1:${broker.port}`;
}

/** The isolation level of a request: https://kafka.apache.org/protocol#The_Messages_ListOffsets */
const COMMITTED = 1;

/** As if the topic's first transaction had not been ended yet. */
function withoutMarks(answer: unknown, topic: string): unknown {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- of ListOffsets
  const { topics } = answer as { topics: { name: string; partitions: object[] }[] };
  const open = (one: object) => ({ ...one, offset: 0n });
  return {
    topics: topics.map((one) => (one.name === topic ? { ...one, partitions: one.partitions.map(open) } : one)),
  };
}

const PLACES = {
  "all partitions": [CHECKPOINT, "public.item"],
  "the checkpoint's partition": [CHECKPOINT],
  "the table's partitions": ["public.item"],
} as const;

test.each(Object.entries(PLACES))("committed, and not ended in %s", async (_, names) => {
  await using scene = await SinkScene.create(address());
  scene.forget(...names);
  await scene.write(item, 20n, "2", "3", "4");
  await scene.restart();
  expect(scene.at).toBe(21n);
  expect(await scene.ids("public.item")).toEqual(["1", "2", "3", "4"]);
  await scene.sink.prepare([item], timeout());
  await scene.write(item, 30n, "5");
  expect(await scene.ids("public.item")).toEqual(["1", "2", "3", "4", "5"]);
});

test.each(Object.entries(PLACES))("aborted, and not ended in %s", async (_, names) => {
  await using scene = await SinkScene.create(address());
  scene.forget(...names);
  scene.weakness.aborts = true;
  expect(await failure(scene.write(item, 20n, "2", "3", "4"))).toMatchObject({ kind: "retryable" });
  await scene.restart();
  expect(scene.at).toBe(11n);
  expect(await scene.ids("public.item")).toEqual(["1"]);
  await scene.sink.prepare([item], timeout());
  await scene.write(item, 20n, "2", "3", "4");
  expect(await scene.ids("public.item")).toEqual(["1", "2", "3", "4"]);
});

test("committed, and a writer came and went before the partitions were told", async () => {
  await using scene = await SinkScene.create(address());
  scene.forget(...PLACES["all partitions"]);
  await scene.write(item, 20n, "2");
  await using cluster = await scene.settings.cluster.connect(timeout());
  await TransactionalWriter.open(cluster, { clock: systemClock, id: scene.id, compression: "none" }, timeout());
  await scene.restart();
  expect(scene.at).toBe(21n);
  expect(await scene.ids("public.item")).toEqual(["1", "2"]);
});

test("aborted, and the sink knows it although it was opened in vain meanwhile", async () => {
  await using scene = await SinkScene.create(address());
  scene.forget(...PLACES["all partitions"]);
  scene.weakness.aborts = true;
  await failure(scene.write(item, 20n, "2"));
  scene.weakness.fails = "AddPartitionsToTxn";
  expect(await failure(scene.restart())).toMatchObject({ kind: "retryable" });
  scene.weakness.fails = null;
  await scene.open();
  expect(scene.at).toBe(11n);
  expect(await scene.ids("public.item")).toEqual(["1"]);
});

test("aborted after a part of a step, and a writer came and went: the checkpoint's partition tells", async () => {
  await using scene = await SinkScene.create(address());
  scene.forget("public.item");
  await using cluster = await scene.settings.cluster.connect(timeout());
  const checkpoint = scene.topic(CHECKPOINT);
  const topic = (await topicsOf(cluster, [checkpoint], timeout())).get(checkpoint)!;
  await begunBy(cluster, scene.id, scene.topic("public.item"), { name: checkpoint, topic, partition: 0 });
  for (let i = 0; i < 2; i++)
    await TransactionalWriter.open(cluster, { clock: systemClock, id: scene.id, compression: "none" }, timeout());
  await scene.restart();
  expect(await scene.ids("public.item")).toEqual(["1"]);
});

test("the first rows of a table that were aborted stay so", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([item, note], timeout());
  scene.forget("public.note");
  scene.weakness.aborts = true;
  await failure(scene.write(note, 20n, "1"));
  await scene.restart();
  await scene.sink.prepare([item, note], timeout());
  await scene.write(note, 20n, "1");
  expect(await scene.ids("public.note")).toEqual(["1"]);
});

test("a writer whose connection was lost after a transaction tells the partitions before its next one", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([note], timeout());
  await scene.write(note, 15n, "1");
  scene.forget("public.item");
  await scene.write(item, 20n, "2");
  scene.forget();
  scene.weakness.link = {};
  await scene.write(note, 30n, "2");
  expect(await scene.ids("public.item")).toEqual(["1", "2"]);
  expect(await scene.ids("public.note")).toEqual(["1", "2"]);
});

test("committed, not ended in a table's partitions, and a later one elsewhere was aborted", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([note], timeout());
  scene.forget("public.note");
  await scene.write(note, 20n, "1");
  scene.forget();
  scene.weakness.aborts = true;
  expect(await failure(scene.write(item, 30n, "2"))).toMatchObject({ kind: "retryable" });
  scene.weakness.aborts = false;
  await scene.open();
  expect(scene.at).toBe(21n);
  expect(await scene.ids("public.note")).toEqual(["1"]);
  expect(await scene.ids("public.item")).toEqual(["1"]);
});

test.each(["the same process", "another process"])(
  "committed, and its end was cut off when it was told: %s",
  async (by) => {
    await using scene = await SinkScene.create(address());
    await scene.sink.prepare([note], timeout());
    scene.forget("public.note");
    await scene.write(note, 20n, "1");
    scene.forget();
    scene.weakness.link = {};
    scene.weakness.fails = "EndTxn";
    expect(await failure(scene.write(item, 30n, "2"))).toMatchObject({ kind: "retryable" });
    scene.weakness.fails = null;
    await (by === "the same process" ? scene.open() : scene.restart());
    expect(scene.at).toBe(21n);
    expect(await scene.ids("public.note")).toEqual(["1"]);
  },
);

test("committed, and its mark in the checkpoint's partition was still on its way when the others were told", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([note], timeout());
  scene.forget("public.note");
  await scene.write(note, 20n, "1");
  scene.forget();
  scene.weakness.answers.set("ListOffsets", (answer, [, isolation]) =>
    isolation === COMMITTED ? withoutMarks(answer, scene.topic(CHECKPOINT)) : answer,
  );
  scene.weakness.after.set("DescribeTransactions", async () => scene.weakness.answers.clear());
  scene.weakness.link = {};
  scene.weakness.fails = "EndTxn";
  expect(await failure(scene.write(item, 30n, "2"))).toMatchObject({ kind: "retryable" });
  scene.weakness.fails = null;
  await scene.restart();
  expect(scene.at).toBe(21n);
  expect(await scene.ids("public.note")).toEqual(["1"]);
});

test("committed after all, whose end was cut off, beside partitions of the one before", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([note], timeout());
  scene.forget("public.note");
  await scene.write(note, 20n, "1");
  scene.forget();
  scene.weakness.fails = "EndTxn";
  expect(await failure(scene.write(note, 30n, "2", "3", "4"))).toMatchObject({ kind: "retryable" });
  scene.weakness.fails = null;
  await scene.open();
  expect(scene.at).toBe(31n);
  expect(await scene.ids("public.note")).toEqual(["1", "2", "3", "4"]);
});

test("committed, then one that was aborted: neither was ended in its table's partitions, and each ends in its own way", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([note], timeout());
  scene.forget("public.note");
  await scene.write(note, 20n, "1");
  scene.forget("public.item");
  scene.weakness.aborts = true;
  expect(await failure(scene.write(item, 30n, "2"))).toMatchObject({ kind: "retryable" });
  scene.forget();
  scene.weakness.aborts = false;
  await scene.open();
  expect(scene.at).toBe(21n);
  expect(await scene.ids("public.note")).toEqual(["1"]);
  expect(await scene.ids("public.item")).toEqual(["1"]);
});

test("a broker was away when a transaction ended and kept its connection: the next one that comes a while later tells it", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([note], timeout());
  scene.forget("public.note");
  await scene.write(note, 20n, "1");
  scene.forget();
  scene.aheadMs = 10_000;
  await scene.write(item, 30n, "2");
  expect(await scene.ids("public.note")).toEqual(["1"]);
});

test("the same while transactions follow each other without a pause, the last of which is aborted", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.prepare([note], timeout());
  scene.forget("public.note");
  await scene.write(note, 20n, "1");
  scene.forget();
  for (let n = 1n; n <= 15n; n++) {
    scene.aheadMs += 100;
    await scene.write(item, 30n + n, `${n}`);
  }
  expect(await scene.ids("public.note")).toEqual(["1"]);
  scene.weakness.aborts = true;
  await failure(scene.write(item, 60n, "2"));
  await scene.restart();
  expect(await scene.ids("public.note")).toEqual(["1"]);
});

test("a transaction of another program in the checkpoint's topic is named, with the command that ends it", async () => {
  await using scene = await SinkScene.create(address());
  await scene.sink.close();
  await using cluster = await scene.settings.cluster.connect(timeout());
  const name = scene.topic(CHECKPOINT);
  const topic = (await topicsOf(cluster, [name], timeout())).get(name)!;
  const { end: since } = await extentOf(cluster, { name, topic, partition: 0 }, timeout());
  const other = await begunBy(cluster, `${scene.topics.prefix}other`, name);
  scene.sink = new TopicSink(scene.settings);
  const error = await failure(scene.open());
  expect(error).toMatchObject({ code: "MR3518", kind: "retryable" });
  expect(error.message).toContain(`producer ${other.producerId}`);
  expect(error.message).toContain(
    `kafka-transactions.sh --bootstrap-server ${scene.topics.broker} abort --topic ${name} --partition 0 --start-offset ${since}`,
  );
  await other.commit(timeout());
  await scene.open();
  expect(scene.at).toBe(11n);
});
