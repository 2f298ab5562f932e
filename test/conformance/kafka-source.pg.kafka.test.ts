/** A source behind Kafka keeps what every source promises: a real daemon captures the database into the log. */
import type { TestContext } from "vitest";
import { sourceFactory } from "../../connectors/kafka/source/config.ts";
import { Installation } from "../support/daemon-process.ts";
import { KafkaTopics } from "../support/kafka-topics.ts";
import { isLongForm } from "../support/service-suffixes.ts";
import { freshDatabase, kafkaBroker } from "../support/services.ts";
import { quietLog } from "../support/quiet-log.ts";
import { sourceConformance } from "./source.ts";

sourceConformance({
  name: "kafka",
  without: ["copy", "conditions"],
  async stage({ skip }: TestContext) {
    skip(!isLongForm(), "it is part of the long form");
    const database = await freshDatabase();
    const topics = new KafkaTopics(kafkaBroker());
    const { broker, prefix } = topics;
    const capture = new Installation({
      name: database.name,
      source: { kind: "postgres", url: database.url, heartbeat: "500ms" },
      sinks: { log: { kind: "kafka", brokers: [broker], prefix, format: "log" } },
    });
    const capturing = capture.run();
    const options = { brokers: [broker], prefix, tls: false, from: database.name };
    return {
      open: async () => {
        await capturing.streaming();
        return await sourceFactory.create({ daemon: "reader", folder: ".", tables: [], options }, quietLog);
      },
      run: async (statements, end = "commit") => void (await database.query(["begin", ...statements, end].join("; "))),
      create: (name, isKeyed) =>
        `create table ${name} (id int ${isKeyed ? "primary key" : "not null"}, name text, amount int)`,
      id: (name) => `public.${name}`,
      async [Symbol.asyncDispose]() {
        await capture[Symbol.asyncDispose]();
        await database[Symbol.asyncDispose]();
        await topics[Symbol.asyncDispose]();
      },
    };
  },
});
