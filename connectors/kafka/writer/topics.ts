/** The topics of one sink: which are there, with which settings they are made, and how large a record may be. */
import type { Clock } from "../../../src/core/clock.ts";
import { type Cluster, DENIED, type Ending, ENDINGS, type Topic, topicsOf } from "../client/cluster.ts";
import { answerIn, apiIdsOf, failureOf } from "../client/failures.ts";
import { expectServed } from "../client/partition.ts";
import { deletesRecords, kafkaError, newlyCompacted, takesOnlyKeys, topicsAlike, topicsLost } from "../errors.ts";
import { countedName } from "../names.ts";

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
  /** What its largest batch of records may have, in bytes, and the setting that says so. */
  readonly batchBytesMax: number;
  readonly batchLimit: string;
  /** Whether the broker removes a record when a newer one has its key, and takes none without a key; null: not known. */
  readonly isCompacted: boolean | null;
  /** Why and when the broker deletes a record that nothing has replaced, in its own words; null: never, or not known. */
  readonly deletes: string | null;
}

export interface ExistingTopics {
  readonly there: readonly UsableTopic[];
  /** Those that this user may not look at: nobody tells whether they are there. */
  readonly denied: readonly string[];
}

/** What a checkpoint remembers of a topic. */
interface TopicState {
  readonly id: string;
  readonly partitionCount: number;
  /** All records that the sink has written there are whole. */
  readonly isCompacted: boolean;
  /** How the transaction ended that may be open there still, since this user might not look; null: there is none. */
  readonly left: Ending | null;
}

type Limits = Pick<UsableTopic, "batchBytesMax" | "batchLimit" | "isCompacted" | "deletes">;

/** For a client that may not look; the size is Kafka's own default. */
const UNKNOWN: Limits = {
  batchBytesMax: 1_048_588,
  batchLimit: "max.message.bytes",
  isCompacted: null,
  deletes: null,
};
/** A batch has to fit in each of them. */
const BATCH_LIMITS = ["max.message.bytes", "segment.bytes"];
/** A broker ends the connection at a larger request, without a word. */
const REQUEST_LIMIT = "socket.request.max.bytes";
/** Kafka's own default. */
const REQUEST_BYTES_MAX = 100 * 1024 * 1024;
/** What a request has beside one batch, at most. */
const REQUEST_EXTRA_BYTES = 64 * 1024;
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
const REFUSED_NAME = "INVALID_TOPIC_EXCEPTION";
const DENIED_TOPIC = "TOPIC_AUTHORIZATION_FAILED";
const MAY_NOT_LOOK = new Set([DENIED_TOPIC, "CLUSTER_AUTHORIZATION_FAILED"]);

export class Topics {
  readonly #cluster: Cluster;
  readonly #rules: TopicRules;
  readonly #clock: Clock;
  readonly #known = new Map<string, UsableTopic>();
  /** By name, when somebody looked last. */
  readonly #looked = new Map<string, Limits>();
  readonly #made = new Set<string>();
  /** Those whose records must stay. */
  readonly #kept = new Set<string>();
  /** What a request may have for one batch, and beside it; null: nobody has looked yet. */
  #requestBytes: number | null = null;

  constructor(cluster: Cluster, rules: TopicRules, clock: Clock) {
    this.#cluster = cluster;
    this.#rules = rules;
    this.#clock = clock;
  }

  /** What the batches of one request may have together. */
  get requestBytesMax(): number {
    return this.#requestBytes ?? roomIn(REQUEST_BYTES_MAX);
  }

  /** A topic that `prepare` was called for. */
  get(name: string): UsableTopic {
    const known = this.#known.get(name);
    if (known === undefined) throw failureOf("UNKNOWN_TOPIC_OR_PARTITION", name);
    return known;
  }

  /** Nobody had it before. */
  isMade(name: string): boolean {
    return this.#made.has(name);
  }

