import * as z from "zod";
import type { IdleKey, SinkContext, SinkFactory, UrlKeys } from "../../src/core/contracts/connector.ts";
import { placeOfServer } from "../../src/core/targets/places.ts";
import { refusing } from "../../src/core/idle-keys.ts";
import { accessTo, clusterOf, connectionKeys } from "./connection.ts";
import { isNameOfOther, isTopicText, logTopic, type TopicNaming, topicOf, transactionTopic } from "./names.ts";
import type { Format } from "./formats/format.ts";
import type { DescribedFormat } from "./formats/registered/registered-format.ts";
import type { RegistrySettings } from "./registry/client.ts";
import type { KafkaSinkSettings } from "./check.ts";
import { idleTlsKeys, tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
import { tlsOptions } from "../../src/tls/options.ts";
import { freshPassword, idlePassword, passwordKeys } from "../../src/passwords/password.ts";
import { shellWord } from "../../src/core/shell-word.ts";

const PARTITIONS = 6;
const SETTING_NAME = /^[a-z][a-z.]+$/;

const topics = z.strictObject({
  create: z
    .boolean()
    .default(true)
    .describe(
      "Whether Millrace creates topics that are missing. If not, they must be there: `millrace check` names them.",
    ),
  partitions: z
    .int()
    .min(1)
    .max(10_000)
    .optional()
    .describe(
      "Partitions of the topics that it creates for tables. Choose the number for years: a topic whose number changes later is refused (MR3107). Default: 6.",
    ),
  replication: z
    .int()
    .min(1)
    .max(32)
    .optional()
    .describe("Replicas of the topics that it creates. Default: the cluster's own (default.replication.factor)."),
  settings: z
    .record(z.string().regex(SETTING_NAME), z.union([z.string(), z.number(), z.boolean()]))
    .default({})
    .describe(
      "Settings of the topics that it creates for tables, as Kafka names them: `cleanup.policy`, `retention.ms` …",
    ),
});

/** The schema registry. */
const registryKeys = z
  .strictObject({
    url: z.url({ protocol: /^https?$/, error: "expected http:// or https://" }).describe("The registry's address."),
    username: z.string().min(1).optional().describe("The login's user. Default: none."),
    password: z.string().optional().describe("The login's password."),
    ...passwordKeys,
    register: z
      .boolean()
      .default(true)
      .describe("Whether Millrace registers schemas. If not, they must be there under their subjects."),
    subjects: z
      .enum(["topic", "record", "topic-record"])
      .optional()
      .describe(
        "What names a subject: topic: `<topic>-key` and `<topic>-value` (TopicNameStrategy); record: the record's name " +
          "(RecordNameStrategy); topic-record: both. Default: topic; with one `topic` for all tables: topic-record.",
      ),
    tls: z
      .strictObject(tlsKeys("the registry's"))
      .prefault({})
      .describe("For an https:// address: an authority of your own, a client certificate."),
  })
  .superRefine(
    refusing(function* (options) {
      yield idlePassword(options, options.password);
      for (const [key, why] of idleTlsKeys(options.tls, options.url)) yield [`tls.${key}`, why];
    }),
  );

export const definition = z
  .object({
    ...connectionKeys,
    topic: z
      .string()
      .min(1)
      .max(100)
      .refine(isTopicText, { error: "expected letters, digits, dots, underscores and hyphens" })
      .optional()
      .describe(
        "One topic for all tables, instead of `<name>.<schema>.<table>` for each; the keys then name the table.",
      ),
    format: z
      .enum(["millrace", "debezium", "debezium-flat", "cloudevents", "log"])
      .default("millrace")
      .describe(
        "How a change looks. millrace: the envelope that `millrace tail` prints. debezium: what Debezium's connectors write. " +
          "debezium-flat: the row, as Debezium's ExtractNewRecordState gives it. cloudevents: CloudEvents with Debezium's attributes. " +
          "log: one topic for other Millrace daemons, whose source is `kind: kafka`.",
      ),
    schemas: z
      .boolean()
      .optional()
      .describe(
        "Debezium's formats as `json`: whether each key and value has its schema, as Kafka Connect's JsonConverter writes it (schemas.enable). Default: true.",
      ),
    decimals: z
      .enum(["precise", "string", "double"])
      .optional()
      .describe(
        "Debezium's formats: how decimals look (decimal.handling.mode). precise, the default: bytes in base64, with a scale.",
      ),
    encoding: z
      .enum(["json", "avro", "json-schema"])
      .default("json")
      .describe(
        "How keys and values are written. avro, json-schema: as Confluent's converters write them, with schemas in `registry`; for the formats debezium and debezium-flat.",
      ),
    registry: registryKeys
      .optional()
      .describe("The schema registry, for `encoding: avro` and `json-schema`: any with Confluent's interface."),
    tombstones: z
      .boolean()
      .optional()
      .describe(
        "Whether a record without a value follows each delete, so that compaction can remove the key. Default: true.",
      ),
    transactions: z
      .boolean()
      .default(false)
      .describe(
        "Whether the topic `<name>._transactions` tells which transactions are complete, and how many changes they have.",
      ),
    conditions: z
      .boolean()
      .default(false)
      .describe(
        "With `format: log`: whether daemons that follow the log may read with conditions (`snapshot start --where`). A condition is SQL that this daemon's user runs in the source, for everybody who may write to the topic of requests.",
      ),
    compression: z
      .enum(["none", "gzip", "zstd"])
      .default("none")
      .describe("How batches of records are compressed: to a third or a fifth of the bytes, for more processor time."),
    topics: topics.prefault({}).describe("How topics are created."),
  })
  .superRefine((options, issues) => {
    const { encoding, format, conditions, registry: given } = options;
    const refuse = (key: string, message: string): void =>
      issues.addIssue({ code: "custom", path: key.split("."), message });
    refusing(idleKeys)(options, issues);
    if (conditions && format !== "log") refuse("conditions", "is for `format: log` alone");
    if (encoding === "json") {
      if (given !== undefined)
        refuse("registry", "has no use with `encoding: json`; set `encoding: avro` or `json-schema`");
      return;
    }
    if (given === undefined) refuse("encoding", `\`${encoding}\` needs a schema registry: \`registry: { url: … }\``);
    if (format !== "debezium" && format !== "debezium-flat")
      refuse(
        "encoding",
        `\`${encoding}\` is for the formats debezium and debezium-flat; ${format} is written as \`json\``,
      );
  });

export type KafkaOptions = z.output<typeof definition>;

/** Keys that would do nothing beside the others, and why. */
function* idleKeys({
  format,
  encoding,
  schemas,
  decimals,
  tombstones,
  transactions,
  topics: made,
  registry,
}: Pick<
  KafkaOptions,
  "format" | "encoding" | "schemas" | "decimals" | "tombstones" | "transactions" | "topics" | "registry"
>): Generator<IdleKey> {
  const isOwn = format === "millrace" || format === "log";
  if (schemas !== undefined && isOwn) yield ["schemas", `has no use with \`format: ${format}\``];
  else if (schemas !== undefined && encoding !== "json")
    yield ["schemas", `has no use with \`encoding: ${encoding}\`, whose schemas are in the registry`];
  if (decimals !== undefined && isOwn) yield ["decimals", `has no use with \`format: ${format}\``];
  if (format === "log") {
    const why = "has no use with `format: log`";
    if (tombstones !== undefined) yield ["tombstones", why];
    if (transactions) yield ["transactions", why];
    if (made.partitions !== undefined) yield ["topics.partitions", `${why}, whose topics have one`];
  }
  if (registry !== undefined && registry.username === undefined)
    for (const key of ["password", "passwordCommand", "passwordFile"] as const)
      if (registry[key] !== undefined) yield [`registry.${key}`, "has no use without `username`"];
  if (made.create) return;
  const why = "has no use with `topics: { create: false }`";
  if (format !== "log" && made.partitions !== undefined) yield ["topics.partitions", why];
  if (made.replication !== undefined) yield ["topics.replication", why];
  if (Object.keys(made.settings).length > 0) yield ["topics.settings", why];
}

export const factory: SinkFactory<KafkaOptions> = {
  create: async (context) => {
    const settings = await settingsOf(context);
    if (settings.kind === "log") return new (await import("./log/log-sink.ts")).LogSink(settings);
    return new (await import("./sink/topic-sink.ts")).TopicSink(settings);
  },
  check: async (context, signal, tables) => {
    const { check } = await import("./check.ts");
    return await check(await settingsOf(context), signal, tables);
  },
  grants: async (context) => {
    const { aclScripts } = await import("./acls.ts");
    const { sinkAcls } = await import("./check.ts");
    const settings = await settingsOf(context);
    return aclScripts(settings.cluster.settings(), sinkAcls(settings));
  },
  form: ({ format }) => (format === "log" ? "log" : "stream"),
  reading: async (context, table) => {
    const { brokers, format } = context.options;
    const naming = namingOf(context);
    const topic = format === "log" ? logTopic(naming) : topicOf(table, naming);
    const from = `--bootstrap-server ${shellWord(brokers.join(","))} --topic ${shellWord(topic)}`;
    return { shell: `kafka-console-consumer.sh ${from} --from-beginning --max-messages 10` };
  },
  byUrl: {
    name: "topics",
    forms: ["kafka://host:9092,host:9092 (`tls` and `sasl` are in the file)"],
    keys: keysOf,
    choices: () => [
      "format: debezium    # what Debezium's connectors write; debezium-flat, cloudevents, log. Default: millrace's own",
      "tls: true           # whether the connection is encrypted. Default: false",
      "sasl: { mechanism: SCRAM-SHA-256, username: …, password: ${KAFKA_PASSWORD} }",
    ],
  },
  places: ({ daemon, options }) => {
    const { brokers, prefix, topic, format, transactions } = options;
    const own = transactions ? [transactionTopic(namingOf({ daemon, options }))] : [];
    // A prefix may have dots: the one topic of a sink may be named as that of a table in another.
    const starts = format === "log" ? [logTopic({ prefix, daemon })] : [`${prefix}${topic ?? `${daemon}.`}`, ...own];
    return brokers.flatMap((broker) => {
      const [, host = broker, port = ""] = /^(.*):(\d+)$/.exec(broker) ?? [];
      const at = `the topics of the Kafka cluster at ${placeOfServer(host, port, "9092")}`;
      return starts.map((start) => ({ at, start }));
    });
  },
};

function keysOf(given: string): UrlKeys | string | null {
  const place = /^kafka:\/\/([^/?#]*)\/?$/is.exec(given)?.[1];
  if (place === undefined)
    return /^kafka:/i.test(given) ? "expected kafka://host:9092,host:9092, and nothing behind the hosts" : null;
  if (place.includes("@")) return "a login goes into the file, as `sasl`; leave it out of the URL";
  const brokers = place.split(",").map((broker) => (/:\d+$/.test(broker) ? broker : `${broker}:9092`));
  return { brokers };
}

/** Throws if keys do not go together. */
async function settingsOf(context: SinkContext<KafkaOptions>): Promise<KafkaSinkSettings> {
  const unfit = unfitKeys(context);
  if (unfit !== null) {
    const { kafkaError } = await import("./errors.ts");
    throw kafkaError("MR1005", "fatal", `sink ${context.name}: ${unfit}`);
  }
  const { name, daemon, folder, options } = context;
  const { tombstones = true, transactions, compression, topics: made } = options;
  const settings = Object.entries(made.settings).map(([key, value]) => [key, String(value)] as const);
  const common = {
    name,
    cluster: accessTo(() => clusterOf(options, folder, `millrace-${daemon}-${name}`)),
    naming: namingOf(context),
    rules: {
      create: made.create,
      partitions: made.partitions ?? PARTITIONS,
      replication: made.replication ?? -1,
      settings: Object.fromEntries(settings),
    },
    compression,
    form: formOf(options),
  };
  if (options.format === "log") return { kind: "log", ...common, takesConditions: options.conditions };
  const registry = registryOf(folder, options.registry);
  const format = await formatOf(context, registry);
  return { kind: "topics", ...common, tombstones, transactions, format, registry };
}

function unfitKeys(context: SinkContext<KafkaOptions>): string | null {
  const { options, daemon, tables = [], origin } = context;
  const { format, topic } = options;
  if (isNameOfOther(namingOf(context)))
    return `\`topic: ${topic}\`, which begins as the topics of single tables and Millrace's own do (\`${daemon}.\`)`;
  const isBehindKafka = origin?.sourceKind === "kafka";
  if (format !== "log")
    return isBehindKafka && format !== "millrace" ? `\`format: ${format}\` behind a Kafka source` : null;
  if (tables.length > 0) return "`tables` with `format: log`";
  if (topic !== undefined) return "`topic` with `format: log`";
  return isBehindKafka ? "`format: log` behind a Kafka source" : null;
}

function namingOf({
  daemon,
  options: { prefix, topic, format },
}: Pick<SinkContext<KafkaOptions>, "daemon" | "options">): TopicNaming {
  return { prefix, daemon, single: topic, isDebezium: format !== "millrace" && format !== "log" };
}

/** All that decides how a record looks. Where it goes is in its topic's name: `prefix`, `topic`. */
function formOf({ format, encoding, schemas = true, decimals = "precise" }: KafkaOptions): string {
  if (format === "millrace" || format === "log") return format;
  const written = encoding === "json" ? `encoding: json, schemas: ${schemas}` : `encoding: ${encoding}`;
  return `${format}, ${written}, decimals: ${decimals}`;
}

async function formatOf(context: SinkContext<KafkaOptions>, registry: RegistrySettings | null): Promise<Format | null> {
  const { origin, options } = context;
  const { format: form, schemas = true, decimals = "precise", encoding } = options;
  if (origin === undefined || form === "log") return null;
  if (form !== "millrace") {
    const { DebeziumFormat } = await import("./formats/debezium/debezium.ts");
    const own = { form, naming: namingOf(context), schemas: schemas && encoding === "json", decimals };
    return await registered(new DebeziumFormat(origin, own), options, registry);
  }
  const { MillraceFormat } = await import("./formats/millrace.ts");
  return new MillraceFormat(origin, options.topic !== undefined);
}

/** With each record's schema in the registry. */
async function registered(
  format: DescribedFormat,
  { encoding, topic, registry: given }: KafkaOptions,
  settings: RegistrySettings | null,
): Promise<Format> {
  if (encoding === "json" || settings === null) return format;
  const { RegisteredFormat } = await import("./formats/registered/registered-format.ts");
  const { RegistryClient } = await import("./registry/client.ts");
  const subjects = given?.subjects ?? (topic === undefined ? "topic" : "topic-record");
  return new RegisteredFormat(format, {
    connect: (signal) => RegistryClient.open(settings, signal),
    encoding,
    subjects,
  });
}

/** Paths are relative to `folder`. Null: there is none. */
function registryOf(folder: string, given: KafkaOptions["registry"]): RegistrySettings | null {
  if (given === undefined) return null;
  const { url, username = null, password = null, register: registers, tls } = given;
  const isEncrypted = url.startsWith("https:");
  return {
    url,
    username,
    password,
    freshPassword: freshPassword(given, folder),
    registers,
    tls: () => {
      const options = tlsOptions(tlsSettings(tls, folder), isEncrypted);
      return isEncrypted ? options : null;
    },
  };
}
