/**
 * Transactions of a sink's own that are over and were never ended in some partitions. The coordinator of Kafka 4 takes a
 * partition without a leader for deleted (https://github.com/apache/kafka/pull/22680): where a broker is killed while a
 * transaction ends, that counts as complete, and readers of committed records wait in its partitions for ever. What the
 * transaction came to is decided, and the same in all partitions; the next one of the same transactional id ends it where that
 * is missing.
 */
import type { Clock } from "../../../src/core/clock.ts";
import { shellWord } from "../../../src/core/shell-word.ts";
import { isWholeCheckpoint, NEAR_THE_END } from "./checkpoint.ts";
import type { Cluster, Ending } from "../client/cluster.ts";
import type { TransactionalWriter, Untold } from "../client/transactions.ts";
import { apiIdsOf, codesOf, whileBusy } from "../client/failures.ts";
import { extentOf, lastBy, openIn, type OpenPartition, type Partition } from "../client/partition.ts";
import { kafkaError } from "../errors.ts";
import { type NamedTopic, NOT_YET } from "./topics.ts";

/** Until the brokers have told all partitions: two seconds. */
const TRIES_MAX = 65;

interface LeftOpenOptions {
  readonly cluster: Cluster;
  readonly writer: TransactionalWriter;
  readonly checkpoint: NamedTopic;
  /** What the last transaction came to; null: nobody has asked in time. */
  readonly known: Ending | null;
  readonly clock: Clock;
  /** Of some broker. */
  readonly address: string;
}

export class LeftOpen {
  readonly #options: LeftOpenOptions;
  #ending: Promise<Ending> | null = null;

  constructor(options: LeftOpenOptions) {
    this.#options = options;
  }

  /** Ends it in these topics as it ended elsewhere. Returns where one is open still, of another program. */
  async end(topics: readonly NamedTopic[], signal: AbortSignal): Promise<readonly OpenPartition[]> {
    return await this.#end(partitionsOf(topics), () => (this.#ending ??= this.#found(signal)), signal);
  }

  /** In topics that no committed batch has written to. */
  async abort(topics: readonly NamedTopic[], signal: AbortSignal): Promise<void> {
    await this.#end(partitionsOf(topics), async () => "aborted", signal);
  }

  /** Of the last transaction of this writer. */
  async tell({ partitions, outcome }: Untold, signal: AbortSignal): Promise<void> {
    await this.#end(partitions, async () => outcome, signal);
  }

  async #end(
    partitions: readonly Partition[],
    outcome: () => Promise<Ending>,
    signal: AbortSignal,
  ): Promise<readonly OpenPartition[]> {
    const { writer, clock } = this.#options;
    let open = await this.#open(partitions, signal);
    if (open.length === 0) return open;
    await writer.endIn(open, await outcome(), signal);
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

  /** The coordinator knows it, unless another writer came under this id since; then the checkpoint's partition shows it. */
  async #found(signal: AbortSignal): Promise<Ending> {
    const { cluster, writer, checkpoint, known } = this.#options;
    if (known !== null) return known;
    const own = { ...checkpoint, partition: 0 };
    const { first, end: until } = await extentOf(cluster, own, signal);
    const near = until - NEAR_THE_END;
    const from = near > first ? near : first;
    const last = await lastBy(cluster, own, { from, until, producerId: writer.producerId }, signal);
    if (typeof last === "string") return last;
    // It is sent last: all of the batch is there.
    return isWholeCheckpoint(last) ? "committed" : "aborted";
  }

  /** For topics that only this sink writes to. */
  async expectEnded(topics: readonly NamedTopic[], signal: AbortSignal): Promise<void> {
    const [open] = await this.end(topics, signal);
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

function partitionsOf(topics: readonly NamedTopic[]): readonly Partition[] {
  return topics.flatMap(({ name, topic }) => topic.leaders.map((_, partition) => ({ name, topic, partition })));
}
