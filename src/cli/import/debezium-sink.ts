/** The topics that Debezium writes, as a sink of kind `kafka`. */
import type { DebeziumConfig, Variable } from "./debezium-config.ts";

const BROKER_KEYS = [
  "schema.history.internal.kafka.bootstrap.servers",
  "database.history.kafka.bootstrap.servers",
  "signal.kafka.bootstrap.servers",
] as const;
const ADDRESS = /^[^\s/@:$]+:\d+$/;

export function sinkFrom(prefix: string, given: DebeziumConfig, variables: Variable[]): object {
  const decimals = given.take("decimal.handling.mode");
  const topics = Object.fromEntries(
    [
      ["partitions", positive(given.take("topic.creation.default.partitions"))] as const,
      ["replication", positive(given.take("topic.creation.default.replication.factor"))] as const,
    ].filter(([, count]) => count !== null),
  );
  return {
    kind: "kafka",
    brokers: brokersFrom(given, variables),
    ...(prefix === "" ? {} : { prefix }),
    format: formatFrom(given),
    ...(given.take("value.converter.schemas.enable") === "false" ? { schemas: false } : {}),
    ...(decimals === null || decimals === "precise" ? {} : { decimals }),
    ...(given.take("tombstones.on.delete") === "false" ? { tombstones: false } : {}),
    ...(given.take("provide.transaction.metadata") === "true" ? { transactions: true } : {}),
    ...(Object.keys(topics).length === 0 ? {} : { topics }),
  };
}

/** A connector writes to the cluster of its worker, which its own configuration does not name. */
function brokersFrom(given: DebeziumConfig, variables: Variable[]): readonly string[] {
  const brokers = (given.take(...BROKER_KEYS) ?? "").split(",").map((broker) => broker.trim());
  if (brokers.every((broker) => ADDRESS.test(broker))) return brokers;
  variables.push({ name: "KAFKA_BROKER", from: "the Kafka Connect worker's bootstrap.servers" });
  return ["${KAFKA_BROKER}"];
}

function formatFrom(given: DebeziumConfig): string {
  for (const [key, type] of given.startingWith("transforms.")) {
    if (!key.endsWith(".type") || !type.endsWith(".ExtractNewRecordState")) continue;
    given.take(key);
    const own = key.slice("transforms.".length, -".type".length);
    if (given.startingWith("transforms").some(([name, list]) => name === "transforms" && list.trim() === own))
      given.take("transforms");
    return "debezium-flat";
  }
  const converter = given.take("value.converter") ?? "";
  if (converter.endsWith("CloudEventsConverter")) return "cloudevents";
  if (converter !== "" && !converter.endsWith("JsonConverter"))
    given.leave("value.converter", "the sink writes JSON only: consumers need a JSON deserializer");
  return "debezium";
}

function positive(text: string | null): number | null {
  const count = Number(text);
  return Number.isInteger(count) && count > 0 ? count : null;
}
