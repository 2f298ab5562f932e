/**
 * The one writer under a transactional id: https://kafka.apache.org/protocol, KIP-98. Each call is one request or a few; a
 * writer whose call has failed is not used again.
 */
import type { Clock } from "../../../src/core/clock.ts";
import type { Cluster, Ending, SentBatch, Topic } from "./cluster.ts";
import { about, apiIdsOf, codesOf, failureOf, whileBusy } from "./failures.ts";
import { Ledger, type StoredBatch } from "./ledger.ts";
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
/** How often somebody looks whether transactions have ended in all their partitions: they do within milliseconds, unless a broker is away. */
const LOOK_MS = 1_000;
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
  /** Of the writers that this process had under this id. */
  readonly ledger?: Ledger;
  /** How a transaction ends that an earlier writer has left open: see `open`. Default: it is aborted. */
  readonly unfinished?: (found: OpenTransaction) => Promise<Ending>;
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
}

/** A transaction that goes on. */
export interface OpenTransaction extends ProducerIdentity {
  readonly topics: readonly { readonly topic: string; readonly partitions: readonly number[] }[];
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
  readonly #ledger: Ledger;
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
  #stored: StoredBatch[] = [];
  /** By topic id, the partitions of transactions that have ended since the last look. */
  readonly #ended = new Map<string, Announced>();
  #lookedMs: number;
  /** By broker, the requests without an answer, and those that failed. */
  readonly #flying = new Map<number, Set<Promise<void>>>();

  private constructor(
    cluster: Cluster,
    { clock, id, compression, always, requestBytesMax, ledger }: WriterOptions,
    begun: Begun,
  ) {
    this.#cluster = cluster;
    this.#always = always ?? null;
    this.#requestBytes = Math.min(REQUEST_BYTES, requestBytesMax ?? REQUEST_BYTES);
    this.#clock = clock;
    this.#id = id;
    this.#compression = compression;
    this.#ledger = ledger ?? new Ledger();
    this.#ledger.open(begun.producer);
    this.#producer = begun.producer;
    this.#coordinator = begun.coordinator;
    this.#links = new Map([[begun.coordinator, begun.link]]);
    this.#lookedMs = clock.elapsed();
  }

  /** Afterwards no earlier writer under this id can write, and its open transaction was aborted, or committed if it was so far. */
  static async open(cluster: Cluster, options: WriterOptions, signal: AbortSignal): Promise<TransactionalWriter> {
    const { clock, id, ledger, unfinished } = options;
    return await whileBusy(clock, signal, STILL_BEGINNING, async () => {
      const coordinator = await coordinatorOf(cluster, "transaction", id, signal);
      const link = await cluster.linkTo(coordinator, signal);
      const last = await lastOf(cluster, coordinator, id, signal);
      // Afterwards nobody can tell any more. Whatever was ended since then is one that ended others.
      ledger?.tell(ENDINGS[last?.transactionState ?? ""] ?? null);
      if (last?.transactionState === OPEN && (await unfinished?.(last)) === "committed")
        await about(id, cluster.request("EndTxn", coordinator, signal, id, last.producerId, last.producerEpoch, true));
      const asked = [id, TRANSACTION_MS_MAX, -1n, -1];
      const answer = cluster.request<ProducerIdentity>("InitProducerId", coordinator, signal, ...asked);
      const producer = await about(untoldIn(last) ?? id, answer);
      return new TransactionalWriter(cluster, options, { producer, coordinator, link });
    });
  }

  get producerId(): bigint {
    return this.#producer.producerId;
  }

