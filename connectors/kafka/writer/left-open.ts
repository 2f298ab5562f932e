/**
 * Transactions of a sink's own that are over and were never ended in some partitions. The coordinator of Kafka 4 takes a
 * partition without a leader for deleted (https://github.com/apache/kafka/pull/22680): where a broker is killed while a
 * transaction ends, that counts as complete, and readers of committed records wait in its partitions for ever. What the
 * transaction came to is decided, and the same in all partitions; another one of the same transactional id ends it where that
 * is missing. Any mark does: also that of a transaction which is aborted, or which this process did not live to commit. So
 * each partition is ended as the transaction that is open in it ended, which need not be the last one:
 *
 *   has a batch that this process knows to be committed      committed
 *   could not be looked at when its topic was denied         as the last transaction ended then
 *   is of the last transaction                               as the checkpoint's partition shows, which is in each of them
 */
import type { Clock } from "../../../src/core/clock.ts";
import { shellWord } from "../../../src/core/shell-word.ts";
import { isWholeCheckpoint, NEAR_THE_END } from "./checkpoint.ts";
import { type Cluster, type Ending, ENDINGS } from "../client/cluster.ts";
import type { Ledger } from "../client/ledger.ts";
import type { OpenTransaction, TransactionalWriter } from "../client/transactions.ts";
import { apiIdsOf, codesOf, whileBusy } from "../client/failures.ts";
import { extentOf, lastBy, openIn, type OpenPartition, type Partition } from "../client/partition.ts";
import { kafkaError } from "../errors.ts";
import type { TopicCheckpoint } from "./checkpoint.ts";
import { leftIn, type NamedTopic, NOT_YET } from "./topics.ts";

/** Until the brokers have told all partitions: two seconds. */
const TRIES_MAX = 65;

interface LeftOpenOptions extends Scene {
  readonly writer: TransactionalWriter;
  readonly clock: Clock;
  /** Of some broker. */
  readonly address: string;
}

interface Scene {
  readonly cluster: Cluster;
  readonly checkpoint: NamedTopic;
  readonly ledger: Ledger;
}

/**
 * How a transaction ends that an earlier writer has left open. To abort one that ends others would take their records from
 * readers: of this process, it is known; of another, it has no checkpoint.
 */
export async function endingOf(scene: Scene, found: OpenTransaction, signal: AbortSignal): Promise<Ending> {
  const { checkpoint, ledger } = scene;
  if (ledger.isCommitting(found)) return "committed";
  const isStep = found.topics.some(({ topic }) => topic === checkpoint.name);
  if (isStep) ledger.foundStep();
  if (isStep || ledger.isOwn(found)) return "aborted";
  return await lastEnding(scene, found.producerId, signal);
}

/** What the last step came to. */
async function lastEnding(
  { cluster, checkpoint, ledger }: Scene,
  producerId: bigint,
  signal: AbortSignal,
): Promise<Ending> {
  if (ledger.isStepAborted) return "aborted";
  const own = { ...checkpoint, partition: 0 };
  const { first, end: until } = await extentOf(cluster, own, signal);
  const near = until - NEAR_THE_END;
  const from = near > first ? near : first;
  const last = await lastBy(cluster, own, { from, until, producerId }, signal);
  if (typeof last === "string") return last;
  // It is open there too. The coordinator knew it, unless another writer came under this id since; the record is sent last.
  return ledger.ending ?? (isWholeCheckpoint(last) ? "committed" : "aborted");
}

export class LeftOpen {
  readonly #options: LeftOpenOptions;
  #ending: Promise<Ending> | null = null;

  constructor(options: LeftOpenOptions) {
    this.#options = options;
  }

