/**
 * Postgres to Kafka against a bare producer: records with the same keys and with values as long as the envelopes, made
 * beforehand, in transactions of as many records, with the library's own producer, into another topic of the same broker.
 * The broker is warm when the first of both begins.
 */
import { compatibilityPartitioner, type MessageToProduce, Producer } from "@platformatic/kafka";
import { type Cluster, topicsOf } from "../connectors/kafka/client/cluster.ts";
import { LibraryCluster } from "../connectors/kafka/client/library-cluster.ts";
import { extentOf, type Partition, readCommitted } from "../connectors/kafka/client/partition.ts";
import { createTopic } from "../connectors/kafka/writer/topics.ts";
import { partitionOf } from "../connectors/kafka/writer/records.ts";
import { kafka } from "../scripts/services/servers/kafka.ts";
import type { RunningService } from "../scripts/services/service.ts";
import { againstLoad, type Loaded, type LoadTarget } from "./against-load.ts";
import type { Backlog, Work } from "./backlog.ts";
import { cpuSecondsOf } from "./daemon.ts";
import { rowsOf } from "./orders.ts";
import type { BenchOptions, BenchReport } from "./report.ts";

/** So many that the daemon's start weighs little: the peer's is not counted. */
const ROWS = 600_000;
const WARM_UP_ROWS = 200_000;
/** Of the peer, in memory at a time. */
const MADE_MAX = 100_000;
const WANTED = 0.8;
const PARTITIONS = 6;
/** About as many as the daemon's transactions have, which are as large as what it receives at once. */
const TRANSACTION_RECORDS = 20_000;
/** As many as fit into a batch of a megabyte for each partition. */
const SEND_RECORDS = 4_000;
/** By so much the sizes of both topics may differ. */
const SIZES_MAX = 1.03;
const MARKS = "bench.public.mark";
const OWN_TOPIC = "bench.public.orders";
const PEER_TOPIC = "bare";
const WARM_UP_TOPIC = "warm-up";
/** The library waits longer by itself, and then makes half as many transactions. */
const RETRY_MS = 1;
const RETRIES = 1_000;

export async function run(options: BenchOptions): Promise<BenchReport> {
  await using server = await kafka.start({ own: true });
  await using target = new KafkaTarget(server, options.log);
  return await againstLoad("kafka", target, { rowCount: Math.round(ROWS * options.scale), wanted: WANTED }, options);
}

type Row = Readonly<Record<string, string | null>>;

interface Stored {
  readonly byteCount: number;
  readonly offsetCount: number;
}

interface LogDirs {
  readonly results: readonly {
    readonly topics: readonly { readonly partitions: readonly { readonly partitionSize: bigint }[] }[];
  }[];
}

class KafkaTarget implements LoadTarget {
  readonly peer = "bare producer";
  readonly serverPid: number | undefined;
  readonly #broker: string;
  readonly #log: BenchOptions["log"];
  readonly #cluster: Cluster;
  readonly #signal = new AbortController().signal;
  /** The library can't take a transactional id over. */
  #loads = 0;

  constructor({ url, pid }: RunningService, log: BenchOptions["log"]) {
    this.#log = log;
    this.serverPid = pid;
    this.#broker = new URL(url).host;
    this.#cluster = new LibraryCluster({ brokers: [this.#broker], clientId: "bench", tls: null, sasl: null });
  }