  /**
   * The partitions in which a transaction may be open that has ended: where a broker was away when it ended. That shows by
   * connections that were lost, or, where the broker has kept them, only by a look, now and then.
   */
  async untold(signal: AbortSignal): Promise<readonly Partition[]> {
    const isCutOff = await this.#isCutOff(signal);
    if (!isCutOff && this.#clock.elapsed() - this.#lookedMs < LOOK_MS) return [];
    this.#lookedMs = this.#clock.elapsed();
    const ended = [...this.#ended.values()];
    this.#ended.clear();
    return ended.flatMap(({ name, topic, partitions }) => {
      return [...partitions].map((partition) => ({ name, topic, partition }));
    });
  }

  async #isCutOff(signal: AbortSignal): Promise<boolean> {
    let isCutOff = false;
    for (const [broker, link] of this.#links) {
      const now = await this.#cluster.linkTo(broker, signal);
      isCutOff ||= now !== link;
      this.#links.set(broker, now);
    }
    return isCutOff;
  }

  /** Resolves when the coordinator has told all partitions that it knows of how the last transaction under this id ended. */
  async told(signal: AbortSignal): Promise<void> {
    await whileBusy(this.#clock, signal, STILL_ENDING, async () => {
      const last = await lastOf(this.#cluster, this.#coordinator, this.#id, signal);
      if (ENDS.has(last?.transactionState ?? "")) throw failureOf("CONCURRENT_TRANSACTIONS", this.#id);
    });
  }

  /** Ends what was begun under this id, and is open in these partitions, also by earlier writers. */
  async endIn(partitions: readonly Partition[], outcome: Ending, signal: AbortSignal): Promise<void> {
    const byTopic = Map.groupBy(partitions, ({ name }) => name);
    const topics = [...byTopic].map(([name, of]) => ({ name, partitions: of.map(({ partition }) => partition) }));
    const { producerId, producerEpoch } = this.#producer;
    if (outcome === "committed") this.#ledger.commit();
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
    this.#ledger.end([]);
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
        if (ofLeader === undefined) byLeader.set(leader, [{ name, topic, partition, bytes }]);
        else ofLeader.push({ name, topic, partition, bytes });
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
    if (outcome === "committed") this.#ledger.commit();
    const end = [this.#id, producerId, producerEpoch, outcome === "committed"];
    await about(this.#id, this.#cluster.request("EndTxn", this.#coordinator, signal, ...end));
    this.#ledger.end(outcome === "committed" ? this.#stored : []);
    for (const [id, { partitions, ...topic }] of this.#announced) {
      const earlier = this.#ended.get(id)?.partitions;
      this.#ended.set(id, { ...topic, partitions: earlier === undefined ? partitions : earlier.union(partitions) });
    }
    this.#announced = new Map();
    this.#stored = [];
  }

  async #announce(topics: readonly TopicBatches[], signal: AbortSignal): Promise<void> {
    const isFirst = this.#announced.size === 0;
    const always = isFirst && this.#always !== null ? [this.#always] : [];
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
    let tries = 0;
    await whileBusy(this.#clock, signal, STILL_ENDING, async () => {
      // What this one adds it ends too: also the transaction that is still ending, where a broker is lost meanwhile.
      if (isFirst && ++tries > 1 && (await this.#isCutOff(signal))) throw failureOf("NETWORK_EXCEPTION", this.#id);
      await this.#add(announced, signal);
    });
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
      const answered = send(this.#id, batches).then((offsets) => {
        for (const [i, offset] of offsets.entries()) this.#stored.push({ ...batches[i]!, offset });
      });
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

const OPEN = "Ongoing";
const ENDINGS: Readonly<Record<string, Ending>> = { CompleteCommit: "committed", CompleteAbort: "aborted" };
/** For an id that nobody has used, and where brokers do not know the request. */
const TELLS_NOTHING = new Set(["PLT_KFK_UNSUPPORTED_API", "UNSUPPORTED_VERSION", "TRANSACTIONAL_ID_NOT_FOUND"]);

const ENDS = new Set(["PrepareCommit", "PrepareAbort"]);

/** The topics whose partitions are to be told yet how a transaction ends; null: none is known. */
function untoldIn(last: LastTransaction | null): string | null {
  if (last === null || last.topics.length === 0 || !ENDS.has(last.transactionState)) return null;
  return last.topics.map(({ topic }) => topic).join(", ");
}

interface LastTransaction extends OpenTransaction {
  readonly transactionState: string;
}

/** The last transaction under an id; null: the brokers tell of none. */
async function lastOf(
  cluster: Cluster,
  coordinator: number,
  id: string,
  signal: AbortSignal,
): Promise<LastTransaction | null> {
  try {
    const { transactionStates } = await cluster.request<{ readonly transactionStates: readonly LastTransaction[] }>(
      "DescribeTransactions",
      coordinator,
      signal,
      [id],
    );
    return transactionStates[0] ?? null;
  } catch (error) {
    if ([...apiIdsOf(error), ...codesOf(error)].some((one) => TELLS_NOTHING.has(one))) return null;
    throw error;
  }
}
