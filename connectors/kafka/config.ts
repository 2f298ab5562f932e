import * as z from "zod";
import type { SinkContext, SinkFactory } from "../../src/core/contracts/connector.ts";
import { tlsKeys, tlsSettings } from "../../src/tls/keys.ts";
import { tlsOptions } from "../../src/tls/options.ts";
import { isTopicText, type TopicNaming } from "./names.ts";
import type { Format } from "./formats/format.ts";
import type { DescribedFormat } from "./formats/registered/registered-format.ts";
import type { RegistrySettings } from "./registry/client.ts";
import type { KafkaSinkSettings } from "./settings.ts";

const SETTING_NAME = /^[a-z][a-z.]+$/;

const sasl = z.strictObject({
  mechanism: z
    .enum(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
    .describe("How user and password are sent. PLAIN only with `tls`, or in a network that is trusted."),
  username: z.string().min(1),
  password: z.string(),
});

const topics = z.strictObject({
  create: z
    .boolean()
    .default(true)
    .describe(
      "Whether Millrace creates topics that are missing. If not, they must be there: `millrace check` names them.",
    ),
  partitions: z.int().min(1).max(10_000).default(6).describe("Partitions of the topics that it creates."),
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

const registry = z.strictObject({
  url: z.url({ protocol: /^https?$/, error: "expected http:// or https://" }).describe("The registry's address."),
  username: z.string().min(1).optional().describe("The login's user. Default: none."),
  password: z.string().optional(),
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
});

export const definition = z
  .object({
    brokers: z
      .array(z.string().regex(/^[^\s/@:]+:\d+$|^\[[0-9a-fA-F:]+\]:\d+$/, { error: "expected host:port" }))
      .min(1)
      .describe("host:port of one or more brokers; they name the others."),
    prefix: z
      .string()
      .max(100)
      .refine(isTopicText, { error: "expected letters, digits, dots, underscores and hyphens" })
      .default("")
      .describe("What the name of every topic begins with."),
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
      .enum(["millrace", "debezium", "debezium-flat", "cloudevents"])
      .default("millrace")
      .describe(
        "How a change looks. millrace: the envelope that `millrace tail` prints. debezium: what Debezium's connectors write. " +
          "debezium-flat: the row, as Debezium's ExtractNewRecordState gives it. cloudevents: CloudEvents with Debezium's attributes.",
      ),
    schemas: z
      .boolean()
      .default(true)
      .describe(
        "Debezium's formats: whether each key and value has its schema, as Kafka Connect's JsonConverter writes it (schemas.enable).",
      ),
    decimals: z
      .enum(["precise", "string", "double"])
      .default("precise")
      .describe(
        "Debezium's formats: how decimals look (decimal.handling.mode). precise: bytes in base64, with a scale.",
      ),
    encoding: z
      .enum(["json", "avro", "json-schema"])
      .default("json")
      .describe(
        "How keys and values are written. avro, json-schema: as Confluent's converters write them, with schemas in `registry`; for the formats debezium and debezium-flat.",
      ),
    registry: registry
      .optional()
      .describe("The schema registry, for `encoding: avro` and `json-schema`: any with Confluent's interface."),
    tombstones: z
      .boolean()
      .default(true)
      .describe("Whether a record without a value follows each delete, so that compaction can remove the key."),
    transactions: z
      .boolean()
      .default(false)
      .describe(
        "Whether the topic `<name>._transactions` tells which transactions are complete, and how many changes they have.",
      ),
    compression: z.enum(["none", "gzip", "zstd"]).default("none").describe("How batches of records are compressed."),
    topics: topics.prefault({}).describe("How topics are created."),
    tls: z
      .union([z.boolean(), z.strictObject(tlsKeys("the brokers'"))])
      .default(false)
      .describe(
        "Whether the connection is encrypted; with an authority of your own, or a client certificate: an object.",
      ),
    sasl: sasl.optional().describe("The login. Default: none, or the client certificate."),
  })
  .superRefine(({ encoding, format, registry: given }, issues) => {
    const refuse = (key: string, message: string): void => issues.addIssue({ code: "custom", path: [key], message });
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

export const factory: SinkFactory<KafkaOptions> = {
  create: async (context) => {
    const { KafkaSink } = await import("./sink.ts");
    return new KafkaSink(await settingsOf(context));
  },
  check: async (context, signal, tables) => {
    const { check } = await import("./check.ts");
    return await check(await settingsOf(context), signal, tables);
  },
  grants: async (context) => {
    const { grants } = await import("./check.ts");
    return grants(await settingsOf(context));
  },
  places: ({ daemon, options }) => {
    const { brokers, prefix, topic } = options;
    return [`topics ${prefix}${topic ?? `${daemon}.…`} of the Kafka cluster at ${brokers.toSorted().join(", ")}`];
  },
};

async function settingsOf(context: SinkContext<KafkaOptions>): Promise<KafkaSinkSettings> {
  const { name, daemon, folder, options } = context;
  const { brokers, tombstones, transactions, compression, topics: made, tls, sasl: login } = options;
  const settings = Object.entries(made.settings).map(([key, value]) => [key, String(value)] as const);
  return {
    name,
    cluster: () => ({
      brokers,
      clientId: `millrace-${daemon}-${name}`,
      tls: tls === false ? null : tlsOptions(tlsSettings(tls === true ? {} : tls, folder), true),
      sasl: login ?? null,
    }),
    naming: namingOf(context),
    rules: {
      create: made.create,
      partitions: made.partitions,
      replication: made.replication ?? -1,
      settings: Object.fromEntries(settings),
    },
    compression,
    tombstones,
    transactions,
    format: await formatOf(context),
    registry: registryOf(context),
  };
}

function registryOf({ folder, options: { registry: given } }: SinkContext<KafkaOptions>): RegistrySettings | null {
  if (given === undefined) return null;
  const { url, username = null, password = null, register: registers, tls } = given;
  const isEncrypted = url.startsWith("https:");
  return {
    url,
    username,
    password,
    registers,
    tls: () => {
      const options = tlsOptions(tlsSettings(tls, folder), isEncrypted);
      return isEncrypted ? options : null;
    },
  };
}

function namingOf({ daemon, options: { prefix, topic, format } }: SinkContext<KafkaOptions>): TopicNaming {
  return { prefix, daemon, single: topic, isDebezium: format !== "millrace" };
}

async function formatOf(context: SinkContext<KafkaOptions>): Promise<Format | null> {
  const { origin, options } = context;
  if (origin === undefined) return null;
  const { format: form, schemas, decimals, encoding } = options;
  if (form !== "millrace") {
    const { DebeziumFormat } = await import("./formats/debezium/debezium.ts");
    const own = { form, naming: namingOf(context), schemas: schemas && encoding === "json", decimals };
    return await registered(new DebeziumFormat(origin, own), context);
  }
  const { MillraceFormat } = await import("./formats/millrace.ts");
  return new MillraceFormat(origin, options.topic !== undefined);
}

/** With each record's schema in the registry. */
async function registered(format: DescribedFormat, context: SinkContext<KafkaOptions>): Promise<Format> {
  const { encoding, topic, registry: given } = context.options;
  const settings = registryOf(context);
  if (encoding === "json" || settings === null) return format;
  const { RegisteredFormat } = await import("./formats/registered/registered-format.ts");
  const { RegistryClient } = await import("./registry/client.ts");
  const subjects = given?.subjects ?? (topic === undefined ? "topic" : "topic-record");
  return new RegisteredFormat(format, { connect: () => new RegistryClient(settings), encoding, subjects });
}
