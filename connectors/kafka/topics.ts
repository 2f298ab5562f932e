/** The topics of one sink: which are there, under which settings they are made, and how large a record may be. */
import type { Cluster, Topic } from "./client/cluster.ts";
import { apiIdsOf, failureOf } from "./client/failures.ts";
import { expectServed } from "./client/reading.ts";
import { createTopic, settingsOfTopics } from "./client/topic-settings.ts";
import { kafkaError, topicsLost } from "./errors.ts";

export interface TopicRules {
  /** Whether missing topics are created. */
  readonly create: boolean;
  readonly partitions: number;
  /** -1: the broker's default. */
  readonly replication: number;
  /** Settings of a topic, as Kafka names them. */
  readonly settings: Readonly<Record<string, string>>;
}

export interface NamedTopic {
  readonly name: string;
  readonly topic: Topic;
}

export interface UsableTopic extends NamedTopic {
  /** What its largest batch of records may have, in bytes. */
  readonly batchBytesMax: number;
}

/** Kafka's own default, for a client that may not look. */
const BATCH_BYTES_MAX = 1_048_588;
/** A new topic is not known to all brokers at once. */
const KNOWN_TRIES_MAX = 50;
const PAUSE_STEP_MS = 5;
const PAUSE_MS_MAX = 200;
/** What a leader says that does not know yet that it is one. */
export const NOT_YET: ReadonlySet<string> = new Set([
  "NOT_LEADER_OR_FOLLOWER",
  "LEADER_NOT_AVAILABLE",
  "UNKNOWN_TOPIC_OR_PARTITION",
]);
const CREATED_AT_THE_SAME_TIME = "TOPIC_ALREADY_EXISTS";
const MAY_NOT_LOOK = new Set(["TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"]);

export class Topics {
  readonly #cluster: Cluster;
  readonly #rules: TopicRules;
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly #known = new Map<string, UsableTopic>();

  constructor(cluster: Cluster, rules: TopicRules, sleep: (ms: number, signal: AbortSignal) => Promise<void>) {
    this.#cluster = cluster;
    this.#rules = rules;
    this.#sleep = sleep;
  }

  /** A topic that `prepare` was called for. */
  get(name: string): UsableTopic {
    const known = this.#known.get(name);
    if (known === undefined) throw failureOf("UNKNOWN_TOPIC_OR_PARTITION", name);
    return known;
  }

  /** Looks at topics, and creates those that are missing. */
  async prepare(names: readonly string[], signal: AbortSignal, rules: Partial<TopicRules> = {}): Promise<void> {
    const wanted = names.filter((name) => !this.#known.has(name));
    if (wanted.length === 0) return;
    const found = await this.#cluster.topics(wanted, signal);
    const missing = wanted.filter((name) => !isUsable(found.get(name)));
    const all = new Map(found);
    for (const name of missing) all.set(name, await this.#create(name, { ...this.#rules, ...rules }, signal));
    const largest = await this.#largest(wanted, signal);
    for (const name of wanted) {
      this.#known.set(name, { name, topic: all.get(name)!, batchBytesMax: largest.get(name) ?? BATCH_BYTES_MAX });
    }
  }

  async #create(name: string, rules: TopicRules, signal: AbortSignal): Promise<Topic> {
    const { create, partitions, replication, settings } = rules;
    if (!create) throw failureOf("UNKNOWN_TOPIC_OR_PARTITION", name);
    try {
      await createTopic(this.#cluster, { name, partitions, replication, settings }, signal);
    } catch (error) {
      if (!apiIdsOf(error).includes(CREATED_AT_THE_SAME_TIME)) throw error;
    }
    for (let tries = 1; ; tries++) {
      const topic = await this.#served(name, signal);
      if (topic !== null) return topic;
      if (tries >= KNOWN_TRIES_MAX) throw failureOf("LEADER_NOT_AVAILABLE", name);
      await this.#sleep(Math.min(tries * PAUSE_STEP_MS, PAUSE_MS_MAX), signal);
    }
  }

  /** Null: its leaders do not know it yet. */
  async #served(name: string, signal: AbortSignal): Promise<Topic | null> {
    const topic = (await this.#cluster.topics([name], signal)).get(name);
    if (!isUsable(topic)) return null;
    try {
      await Promise.all(
        topic.leaders.map((_, partition) => expectServed(this.#cluster, { name, topic, partition }, signal)),
      );
      return topic;
    } catch (error) {
      if (apiIdsOf(error).some((id) => NOT_YET.has(id))) return null;
      throw error;
    }
  }

  async #largest(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    try {
      const settings = await settingsOfTopics(this.#cluster, names, ["max.message.bytes"], signal);
      return new Map([...settings].map(([name, of]) => [name, Number(of.get("max.message.bytes"))]));
    } catch (error) {
      if (!apiIdsOf(error).some((id) => MAY_NOT_LOOK.has(id))) throw error;
      return new Map();
    }
  }

  /** Throws if a topic that `prepare` was called for is gone, is another one, or has another number of partitions. */
  async verify(signal: AbortSignal): Promise<void> {
    const now = await this.places([...this.#known.keys()], signal);
    for (const [name, usable] of this.#known) {
      const found = now.get(name);
      const place = placeOf(usable);
      if (found === place) continue;
      if (found == null || idIn(found) !== usable.topic.id) throw topicsLost();
      // When the sink is opened again, the next rows of the table meet it.
      throw kafkaError("MR3514", "reopen", otherPartitions(name, place, found));
    }
  }

  /** Those of these topics that there are, whether `prepare` was called for them or not. */
  async existing(names: readonly string[], signal: AbortSignal): Promise<readonly NamedTopic[]> {
    if (names.length === 0) return [];
    const found = await this.#cluster.topics(names, signal);
    return [...found].flatMap(([name, topic]) => (topic === null ? [] : [{ name, topic }]));
  }

  /** What `placeOf` says of these topics as they are now; null for one that is gone. */
  async places(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, string | null>> {
    if (names.length === 0) return new Map();
    const found = await this.#cluster.topics(names, signal);
    return new Map([...found].map(([name, topic]) => [name, topic === null ? null : placeOf({ topic })]));
  }
}

/** A topic's id, and its number of partitions. */
export function placeOf({ topic }: Pick<UsableTopic, "topic">): string {
  return `${topic.id} ${topic.leaders.length}`;
}

export function idIn(place: string): string {
  return place.split(" ")[0]!;
}

export function otherPartitions(name: string, before: string, now: string): string {
  const [were, are] = [before, now].map((place) => place.split(" ")[1]);
  return `topic ${name} has ${are} partitions, and had ${were}`;
}

function isUsable(topic: Topic | null | undefined): topic is Topic {
  return topic != null && topic.leaders.length > 0 && topic.leaders.every((leader) => leader >= 0);
}
