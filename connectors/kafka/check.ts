import { tableId } from "../../src/core/model/schema.ts";
import { systemClock } from "../../src/core/clock.ts";
import type { Finding, TableName } from "../../src/core/contracts/connector.ts";
import { aclFinding } from "./acls/script.ts";
import { sinkAcls } from "./acls/sink-acls.ts";
import { readCheckpoint } from "./checkpoint.ts";
import { Claims } from "./claims.ts";
import type { Cluster } from "./client/cluster.ts";
import { apiIdsOf } from "./client/failures.ts";
import { createTopic, settingsOfTopics } from "./client/topic-settings.ts";
import { classify, takesOnlyKeys } from "./errors.ts";
import { callTopics, logTopic, ownTopic, topicOf, type TopicNaming, transactionTopic } from "./names.ts";
import { RegistryClient } from "./registry/client.ts";
import type { KafkaSinkSettings } from "./settings.ts";
import { isCompacting, Topics } from "./topics.ts";
import { checkpointTopic, expectBefore, expectForm, expectOwner } from "./verification.ts";
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
      ...(await keptFindings(cluster, settings, tables, signal)),
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
    for (const name of ["Produce", "InitProducerId", "AddPartitionsToTxn", "EndTxn"])
      await cluster.version(name, signal);
    return ok("kafka.transactions", "the brokers speak what transactions need");
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

/** Of topics that another sink writes to, and of those that hold something else than this one is to write. */
async function claimFindings(
  cluster: Cluster,
  settings: KafkaSinkSettings,
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { naming } = settings;
  try {
    const held = await readCheckpoint(cluster, checkpointTopic(settings), signal);
    expectOwner(held, settings);
    expectForm(held, settings);
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

/** Of topics whose records are deleted, and of those that are other ones than before. */
async function keptFindings(
  cluster: Cluster,
  settings: KafkaSinkSettings,
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { naming, rules, isLog } = settings;
  const own = checkpointTopic(settings);
  const schemas = ownTopic("schemas", naming);
  const ofTables = new Map(isLog ? [] : tables.map((table) => [topicOf(table, naming), table]));
  const topics = new Topics(cluster, rules, (ms, until) => systemClock.sleep(ms, until));
  const findings: Finding[] = [];
  const look = (id: string, work: () => void): void => {
    try {
      work();
    } catch (error) {
      findings.push(failed(id, classify(error, signal)));
    }
  };
  try {
    const there = await topics.existing([own, schemas, ...ofTables.keys()], signal);
    const held = await readCheckpoint(cluster, own, signal);
    look("kafka.checkpoint", () => topics.expectKept([own]));
    for (const { name, topic } of there) {
      const table = ofTables.get(name);
      if (table === undefined) continue;
      const id = tableId(table.schema, table.table);
      const isCompacted = topics.isCompacted(name);
      look("kafka.partitions", () => expectBefore(held, id, { name, topic, isCompacted }, settings));
    }
    const deletes = topics.deletes(schemas);
    if (deletes !== null) {
      const what = `topic ${schemas} deletes records (${deletes}): readers will lack the columns of older records`;
      findings.push({ id: "kafka.schemas", level: "warning", what, fix: "Set `cleanup.policy=compact` on it." });
    }
    const short = [...ofTables.keys()].filter((name) => topics.deletes(name) !== null);
    if (short[0] !== undefined)
      findings.push(
        ok(
          "kafka.retention",
          `the brokers delete records of ${short.length} of the tables' topics, such as ${short[0]} (${topics.deletes(short[0])}): ` +
            "who begins to read later lacks rows that did not change since",
        ),
      );
    return findings;
  } catch (error) {
    return [failed("kafka.checkpoint", classify(error, signal))];
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

function topicsOf(settings: KafkaSinkSettings, tables: readonly TableName[]): readonly string[] {
  const { naming, transactions, isLog } = settings;
  const own = [checkpointTopic(settings)];
  if (isLog) return [...own, ...logTopics(naming)];
  if (!naming.isDebezium) own.push(ownTopic("schemas", naming));
  if (transactions) own.push(transactionTopic(naming));
  return [...own, ...new Set(tables.map((table) => topicOf(table, naming)))];
}

function logTopics(naming: TopicNaming): readonly string[] {
  return [logTopic(naming), ...Object.values(callTopics(naming))];
}
