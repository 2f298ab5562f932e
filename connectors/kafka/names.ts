/** Names of topics. Kafka allows 249 letters, digits, dots, underscores and hyphens. */
import { createHash } from "node:crypto";
import { shortened } from "../../src/core/targets/names.ts";
import type { TableName } from "../../src/core/contracts/connector.ts";

const TOPIC_BYTES_MAX = 249;
const OTHERS = /[^a-zA-Z0-9._-]/g;
const HASH_DIGITS = 8;

export interface TopicNaming {
  readonly prefix: string;
  /** The configuration's `name`. */
  readonly daemon: string;
  /** The one topic of all tables; undefined: a topic for each table. */
  readonly single: string | undefined;
  /** Debezium's names: two tables may have one, and the runtime then refuses the second. */
  readonly isDebezium: boolean;
}

/** The topic of a table's changes. A name with other characters ends in a hash, so that no two tables meet. */
export function topicOf({ schema, table }: TableName, { prefix, daemon, single, isDebezium }: TopicNaming): string {
  if (single !== undefined) return `${prefix}${single}`;
  const name = `${prefix}${daemon}.${schema}.${table}`;
  // A schema may be called `_checkpoint`.
  const plain = isCheckpointTopic(name) ? name.replace("._checkpoint.", "._checkpoint_.") : name.replace(OTHERS, "_");
  if (isDebezium || (plain === name && !schema.includes("."))) return shortened(plain, TOPIC_BYTES_MAX);
  const hash = createHash("sha256")
    .update(JSON.stringify([schema, table]))
    .digest("hex")
    .slice(0, HASH_DIGITS);
  return shortened(`${plain}_${hash}`, TOPIC_BYTES_MAX);
}

/** Millrace's own topics beside those of the tables. */
export function ownTopic(purpose: string, { prefix, daemon }: Namespace): string {
  return `${prefix}${daemon}._${purpose}`;
}

export function checkpointTopic({ naming, name }: NamedSink): string {
  return ownTopic(`checkpoint.${name}`, naming);
}

/** Whether a topic has the name of a sink's checkpoint. */
export function isCheckpointTopic(name: string): boolean {
  return /\._checkpoint\.[A-Za-z][A-Za-z0-9_-]*$/.test(name);
}

/** The log itself, for other Millrace processes: `format: log`. */
export function logTopic(naming: Namespace): string {
  return ownTopic("log", naming);
}

/** What those processes ask, and the answers. */
export function callTopics(naming: Namespace): { requests: string; answers: string } {
  return { requests: ownTopic("requests", naming), answers: ownTopic("answers", naming) };
}

type Namespace = Pick<TopicNaming, "prefix" | "daemon">;

interface NamedSink {
  readonly naming: Namespace;
  readonly name: string;
}

/** Prefixes and names may have hyphens and dots, and none has a slash: no two ids are one. */
function idOf(purpose: string, { prefix, daemon }: Namespace, ...names: readonly string[]): string {
  return ["millrace", purpose, prefix, daemon, ...names].join("/");
}

export function sinkId({ naming, name }: NamedSink): string {
  return idOf("sink", naming, name);
}

/** The prefix and the daemon in the id of a sink. */
export function namespaceOf(id: string): Namespace | null {
  const [, , prefix, daemon] = id.split("/");
  return prefix === undefined || daemon === undefined ? null : { prefix, daemon };
}

export function answersId({ naming, name }: NamedSink): string {
  return idOf("answers", naming, name);
}

/** What the transactional ids of the requests begin with. `naming`: of the log; `daemon`: who asks. */
export function requestsId(naming: Namespace, daemon: string): string {
  return idOf("requests", naming, daemon);
}

/** The group of the processes that share the tables of a log. `naming`: of the log; `daemon`: the `name` that they have. */
export function groupId(naming: Namespace, daemon: string): string {
  return idOf("group", naming, daemon);
}

/** Whether the one topic of all tables would have the name of a table's topic, or of one of Millrace's own. */
export function isNameOfOther({ daemon, single = "", isDebezium }: TopicNaming): boolean {
  if (!single.startsWith(`${daemon}.`)) return false;
  const rest = single.slice(daemon.length + 1);
  return rest.startsWith("_") || rest.includes(".") || (isDebezium && rest === "transaction");
}

/** The topic that tells which transactions are complete. */
export function transactionTopic(naming: TopicNaming): string {
  return naming.isDebezium ? `${naming.prefix}${naming.daemon}.transaction` : ownTopic("transactions", naming);
}

/** Of topics with one such name a cluster has one alone: it counts dots as underscores. */
export function countedName(topic: string): string {
  return topic.replaceAll(".", "_");
}

/** Whether a text may stand in a topic's name as it is. */
export function isTopicText(text: string): boolean {
  return text.replace(OTHERS, "") === text;
}
