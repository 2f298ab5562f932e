/** Topics, read without the sink's own code: the library parses the records. */
import {
  Admin,
  type API,
  type Broker,
  type Connection,
  Consumer,
  FetchIsolationLevels,
  type FetchIsolationLevelValue,
  kGetApi,
  kGetConnection,
  Producer,
  stringSerializers,
} from "@platformatic/kafka";
import { randomUUID } from "node:crypto";
import { systemClock } from "../../../src/core/clock.ts";
import { withTimeout } from "../../../src/core/waiting.ts";
import { eventually } from "../run/waiting.ts";

export interface ReadRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly key: string | null;
  readonly value: string | null;
  readonly headers: ReadonlyMap<string, string>;
}

/** As it is in the topic. */
export interface RawRecord extends Omit<ReadRecord, "key" | "value"> {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;
const ABORTED = 0;
const BYTES_MAX = 50_000_000;
const NEVER = new AbortController().signal;
/** The library tells nobody when a connection ends with a fetch under way. */
const ANSWER = { timeoutMs: 10_000, late: (): null => null };

/** Topics of a broker, for reading. */
export class TopicReader implements AsyncDisposable {
  readonly broker: string;
  readonly admin: Admin;
  readonly #consumer: Consumer;

  constructor(broker: string) {
    this.broker = broker;
    const options = { clientId: "test", bootstrapBrokers: [broker], retries: 20, retryDelay: 50, metadataMaxAge: 0 };
    this.admin = new Admin(options);
    this.#consumer = new Consumer({ ...options, groupId: `test-${randomUUID()}` });
  }

  /** Those whose names begin with the prefix. */
  async names(prefix: string): Promise<string[]> {
    return (await this.admin.listTopics()).filter((name) => name.startsWith(prefix)).toSorted();
  }

  /** All committed records of a topic, partition by partition. */
  async read(topic: string): Promise<readonly ReadRecord[]> {
    const records = await this.readRaw(topic);
    return records.map(({ key, value, ...rest }) => ({ ...rest, key: textOf(key), value: textOf(value) }));
  }

  /** What the partitions have, batch by batch, with the marks that end transactions, whether they were committed or not. */
  async batches(topic: string): Promise<readonly string[]> {
    const lines: string[] = [];
    await this.#fetch(topic, FetchIsolationLevels.READ_UNCOMMITTED, (partition, { records }) => {
      for (const batch of records ?? []) {
        const {
          firstOffset,
          lastOffsetDelta,
          attributes,
          producerId,
          producerEpoch,
          firstSequence,
          records: all,
        } = batch;
        const place = `${partition}/${firstOffset}+${lastOffsetDelta} by ${producerId} epoch ${producerEpoch}`;
        const isAbort = () => all[0]!.key!.readInt16BE(2) === ABORTED;
        if ((attributes & CONTROL) !== 0) lines.push(`${place} ${isAbort() ? "aborted" : "committed"}`);
        else lines.push(`${place} from ${firstSequence}: ${all.map(({ key }) => textOf(key ?? null)).join(" ")}`);
      }
    });
    await this.#fetch(topic, FetchIsolationLevels.READ_COMMITTED, (partition, { records, abortedTransactions }) => {
      const aborted = (abortedTransactions ?? []).map((one) => `${one.firstOffset} by ${one.producerId}`);
      lines.push(`${partition}/${records?.[0]?.firstOffset} is answered with aborted: ${aborted.join(", ")}`);
    });
    return lines;
  }

  async readRaw(topic: string): Promise<readonly RawRecord[]> {
    const found: RawRecord[] = [];
    await this.#fetch(topic, FetchIsolationLevels.READ_COMMITTED, (partition, fetched) => {
      found.push(...committedIn(topic, partition, fetched));
    });
    return found;
  }

  async #fetch(
    topic: string,
    isolationLevel: FetchIsolationLevelValue,
    take: (partition: number, fetched: Fetched) => void,
  ): Promise<void> {
    const metadata = await this.#consumer.metadata({ topics: [topic], forceUpdate: true });
    const { id, partitions } = metadata.topics.get(topic)!;
    const ends = await this.#consumer.listOffsets({
      topics: [topic],
      // A transaction that was just committed is not visible at once: then a fetch waits for it.
      isolationLevel: FetchIsolationLevels.READ_UNCOMMITTED,
    });
    for (const [partition, { leader }] of partitions.entries()) {
      const end = ends.get(topic)![partition]!;
      const broker = metadata.brokers.get(leader)!;
      let next = 0n;
      while (next < end) {
        const asked = { id, partition, from: next, isolationLevel };
        const fetching = eventually(() => this.#answerOf(broker, asked));
        const answer = await withTimeout(fetching, { clock: systemClock, signal: NEVER, ...ANSWER });
        // Asked again, the library takes another connection.
        if (answer === null) continue;
        const fetched = answer.responses[0]!.partitions[0]!;
        take(partition, fetched);
        for (const batch of fetched.records ?? []) next = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n;
      }
    }
  }

  /**
   * As the broker gives it. Of what the library's consumer fetches, it takes away all from a producer's last aborted
   * transaction up to that producer's last mark of an aborted one, which need not have records there: also what was committed
   * in between.
   */
  async #answerOf(broker: Broker, { id, partition, from, isolationLevel }: Asked): Promise<FetchAnswer> {
    const api = await new Promise<API<unknown[], FetchAnswer>>((resolve, reject) => {
      this.#consumer[kGetApi]<unknown[], FetchAnswer>("Fetch", (error, found) =>
        error ? reject(error) : resolve(found!),
      );
    });
    const connection = await new Promise<Connection>((resolve, reject) => {
      this.#consumer[kGetConnection](broker, (error, found) => (error ? reject(error) : resolve(found!)));
    });
    const partitions = [
      {
        partition,
        currentLeaderEpoch: -1,
        fetchOffset: from,
        lastFetchedEpoch: -1,
        logStartOffset: -1n,
        partitionMaxBytes: BYTES_MAX,
      },
    ];
    return await api.async(connection, 100, 1, BYTES_MAX, isolationLevel, 0, -1, [{ topicId: id, partitions }], [], "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.admin.close();
    await this.#consumer.close();
  }
}