  sink(): object {
    return { kind: "kafka", brokers: [this.#broker], topics: { partitions: PARTITIONS } };
  }

  async prepare(): Promise<void> {
    for (const name of [PEER_TOPIC, WARM_UP_TOPIC]) {
      await createTopic(this.#cluster, { name, partitions: PARTITIONS, replication: 1, settings: {} }, this.#signal);
    }
    const messages = Array.from({ length: MADE_MAX }, (_, id) => message(WARM_UP_TOPIC, { id: String(id) }));
    for (let rows = 0; rows < WARM_UP_ROWS; rows += MADE_MAX) await this.#produce([messages]);
  }

  /** By one request that the broker answers when the mark is there: asking now and then would cost the broker as much. */
  async hasMark(name: string): Promise<boolean> {
    const key = JSON.stringify({ name });
    const place = await this.#placeOf(MARKS, partitionOf(Buffer.from(key), key.length, PARTITIONS));
    if (place === null) return false;
    const { first: from } = await extentOf(this.#cluster, place, this.#signal);
    for await (const record of readCommitted(this.#cluster, place, { from, until: null }, this.#signal)) {
      if (record.key?.toString("utf8") === key) break;
    }
    return true;
  }

  async load(work: Work, { source }: Backlog): Promise<Loaded> {
    return await this.#produce(messagesOf(rowsOf(source, work)));
  }

  async #produce(
    made: AsyncIterable<readonly MessageToProduce[]> | Iterable<readonly MessageToProduce[]>,
  ): Promise<Loaded> {
    const producer = new Producer({
      clientId: "bare",
      bootstrapBrokers: [this.#broker],
      idempotent: true,
      transactionalId: `bare-${this.#loads++}`,
      retries: RETRIES,
      retryDelay: RETRY_MS,
      partitioner: compatibilityPartitioner,
    });
    const server = (): number => (this.serverPid === undefined ? Number.NaN : cpuSecondsOf(this.serverPid));
    const total = { seconds: 0, peer: 0, server: 0 };
    for await (const messages of made) {
      const [startedMs, ownBefore, serverBefore] = [performance.now(), process.cpuUsage(), server()];
      for (let at = 0; at < messages.length;) {
        const transaction = await producer.beginTransaction();
        for (const end = at + TRANSACTION_RECORDS; at < end; at += SEND_RECORDS) {
          await transaction.send({ messages: messages.slice(at, at + SEND_RECORDS) });
        }
        await transaction.commit();
      }
      const { user, system } = process.cpuUsage(ownBefore);
      total.seconds += (performance.now() - startedMs) / 1000;
      total.peer += (user + system) / 1e6;
      total.server += server() - serverBefore;
    }
    await producer.close();
    return { seconds: total.seconds, cpuSeconds: total };
  }

  async count(): Promise<{ own: number; peer: number }> {
    const [own, peer] = [await this.#stored(OWN_TOPIC), await this.#stored(PEER_TOPIC)];
    const told = (stored: Stored): string => `${stored.byteCount} bytes, ${stored.offsetCount} offsets`;
    this.#log(`kafka: ${OWN_TOPIC} has ${told(own)}, ${PEER_TOPIC} ${told(peer)}`);
    const ratio = own.byteCount / peer.byteCount;
    if (Math.max(ratio, 1 / ratio) > SIZES_MAX) throw new Error(`the records of both are not of one size: ${ratio}`);
    return { own: (await this.#keys(OWN_TOPIC)).size, peer: (await this.#keys(PEER_TOPIC)).size };
  }

  /** Offsets are those of records, and one for each transaction and partition. */
  async #stored(name: string): Promise<Stored> {
    const partitions = Array.from({ length: PARTITIONS }, (_, partition) => partition);
    const asked = [{ name, partitions }];
    const { results } = await this.#cluster.request<LogDirs>("DescribeLogDirs", null, this.#signal, asked);
    const sizes = results.flatMap(({ topics }) => topics.flatMap((topic) => topic.partitions));
    let offsetCount = 0;
    for (const partition of partitions) {
      const place = await this.#placeOf(name, partition);
      if (place !== null) offsetCount += Number((await extentOf(this.#cluster, place, this.#signal)).end);
    }
    return { byteCount: sizes.reduce((sum, { partitionSize }) => sum + Number(partitionSize), 0), offsetCount };
  }

  async #keys(name: string): Promise<ReadonlySet<string>> {
    const keys = new Set<string>();
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const place = await this.#placeOf(name, partition);
      if (place === null) continue;
      const { first: from, stable: until } = await extentOf(this.#cluster, place, this.#signal);
      for await (const { key } of readCommitted(this.#cluster, place, { from, until }, this.#signal)) {
        const text = key?.toString("utf8") ?? "";
        if (text.startsWith("{") && !text.includes("_millrace")) keys.add(text);
      }
    }
    return keys;
  }

  async #placeOf(name: string, partition: number): Promise<Partition | null> {
    const topic = (await topicsOf(this.#cluster, [name], this.#signal)).get(name);
    return topic == null ? null : { name, topic, partition };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cluster[Symbol.asyncDispose]();
  }
}

async function* messagesOf(rows: AsyncIterable<Row>): AsyncGenerator<readonly MessageToProduce[]> {
  let made: MessageToProduce[] = [];
  for await (const row of rows) {
    made.push(message(PEER_TOPIC, row));
    if (made.length < MADE_MAX) continue;
    yield made;
    made = [];
  }
  yield made;
}

function message(topic: string, row: Row): MessageToProduce {
  const key = JSON.stringify({ id: Number(row["id"]) });
  return { topic, key: Buffer.from(key), value: Buffer.from(envelope(key, row)) };
}

/** As long as Millrace's, with the headers' bytes. */
function envelope(key: string, row: Row): string {
  const id = "shop/1/0-1A2B3D0/42";
  const schema = { subject: "public.orders", version: 1, fingerprint: "0".repeat(112) };
  const place = { name: "bench", kind: "postgres", database: "postgres", schema: "public", table: "orders" };
  const source = { ...place, snapshot: false, commitLsn: "0/1A2B3D0", txid: "742", index: 42 };
  const head = `{"id":"${id}","op":"c","key":${key},"before":null,"after":${JSON.stringify(row)},"unchanged":[]`;
  const tail = {
    version: "36028797046404048",
    schema,
    source,
    time: "2026-11-20T06:43:15.123456Z",
    producer: "millrace",
  };
  return `${head},${JSON.stringify(tail).slice(1)}`;
}
