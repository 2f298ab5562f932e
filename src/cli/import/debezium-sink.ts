/** The topics that Debezium writes, as a sink of kind `kafka`. */
import type { DebeziumConfig } from "./debezium-config.ts";
import type { Shaped } from "./debezium-transforms.ts";
import { UNDECIDED, type Variable } from "./findings.ts";

const BROKER_KEYS = [
  "producer.override.bootstrap.servers",
  "schema.history.internal.kafka.bootstrap.servers",
  "database.history.kafka.bootstrap.servers",
  "signal.kafka.bootstrap.servers",
] as const;
const ADDRESS = /^[^\s/@:$]+:\d+$/;

export interface Topics {
  readonly name: string;
  readonly prefix: string;
  readonly shaped: Shaped;
}

export function sinkFrom({ name, prefix, shaped }: Topics, given: DebeziumConfig, variables: Variable[]): object {
  const server = given.takeWord("debezium.sink.type");
  if (server !== null && server !== "kafka")
    given.leave("debezium.sink.type", `no sink of kind ${server} has Debezium's messages: choose another sink`);
  const hasTombstones = given.takeFlag("tombstones.on.delete") !== false && shaped.hasTombstones;
  const topics = Object.fromEntries(
    [
      ["partitions", positive(given, "topic.creation.default.partitions")] as const,
      ["replication", positive(given, "topic.creation.default.replication.factor")] as const,
    ].filter(([, count]) => count !== null),
  );
  const encoding = encodingFrom(name, given, variables);
  return {
    kind: "kafka",
    brokers: brokersFrom(given, variables),
    ...loginFrom(name, given, variables),
    ...(prefix === "" ? {} : { prefix }),
    format: formatFrom(given, shaped),
    ...encoding,
    ...(given.takeFlag("value.converter.schemas.enable") === false && !("encoding" in encoding)
      ? { schemas: false }
      : {}),
    ...decimalsFrom(given),
    ...(hasTombstones ? {} : { tombstones: false }),
    ...(given.takeFlag("provide.transaction.metadata") === true ? { transactions: true } : {}),
    ...(Object.keys(topics).length === 0 ? {} : { topics }),
  };
}

/** Where a connector's configuration has the login of a client of the brokers: its own first, then those of its topics. */
const CLIENTS = [
  "producer.override.",
  "schema.history.internal.producer.",
  "schema.history.internal.consumer.",
  "database.history.producer.",
  "database.history.consumer.",
  "signal.consumer.",
] as const;
const MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/** A connector writes to the cluster of its worker, which its own configuration need not name. */
function brokersFrom(given: DebeziumConfig, variables: Variable[]): readonly string[] {
  const brokers = (given.take(...BROKER_KEYS) ?? "").split(",").map((broker) => broker.trim());
  if (brokers.every((broker) => ADDRESS.test(broker))) return brokers;
  variables.push({ name: "KAFKA_BROKER", from: "the Kafka Connect worker's bootstrap.servers, one of them" });
  return ["${KAFKA_BROKER}"];
}

