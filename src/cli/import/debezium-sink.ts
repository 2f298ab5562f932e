/** The topics that Debezium writes, as a sink of kind `kafka`. */
import type { DebeziumConfig, Variable } from "./debezium-config.ts";

const BROKER_KEYS = [
  "schema.history.internal.kafka.bootstrap.servers",
  "database.history.kafka.bootstrap.servers",
  "signal.kafka.bootstrap.servers",
] as const;
const ADDRESS = /^[^\s/@:$]+:\d+$/;

export function sinkFrom(name: string, prefix: string, given: DebeziumConfig, variables: Variable[]): object {
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
    ...encodingFrom(name, given, variables),
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
  const isCloudEvents = given.startingWith("value.converter").some(([, type]) => type.endsWith("CloudEventsConverter"));
  return isCloudEvents ? "cloudevents" : "debezium";
}

/** Confluent's converters; key and value have one encoding. */
const ENCODINGS = new Map([
  ["io.confluent.connect.avro.AvroConverter", "avro"],
  ["io.confluent.connect.json.JsonSchemaConverter", "json-schema"],
]);
const SUBJECTS = new Map([
  ["TopicNameStrategy", "topic"],
  ["RecordNameStrategy", "record"],
  ["TopicRecordNameStrategy", "topic-record"],
]);

function encodingFrom(name: string, given: DebeziumConfig, variables: Variable[]): object {
  const key = "value.converter";
  const converter = given.take(key) ?? "";
  const encoding = ENCODINGS.get(converter);
  const url = given.take(`${key}.schema.registry.url`)?.split(",")[0]?.trim() ?? "";
  if (encoding === undefined || url === "") {
    if (converter !== "" && !/(?:Json|CloudEvents)Converter$/.test(converter))
      given.leave(
        key,
        "the sink writes JSON, or Avro and JSON Schema as Confluent's converters do: `encoding`, `registry`",
      );
    return {};
  }
  for (const [own, type] of given.startingWith("key.converter")) {
    if (own === "key.converter" ? type === converter : own.endsWith(".schema.registry.url")) given.take(own);
  }
  const [username = "", password] = (given.take(`${key}.basic.auth.user.info`) ?? "").split(":");
  given.take(`${key}.basic.auth.credentials.source`);
  const variable = `${name.toUpperCase()}_REGISTRY_PASSWORD`;
  if (password !== undefined) variables.push({ name: variable, from: `${key}.basic.auth.user.info, after the colon` });
  const strategy = given.take(`${key}.value.subject.name.strategy`)?.split(".").at(-1) ?? "";
  const subjects = SUBJECTS.get(strategy);
  const hasLogin = url.includes("@") || url.includes("${");
  const place = `${name.toUpperCase()}_REGISTRY_URL`;
  if (hasLogin) variables.push({ name: place, from: `${key}.schema.registry.url` });
  const registry = {
    url: hasLogin ? `\${${place}}` : url,
    ...(password === undefined ? {} : { username, password: `\${${variable}}` }),
    ...(given.take(`${key}.auto.register.schemas`) === "false" ? { register: false } : {}),
    ...(subjects === undefined || subjects === "topic" ? {} : { subjects }),
  };
  return { encoding, registry };
}

function positive(text: string | null): number | null {
  const count = Number(text);
  return Number.isInteger(count) && count > 0 ? count : null;
}
