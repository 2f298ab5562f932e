/** What was aborted is read by nobody, and what was committed beside it by everybody: also where a mark has no records. */
import { expect, test } from "vitest";
import { accessTo } from "../../connectors/kafka/connection.ts";
import { topicsOf } from "../../connectors/kafka/client/cluster.ts";
import { extentOf, readCommitted } from "../../connectors/kafka/client/partition.ts";
import { timeout } from "../conformance/stage.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { readByJava } from "../support/kafka/java-reader.ts";
import { writeTransactions } from "../support/kafka/random-transactions.ts";
import { Random, testSeed } from "../support/run/random.ts";
import { kafkaBroker } from "../support/run/services.ts";

const ACCESS = accessTo(() => ({ brokers: [kafkaBroker()], clientId: "test", tls: null, sasl: null }));
const COUNT = 60;

test("the followers of a log, and the tests' own reader, read what was committed, from any offset", async () => {
  await using topics = new KafkaTopics(kafkaBroker());
  await using cluster = await ACCESS.connect(timeout());
  const name = `${topics.prefix}transactions`;
  const committed = await writeTransactions(cluster, name, COUNT, new Random(testSeed()));
  const own = (await topics.read(name)).filter(({ partition }) => partition === 0);
  expect(own.map(({ value }) => value)).toEqual(committed);
  const topic = (await topicsOf(cluster, [name], timeout())).get(name)!;
  const partition = { name, topic, partition: 0 };
  const { stable: until } = await extentOf(cluster, partition, timeout());
  for (let from = 0n; from < until; from++) {
    const values: string[] = [];
    for await (const { value } of readCommitted(cluster, partition, { from, until }, timeout()))
      values.push(value!.toString());
    expect(values).toEqual(own.filter(({ offset }) => offset >= from).map(({ value }) => value));
  }
});

test("Kafka's own client for Java reads the same", { tags: "heavy" }, async () => {
  await using topics = new KafkaTopics(kafkaBroker());
  await using cluster = await ACCESS.connect(timeout());
  const name = `${topics.prefix}transactions`;
  const committed = await writeTransactions(cluster, name, COUNT, new Random(testSeed()));
  const read = (await readByJava(topics.broker, name)).filter(([partition]) => partition === "0");
  expect(read.map((fields) => Buffer.from(fields[4]!, "base64").toString())).toEqual(committed);
});
