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
  /** The keys of `source` for those that follow the log. */
  readonly follower: {
    readonly kind: "kafka";
    readonly brokers: readonly string[];
    readonly prefix: string;
    readonly from: string;
  };
}

/** Of the conformance suite, what such a source does not do. */
export const COPIES_NOTHING = {
  "copies the rows, and the stream brings what the copy may not have":
    "a log in Kafka copies no rows: chunks read them",
  "has the generation of each table that it copies": "a log in Kafka copies no rows: chunks read them",
};

/** `source`: of the configuration; `database` is disposed of behind the daemon. */
export function captured(name: string, source: object, database: AsyncDisposable): Captured {
  const topics = new KafkaTopics(kafkaBroker());
  const { broker, prefix } = topics;
  const log = { kind: "kafka", brokers: [broker], prefix, format: "log", conditions: true };
  const capture = new Installation({ name, source: { heartbeat: "500ms", ...source }, sinks: { log } });
  const capturing = capture.run();
  const address = { brokers: [broker], prefix, from: name };
  const options = { ...address, tls: false };
  return {
    follower: { kind: "kafka", ...address },
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
