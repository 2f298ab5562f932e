/**
 * The one writer under a transactional id: https://kafka.apache.org/protocol, KIP-98. Each call is one request or a few; a
 * writer whose call has failed is not used again.
 */
import type { Clock } from "../../../src/core/clock.ts";
import type { Cluster, Ending, SentBatch, Topic } from "./cluster.ts";
import { about, apiIdsOf, codesOf, failureOf, whileBusy } from "./failures.ts";
import type { Partition } from "./partition.ts";
import type { Compression, ProducerIdentity, RecordBatch } from "./record-batch.ts";

/** How long a transaction may last before the broker aborts it: the limit of a broker's default settings is 15 minutes. */
export const TRANSACTION_MS_MAX = 60_000;
/**
 * Requests to one broker that wait for their answers: it works on one, and the next is there when it has done so. Their
 * memory is in use until then.
 */
const IN_FLIGHT_MAX = 2;
const REQUEST_BYTES = 4 * 1024 * 1024;
/** The broker still writes the end of the transaction before: a matter of milliseconds. */
const STILL_ENDING = new Set(["CONCURRENT_TRANSACTIONS", "COORDINATOR_LOAD_IN_PROGRESS"]);
/** A cluster makes the topic of all transactions when the first one begins. */
const STILL_BEGINNING = new Set([...STILL_ENDING, "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"]);
/** Two requests that left together can come the other way round. */
const STILL_ADDING = new Set([...STILL_ENDING, "INVALID_TXN_STATE"]);

export interface TopicBatches {
  readonly name: string;
  readonly topic: Topic;
  /** Several for one partition are sent in their order. */
  readonly batches: readonly { readonly partition: number; readonly batch: RecordBatch }[];
}

interface WriterOptions {
  readonly clock: Clock;
  /** The transactional id. */
  readonly id: string;
  readonly compression: Compression;
  /** A partition that is in each transaction, whether it has records there or not. */
  readonly always?: Partition;
  /** What the brokers take for the batches of one request, where that may be less than usual. */
  readonly requestBytesMax?: number;
}

interface AddedTopic {
  readonly name: string;
  readonly partitions: readonly number[];
}

interface Begun {
  readonly producer: ProducerIdentity;
  readonly coordinator: number;
  /** The connection to it. */
  readonly link: object;
  /** What the transaction before came to; null: the brokers do not tell. */
  readonly before: Ending | null;
}

/** Partitions in which a transaction may be open that has ended. */
export interface Untold {
  readonly partitions: readonly Partition[];
  readonly outcome: Ending;
}

interface Announced {
  readonly name: string;
  readonly topic: Topic;
  readonly partitions: ReadonlySet<number>;
}

export class TransactionalWriter {
  readonly #cluster: Cluster;
  readonly #clock: Clock;
  readonly #id: string;
  readonly #begun: Begun;
  readonly #producer: ProducerIdentity;
  readonly #coordinator: number;
  readonly #compression: Compression;
  readonly #always: Partition | null;
  readonly #requestBytes: number;
  /** By broker, the coordinator's and those of the partitions' leaders. */
  readonly #links: Map<number, object>;
  /** By topic id, the next sequence number of each partition. */
  readonly #sequences = new Map<string, Int32Array>();
  /** By topic id, the partitions of the open transaction. */
  #announced = new Map<string, Announced>();
  /** Those of the last one, and what it came to. */
  #ended: readonly Announced[] = [];
  #outcome: Ending = "committed";
  /** By broker, the requests without an answer, and those that failed. */
  readonly #flying = new Map<number, Set<Promise<void>>>();

  private constructor(
    cluster: Cluster,
    { clock, id, compression, always, requestBytesMax }: WriterOptions,
    begun: Begun,
  ) {
    this.#cluster = cluster;
    this.#always = always ?? null;
    this.#requestBytes = Math.min(REQUEST_BYTES, requestBytesMax ?? REQUEST_BYTES);
    this.#clock = clock;
    this.#id = id;
    this.#compression = compression;
    this.#begun = begun;
    this.#producer = begun.producer;
    this.#coordinator = begun.coordinator;
    this.#links = new Map([[begun.coordinator, begun.link]]);
  }

  /** Afterwards no earlier writer under this id can write, and its open transaction was aborted, or committed if it was so far. */
  static async open(cluster: Cluster, options: WriterOptions, signal: AbortSignal): Promise<TransactionalWriter> {
    const { clock, id } = options;
    return await whileBusy(clock, signal, STILL_BEGINNING, async () => {
      const coordinator = await coordinatorOf(cluster, "transaction", id, signal);
      const link = await cluster.linkTo(coordinator, signal);
      // Afterwards nobody can tell any more.
      const before = await endingOf(cluster, coordinator, id, signal);
      const asked = [id, TRANSACTION_MS_MAX, -1n, -1];
      const answer = cluster.request<ProducerIdentity>("InitProducerId", coordinator, signal, ...asked);
      const producer = await about(id, answer);
      return new TransactionalWriter(cluster, options, { producer, coordinator, link, before });
    });
  }