type FetchAnswer = Awaited<ReturnType<Consumer["fetch"]>>;
/** A partition's part of an answer. */
type Fetched = FetchAnswer["responses"][number]["partitions"][number];

interface Asked {
  /** The topic's. */
  readonly id: string;
  readonly partition: number;
  readonly from: bigint;
  readonly isolationLevel: FetchIsolationLevelValue;
}

/** As Kafka's own consumer does it. */
function* committedIn(topic: string, partition: number, fetched: Fetched): Generator<RawRecord> {
  const aborted = (fetched.abortedTransactions ?? []).toSorted((a, b) => Number(b.firstOffset - a.firstOffset));
  const aborting = new Set<bigint>();
  for (const batch of fetched.records ?? []) {
    const last = batch.firstOffset + BigInt(batch.lastOffsetDelta);
    while (aborted.length > 0 && aborted.at(-1)!.firstOffset <= last) aborting.add(aborted.pop()!.producerId);
    if ((batch.attributes & CONTROL) !== 0) {
      if (batch.records[0]!.key!.readInt16BE(2) === ABORTED) aborting.delete(batch.producerId);
      continue;
    }
    if ((batch.attributes & TRANSACTIONAL) !== 0 && aborting.has(batch.producerId)) continue;
    for (const { offsetDelta, key, value, headers } of batch.records) {
      yield {
        topic,
        partition,
        offset: batch.firstOffset + BigInt(offsetDelta),
        key: key ?? null,
        value: value ?? null,
        headers: new Map([...headers].map(([name, text]) => [String(name), String(text)])),
      };
    }
  }
}

/** The topics of one test; they are deleted at the end. */
export class KafkaTopics implements AsyncDisposable {
  readonly prefix = `test-${randomUUID().slice(0, 8)}-`;
  readonly broker: string;
  readonly admin: Admin;
  readonly #reader: TopicReader;

  constructor(broker: string) {
    this.broker = broker;
    this.#reader = new TopicReader(broker);
    this.admin = this.#reader.admin;
  }

  async names(): Promise<string[]> {
    return await this.#reader.names(this.prefix);
  }

  async read(topic: string): Promise<readonly ReadRecord[]> {
    return await this.#reader.read(topic);
  }

  async readRaw(topic: string): Promise<readonly RawRecord[]> {
    return await this.#reader.readRaw(topic);
  }

  async batches(topic: string): Promise<readonly string[]> {
    return await this.#reader.batches(topic);
  }

  /** Adds records to the partitions that they name, as another program may. */
  async write(records: readonly ReadRecord[]): Promise<void> {
    const producer = new Producer({
      clientId: "other",
      bootstrapBrokers: [this.broker],
      serializers: stringSerializers,
    });
    const messages = records.map(({ topic, partition, key, value, headers }) => ({
      topic,
      partition,
      headers: new Map(headers),
      ...(key === null ? {} : { key }),
      ...(value === null ? {} : { value }),
    }));
    await producer.send({ messages });
    await producer.close();
  }

  async remove(names?: readonly string[]): Promise<void> {
    const topics = names ?? (await this.names());
    if (topics.length > 0) await this.admin.deleteTopics({ topics: [...topics] });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.remove();
    await this.#reader[Symbol.asyncDispose]();
  }
}

function textOf(bytes: Buffer | null): string | null {
  return bytes === null ? null : bytes.toString("utf8");
}
