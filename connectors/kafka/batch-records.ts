/** The records of one batch: each in its topic and partition, in commit order. */
import { ByteWriter } from "../../src/core/bytes.ts";
import type { MillraceError } from "../../src/core/errors.ts";
import type { TopicBatches } from "./client/transactions.ts";
import { BATCH_HEAD_BYTES, type Header, RecordBatch } from "./client/record-batch.ts";
import { partitionOf } from "./partitions.ts";
import type { BarrierRecord } from "./formats/format.ts";
import type { UsableTopic } from "./topics.ts";
import { kafkaError } from "./errors.ts";

/** Larger than what a record has beside key, value and headers. */
const RECORD_EXTRA_BYTES = 64;
/** So many buffers are kept, none that a large record made larger than a batch. */
const KEPT_COUNT_MAX = 32;
const FIRST_BYTES = 16 * 1024;
/** Somewhat more than a batch may have by Kafka's default. */
const KEPT_BYTES_MAX = 1024 * 1024 + 64 * 1024;

interface InTopic {
  readonly usable: UsableTopic;
  /** By partition: batches in their order. */
  readonly partitions: RecordBatch[][];
}

/** Memory that batches share. */
export class RecordBuffers {
  readonly #free: ByteWriter[] = [];

  take(): ByteWriter {
    return this.#free.pop() ?? new ByteWriter(FIRST_BYTES, KEPT_BYTES_MAX);
  }

  give(buffers: readonly ByteWriter[]): void {
    for (const one of buffers) {
      if (this.#free.length < KEPT_COUNT_MAX && one.bytes.length <= KEPT_BYTES_MAX) this.#free.push(one);
    }
  }
}

/** Records that are sent together. */
export interface RecordsPart {
  readonly batches: readonly TopicBatches[];
  /** The brokers have them. */
  readonly release: () => void;
}

export class BatchRecords {
  readonly #buffers: RecordBuffers;
  readonly #timeMs: number;
  #topics = new Map<string, InTopic>();
  #used: ByteWriter[] = [];
  #byteCount = 0;

  constructor(buffers: RecordBuffers, timeMs: number) {
    this.#buffers = buffers;
    this.#timeMs = timeMs;
  }

  /** About as much as `part` would take. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** Takes what was added since the last part. */
  part(): RecordsPart {
    const batches = this.#batches;
    const used = this.#used;
    this.#topics = new Map();
    this.#used = [];
    this.#byteCount = 0;
    return { batches, release: () => this.#buffers.give(used) };
  }

  /** False if the record is too large for its topic. */
  add(usable: UsableTopic, key: Buffer, value: Buffer | null, headers: readonly Header[], timeMs: number): boolean {
    return this.#put(usable, partitionOf(key, key.length, usable.topic.leaders.length), key, value, headers, timeMs);
  }

  /** A record of Millrace's own, in the first partition. */
  own(usable: UsableTopic, key: Buffer | null, value: Buffer): void {
    if (!this.#put(usable, 0, key, value, [], this.#timeMs)) throw doesNotFit(usable, value);
  }

  barrier(usable: UsableTopic, { key, value, headers, isEverywhere }: BarrierRecord, timeMs: number): void {
    const count = isEverywhere ? usable.topic.leaders.length : 1;
    for (let partition = 0; partition < count; partition++) {
      if (!this.#put(usable, partition, key, value, headers, timeMs)) throw doesNotFit(usable, value);
    }
  }

  get #batches(): readonly TopicBatches[] {
    return [...this.#topics.values()].map(({ usable: { name, topic }, partitions }) => ({
      name,
      topic,
      batches: partitions.flatMap((batches, partition) => batches.map((batch) => ({ partition, batch }))),
    }));
  }

  #put(
    usable: UsableTopic,
    partition: number,
    key: Buffer | null,
    value: Buffer | null,
    headers: readonly Header[],
    timeMs: number,
  ): boolean {
    let byteCount = RECORD_EXTRA_BYTES + (key?.length ?? 0) + (value?.length ?? 0);
    for (const one of headers) byteCount += one.length;
    if (BATCH_HEAD_BYTES + byteCount > usable.batchBytesMax) return false;
    const batches = this.#batchesOf(usable, partition);
    let batch = batches.at(-1);
    if (batch === undefined || batch.byteCount + byteCount > usable.batchBytesMax) {
      const buffer = this.#buffers.take();
      this.#used.push(buffer);
      batch = new RecordBatch(buffer);
      batches.push(batch);
    }
    this.#byteCount += byteCount;
    batch.add(key, value, headers, timeMs);
    return true;
  }

  #batchesOf(usable: UsableTopic, partition: number): RecordBatch[] {
    let inTopic = this.#topics.get(usable.name);
    if (inTopic === undefined) {
      inTopic = { usable, partitions: usable.topic.leaders.map(() => []) };
      this.#topics.set(usable.name, inTopic);
    }
    return inTopic.partitions[partition]!;
  }
}

/** No row is at fault, and without the record readers would miss something. */
function doesNotFit({ name, batchBytesMax }: UsableTopic, { length }: Buffer): MillraceError {
  const message = `a record of ${length} bytes does not fit in topic ${name}, which takes ${batchBytesMax}`;
  return kafkaError("MR3538", "blocked", message);
}
