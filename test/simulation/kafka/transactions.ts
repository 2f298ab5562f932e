/** The coordinator of transactions: who may write under which id, and how a transaction ends, partition by partition. */
import { failureOf } from "../../../connectors/kafka/client/failures.ts";
import type { Scheduler } from "../scheduler.ts";
import type { PartitionLog, StoredRecord } from "./partition-log.ts";

/** The longest that a marker takes to each partition. */
const MARKER_MS = 4;

export interface WrittenRecord extends Pick<StoredRecord, "key" | "value"> {
  readonly topic: string;
  readonly partition: number;
}

interface Partition {
  readonly name: string;
  readonly partition: number;
  readonly log: PartitionLog;
}

interface Transaction {
  readonly partitions: Map<string, Partition>;
  readonly records: WrittenRecord[];
  /** Markers on their way; null: it goes on. */
  ending: number | null;
}

interface Producer {
  readonly producerId: bigint;
  producerEpoch: number;
  transaction: Transaction | null;
  /** What the last one came to; null: nobody has begun one since the id was taken. */
  ended: "committed" | "aborted" | null;
  /** The partitions of one that was cut off. */
  left: readonly Partition[];
}

const STATES = { open: "Ongoing", committed: "CompleteCommit", aborted: "CompleteAbort", empty: "Empty" } as const;

export interface Identity {
  readonly producerId: bigint;
  readonly producerEpoch: number;
}

export class Transactions {
  readonly #scheduler: Scheduler;
  readonly #onCommitted: (records: readonly WrittenRecord[]) => void;
  readonly #producers = new Map<string, Producer>();
  /** Instead of telling all partitions of the next transaction that ends. */
  #cutOff: (() => void) | null = null;

  constructor(scheduler: Scheduler, onCommitted: (records: readonly WrittenRecord[]) => void) {
    this.#scheduler = scheduler;
    this.#onCommitted = onCommitted;
  }

  /** Whoever wrote under this id before can write no more. */
  begin(id: string): Identity {
    let producer = this.#producers.get(id);
    if (producer === undefined) {
      const producerId = BigInt(this.#producers.size + 1);
      producer = { producerId, producerEpoch: -1, transaction: null, ended: null, left: [] };
      this.#producers.set(id, producer);
    }
    const { transaction } = producer;
    producer.producerEpoch++;
    if (transaction !== null) {
      if (transaction.ending === null) this.#finish(producer, transaction, false);
      throw failureOf("CONCURRENT_TRANSACTIONS", id);
    }
    // The one before has ended nothing, and took with it how the last one ended: a known hole of decision 35.
    if (producer.ended === null) for (const { log } of producer.left) log.mayShow(producer.producerId);
    producer.ended = null;
    return { producerId: producer.producerId, producerEpoch: producer.producerEpoch };
  }

  add(id: string, identity: Identity, partitions: readonly Partition[], timeoutMs: number): void {
    const producer = this.#known(id, identity);
    if (producer.transaction?.ending != null) throw failureOf("CONCURRENT_TRANSACTIONS", id);
    const transaction = (producer.transaction ??= this.#open(producer, timeoutMs));
    for (const one of partitions) transaction.partitions.set(`${one.name} ${one.partition}`, one);
  }

  #open(producer: Producer, timeoutMs: number): Transaction {
    const transaction: Transaction = { partitions: new Map(), records: [], ending: null };
    this.#scheduler.after(timeoutMs, () => {
      if (producer.transaction !== transaction || transaction.ending !== null) return;
      producer.producerEpoch++;
      this.#finish(producer, transaction, false);
    });
    return transaction;
  }

  write(id: string, name: string, partition: number, bytes: Buffer): bigint {
    // Where a batch says who wrote it.
    const identity = { producerId: bytes.readBigInt64BE(43), producerEpoch: bytes.readInt16BE(51) };
    const { transaction } = this.#known(id, identity);
    const place = transaction?.partitions.get(`${name} ${partition}`);
    if (transaction === null || transaction.ending !== null || place === undefined)
      throw failureOf("INVALID_TXN_STATE", name);
    const stored = place.log.append(bytes);
    for (const { key, value } of stored?.records ?? [])
      transaction.records.push({ topic: name, partition, key, value });
    return stored?.firstOffset ?? place.log.end;
  }

  end(id: string, identity: Identity, isCommitted: boolean): void {
    const producer = this.#known(id, identity);
    const { transaction } = producer;
    if (transaction === null) throw failureOf("INVALID_TXN_STATE", id);
    if (transaction.ending === null) this.#finish(producer, transaction, isCommitted);
  }

  describe(id: string): readonly object[] {
    const producer = this.#producers.get(id);
    if (producer === undefined) throw failureOf("TRANSACTIONAL_ID_NOT_FOUND", id);
    const { producerId, producerEpoch, transaction, ended } = producer;
    const topics = [...(transaction?.partitions.values() ?? [])].map(({ name, partition }) => ({
      topic: name,
      partitions: [partition],
    }));
    const transactionState = STATES[transaction !== null && transaction.ending === null ? "open" : (ended ?? "empty")];
    return [{ transactionState, producerId, producerEpoch, topics }];
  }

  /**
   * The brokers are killed while the next transaction ends, and come back: to the coordinator it is complete, and partitions
   * that were not told by then are never told. See decision 35.
   */
  cutOffNext(onCutOff: () => void): void {
    this.#cutOff = onCutOff;
  }

  /** From here on its outcome is certain; readers see it partition by partition. */
  #finish(producer: Producer, transaction: Transaction, isCommitted: boolean): void {
    transaction.ending = transaction.partitions.size;
    producer.ended = isCommitted ? "committed" : "aborted";
    if (isCommitted) this.#onCommitted(transaction.records);
    const done = (): void => {
      if (--transaction.ending! <= 0) producer.transaction = null;
    };
    const { random } = this.#scheduler;
    let isCutOff = false;
    const cutOff = this.#cutOff;
    this.#cutOff = null;
    if (cutOff !== null) {
      this.#scheduler.after(random.next() * MARKER_MS, () => {
        // All partitions may have been told by now, and the next transaction have begun.
        if (producer.transaction === transaction) {
          isCutOff = true;
          producer.transaction = null;
          producer.left = [...transaction.partitions.values()];
          for (const { log } of producer.left) log.leave(producer.producerId, isCommitted);
        }
        cutOff();
      });
    }
    // Many partitions get theirs together.
    const groups = Math.min(transaction.partitions.size, 8);
    const all = [...transaction.partitions.values()];
    for (let group = 0; group < groups; group++) {
      this.#scheduler.after(random.next() * MARKER_MS, () => {
        if (isCutOff) return;
        for (let i = group; i < all.length; i += groups) {
          all[i]!.log.mark(producer.producerId, isCommitted);
          done();
        }
      });
    }
    if (groups === 0) producer.transaction = null;
  }

  #known(id: string, { producerId, producerEpoch }: Identity): Producer {
    const producer = this.#producers.get(id);
    if (producer?.producerId !== producerId) throw failureOf("INVALID_PRODUCER_ID_MAPPING", id);
    if (producer.producerEpoch !== producerEpoch) throw failureOf("INVALID_PRODUCER_EPOCH", id);
    return producer;
  }
}
