/** One database, captured by Debezium and by a daemon with a Kafka sink: the records of both. */
import { expect } from "vitest";
import { Installation } from "../daemon/daemon-process.ts";
import { KafkaTopics } from "../kafka/kafka-topics.ts";
import { kafkaBroker } from "../run/services.ts";
import { eventually } from "../run/waiting.ts";
import { DebeziumEngine, type ToldRecord } from "./engine.ts";
import { sameAs } from "./same.ts";

const READY_WITHIN_MS = 60_000;

export interface Scene {
  /** As in millrace.yaml. */
  readonly source: object;
  readonly sink: object;
  readonly form: "json" | "cloudevents";
  /** Of the connector. */
  readonly properties: Readonly<Record<string, string>>;
  /** Whether what is written from now on comes to the connector as changes. */
  readonly isReady: (engine: DebeziumEngine) => Promise<boolean>;
  /** Ends with a row in the table `the_end`. */
  readonly work: () => Promise<void>;
}

export async function expectSame({ source, sink, form, properties, isReady, work }: Scene): Promise<void> {
  await using topics = new KafkaTopics(kafkaBroker());
  await using engine = await DebeziumEngine.start(form, ".the_end", properties);
  const stream = {
    kind: "kafka",
    brokers: [topics.broker],
    prefix: topics.prefix,
    topics: { partitions: 1, settings: { "max.message.bytes": 10_000_000 } },
    ...sink,
  };
  await using installation = new Installation({ name: "shop", source, sinks: { stream } });
  const daemon = installation.run();
  await daemon.streaming();
  await settled(installation);
  const ready = async (): Promise<void> => {
    expect({ isReady: await isReady(engine), said: engine.said }).toEqual({ isReady: true, said: "" });
  };
  await eventually(ready, { withinMs: READY_WITHIN_MS });
  await work();
  const theirs = Map.groupBy(await engine.records(), ({ topic }) => topic);
  await settled(installation);
  await daemon.stop();
  const ours = (await topics.names()).filter((topic) => !topic.includes("._"));
  expect(ours).toEqual([...theirs.keys()].map((topic) => `${topics.prefix}${topic}`).toSorted());
  for (const [topic, records] of theirs) {
    const own = await topics.read(`${topics.prefix}${topic}`);
    const told = sameAs(own.filter(isBeforeEnd), `${topics.prefix}shop`);
    expect.soft(told, topic).toEqual(sameAs(records.filter(isBeforeEnd), "shop"));
  }
}

/** The engine may be ended before it tells the end of the last transaction. */
function isBeforeEnd({ value }: ToldRecord): boolean {
  return value === null || !/"data_collection":"[^"]*\.the_end"/.test(value);
}

async function settled(installation: Installation): Promise<void> {
  const answer = await installation.ask<{ reached: boolean }>("POST", "/api/v1/wait", { timeoutMs: 60_000 });
  expect(answer).toMatchObject({ reached: true });
}
