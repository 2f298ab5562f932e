/**
 * The one writer under a transactional id: https://kafka.apache.org/protocol, KIP-98. Each call is one request or a few; a
 * writer whose call has failed is not used again.
 */
import type { Clock } from "../../../src/core/clock.ts";
import type { Cluster, SentBatch, Topic } from "./cluster.ts";
import { coordinatorOf } from "./coordinator.ts";
import { about, apiIdsOf, failureOf } from "./failures.ts";
import type { Compression, ProducerIdentity, RecordBatch } from "./record-batch.ts";

/** How long a transaction may last before the broker aborts it: the limit of a broker's default settings is 15 minutes. */
const TRANSACTION_MS_MAX = 60_000;
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
/** They take two seconds. */
const TRIES_MAX = 65;

/** The batches of one topic, by partition. */
export interface TopicBatches {
  readonly name: string;
  readonly topic: Topic;
  /** Several for one partition are sent in their order. */
  readonly batches: readonly { readonly partition: number; readonly batch: RecordBatch }[];
}

export class TransactionalWriter {
  readonly #cluster: Cluster;
  readonly #clock: Clock;
  readonly #id: string;
  readonly #producer: ProducerIdentity;
  readonly #coordinator: number;
  readonly #compression: Compression;
  /** By topic id, the next sequence number of each partition. */
  readonly #sequences = new Map<string, Int32Array>();
  /** By topic id, the partitions of the open transaction. */
  readonly #announced = new Map<string, ReadonlySet<number>>();
  /** By broker, the requests without an answer, and those that failed. */
  readonly #flying = new Map<number, Set<Promise<void>>>();

  private constructor(
    cluster: Cluster,
    clock: Clock,
    id: string,
    coordinator: number,
    producer: ProducerIdentity,
    compression: Compression,
  ) {
    this.#cluster = cluster;
    this.#clock = clock;
    this.#id = id;
    this.#coordinator = coordinator;
    this.#producer = producer;
    this.#compression = compression;
  }

  /** Afterwards no earlier writer under this id can write, and its open transaction was aborted, or committed if it was so far. */
  static async open(
    cluster: Cluster,
    { clock, id, compression }: { readonly clock: Clock; readonly id: string; readonly compression: Compression },
    signal: AbortSignal,
  ): Promise<TransactionalWriter> {
    return await whileBusy(clock, signal, STILL_BEGINNING, async () => {
      const coordinator = await coordinatorOf(cluster, "transaction", id, signal);
      const asked = [id, TRANSACTION_MS_MAX, -1n, -1];
      const begun = cluster.request<ProducerIdentity>("InitProducerId", coordinator, signal, ...asked);
      const producer = await about(id, begun);
      return new TransactionalWriter(cluster, clock, id, coordinator, producer, compression);
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
    await Promise.all([...this.#flying.values()].flatMap((flying) => [...flying]));
    const { producerId, producerEpoch } = this.#producer;
    const end = [this.#id, producerId, producerEpoch, true];
    await about(this.#id, this.#cluster.request("EndTxn", this.#coordinator, signal, ...end));
    this.#announced.clear();
  }

  async #announce(topics: readonly TopicBatches[], signal: AbortSignal): Promise<void> {
    const announced = topics.flatMap(({ name, topic, batches }) => {
      const known = this.#announced.get(topic.id) ?? new Set();
      const partitions = [...new Set(batches.map(({ partition }) => partition))].filter((one) => !known.has(one));
      this.#announced.set(topic.id, new Set([...known, ...partitions]));
      return partitions.length === 0 ? [] : [{ name, partitions }];
    });
    if (announced.length === 0) return;
    const transaction = { transactionalId: this.#id, ...this.#producer, verifyOnly: false, topics: announced };
    await whileBusy(this.#clock, signal, STILL_ENDING, () =>
      this.#cluster.request("AddPartitionsToTxn", this.#coordinator, signal, [transaction]),
    );
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
    const flying = this.#flying.get(leader) ?? new Set();
    this.#flying.set(leader, flying);
    const all: Promise<void>[] = [];
    for (const batches of inRequests(sent)) {
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

/** Tries again as long as the coordinator has to do with something else. */
async function whileBusy<T>(
  clock: Clock,
  signal: AbortSignal,
  busy: ReadonlySet<string>,
  request: () => Promise<T>,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await request();
    } catch (error) {
      if (tries >= TRIES_MAX || !apiIdsOf(error).some((id) => busy.has(id))) throw error;
      await clock.sleep(Math.min(tries, 50), signal);
    }
  }
}

function* inRequests(batches: readonly SentBatch[]): Generator<readonly SentBatch[]> {
  let rest = batches;
  while (rest.length > 0) {
    const request: SentBatch[] = [];
    const later: SentBatch[] = [];
    const taken = new Set<string>();
    let byteCount = 0;
    for (const one of rest) {
      const place = `${one.name} ${one.partition}`;
      const fits = !taken.has(place) && (request.length === 0 || byteCount + one.bytes.length <= REQUEST_BYTES);
      taken.add(place);
      if (fits) byteCount += one.bytes.length;
      (fits ? request : later).push(one);
    }
    yield request;
    rest = later;
  }
}