function loginFrom(name: string, given: DebeziumConfig, variables: Variable[]): object {
  const upper = name.toUpperCase();
  const cloudUser = given.take("kafka.api.key");
  if (given.take("kafka.api.secret") !== null || cloudUser !== null) {
    variables.push({ name: `${upper}_KAFKA_PASSWORD`, from: "kafka.api.secret" });
    const username = plainOr(cloudUser ?? "", "kafka.api.key", `${upper}_KAFKA_USER`, variables);
    return { tls: true, sasl: { mechanism: "PLAIN", username, password: `\${${upper}_KAFKA_PASSWORD}` } };
  }
  for (const client of CLIENTS) {
    const keys = given.startingWith(`${client}ssl.`);
    for (const [key] of keys) given.take(key);
    if (keys.some(([key]) => /store|certificate|\.key/.test(key)))
      given.leave(`${client}ssl.*`, "the sink's `tls` takes PEM files: `ca`, `cert`, `certKey`");
    const named = `${client}ssl.endpoint.identification.algorithm`;
    if (keys.some(([key, value]) => key === named && value.trim() === ""))
      given.leave(named, "with `tls` a broker's certificate has to name it: `serverName`");
  }
  const [protocolKey, protocol] = ofClients(given, "security.protocol");
  const [mechanismKey, mechanism] = ofClients(given, "sasl.mechanism");
  const [jaasKey, jaas] = ofClients(given, "sasl.jaas.config");
  const tls = /SSL/i.test(protocol) ? { tls: true } : {};
  if (protocol.includes("${")) given.leave(protocolKey, "write the sink's `tls` and `sasl`");
  if (!/^SASL/i.test(protocol)) return tls;
  const known = MECHANISMS.find((each) => each === (mechanism || "PLAIN").toUpperCase());
  if (known === undefined) {
    given.leave(mechanismKey, `the sink's \`sasl\` takes ${MECHANISMS.join(", ")}`);
    return tls;
  }
  variables.push({ name: `${upper}_KAFKA_PASSWORD`, from: `${jaasKey}, its password` });
  const quoted = /username\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^\s;]+))/.exec(jaas);
  const user = quoted?.slice(1).find((text) => text !== undefined) || "${";
  const username = plainOr(user, `${jaasKey}, its username`, `${upper}_KAFKA_USER`, variables);
  return { ...tls, sasl: { mechanism: known, username, password: `\${${upper}_KAFKA_PASSWORD}` } };
}

/** The key of the first client that has it, and its value; all of them count as carried over. */
function ofClients(given: DebeziumConfig, what: string): readonly [string, string] {
  const values = CLIENTS.map((client) => [client + what, given.take(client + what) ?? ""] as const);
  return values.find(([, value]) => value !== "") ?? [what, ""];
}

/** `${…}` in Debezium's file is a secret store of Kafka Connect's: a variable stands in its place. */
function plainOr(text: string, from: string, variable: string, variables: Variable[]): string {
  if (!text.includes("${")) return text;
  variables.push({ name: variable, from });
  return `\${${variable}}`;
}

function formatFrom(given: DebeziumConfig, { isFlat }: Shaped): string {
  if (isFlat) return "debezium-flat";
  const isCloudEvents = given.startingWith("value.converter").some(([, type]) => type.endsWith("CloudEventsConverter"));
  return isCloudEvents ? "cloudevents" : "debezium";
}

function decimalsFrom(given: DebeziumConfig): object {
  const key = "decimal.handling.mode";
  const mode = given.takeWord(key);
  if (mode === null || mode === "precise") return {};
  if (mode === "string" || mode === "double") return { decimals: mode };
  given.leave(key, "`decimals` is precise, string or double");
  return {};
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
  const [url = "", ...others] = (given.take(`${key}.schema.registry.url`) ?? "").split(",").map((each) => each.trim());
  if (others.length > 0) given.leave(`${key}.schema.registry.url`, "`registry.url` is one address: the first");
  if (encoding === undefined || url === "") {
    const forms = "the sink writes JSON, or Avro and JSON Schema as Confluent's converters do: `encoding`, `registry`";
    if (
      converter === "" ||
      /^(?:org\.apache\.kafka\..*\.|io\.debezium\..*\.)?(?:Json|CloudEvents)Converter$/.test(converter)
    )
      return {};
    if (/^(?:(?:org\.apache\.kafka|io\.(?:confluent|debezium|apicurio))\..*\.)?[A-Za-z]+Converter$/.test(converter)) {
      given.leave(key, forms);
      return {};
    }
    given.block(key, `what ${converter} hides is not known; ${forms}`);
    return { encoding: UNDECIDED };
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

/** Null: not there, or -1, which leaves it to the brokers. */
function positive(given: DebeziumConfig, key: string): number | null {
  const text = given.take(key);
  const count = Number(text ?? -1);
  if (Number.isInteger(count) && count > 0) return count;
  if (count !== -1) given.leave(key, "it is no number of partitions or replicas");
  return null;
}
