/** A Kafka sink in this process, whose brokers fail as a test wants. */
import { type Cluster, type SaslSettings, topicsOf } from "../../../connectors/kafka/client/cluster.ts";
import type { Partition } from "../../../connectors/kafka/client/partition.ts";
import { RecordBatch } from "../../../connectors/kafka/client/record-batch.ts";
import { createTopic } from "../../../connectors/kafka/writer/topics.ts";
import { TransactionalWriter } from "../../../connectors/kafka/client/transactions.ts";
import { accessTo } from "../../../connectors/kafka/connection.ts";
import { MillraceFormat } from "../../../connectors/kafka/formats/millrace.ts";
import { sinkId } from "../../../connectors/kafka/names.ts";
import { TopicSink, type TopicSinkSettings } from "../../../connectors/kafka/sink/topic-sink.ts";
import { ByteWriter } from "../../../src/core/bytes.ts";
import { type Clock, systemClock } from "../../../src/core/clock.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { put, Reports, rowsBatch, timeout } from "../../conformance/stage.ts";
import { tableVersion } from "../model/blocks.ts";
import { forgetfulAccess, type Weakness } from "../faults/forgetful-cluster.ts";
import { KafkaTopics } from "./kafka-topics.ts";

export const origin = {
  name: "shop",
  producer: "millrace/test",
  sourceKind: "postgres",
  database: "shop",
  formatPosition: String,
} as const;
export const item = tableVersion({ table: "item", columns: { id: "int8" } });
export const note = tableVersion({ table: "note", columns: { id: "int8" } });
/** The rows' commits are long ago. */
export const KEPT = { "retention.ms": "-1" };
const ID = "stream";
export const CHECKPOINT = `_checkpoint.${ID}`;

/** A transaction beside the sink's. */
export async function begunBy(
  cluster: Cluster,
  id: string,
  name: string,
  always?: Partition,
): Promise<TransactionalWriter> {
  const options = { clock: systemClock, id, compression: "none", ...(always === undefined ? {} : { always }) } as const;
  const writer = await TransactionalWriter.open(cluster, options, timeout());
  const topic = (await topicsOf(cluster, [name], timeout())).get(name)!;
  const batch = new RecordBatch(new ByteWriter(1024));
  batch.add(Buffer.from("key"), Buffer.from('{"key":{"id":"other"}}'), [], Date.now());
  await writer.send([{ name, topic, batches: [{ partition: 0, batch }] }], () => undefined, timeout());
  return writer;
}

interface Login {
  readonly address: string;
  readonly sasl: SaslSettings;
}

/** A sink, its topics, and what happens to its transactions. */
export class SinkScene implements AsyncDisposable {
  readonly topics: KafkaTopics;
  readonly weakness: Weakness = {
    topics: new Set(),
    aborts: false,
    fails: null,
    before: new Map(),
    after: new Map(),
    answers: new Map(),
    link: null,
  };
  readonly settings: TopicSinkSettings;
  /** Of the sink's clock. */
  aheadMs = 0;
  readonly #clock: Clock = {
    ...systemClock,
    now: () => systemClock.now() + this.aheadMs,
    elapsed: () => systemClock.elapsed() + this.aheadMs,
  };
  sink: TopicSink;
  #lease = 0;
  /** Where the sink said that it is when it was opened. */
  at: bigint | undefined;

  private constructor(address: string, login: Login | null) {
    this.topics = new KafkaTopics(address);
    const { prefix } = this.topics;
    const { address: broker, sasl } = login ?? { address, sasl: null };
    const access = accessTo(() => ({ brokers: [broker], clientId: "test", tls: null, sasl }));
    this.settings = {
      name: ID,
      cluster: forgetfulAccess(access, this.weakness, `${prefix}spare`),
      naming: { prefix, daemon: "shop", single: undefined, isDebezium: false },
      rules: { create: true, partitions: 2, replication: -1, settings: KEPT },
      compression: "none",
      tombstones: false,
      transactions: false,
      form: "millrace",
      format: new MillraceFormat(origin),
      registry: null,
      kind: "topics",
    };
    this.sink = new TopicSink(this.settings, this.#clock);
  }

  /** `address`: of the broker; `login`: of the sink, at another listener. The sink holds item 1. */
  static async create(address: string, login: Login | null = null): Promise<SinkScene> {
    const scene = new SinkScene(address, login);
    await using cluster = await scene.settings.cluster.connect(timeout());
    const spare = { name: `${scene.topics.prefix}spare`, partitions: 1, replication: -1, settings: {} };
    await createTopic(cluster, spare, timeout());
    await scene.open();
    await scene.sink.prepare([item], timeout());
    await scene.write(item, 10n, "1");
    return scene;
  }

  async open(): Promise<void> {
    this.at = (await this.sink.open(++this.#lease, timeout()))?.position.commit;
  }

  /** Another process takes its place. */
  async restart(): Promise<void> {
    await this.sink.close();
    this.weakness.topics = new Set();
    this.weakness.aborts = false;
    this.sink = new TopicSink(this.settings, this.#clock);
    await this.open();
  }

  async write(table: TableVersion, at: bigint, ...ids: readonly string[]): Promise<void> {
    const batch = rowsBatch(at, [table, ids.map((id) => put([id]))]);
    const order = new Uint16Array(ids.length);
    await this.sink.apply(batch.kind === "rows" ? { ...batch, order } : batch, new Reports(), timeout());
  }

  /** Its transactional id. */
  get id(): string {
    return sinkId(this.settings);
  }

  topic(name: string): string {
    return `${this.topics.prefix}shop.${name}`;
  }

  /** The next transactions end in topics with other names alone. */
  forget(...names: readonly string[]): void {
    this.weakness.topics = new Set(names.map((name) => this.topic(name)));
  }

  /** Ids in the order of their offsets, of each partition after the other, as readers of committed records find them. */
  async ids(name: string): Promise<readonly string[]> {
    const records = await this.topics.read(this.topic(name));
    return records.map(({ value }) => String(JSON.parse(value!).key.id)).toSorted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sink.close();
    await this.topics[Symbol.asyncDispose]();
  }
}