  /** How the last step of the writers before this one ended. Before this one writes. */
  async last(signal: AbortSignal): Promise<Ending> {
    return await (this.#ending ??= lastEnding(this.#options, this.#options.writer.producerId, signal));
  }

  /**
   * Ends what earlier writers left open in these topics, of which the checkpoint says `before`. Returns where one is open still,
   * of another program.
   */
  async end(
    topics: readonly NamedTopic[],
    before: TopicCheckpoint["topics"],
    signal: AbortSignal,
  ): Promise<readonly OpenPartition[]> {
    const ending = async ({ name }: OpenPartition) => leftIn(before[name]) ?? (await this.last(signal));
    return await this.#end(partitionsOf(topics), ending, signal);
  }

  /** What is open there is known to have been committed, or was aborted. */
  async tell(partitions: readonly Partition[], signal: AbortSignal): Promise<void> {
    await this.#end(partitions, async () => "aborted", signal);
  }

  async #end(
    partitions: readonly Partition[],
    of: (open: OpenPartition) => Promise<Ending>,
    signal: AbortSignal,
  ): Promise<readonly OpenPartition[]> {
    const { writer, clock, ledger } = this.#options;
    const found = await this.#open(partitions, signal);
    if (found.length === 0) return found;
    // A mark may be on its way. Invariant: where the coordinator brings it, nothing else ends the transaction: a process that is
    // killed in between would take back what was committed.
    await writer.told(signal);
    let open = await this.#open(found, signal);
    if (open.length === 0) return open;
    const ended = await Promise.all(open.map(async (one) => (ledger.isCommitted(one) ? "committed" : await of(one))));
    for (const outcome of ENDINGS) {
      const those = open.filter((_, i) => ended[i] === outcome);
      if (those.length > 0) await writer.endIn(those, outcome, signal);
    }
    for (let tries = 1; tries < TRIES_MAX; tries++) {
      open = await this.#open(open, signal);
      if (open.length === 0) return open;
      await clock.sleep(Math.min(tries, 50), signal);
    }
    return open;
  }

  async #open(partitions: readonly Partition[], signal: AbortSignal): Promise<readonly OpenPartition[]> {
    const { cluster, clock } = this.#options;
    return await whileBusy(clock, signal, NOT_YET, () => openIn(cluster, partitions, signal));
  }

  /** For topics that only this sink writes to. */
  async expectEnded(topics: readonly NamedTopic[], signal: AbortSignal): Promise<void> {
    const [open] = await this.end(topics, {}, signal);
    if (open === undefined) return;
    const { address, cluster, writer } = this.#options;
    const { name, partition, since } = open;
    const command = `kafka-transactions.sh --bootstrap-server ${shellWord(address)} abort --topic ${shellWord(name)} --partition ${partition} --start-offset ${since}`;
    const producer = await producerOf(cluster, open, signal);
    const whose = producer === null ? "of a producer that the broker does not name" : `of producer ${producer}`;
    throw kafkaError(
      "MR3518",
      "retryable",
      `in topic ${name}, partition ${partition}, a transaction ${whose} is open since offset ${since}; this sink is producer ` +
        `${writer.producerId}. If no program is going to end it: ${command}`,
    );
  }
}

interface Producers {
  readonly topics: readonly {
    readonly partitions: readonly {
      readonly activeProducers: readonly { readonly producerId: bigint; readonly currentTxnStartOffset: bigint }[];
    }[];
  }[];
}

const TELLS_NOTHING = new Set(["PLT_KFK_UNSUPPORTED_API", "UNSUPPORTED_VERSION", "TOPIC_AUTHORIZATION_FAILED"]);

/** Who has begun the transaction; null: the broker does not tell. */
async function producerOf(cluster: Cluster, open: OpenPartition, signal: AbortSignal): Promise<bigint | null> {
  const { name, topic, partition, since } = open;
  const asked = [{ name, partitionIndexes: [partition] }];
  try {
    const leader = topic.leaders[partition]!;
    const { topics } = await cluster.request<Producers>("DescribeProducers", leader, signal, asked);
    const producers = topics[0]?.partitions[0]?.activeProducers ?? [];
    return producers.find(({ currentTxnStartOffset }) => currentTxnStartOffset === since)?.producerId ?? null;
  } catch (error) {
    if ([...apiIdsOf(error), ...codesOf(error)].some((one) => TELLS_NOTHING.has(one))) return null;
    throw error;
  }
}

export function partitionsOf(topics: readonly NamedTopic[]): readonly Partition[] {
  return topics.flatMap(({ name, topic }) => topic.leaders.map((_, partition) => ({ name, topic, partition })));
}