  /** Looks at topics, and creates those that are missing. */
  async prepare(names: readonly string[], signal: AbortSignal, rules: Partial<TopicRules> = {}): Promise<void> {
    const wanted = names.filter((name) => !this.#known.has(name));
    if (wanted.length === 0) return;
    const all = new Map(await topicsOf(this.#cluster, wanted, signal));
    for (const name of wanted.filter((one) => !isUsable(all.get(one))))
      all.set(name, await this.#create(name, { ...this.#rules, ...rules }, signal));
    for (const usable of await this.#usable(all, signal)) this.#known.set(usable.name, usable);
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
      this.#made.add(name);
    } catch (error) {
      if (!apiIdsOf(error).includes(CREATED_AT_THE_SAME_TIME)) throw error;
    }
    for (let tries = 1; ; tries++) {
      const topic = await this.#served(name, signal);
      if (topic !== null) return topic;
      if (tries >= KNOWN_TRIES_MAX) throw failureOf("LEADER_NOT_AVAILABLE", name);
      await this.#clock.sleep(Math.min(tries * PAUSE_STEP_MS, PAUSE_MS_MAX), signal);
    }
  }

  /** Null: its leaders do not know it yet. */
  async #served(name: string, signal: AbortSignal): Promise<Topic | null> {
    const topic = (await topicsOf(this.#cluster, [name], signal)).get(name);
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

  /** Those of the topics that are there, with their settings now. */
  async #usable(found: ReadonlyMap<string, Topic | null>, signal: AbortSignal): Promise<readonly UsableTopic[]> {
    const there = [...found].flatMap(([name, topic]) => (topic === null ? [] : [{ name, topic }]));
    const names = there.map(({ name }) => name);
    this.#requestBytes ??= roomIn(await requestBytesOf(this.#cluster, signal));
    for (const [name, settings] of await settingsOfTopics(this.#cluster, names, LOOKED_AT, signal))
      this.#looked.set(name, limitsIn(settings, this.#requestBytes));
    return there.map((one) => ({ ...one, ...(this.#looked.get(one.name) ?? UNKNOWN) }));
  }

  /**
   * Throws if a topic that `prepare` was called for is gone, is another one, has another number of partitions, is compacted
   * now, or deletes records that must stay. One that may not be looked at its next rows meet.
   */
  async verify(signal: AbortSignal): Promise<void> {
    const now = await this.states([...this.#known.keys()], signal);
    for (const [name, usable] of this.#known) {
      const found = now.get(name);
      if (found === DENIED) continue;
      const state = stateOf(usable);
      if (found === undefined || !isSameTopic(found, state)) throw topicsLost();
      // When the sink is opened again, the next rows of the table meet it.
      if (hasOtherPartitions(state, found)) throw kafkaError("MR3107", "reopen", otherPartitions(name, state, found));
      if (isNewlyCompacted(state, found)) throw newlyCompacted(name);
      // A batch that was made for a larger limit would be refused, and with it all that its transaction has.
      const { batchBytesMax, batchLimit } = this.#looked.get(name) ?? usable;
      if (batchBytesMax !== usable.batchBytesMax) this.#known.set(name, { ...usable, batchBytesMax, batchLimit });
    }
    this.expectKept([...this.#kept]);
  }

  /** Looks at those of these topics that there are, whether `prepare` is called for them or not. */
  async existing(names: readonly string[], signal: AbortSignal): Promise<ExistingTopics> {
    if (names.length === 0) return { there: [], denied: [] };
    const found = await this.#cluster.topics(names, signal);
    const seen = new Map<string, Topic | null>();
    const denied: string[] = [];
    for (const [name, topic] of found) {
      if (topic === DENIED) denied.push(name);
      else seen.set(name, topic);
    }
    return { there: await this.#usable(seen, signal), denied };
  }

  /** What `stateOf` says of these topics as they are now, or that this user may not look; one that is gone has none. */
  async states(names: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    const { there, denied } = await this.existing(names, signal);
    return new Map([
      ...there.map((usable) => [usable.name, stateOf(usable)] as const),
      ...denied.map((name) => [name, DENIED] as const),
    ]);
  }
}

function limitsIn(settings: ReadonlyMap<string, string>, requestBytes: number): Limits {
  const known = BATCH_LIMITS.flatMap((key): [string, number][] =>
    settings.has(key) ? [[key, Number(settings.get(key))]] : [],
  );
  if (known.length === 0) known.push([UNKNOWN.batchLimit, UNKNOWN.batchBytesMax]);
  known.push([REQUEST_LIMIT, requestBytes]);
  const [batchLimit, batchBytesMax] = known.reduce((least, one) => (one[1] < least[1] ? one : least));
  const isCompacted = isCompacting(settings.get("cleanup.policy"));
  return { batchBytesMax, batchLimit, isCompacted, deletes: deletionIn(settings) };
}

/** Whether a limit is a setting of a topic, and not of the brokers. */
export function isOfTopic(limit: string): boolean {
  return BATCH_LIMITS.includes(limit);
}

function roomIn(requestBytes: number): number {
  return requestBytes - Math.min(REQUEST_EXTRA_BYTES, requestBytes >> 2);
}

/** The smallest of all brokers. A client that may not look: the default. */
async function requestBytesOf(cluster: Cluster, signal: AbortSignal): Promise<number> {
  return Math.min(REQUEST_BYTES_MAX, (await leastOfBrokers(cluster, REQUEST_LIMIT, signal)) ?? REQUEST_BYTES_MAX);
}

/** The smallest value that a broker has for a setting; null: this client may not look. */
export async function leastOfBrokers(cluster: Cluster, key: string, signal: AbortSignal): Promise<number | null> {
  let least: number | null = null;
  for (const broker of await cluster.brokers(signal)) {
    const asked = [{ resourceType: BROKER, resourceName: String(broker), configurationKeys: [key] }];
    for (const settings of (await settingsOf(cluster, broker, asked, signal)).values())
      if (settings.has(key)) least = Math.min(least ?? Infinity, Number(settings.get(key)));
  }
  return least;
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
export function stateOf({ topic, isCompacted }: Pick<UsableTopic, "topic" | "isCompacted">): string {
  return `${topic.id} ${topic.leaders.length}${isCompacted === true ? ` ${COMPACTED}` : ""}`;
}

function stateIn(text: string): TopicState {
  const [id = "", partitionCount, ...rest] = text.split(" ");
  const left = ENDINGS.find((ending) => rest.includes(ending)) ?? null;
  return { id, partitionCount: Number(partitionCount), isCompacted: rest.includes(COMPACTED), left };
}

/** See `TopicState`. */
export function leftIn(state: string | undefined): Ending | null {
  return state === undefined ? null : stateIn(state).left;
}

/** Nothing is written there until this user may look, so what was known first stays true. */
export function withLeft(state: string, ending: Ending): string {
  return stateIn(state).left === null ? `${state} ${ending}` : state;
}

export function withoutLeft(state: string): string {
  const { left } = stateIn(state);
  return left === null ? state : state.replace(` ${left}`, "");
}

export function isSameTopic(before: string, now: string): boolean {
  return stateIn(before).id === stateIn(now).id;
}

export function hasOtherPartitions(before: string, now: string): boolean {
  return stateIn(before).partitionCount !== stateIn(now).partitionCount;
}

/** The broker removes earlier records that later ones build on. */
export function isNewlyCompacted(before: string, now: string): boolean {
  return stateIn(now).isCompacted && !stateIn(before).isCompacted;
}

export function otherPartitions(name: string, before: string, now: string): string {
  const [were, are] = [before, now].map((state) => stateIn(state).partitionCount);
  return `topic ${name} has ${are} partitions, and had ${were}`;
}

function isUsable(topic: Topic | null | undefined): topic is Topic {
  return topic != null && topic.leaders.length > 0 && topic.leaders.every((leader) => leader >= 0);
}

/** `partitions` may be -1: the broker's default. */
interface NewTopic extends Omit<TopicRules, "create"> {
  readonly name: string;
}

const CREATE_MS_MAX = 15_000;
/** Kinds of resources in DescribeConfigs. */
const TOPIC = 2;
const BROKER = 4;

interface SettingsAnswer {
  readonly results: readonly {
    readonly errorCode: number;
    readonly resourceName: string;
    readonly configs: readonly { readonly name: string; readonly value: string | null }[];
  }[];
}

/** `isTrial`: the brokers only say whether they would. */
export async function createTopic(
  cluster: Cluster,
  topic: NewTopic,
  signal: AbortSignal,
  isTrial = false,
): Promise<void> {
  const { name, partitions, replication, settings } = topic;
  const configs = Object.entries(settings).map(([key, value]) => ({ name: key, value }));
  const wanted = [{ name, numPartitions: partitions, replicationFactor: replication, assignments: [], configs }];
  const controller = await cluster.controller(signal);
  try {
    await cluster.request("CreateTopics", controller, signal, wanted, CREATE_MS_MAX, isTrial);
  } catch (error) {
    if (!apiIdsOf(error).includes(REFUSED_NAME)) throw error;
    const counted = countedName(name);
    const other = (await cluster.names(signal)).find((one) => one !== name && countedName(one) === counted);
    throw other === undefined ? error : topicsAlike(name, other);
  }
}

/** By topic, some of its settings; none of one whose settings this user may not look at. */
export async function settingsOfTopics(
  cluster: Cluster,
  names: readonly string[],
  keys: readonly string[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ReadonlyMap<string, string>>> {
  if (names.length === 0) return new Map();
  const asked = names.map((resourceName) => ({ resourceType: TOPIC, resourceName, configurationKeys: [...keys] }));
  return await settingsOf(cluster, null, asked, signal);
}

interface AskedSettings {
  readonly resourceType: number;
  readonly resourceName: string;
  readonly configurationKeys: readonly string[];
}

async function settingsOf(
  cluster: Cluster,
  node: number | null,
  asked: readonly AskedSettings[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ReadonlyMap<string, string>>> {
  const { results } = await allSettings(cluster, node, asked, signal);
  return new Map(
    results.flatMap(({ resourceName, errorCode, configs }) => {
      const refusal = errorCode === 0 ? null : failureOf(errorCode, resourceName);
      if (refusal !== null && MAY_NOT_LOOK.has(refusal.apiId)) return [];
      if (refusal !== null) throw refusal;
      const values = configs.flatMap(({ name, value }): [string, string][] => (value === null ? [] : [[name, value]]));
      return [[resourceName, new Map(values)]];
    }),
  );
}

async function allSettings(
  cluster: Cluster,
  node: number | null,
  asked: readonly AskedSettings[],
  signal: AbortSignal,
): Promise<SettingsAnswer> {
  try {
    return await cluster.request<SettingsAnswer>("DescribeConfigs", node, signal, asked, false, false);
  } catch (error) {
    const answer = answerIn(error);
    if (!isSettings(answer)) throw error;
    return answer;
  }
}

function isSettings(answer: object | null): answer is SettingsAnswer {
  return answer !== null && "results" in answer;
}
