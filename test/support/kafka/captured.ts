/** A real daemon that captures a database into a log in Kafka, and sources that follow the log. */
import { sourceFactory } from "../../../connectors/kafka/source/config.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import { Installation } from "../daemon/daemon-process.ts";
import { KafkaTopics } from "./kafka-topics.ts";
import { quietLog } from "../run/quiet-log.ts";
import { kafkaBroker } from "../run/services.ts";

export interface Captured extends AsyncDisposable {
  /** Once the daemon streams. */
  open(): Promise<Source>;
}

/** `source`: of the configuration; `database` is disposed of behind the daemon. */
export function captured(name: string, source: object, database: AsyncDisposable): Captured {
  const topics = new KafkaTopics(kafkaBroker());
  const { broker, prefix } = topics;
  const log = { kind: "kafka", brokers: [broker], prefix, format: "log", conditions: true };
  const capture = new Installation({ name, source: { heartbeat: "500ms", ...source }, sinks: { log } });
  const capturing = capture.run();
  const options = { brokers: [broker], prefix, tls: false, from: name };
  return {
    open: async () => {
      await capturing.streaming();
      return await sourceFactory.create({ daemon: "reader", folder: ".", tables: [], options }, quietLog);
    },
    async [Symbol.asyncDispose]() {
      await capture[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
      await topics[Symbol.asyncDispose]();
    },
  };
}
