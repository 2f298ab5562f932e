/** Brokers that outlive every process: topics, transactions and groups, asked by the protocol's requests. */
import { failureOf } from "../../../connectors/kafka/client/failures.ts";
import type { SentBatch, Topic } from "../../../connectors/kafka/client/cluster.ts";
import { fairWeather } from "../network.ts";
import type { Scheduler } from "../scheduler.ts";
import { callTopics } from "../../../connectors/kafka/names.ts";
import { Groups } from "./groups.ts";
import { NAMING } from "./log-checks.ts";
import { PartitionLog } from "./partition-log.ts";
import { type Identity, Transactions, type WrittenRecord } from "./transactions.ts";

export const BROKER_MS = 3;
const BROKERS = 3;
const CALLS = new Set(Object.values(callTopics(NAMING)));
const COMMITTED = 1;
const EARLIEST = -2n;
const BATCHES_MAX = 5;
/** As writers ask for. */
const TRANSACTION_MS_MAX = 60_000;

interface KeptTopic {
  readonly id: string;
  readonly partitions: readonly PartitionLog[];
  readonly configs: readonly Setting[];
}

interface WantedTopic {
  readonly name: string;
  readonly numPartitions: number;
  readonly configs: readonly Setting[];
}

interface Setting {
  readonly name: string;
  readonly value: string;
}

interface AskedOffset {
  readonly name: string;
  readonly partitions: readonly { readonly partitionIndex: number; readonly timestamp: bigint }[];
}

interface AskedRecords {
  readonly topic: string;
  readonly topicId: string;
  readonly partitions: readonly [{ readonly partition: number; readonly fetchOffset: bigint }];
}

interface AddedPartitions extends Identity {
  readonly transactionalId: string;
  readonly topics: readonly { readonly name: string; readonly partitions: readonly number[] }[];
}

/** The parts of each request, as the product gives them. */
interface Requests {
  FindCoordinator: [];
  CreateTopics: [readonly WantedTopic[]];
  DescribeConfigs: [readonly { readonly resourceName: string }[]];
  ListOffsets: [replica: number, isolation: number, readonly AskedOffset[]];
  Fetch: [waitMs: number, least: number, most: number, isolation: number, number, number, readonly AskedRecords[]];
  InitProducerId: [id: string];
  DescribeTransactions: [ids: readonly [string]];
  AddPartitionsToTxn: [readonly AddedPartitions[]];
  EndTxn: [id: string, producerId: bigint, producerEpoch: number, isCommitted: boolean];
  JoinGroup: [
    id: string,
    sessionMs: number,
    rebalanceMs: number,
    memberId: string,
    instance: null,
    type: string,
    protocols: readonly [{ readonly name: string; readonly metadata: Buffer }],
  ];
  SyncGroup: [
    id: string,
    generation: number,
    memberId: string,
    instance: null,
    type: string,
    protocol: string,
    given: readonly { readonly memberId: string; readonly assignment: Buffer }[],
  ];
  Heartbeat: [id: string, generation: number, memberId: string];
  LeaveGroup: [id: string, members: readonly [{ readonly memberId: string }]];
}

type Answers = { readonly [Name in keyof Requests]: (...parts: Requests[Name]) => unknown };

export interface BrokerOptions {
  readonly scheduler: Scheduler;
  /** The largest batch that topics take. */
  readonly batchBytesMax: number;
  readonly onCommitted: (records: readonly WrittenRecord[]) => void;
  readonly fail: (text: string) => void;
}

export class Broker {
  readonly weather = fairWeather(BROKER_MS);
  /** What stands for all connections: another one, and they were lost. */
  link: object = {};
  readonly #options: BrokerOptions;
  readonly #topics = new Map<string, KeptTopic>();
  readonly #transactions: Transactions;
  readonly #groups: Groups;
  readonly #answers: Answers = {
    FindCoordinator: () => ({ coordinators: [{ nodeId: 1, errorCode: 0 }] }),
    CreateTopics: (wanted) => this.#create(wanted),
    DescribeConfigs: (asked) => this.#describe(asked),
    ListOffsets: (_replica, isolation, asked) => this.#offsets(isolation, asked),
    Fetch: (waitMs, _least, _most, isolation, _session, _epoch, [asked]) => this.#fetch(waitMs, isolation, asked!),
    InitProducerId: (id) => this.#transactions.begin(id),
    DescribeTransactions: ([id]) => ({ transactionStates: this.#transactions.describe(id) }),
    AddPartitionsToTxn: ([asked]) => this.#add(asked!),
    EndTxn: (id, producerId, producerEpoch, isCommitted) => {
      this.#transactions.end(id, { producerId, producerEpoch }, isCommitted);
      return {};
    },
    JoinGroup: (id, sessionMs, rebalanceMs, memberId, _instance, _type, [{ name: protocol, metadata }]) =>
      this.#groups.join({ id, sessionMs, rebalanceMs, memberId, protocol, metadata }),
    SyncGroup: (id, generation, memberId, _instance, _type, _protocol, given) =>
      this.#groups.sync(id, generation, memberId, new Map(given.map((one) => [one.memberId, one.assignment]))),
    Heartbeat: (id, generation, memberId) => this.#groups.heartbeat(id, generation, memberId),
    LeaveGroup: (id, [{ memberId }]) => this.#groups.leave(id, memberId),
  };

  constructor(options: BrokerOptions) {
    this.#options = options;
    this.#transactions = new Transactions(options.scheduler, options.onCommitted);
    this.#groups = new Groups(options.scheduler);
  }

  topic(name: string): Topic | null {
    const kept = this.#topics.get(name);
    return kept === undefined ? null : { id: kept.id, leaders: kept.partitions.map((_, i) => 1 + (i % BROKERS)) };
  }

  get names(): readonly string[] {
    return [...this.#topics.keys()];
  }

  get brokers(): readonly number[] {
    return Array.from({ length: BROKERS }, (_, i) => i + 1);
  }

  /** Null: there is no such partition. */
  log(name: string, partition: number): PartitionLog | null {
    return this.#topics.get(name)?.partitions[partition] ?? null;
  }

  /** The brokers are killed while the next transaction ends, and are back after so long. */
  killAtNextEnd(downMs: number): void {
    this.#transactions.cutOffNext(() => {
      this.link = {};
      this.weather.isDown = true;
      this.#options.scheduler.after(downMs, () => void (this.weather.isDown = false));
    });
  }