  get producerId(): bigint {
    return this.#producer.producerId;
  }

  /** What the last transaction of the writer before came to; null: the brokers do not tell. */
  get before(): Ending | null {
    return this.#begun.before;
  }

  /**
   * Null, unless a connection to a broker was lost since the last transaction; then the partitions of that one. It has ended,
   * but not where a broker was away.
   */
  async untold(signal: AbortSignal): Promise<Untold | null> {
    let isCutOff = false;
    for (const [broker, link] of this.#links) {
      const now = await this.#cluster.linkTo(broker, signal);
      isCutOff ||= now !== link;
      this.#links.set(broker, now);
    }
    if (!isCutOff) return null;
    const partitions = this.#ended.flatMap(({ name, topic, partitions: all }) =>
      [...all].map((partition) => ({ name, topic, partition })),
    );
    return { partitions, outcome: this.#outcome };
  }

  /** Ends what was begun under this id, and is open in these partitions, also by earlier writers. */
  async endIn(partitions: readonly Partition[], outcome: Ending, signal: AbortSignal): Promise<void> {
    const byTopic = Map.groupBy(partitions, ({ name }) => name);
    const topics = [...byTopic].map(([name, of]) => ({ name, partitions: of.map(({ partition }) => partition) }));
    const { producerId, producerEpoch } = this.#producer;
    await whileBusy(this.#clock, signal, STILL_ADDING, async () => {
      // Both leave at once: what was added is aborted if this process is killed before the end.
      const sent = await Promise.allSettled([
        this.#add(topics, signal),
        this.#cluster.request(
          "EndTxn",
          this.#coordinator,
          signal,
          this.#id,
          producerId,
          producerEpoch,
          outcome === "committed",
        ),
      ]);
      for (const one of sent) if (one.status === "rejected") throw one.reason;
    });
  }

  /** All of it in one transaction: see `commit`. */
  async write(topics: readonly TopicBatches[], signal: AbortSignal): Promise<void> {
    await this.send(topics, () => undefined, signal);
    await this.commit(signal);
  }

  /** A part of a transaction, which begins with the first one. `onStored`: the brokers have it. */
  async send(topics: readonly TopicBatches[], onStored: () => void, signal: AbortSignal): Promise<void> {
    await this.#announce(topics, signal);
    const byLeader = new Map<number, SentBatch[]>();
    for (const { name, topic, batches } of topics) {
      for (const { partition, batch } of batches) {
        const bytes = batch.finish(this.#producer, this.#sequence(topic, partition, batch.count), this.#compression);
        const leader = topic.leaders[partition]!;
        if (leader < 0) throw failureOf("LEADER_NOT_AVAILABLE", name);
        const ofLeader = byLeader.get(leader);
        if (ofLeader === undefined) byLeader.set(leader, [{ name, partition, bytes }]);
        else ofLeader.push({ name, partition, bytes });
      }
    }
    const sent = await Promise.all([...byLeader].map(([leader, of]) => this.#produce(leader, of, signal)));
    Promise.all(sent.flat()).then(onStored, () => undefined);
  }

  /** Ends the transaction. When this resolves, readers of committed records see it; when it rejects, they may. */
  async commit(signal: AbortSignal): Promise<void> {
    await this.#end("committed", signal);
  }

  /** Ends the transaction, if one has begun, as if nothing of it had been sent. */
  async abort(signal: AbortSignal): Promise<void> {
    if (this.#announced.size > 0) await this.#end("aborted", signal);
  }

  async #end(outcome: Ending, signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#flying.values()].flatMap((flying) => [...flying]));
    const { producerId, producerEpoch } = this.#producer;
    const end = [this.#id, producerId, producerEpoch, outcome === "committed"];
    await about(this.#id, this.#cluster.request("EndTxn", this.#coordinator, signal, ...end));
    this.#ended = [...this.#announced.values()];
    this.#outcome = outcome;
    this.#announced = new Map();
  }

  async #announce(topics: readonly TopicBatches[], signal: AbortSignal): Promise<void> {
    const always = this.#announced.size === 0 && this.#always !== null ? [this.#always] : [];
    const wanted = [
      ...always.map((one) => ({ ...one, partitions: [one.partition] })),
      ...topics.map(({ name, topic, batches }) => ({ name, topic, partitions: batches.map((of) => of.partition) })),
    ];
    const announced = wanted.flatMap(({ name, topic, partitions: all }) => {
      const known = this.#announced.get(topic.id)?.partitions ?? new Set();
      const partitions = [...new Set(all)].filter((one) => !known.has(one));
      this.#announced.set(topic.id, { name, topic, partitions: new Set([...known, ...partitions]) });
      return partitions.length === 0 ? [] : [{ name, partitions }];
    });
    if (announced.length === 0) return;
    await whileBusy(this.#clock, signal, STILL_ENDING, () => this.#add(announced, signal));
  }

  async #add(topics: readonly AddedTopic[], signal: AbortSignal): Promise<void> {
    const transaction = { transactionalId: this.#id, ...this.#producer, verifyOnly: false, topics };
    await this.#cluster.request("AddPartitionsToTxn", this.#coordinator, signal, [transaction]);
  }

  #sequence(topic: Topic, partition: number, count: number): number {
    let known = this.#sequences.get(topic.id);
    if (known === undefined || known.length < topic.leaders.length) {
      const larger = new Int32Array(topic.leaders.length);
      larger.set(known ?? []);
      this.#sequences.set(topic.id, (known = larger));
    }
    const sequence = known[partition]!;
    // It begins again at 0 after 2^31 - 1, as a broker expects.
    known[partition] = (sequence + count) & 0x7fff_ffff;
    return sequence;
  }

  /**
   * A request has at most one batch for each partition. Batches of a partition go in their order. Resolves when the last
   * request has left, to the requests.
   */
  async #produce(leader: number, sent: readonly SentBatch[], signal: AbortSignal): Promise<readonly Promise<void>[]> {
    const send = await this.#cluster.sender(leader, signal);
    this.#links.set(leader, await this.#cluster.linkTo(leader, signal));
    const flying = this.#flying.get(leader) ?? new Set();
    this.#flying.set(leader, flying);
    const all: Promise<void>[] = [];
    for (const batches of inRequests(sent, this.#requestBytes)) {
      while (flying.size >= IN_FLIGHT_MAX) await Promise.race(flying);
      const answered = send(this.#id, batches);
      all.push(answered);
      flying.add(answered);
      answered.then(
        () => flying.delete(answered),
        () => undefined,
      );
    }
    return all;
  }
}

function* inRequests(batches: readonly SentBatch[], bytesMax: number): Generator<readonly SentBatch[]> {
  let rest = batches;
  while (rest.length > 0) {
    const request: SentBatch[] = [];
    const later: SentBatch[] = [];
    const taken = new Set<string>();
    let byteCount = 0;
    for (const one of rest) {
      const key = `${one.name} ${one.partition}`;
      const fits = !taken.has(key) && (request.length === 0 || byteCount + one.bytes.length <= bytesMax);
      taken.add(key);
      if (fits) byteCount += one.bytes.length;
      (fits ? request : later).push(one);
    }
    yield request;
    rest = later;
  }
}

/** The kinds of keys of FindCoordinator: https://kafka.apache.org/protocol#The_Messages_FindCoordinator */
const KEY_TYPES = { group: 0, transaction: 1 } as const;

interface Coordinator {
  readonly nodeId: number;
  readonly errorCode: number;
}

/** The broker that decides on a group, or on a transactional id. */
export async function coordinatorOf(
  cluster: Cluster,
  type: keyof typeof KEY_TYPES,
  id: string,
  signal: AbortSignal,
): Promise<number> {
  const { coordinators } = await cluster.request<{ readonly coordinators: readonly Coordinator[] }>(
    "FindCoordinator",
    null,
    signal,
    KEY_TYPES[type],
    [id],
  );
  const [found] = coordinators;
  if (found === undefined) throw failureOf("COORDINATOR_NOT_AVAILABLE", id);
  if (found.errorCode !== 0) throw failureOf(found.errorCode, id);
  return found.nodeId;
}

const ENDINGS: Readonly<Record<string, Ending>> = { CompleteCommit: "committed", CompleteAbort: "aborted" };
/** Of a broker before Kafka 3.0, and for an id that nobody has used. */
const TELLS_NOTHING = new Set(["PLT_KFK_UNSUPPORTED_API", "UNSUPPORTED_VERSION", "TRANSACTIONAL_ID_NOT_FOUND"]);

interface Described {
  readonly transactionStates: readonly { readonly transactionState: string }[];
}

/** What the last transaction under an id came to; null: it is not over, or the coordinator does not know. */
export async function endingOf(
  cluster: Cluster,
  coordinator: number,
  id: string,
  signal: AbortSignal,
): Promise<Ending | null> {
  try {
    const { transactionStates } = await cluster.request<Described>("DescribeTransactions", coordinator, signal, [id]);
    return ENDINGS[transactionStates[0]?.transactionState ?? ""] ?? null;
  } catch (error) {
    if ([...apiIdsOf(error), ...codesOf(error)].some((one) => TELLS_NOTHING.has(one))) return null;
    throw error;
  }
}
