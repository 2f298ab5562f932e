import { count, verb } from "../../src/core/figures.ts";
import { tableId } from "../../src/core/model/schema.ts";
import { systemClock } from "../../src/core/clock.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import type { Finding, TableName } from "../../src/core/contracts/connector.ts";
import { aclFinding, givenTo } from "./acls.ts";
import { readCheckpoint } from "./writer/checkpoint.ts";
import { Claims, expectBefore, expectForm, expectOwner } from "./writer/claims.ts";
import { type Cluster, DENIED, type FoundTopic, type Topic, topicsOf } from "./client/cluster.ts";
import { apiIdsOf } from "./client/failures.ts";
import { coordinatorOf, TRANSACTION_MS_MAX } from "./client/transactions.ts";
import { createTopic, leastOfBrokers, settingsOfTopics, isCompacting, Topics } from "./writer/topics.ts";
import { classify, kafkaError, shortTransactions, takesOnlyKeys, topicsAlike } from "./errors.ts";
import {
  answersId,
  callTopics,
  checkpointTopic,
  countedName,
  logTopic,
  ownTopic,
  sinkId,
  topicOf,
  type TopicNaming,
  transactionTopic,
} from "./names.ts";
import { RegistryClient } from "./registry/client.ts";
import type { LogSinkSettings } from "./log/answering.ts";
import type { TopicSinkSettings } from "./sink/topic-sink.ts";
import { failed, looked, ok, warning, wrong } from "../kit/findings.ts";

export type KafkaSinkSettings = TopicSinkSettings | LogSinkSettings;

const NAMED_MAX = 5;

/** The part of a Metadata response that tells what this user may do: a bit for each operation. */
interface Rights {
  readonly topics: readonly { readonly name: string; readonly topicAuthorizedOperations: number }[];
}

const MAY_WRITE = 1 << 4;
const NOT_TOLD = -(2 ** 31);

/** Preflight: connects, and changes nothing. */
export async function check(
  settings: KafkaSinkSettings,
  signal: AbortSignal,
  tables: readonly TableName[] = [],
): Promise<readonly Finding[]> {
  const known = (error: unknown): MillraceError => classify(error, signal);
  return await looked("kafka.connect", known, async () => {
    await using cluster = await settings.cluster.connect(signal);
    const { length: brokers } = await cluster.brokers(signal);
    const look = new Look(cluster, settings, tables, signal);
    return [
      ok("kafka.connect", `connected to a Kafka cluster of ${brokers} broker${brokers === 1 ? "" : "s"}`),
      ...(await looked("kafka.transactions", known, () => look.features())),
      ...(await looked("kafka.rights", known, () => look.rights())),
      ...(await looked("kafka.claims", known, () => look.claims())),
      ...(await looked("kafka.checkpoint", known, () => look.kept())),
      ...(await looked("kafka.topics", known, () => look.topics(brokers))),
      ...(await looked("kafka.compaction", known, () => look.compaction())),
      ...(await looked("kafka.registry", known, () => look.registry())),
      aclFinding("sink", sinkAcls(settings)),
    ];
  });
}

/** Each says what it finds; one that fails is a finding. */
class Look {
  readonly #cluster: Cluster;
  readonly #settings: KafkaSinkSettings;
  readonly #tables: readonly TableName[];
  readonly #signal: AbortSignal;

  constructor(cluster: Cluster, settings: KafkaSinkSettings, tables: readonly TableName[], signal: AbortSignal) {
    this.#cluster = cluster;
    this.#settings = settings;
    this.#tables = tables;
    this.#signal = signal;
  }