  /** Returns where each begins. */
  produce(id: string, batches: readonly SentBatch[]): readonly bigint[] {
    return batches.map(({ name, partition, bytes }) => this.#transactions.write(id, name, partition, bytes));
  }

  /** What it throws is its answer. */
  answer(name: string, parts: readonly unknown[]): unknown {
    if (!Object.hasOwn(this.#answers, name)) throw failureOf("UNSUPPORTED_VERSION", name);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the parts are those of the request with this name
    const work = this.#answers[name as keyof Requests] as (...parts: readonly unknown[]) => unknown;
    return work(...parts);
  }

  #create(wanted: readonly WantedTopic[]): object {
    for (const { name, numPartitions, configs } of wanted) {
      if (this.#topics.has(name)) throw failureOf("TOPIC_ALREADY_EXISTS", name);
      const partitions = Array.from(
        { length: numPartitions },
        (_, i) =>
          new PartitionLog((text) => {
            // Calls are read before they are committed, and also where they are taken back.
            if (!CALLS.has(name)) this.#options.fail(`${name}/${i}: ${text}`);
          }),
      );
      this.#topics.set(name, { id: `topic-${this.#topics.size + 1}`, partitions, configs });
    }
    return { topics: wanted.map(({ name }) => ({ name, errorCode: 0 })) };
  }

  #describe(asked: readonly { readonly resourceName: string }[]): object {
    const defaults = [
      { name: "max.message.bytes", value: String(this.#options.batchBytesMax) },
      { name: "cleanup.policy", value: "delete" },
    ];
    const results = asked.map(({ resourceName }) => {
      // What is said last counts.
      const configs = [...defaults, ...(this.#topics.get(resourceName)?.configs ?? [])];
      return { errorCode: 0, resourceName, configs };
    });
    return { results };
  }

  #partition(name: string, partition: number): PartitionLog {
    const log = this.log(name, partition);
    if (log === null) throw failureOf("UNKNOWN_TOPIC_OR_PARTITION", name);
    return log;
  }

  #offsets(isolation: number, asked: readonly AskedOffset[]): object {
    const topics = asked.map(({ name, partitions }) => ({
      name,
      partitions: partitions.map(({ partitionIndex, timestamp }) => {
        const log = this.#partition(name, partitionIndex);
        const last = isolation === COMMITTED ? log.stable : log.end;
        return { partitionIndex, errorCode: 0, offset: timestamp === EARLIEST ? log.first : last };
      }),
    }));
    return { topics };
  }

  /** Waits for something to read, for as long as it was asked to. */
  async #fetch(waitMs: number, isolation: number, asked: AskedRecords): Promise<object> {
    const { topic, topicId, partitions } = asked;
    const [{ partition, fetchOffset }] = partitions;
    const log = this.#partition(topic, partition);
    if (this.topic(topic)?.id !== topicId) throw failureOf("UNKNOWN_TOPIC_ID", topic);
    const { scheduler } = this.#options;
    const untilMs = scheduler.nowMs + waitMs;
    for (;;) {
      const count = 1 + scheduler.random.below(BATCHES_MAX);
      const fetched = log.read(fetchOffset, isolation === COMMITTED, count);
      if (fetched.records.length > 0 || scheduler.nowMs >= untilMs) return { responses: [{ partitions: [fetched] }] };
      await new Promise<void>((resolve) => {
        const due = scheduler.after(untilMs - scheduler.nowMs, () => end());
        const forget = log.onAppend(() => end());
        const end = (): void => {
          due.work = null;
          forget();
          resolve();
        };
      });
    }
  }

  #add({ transactionalId, topics, ...identity }: AddedPartitions): object {
    const partitions = topics.flatMap(({ name, partitions: of }) =>
      of.map((partition) => ({ name, partition, log: this.#partition(name, partition) })),
    );
    this.#transactions.add(transactionalId, identity, partitions, TRANSACTION_MS_MAX);
    return {};
  }
}
