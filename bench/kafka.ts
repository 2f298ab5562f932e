/**
 * Postgres to Kafka against a bare producer: records with the same keys and with values as long as the envelopes, made
 * beforehand, in transactions of as many records, with the library's own producer, into another topic of the same broker.
 */
import { compatibilityPartitioner, type MessageToProduce, Producer } from "@platformatic/kafka";
import type { Cluster } from "../connectors/kafka/client/cluster.ts";
import { LibraryCluster } from "../connectors/kafka/client/library-cluster.ts";
import { extentOf, readCommitted } from "../connectors/kafka/client/reading.ts";
import { createTopic } from "../connectors/kafka/client/topic-settings.ts";
import { kafka } from "../scripts/services/kafka.ts";
import type { RunningService } from "../scripts/services/service.ts";
import { againstLoad, type LoadTarget } from "./against-load.ts";
import type { Backlog, Work } from "./backlog.ts";
import { rowsOf } from "./orders.ts";
import type { BenchOptions, BenchReport } from "./report.ts";

const ROWS = 300_000;
const WANTED = 0.8;
const PARTITIONS = 6;
/** As many as fit into a batch of a megabyte for each partition. */
const TRANSACTION_RECORDS = 4_000;
const PEER_TOPIC = "bare";
/** The library waits longer by itself, and then makes half as many transactions. */
const RETRY_MS = 1;
const RETRIES = 1_000;

export async function run(options: BenchOptions): Promise<BenchReport> {
  await using server = await kafka.start({ own: true });
  await using target = new KafkaTarget(server);
  return await againstLoad("kafka", target, { rowCount: Math.round(ROWS * options.scale), wanted: WANTED }, options);
}

class KafkaTarget implements LoadTarget {
  readonly peer = "bare producer";
  readonly serverPid: number | undefined;
  readonly #broker: string;
  readonly #cluster: Cluster;
  readonly #signal = new AbortController().signal;
  /** The library can't take a transactional id over. */
  #loads = 0;

  constructor({ url, pid }: RunningService) {
    this.serverPid = pid;
    this.#broker = new URL(url).host;
    this.#cluster = new LibraryCluster({ brokers: [this.#broker], clientId: "bench", tls: null, sasl: null });
  }

  sink(): object {
    return {
      kind: "kafka",
      brokers: [this.#broker],
      topics: { partitions: PARTITIONS },
      batch: { rows: TRANSACTION_RECORDS },
    };
  }

  async prepare(): Promise<void> {
    const topic = { name: PEER_TOPIC, partitions: PARTITIONS, replication: 1, settings: {} };
    await createTopic(this.#cluster, topic, this.#signal);
  }

  async hasMark(name: string): Promise<boolean> {
    const wanted = JSON.stringify({ name });
    return (await this.#keys("bench.public.mark")).has(wanted);
  }

  async load(work: Work, { source }: Backlog): Promise<number> {
    const messages: MessageToProduce[] = [];
    for await (const row of rowsOf(source, work)) {
      const key = JSON.stringify({ id: Number(row["id"]) });
      messages.push({ topic: PEER_TOPIC, key: Buffer.from(key), value: Buffer.from(envelope(key, row)) });
    }
    const producer = new Producer({
      clientId: "bare",
      bootstrapBrokers: [this.#broker],
      idempotent: true,
      transactionalId: `bare-${this.#loads++}`,
      retries: RETRIES,
      retryDelay: RETRY_MS,
      partitioner: compatibilityPartitioner,
    });
    const startedMs = performance.now();
    for (let at = 0; at < messages.length; at += TRANSACTION_RECORDS) {
      const transaction = await producer.beginTransaction();
      await transaction.send({ messages: messages.slice(at, at + TRANSACTION_RECORDS) });
      await transaction.commit();
    }
    const seconds = (performance.now() - startedMs) / 1000;
    await producer.close();
    return seconds;
  }

  async count(): Promise<{ own: number; peer: number }> {
    return { own: (await this.#keys("bench.public.orders")).size, peer: (await this.#keys(PEER_TOPIC)).size };
  }

  async #keys(name: string): Promise<ReadonlySet<string>> {
    const keys = new Set<string>();
    const topic = (await this.#cluster.topics([name], this.#signal)).get(name);
    if (topic == null) return keys;
    for (const partition of topic.leaders.keys()) {
      const place = { name, topic, partition };
      const { first: from, stable: until } = await extentOf(this.#cluster, place, this.#signal);
      for await (const { key } of readCommitted(this.#cluster, place, { from, until }, this.#signal)) {
        const text = key?.toString("utf8") ?? "";
        if (text.startsWith("{") && !text.includes("_millrace")) keys.add(text);
      }
    }
    return keys;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cluster[Symbol.asyncDispose]();
  }
}

/** As long as Millrace's, with the headers' bytes. */
function envelope(key: string, row: Readonly<Record<string, string | null>>): string {
  const id = "shop/1/0-1A2B3D0/42";
  const schema = { subject: "public.orders", version: 1, fingerprint: "0".repeat(64) };
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
