/** The topics of one sink: which are there, under which settings they are made, and how large a record may be. */
import type { Cluster, Topic } from "./client/cluster.ts";
import { apiIdsOf, failureOf } from "./client/failures.ts";
import { expectServed } from "./client/reading.ts";
import { createTopic, settingsOfTopics } from "./client/topic-settings.ts";
import { deletesRecords, kafkaError, newlyCompacted, takesOnlyKeys, topicsLost } from "./errors.ts";

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
  /** Whether the broker removes a record when a newer one has its key, and takes none without a key; null: not known. */
  readonly isCompacted: boolean | null;
  /** Why and when the broker deletes a record that nothing has replaced, in its own words; null: never, or not known. */
  readonly deletes: string | null;
}

/** What a checkpoint remembers of a topic. */
interface TopicPlace {
  readonly id: string;
  readonly partitionCount: number;
  /** All records that the sink has written there are whole. */
  readonly isCompacted: boolean;
}

type Limits = Pick<UsableTopic, "batchBytesMax" | "isCompacted" | "deletes">;

/** For a client that may not look; the size is Kafka's own default. */
const UNKNOWN: Limits = { batchBytesMax: 1_048_588, isCompacted: null, deletes: null };
/** A batch has to fit in each of them. */
const BATCH_LIMITS = ["max.message.bytes", "segment.bytes"];
/** A broker ends the connection at a request above its `socket.request.max.bytes`, without a word: by default 100 MiB. */
const REQUEST_BYTES_MAX = 100 * 1024 * 1024 - 64 * 1024;
const RETENTION_LIMITS = ["retention.ms", "retention.bytes"];
const LOOKED_AT = [...BATCH_LIMITS, "cleanup.policy", ...RETENTION_LIMITS];
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
  /** By name, when somebody looked last. */
  readonly #looked = new Map<string, Limits>();
  /** Those whose records must stay. */
  readonly #kept = new Set<string>();

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
    const limits = await this.#limits(wanted, signal);
    for (const name of wanted) this.#known.set(name, { name, topic: all.get(name)!, ...(limits.get(name) ?? UNKNOWN) });
  }

  /** For topics whose records have no keys of their own. */
  expectUncompacted(names: readonly string[]): void {
    for (const name of names) if (this.get(name).isCompacted === true) throw takesOnlyKeys(name);
  }

  /** For topics whose records must stay until newer ones replace them: here and in `verify`. */
  expectKept(names: readonly string[]): void {
    for (const name of names) {
      this.#kept.add(name);
      const deletes = this.#looked.get(name)?.deletes ?? null;
      if (deletes !== null) throw deletesRecords(name, deletes);
    }
  }

  /** When somebody looked last; null: not known. */
  isCompacted(name: string): boolean | null {
    return this.#looked.get(name)?.isCompacted ?? null;
  }

  /** See `UsableTopic`. */
  deletes(name: string): string | null {
    return this.#looked.get(name)?.deletes ?? null;
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

  async #limits(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, Limits>> {
    try {
      const settings = await settingsOfTopics(this.#cluster, names, LOOKED_AT, signal);
      const limits = Array.from(settings, ([name, of]) => {
        const bytes = BATCH_LIMITS.flatMap((key) => of.get(key) ?? []).map(Number);
        const batchBytesMax = bytes.length === 0 ? UNKNOWN.batchBytesMax : Math.min(...bytes, REQUEST_BYTES_MAX);
        const isCompacted = isCompacting(of.get("cleanup.policy"));
        return [name, { batchBytesMax, isCompacted, deletes: deletionIn(of) }] as const;
      });
      for (const [name, of] of limits) this.#looked.set(name, of);
      return new Map(limits);
    } catch (error) {
      if (!apiIdsOf(error).some((id) => MAY_NOT_LOOK.has(id))) throw error;
      return new Map();
    }
  }

  /**
   * Throws if a topic that `prepare` was called for is gone, is another one, has another number of partitions, is compacted
   * now, or deletes records that must stay.
   */
  async verify(signal: AbortSignal): Promise<void> {
    const now = await this.places([...this.#known.keys()], signal);
    for (const [name, usable] of this.#known) {
      const found = now.get(name);
      const place = placeOf(usable);
      if (found == null || !isSameTopic(found, place)) throw topicsLost();
      // When the sink is opened again, the next rows of the table meet it.
      if (hasOtherPartitions(place, found)) throw kafkaError("MR3514", "reopen", otherPartitions(name, place, found));
      if (isNewlyCompacted(place, found)) throw newlyCompacted(name);
      // A batch that was made for a larger limit would be refused, and with it all that its transaction has.
      const { batchBytesMax } = this.#looked.get(name) ?? usable;
      if (batchBytesMax !== usable.batchBytesMax) this.#known.set(name, { ...usable, batchBytesMax });
    }
    this.expectKept([...this.#kept]);
  }

  /** Looks at those of these topics that there are, whether `prepare` is called for them or not. */
  async existing(names: readonly string[], signal: AbortSignal): Promise<readonly NamedTopic[]> {
    if (names.length === 0) return [];
    const found = await this.#cluster.topics(names, signal);
    const there = [...found].flatMap(([name, topic]) => (topic === null ? [] : [{ name, topic }]));
    await this.#limits(
      there.map(({ name }) => name),
      signal,
    );
    return there;
  }

  /** What `placeOf` says of these topics as they are now; null for one that is gone. */
  async places(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, string | null>> {
    if (names.length === 0) return new Map();
    const found = await this.#cluster.topics(names, signal);
    const there = [...found].flatMap(([name, topic]) => (topic === null ? [] : [name]));
    const limits = await this.#limits(there, signal);
    const placed = Array.from(found, ([name, topic]) => {
      const { isCompacted } = limits.get(name) ?? UNKNOWN;
      return [name, topic === null ? null : placeOf({ topic, isCompacted })] as const;
    });
    return new Map(placed);
  }
}

const COMPACTED = "compact";
const NO_LIMIT = "-1";

/** By `cleanup.policy`; null: not known. */
export function isCompacting(policy: string | undefined): boolean | null {
  return policy?.split(",").some((one) => one.trim() === COMPACTED) ?? null;
}

function deletionIn(settings: ReadonlyMap<string, string>): string | null {
  const policy = settings.get("cleanup.policy") ?? "";
  if (!policy.split(",").some((one) => one.trim() === "delete")) return null;
  const limits = RETENTION_LIMITS.filter((key) => settings.get(key) !== NO_LIMIT);
  if (limits.length === 0) return null;
  const told = limits.flatMap((key) => (settings.has(key) ? [`${key}=${settings.get(key)}`] : []));
  return [`cleanup.policy=${policy}`, ...told].join(", ");
}

/** As a checkpoint has it. */
export function placeOf({ topic, isCompacted }: Pick<UsableTopic, "topic" | "isCompacted">): string {
  return `${topic.id} ${topic.leaders.length}${isCompacted === true ? ` ${COMPACTED}` : ""}`;
}

function placeIn(text: string): TopicPlace {
  const [id = "", partitionCount, policy] = text.split(" ");
  return { id, partitionCount: Number(partitionCount), isCompacted: policy === COMPACTED };
}

export function isSameTopic(before: string, now: string): boolean {
  return placeIn(before).id === placeIn(now).id;
}

export function hasOtherPartitions(before: string, now: string): boolean {
  return placeIn(before).partitionCount !== placeIn(now).partitionCount;
}

/** The broker removes earlier records that later ones build on. */
export function isNewlyCompacted(before: string, now: string): boolean {
  return placeIn(now).isCompacted && !placeIn(before).isCompacted;
}

export function otherPartitions(name: string, before: string, now: string): string {
  const [were, are] = [before, now].map((place) => placeIn(place).partitionCount);
  return `topic ${name} has ${are} partitions, and had ${were}`;
}

function isUsable(topic: Topic | null | undefined): topic is Topic {
  return topic != null && topic.leaders.length > 0 && topic.leaders.every((leader) => leader >= 0);
}
