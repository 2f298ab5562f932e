import { tableId } from "../../src/core/model/schema.ts";
import type { Finding, TableName } from "../../src/core/contracts/connector.ts";
import { aclFinding } from "./acls/script.ts";
import { sinkAcls } from "./acls/sink-acls.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { Claims } from "./claims.ts";
import type { Cluster } from "./client/cluster.ts";
import { apiIdsOf } from "./client/failures.ts";
import { createTopic, settingsOfTopics } from "./client/topic-settings.ts";
import { classify, inUse, takesOnlyKeys } from "./errors.ts";
import { callTopics, logTopic, ownTopic, sinkId, topicOf, type TopicNaming, transactionTopic } from "./names.ts";
import { RegistryClient } from "./registry/client.ts";
import type { KafkaSinkSettings } from "./settings.ts";
import { isCompacting } from "./topics.ts";
import { failed, ok } from "../kit/findings.ts";

const NAMED_MAX = 5;

/** Preflight: connects, and changes nothing. */
export async function check(
  settings: KafkaSinkSettings,
  signal: AbortSignal,
  tables: readonly TableName[] = [],
): Promise<readonly Finding[]> {
  try {
    await using cluster = await settings.cluster.connect(signal);
    const brokers = await cluster.brokerCount(signal);
    return [
      ok("kafka.connect", `connected to a Kafka cluster of ${brokers} broker${brokers === 1 ? "" : "s"}`),
      await features(cluster, signal),
      ...(await claimFindings(cluster, settings, tables, signal)),
      await topicsFinding(cluster, settings, brokers, tables, signal),
      ...(await compactionFindings(cluster, settings, tables, signal)),
      ...(await registryFindings(settings, signal)),
      aclFinding("sink", sinkAcls(settings)),
    ];
  } catch (error) {
    return [failed("kafka.connect", classify(error, signal))];
  }
}

async function features(cluster: Cluster, signal: AbortSignal): Promise<Finding> {
  try {
    for (const name of ["InitProducerId", "AddPartitionsToTxn", "EndTxn"]) await cluster.version(name, signal);
    const version = await cluster.version("Produce", signal);
    if (version >= 9) return ok("kafka.transactions", "the brokers speak what transactions need");
    return { ...ok("kafka.transactions", "the brokers are too old"), level: "error", fix: "Use Kafka 2.5 or newer." };
  } catch (error) {
    return failed("kafka.transactions", classify(error, signal));
  }
}

async function topicsFinding(
  cluster: Cluster,
  settings: KafkaSinkSettings,
  brokers: number,
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<Finding> {
  const { rules } = settings;
  const wanted = topicsOf(settings, tables);
  try {
    const found = await cluster.topics(wanted, signal);
    const missing = wanted.filter((topic) => found.get(topic) == null);
    const [first] = missing;
    if (first === undefined) return ok("kafka.topics", `all ${wanted.length} topics are there`);
    const named = `${missing.slice(0, NAMED_MAX).join(", ")}${missing.length > NAMED_MAX ? " …" : ""}`;
    if (!rules.create) {
      const what = `${missing.length} topics are missing: ${named}`;
      return { id: "kafka.topics", level: "error", what, fix: "Create them, or set `topics: { create: true }`." };
    }
    if (rules.replication > brokers) {
      const what = `\`topics.replication\` is ${rules.replication}, and there are ${brokers} brokers`;
      return { id: "kafka.topics", level: "error", what, fix: `Set it to ${brokers} or less.` };
    }
    const { partitions, replication, settings: of } = rules;
    await createTopic(cluster, { name: first, partitions, replication, settings: of }, signal, true);
    return ok("kafka.topics", `${missing.length} topics will be made: ${named}`);
  } catch (error) {
    if (apiIdsOf(error).includes("TOPIC_ALREADY_EXISTS")) return ok("kafka.topics", "topics are being made");
    return failed("kafka.topics", classify(error, signal));
  }
}

/** Of topics that another sink writes to. */
async function claimFindings(
  cluster: Cluster,
  settings: KafkaSinkSettings,
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { naming, name } = settings;
  try {
    const { owner } = await readCheckpoint(cluster, ownTopic(`checkpoint.${name}`, naming), signal);
    if (owner !== "" && owner !== sinkId(settings)) throw inUse(`${naming.prefix}${naming.daemon}.…`, owner);
    const claims = await Claims.of(cluster, settings, signal);
    claims.expectOwn(naming);
    const targets = new Map(tables.map((table) => [topicOf(table, naming), tableId(table.schema, table.table)]));
    const found = await cluster.topics([...targets.keys()], signal);
    for (const [topic, id] of targets) if (found.get(topic) != null) claims.expectFree(id, topic, found.get(topic)!);
    return [];
  } catch (error) {
    return [failed("kafka.claims", classify(error, signal))];
  }
}

/** Of topics with records without a key that are, or will be, compacted. */
async function compactionFindings(
  cluster: Cluster,
  { isLog, naming, rules, form }: KafkaSinkSettings,
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const hasTruncates = naming.isDebezium && !form.startsWith("debezium-flat");
  const names = isLog ? logTopics(naming) : hasTruncates ? tables.map((table) => topicOf(table, naming)) : [];
  try {
    const found = await cluster.topics([...new Set(names)], signal);
    const there = [...found].flatMap(([name, topic]) => (topic === null ? [] : [name]));
    const settings = await settingsOfTopics(cluster, there, ["cleanup.policy"], signal);
    const policyOf = (name: string) => settings.get(name)?.get("cleanup.policy") ?? rules.settings["cleanup.policy"];
    const compacted = names.find((name) => isCompacting(policyOf(name)) === true);
    if (compacted === undefined) return [];
    if (isLog) return [failed("kafka.compaction", takesOnlyKeys(compacted))];
    const what = `topic ${compacted} is compacted: it takes no TRUNCATE, which would suspend its table (MR3519)`;
    const fix = "Use `format: millrace`, or `cleanup.policy=delete`, if tables are truncated.";
    return [{ id: "kafka.compaction", level: "warning", what, fix }];
  } catch (error) {
    return [failed("kafka.compaction", classify(error, signal))];
  }
}

async function registryFindings({ registry }: KafkaSinkSettings, signal: AbortSignal): Promise<readonly Finding[]> {
  if (registry === null) return [];
  try {
    await using client = new RegistryClient(registry);
    const types = await client.types(signal);
    return [ok("kafka.registry", `the schema registry takes ${types.join(", ")}`)];
  } catch (error) {
    return [failed("kafka.registry", classify(error, signal))];
  }
}

function topicsOf(
  { naming, name, transactions, isLog }: KafkaSinkSettings,
  tables: readonly TableName[],
): readonly string[] {
  const own = [ownTopic(`checkpoint.${name}`, naming)];
  if (isLog) return [...own, ...logTopics(naming)];
  if (!naming.isDebezium) own.push(ownTopic("schemas", naming));
  if (transactions) own.push(transactionTopic(naming));
  return [...own, ...new Set(tables.map((table) => topicOf(table, naming)))];
}

function logTopics(naming: TopicNaming): readonly string[] {
  return [logTopic(naming), ...Object.values(callTopics(naming))];
}
