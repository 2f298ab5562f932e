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
  const plain = name.replace(OTHERS, "_");
  if (isDebezium || (plain === name && !schema.includes("."))) return shortened(plain, TOPIC_BYTES_MAX);
  const hash = createHash("sha256")
    .update(JSON.stringify([schema, table]))
    .digest("hex")
    .slice(0, HASH_DIGITS);
  return shortened(`${plain}_${hash}`, TOPIC_BYTES_MAX);
}

/** Millrace's own topics beside those of the tables. */
export function ownTopic(purpose: string, { prefix, daemon }: Pick<TopicNaming, "prefix" | "daemon">): string {
  return `${prefix}${daemon}._${purpose}`;
}

/** The log itself, for other Millrace processes: `format: log`. */
export function logTopic(naming: Pick<TopicNaming, "prefix" | "daemon">): string {
  return ownTopic("log", naming);
}

/** What those processes ask, and the answers. */
export function callTopics(naming: Pick<TopicNaming, "prefix" | "daemon">): { requests: string; answers: string } {
  return { requests: ownTopic("requests", naming), answers: ownTopic("answers", naming) };
}

/** The transactional id of the answers. */
export function answersId({
  naming,
  name,
}: {
  readonly naming: Pick<TopicNaming, "prefix" | "daemon">;
  readonly name: string;
}): string {
  return `millrace-${naming.prefix}${naming.daemon}-${name}-answers`;
}

/** The group of the processes that share the tables of a log. `naming`: of the log; `daemon`: the `name` that they have. */
export function groupId(naming: Pick<TopicNaming, "prefix" | "daemon">, daemon: string): string {
  return `millrace-${naming.prefix}${naming.daemon}-${daemon}`;
}

/** The topic that tells which transactions are complete. */
export function transactionTopic(naming: TopicNaming): string {
  return naming.isDebezium ? `${naming.prefix}${naming.daemon}.transaction` : ownTopic("transactions", naming);
}

/** Whether a text may stand in a topic's name as it is. */
export function isTopicText(text: string): boolean {
  return text.replace(OTHERS, "") === text;
}