  async features(): Promise<readonly Finding[]> {
    for (const name of ["Produce", "InitProducerId", "AddPartitionsToTxn", "EndTxn"])
      await this.#cluster.version(name, this.#signal);
    const longest = await leastOfBrokers(this.#cluster, "transaction.max.timeout.ms", this.#signal);
    if (longest !== null && longest < TRANSACTION_MS_MAX) throw shortTransactions();
    return [ok("kafka.transactions", "the brokers speak what transactions need")];
  }

  /** Of topics that are there, and of the transactional id: what is to be made is tried. */
  async rights(): Promise<readonly Finding[]> {
    try {
      await coordinatorOf(this.#cluster, "transaction", sinkId(this.#settings), this.#signal);
    } catch (error) {
      if (apiIdsOf(error).includes("TRANSACTIONAL_ID_AUTHORIZATION_FAILED")) throw error;
    }
    const written = this.#wanted().filter((name) => name !== callTopics(this.#settings.naming).requests);
    const found = await topicsOf(this.#cluster, written, this.#signal);
    const there = written.filter((name) => found.get(name) != null);
    if (there.length === 0) return [];
    const { topics } = await this.#cluster.request<Rights>("Metadata", null, this.#signal, there, false, true);
    const refused = topics.find(({ topicAuthorizedOperations: may }) => may !== NOT_TOLD && (may & MAY_WRITE) === 0);
    if (refused === undefined) return [];
    throw kafkaError("MR2008", "blocked", `the Kafka user lacks an ACL of a topic: ${refused.name}, to WRITE`);
  }

  async topics(brokers: number): Promise<readonly Finding[]> {
    const { rules } = this.#settings;
    const wanted = this.#wanted();
    const found = await this.#cluster.topics(wanted, this.#signal);
    // What may not be looked at is said of the rights.
    if (wanted.some((topic) => found.get(topic) === DENIED)) return [];
    const missing = wanted.filter((topic) => found.get(topic) == null);
    const [first] = missing;
    if (first === undefined) return [ok("kafka.topics", `all ${wanted.length} topics are there`)];
    const named = `${missing.slice(0, NAMED_MAX).join(", ")}${missing.length > NAMED_MAX ? " …" : ""}`;
    if (!rules.create) {
      const what = `${count(missing.length, "topic")} ${verb(missing.length, "are")} missing: ${named}`;
      return [wrong("kafka.topics", what, "Create them, or set `topics: { create: true }`.")];
    }
    if (rules.replication > brokers) {
      const what = `\`topics.replication\` is ${rules.replication}, and there ${verb(brokers, "are")} ${count(brokers, "broker")}`;
      return [wrong("kafka.topics", what, `Set it to ${brokers} or less.`)];
    }
    const alike = await this.#alike(missing);
    if (alike.length > 0) return alike;
    const { partitions, replication, settings } = rules;
    try {
      await createTopic(this.#cluster, { name: first, partitions, replication, settings }, this.#signal, true);
    } catch (error) {
      if (!apiIdsOf(error).includes("TOPIC_ALREADY_EXISTS")) throw error;
      return [ok("kafka.topics", "topics are being made")];
    }
    return [ok("kafka.topics", `${count(missing.length, "topic")} will be made: ${named}`)];
  }

  /** Of topics that are to be made: those that the cluster does not take beside others. */
  async #alike(missing: readonly string[]): Promise<readonly Finding[]> {
    const taken = new Map((await this.#cluster.names(this.#signal)).map((name) => [countedName(name), name]));
    return missing.flatMap((name) => {
      const other = taken.get(countedName(name));
      if (other === undefined) taken.set(countedName(name), name);
      return other === undefined ? [] : [failed("kafka.topics", topicsAlike(name, other))];
    });
  }

  /** Of topics that another sink writes to, and of those that hold something else than this one is to write. */
  async claims(): Promise<readonly Finding[]> {
    const { naming } = this.#settings;
    const held = await readCheckpoint(this.#cluster, checkpointTopic(this.#settings), this.#signal);
    expectOwner(held, this.#settings);
    expectForm(held, this.#settings);
    const claims = await Claims.of(this.#cluster, this.#settings, this.#signal);
    claims.expectOwn(naming);
    const targets = new Map<string, string | null>(
      this.#settings.kind === "log"
        ? logTopics(naming).map((name) => [name, null])
        : this.#tables.map((table) => [topicOf(table, naming), tableId(table.schema, table.table)]),
    );
    for (const [name, topic] of await this.#cluster.topics([...targets.keys()], this.#signal))
      claims.expectFree(targets.get(name) ?? null, name, visible(topic));
    return [];
  }

  /** Of topics whose records are deleted, and of those that are other ones than before. */
  async kept(): Promise<readonly Finding[]> {
    const { naming, rules, kind } = this.#settings;
    const own = checkpointTopic(this.#settings);
    const schemas = ownTopic("schemas", naming);
    const ofTables = new Map(kind === "log" ? [] : this.#tables.map((table) => [topicOf(table, naming), table]));
    const topics = new Topics(this.#cluster, rules, systemClock);
    const { there } = await topics.existing([own, schemas, ...ofTables.keys()], this.#signal);
    const held = await readCheckpoint(this.#cluster, own, this.#signal);
    const findings: Finding[] = [];
    const look = (id: string, work: () => void): void => {
      try {
        work();
      } catch (error) {
        findings.push(failed(id, classify(error, this.#signal)));
      }
    };
    look("kafka.checkpoint", () => topics.expectKept([own]));
    for (const usable of there) {
      const table = ofTables.get(usable.name);
      if (table === undefined) continue;
      const id = tableId(table.schema, table.table);
      look("kafka.partitions", () => expectBefore(held, id, usable, this.#settings));
    }
    const deletes = topics.deletes(schemas);
    if (deletes !== null) {
      const what = `topic ${schemas} deletes records (${deletes}): readers will lack the columns of older records`;
      findings.push(warning("kafka.schemas", what, "Set `cleanup.policy=compact` on it."));
    }
    findings.push(...(await this.#ignored(kind === "log" ? [logTopic(naming)] : [...ofTables.keys()])));
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
  }

  /** Settings of the configuration that topics which are there do not have. */
  async #ignored(names: readonly string[]): Promise<readonly Finding[]> {
    const { settings } = this.#settings.rules;
    const found = await this.#cluster.topics(names, this.#signal);
    const there = names.filter((name) => visible(found.get(name)) !== null);
    const now = await settingsOfTopics(this.#cluster, there, Object.keys(settings), this.#signal);
    if (there.some((name) => !now.has(name))) {
      const what = "the Kafka user may not look at the settings of topics: which are compacted is not known";
      return [warning("kafka.settings", what, "Allow DescribeConfigs: the ACLs are below.")];
    }
    const others = [...now].flatMap(([name, has]) =>
      Object.entries(settings).flatMap(([key, wanted]) => {
        const value = has.get(key);
        return value === undefined || value === wanted ? [] : [{ name, key, value, wanted }];
      }),
    );
    const [first] = others;
    if (first === undefined) return [];
    const { name, key, value, wanted } = first;
    const rest = others.length > 1 ? `, and ${others.length - 1} more` : "";
    return [
      warning(
        "kafka.settings",
        `topic ${name} has ${key}=${value}, and \`topics.settings\` says ${wanted}${rest}: it holds for topics that Millrace makes`,
        `kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config ${key}=${wanted}`,
      ),
    ];
  }

  /** Of topics with records without a key that are, or will be, compacted. */
  async compaction(): Promise<readonly Finding[]> {
    const { kind, naming, rules, form } = this.#settings;
    const hasTruncates = naming.isDebezium && !form.startsWith("debezium-flat");
    const ofTables = hasTruncates ? this.#tables.map((table) => topicOf(table, naming)) : [];
    const names = kind === "log" ? logTopics(naming) : ofTables;
    const found = await this.#cluster.topics([...new Set(names)], this.#signal);
    const there = [...found].flatMap(([name, topic]) => (visible(topic) === null ? [] : [name]));
    const settings = await settingsOfTopics(this.#cluster, there, ["cleanup.policy"], this.#signal);
    const policyOf = (name: string) => settings.get(name)?.get("cleanup.policy") ?? rules.settings["cleanup.policy"];
    const compacted = names.find((name) => isCompacting(policyOf(name)) === true);
    if (compacted === undefined) return [];
    if (kind === "log") return [failed("kafka.compaction", takesOnlyKeys(compacted))];
    const what = `topic ${compacted} is compacted: it takes no TRUNCATE, which would suspend its table (MR3519)`;
    const fix = "Use `format: millrace`, or `cleanup.policy=delete`, if tables are truncated.";
    return [warning("kafka.compaction", what, fix)];
  }

  async registry(): Promise<readonly Finding[]> {
    const registry = this.#settings.kind === "log" ? null : this.#settings.registry;
    if (registry === null) return [];
    await using client = await RegistryClient.open(registry, this.#signal);
    const types = await client.types(this.#signal);
    return [ok("kafka.registry", `the schema registry takes ${types.join(", ")}`)];
  }

  #wanted(): readonly string[] {
    const { naming } = this.#settings;
    const own = [checkpointTopic(this.#settings)];
    if (this.#settings.kind === "log") return [...own, ...logTopics(naming)];
    if (!naming.isDebezium) own.push(ownTopic("schemas", naming));
    if (this.#settings.transactions) own.push(transactionTopic(naming));
    return [...own, ...new Set(this.#tables.map((table) => topicOf(table, naming)))];
  }
}

function visible(topic: FoundTopic | undefined): Topic | null {
  return topic === undefined || topic === DENIED ? null : topic;
}

function logTopics(naming: TopicNaming): readonly string[] {
  return [logTopic(naming), ...Object.values(callTopics(naming))];
}

/** What the user needs who writes the topics. */
export function sinkAcls(settings: KafkaSinkSettings): readonly string[] {
  const { naming, rules, cluster } = settings;
  const data = naming.single === undefined ? `${naming.prefix}${naming.daemon}.` : `${naming.prefix}${naming.single}`;
  // Debezium's name of the topic of transactions begins as those of tables do.
  const others = naming.isDebezium ? `${naming.prefix}${naming.daemon}.` : ownTopic("", naming);
  const create = rules.create ? " --operation Create" : "";
  const to = givenTo(cluster.settings());
  const write = (prefix: string): string =>
    `${to} --operation Write --operation Describe --operation DescribeConfigs${create} --resource-pattern-type prefixed --topic '${prefix}'`;
  return [
    write(data),
    ...(naming.single === undefined ? [] : [write(others)]),
    `${to} --operation Read --topic '${checkpointTopic(settings)}'`,
    `${to} --operation Write --operation Describe --transactional-id '${sinkId(settings)}'`,
    ...(settings.kind === "log"
      ? [
          `${to} --operation Read --topic '${callTopics(naming).requests}'`,
          `${to} --operation Write --operation Describe --transactional-id '${answersId(settings)}'`,
        ]
      : []),
  ];
}
