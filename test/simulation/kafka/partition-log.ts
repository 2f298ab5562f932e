/** One partition as a broker keeps it: batches with offsets, markers of transactions, what its writers may write next. */
import { Reader, readRecordsBatches, type RecordsBatch } from "@platformatic/kafka";
import { failureOf } from "../../../connectors/kafka/client/failures.ts";

const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;
/** The second number in the key of a control record. */
const ABORT = 0;
const COMMIT = 1;

/** In the form in which an answer has it. */
export interface StoredBatch extends Pick<
  RecordsBatch,
  "firstOffset" | "lastOffsetDelta" | "attributes" | "producerId"
> {
  readonly records: readonly StoredRecord[];
}

export interface StoredRecord {
  readonly offsetDelta: number;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

interface Aborted {
  readonly producerId: bigint;
  readonly firstOffset: bigint;
  readonly lastOffset: bigint;
}

/** What a writer has written last. */
interface Written {
  readonly epoch: number;
  readonly first: number;
  readonly next: number;
}

export class PartitionLog {
  first = 0n;
  end = 0n;
  #batches: StoredBatch[] = [];
  readonly #aborted: Aborted[] = [];
  /** By producer, where its open transaction begins here. */
  readonly #open = new Map<bigint, bigint>();
  /** By producer, how a transaction ended that is open here all the same. */
  readonly #left = new Map<bigint, boolean>();
  readonly #writers = new Map<bigint, Written>();
  readonly #waiting = new Set<() => void>();
  readonly #fail: (text: string) => void;

  constructor(fail: (text: string) => void) {
    this.#fail = fail;
  }

  /** Everything before it is committed or taken back. */
  get stable(): bigint {
    let least = this.end;
    for (const offset of this.#open.values()) if (offset < least) least = offset;
    return least;
  }

  /** Throws as a broker does for a batch that comes twice as if it were new, or too early. */
  append(bytes: Buffer): StoredBatch | null {
    // What is written is written over afterwards.
    const [batch] = readRecordsBatches(Reader.from(Buffer.from(bytes)));
    if (batch === undefined) throw failureOf("CORRUPT_MESSAGE", "a batch");
    const { producerId, producerEpoch: epoch, firstSequence: first, records } = batch;
    const before = this.#writers.get(producerId);
    const isSame = before?.epoch === epoch;
    if (isSame && before.first === first) return null;
    if (first !== (isSame ? before.next : 0)) throw failureOf("OUT_OF_ORDER_SEQUENCE_NUMBER", "a batch");
    this.#writers.set(producerId, { epoch, first, next: first + records.length });
    if (!this.#open.has(producerId)) this.#open.set(producerId, this.end);
    return this.#put({ attributes: TRANSACTIONAL, producerId, records });
  }

  /** What the producer has open is over, and not ended here. */
  leave(producerId: bigint, isCommitted: boolean): void {
    if (this.#open.has(producerId)) this.#left.set(producerId, isCommitted);
  }

  /** Nobody can tell any more that what the producer has left open here was aborted. */
  mayShow(producerId: bigint): void {
    if (this.#left.get(producerId) === false) this.#left.delete(producerId);
  }

  /** The end of a producer's transaction. */
  mark(producerId: bigint, isCommitted: boolean): void {
    const begun = this.#open.get(producerId);
    this.#open.delete(producerId);
    const left = this.#left.get(producerId);
    this.#left.delete(producerId);
    if (left === true && !isCommitted) this.#fail("a transaction that was committed is taken back");
    if (left === false && isCommitted) this.#fail("a transaction that was aborted is shown");
    if (begun !== undefined && !isCommitted)
      this.#aborted.push({ producerId, firstOffset: begun, lastOffset: this.end });
    const key = Buffer.alloc(4);
    key.writeInt16BE(isCommitted ? COMMIT : ABORT, 2);
    const records = [{ offsetDelta: 0, key, value: Buffer.alloc(6) }];
    this.#put({ attributes: TRANSACTIONAL | CONTROL, producerId, records });
  }

  #put({ attributes, producerId, records }: Omit<StoredBatch, "firstOffset" | "lastOffsetDelta">): StoredBatch {
    const batch = { firstOffset: this.end, lastOffsetDelta: records.length - 1, attributes, producerId, records };
    this.#batches.push(batch);
    this.end += BigInt(records.length);
    for (const wake of Array.from(this.#waiting)) wake();
    return batch;
  }

  /** Some batches from an offset on; those after the stable end only if that is asked. */
  read(from: bigint, isCommittedOnly: boolean, countMax: number): Fetched {
    if (from < this.first || from > this.end) throw failureOf("OFFSET_OUT_OF_RANGE", "a partition");
    const until = isCommittedOnly ? this.stable : this.end;
    const wanted = this.#batches.filter((batch) => lastOf(batch) >= from && lastOf(batch) < until);
    const records = wanted.slice(0, countMax);
    const last = records.at(-1);
    const abortedTransactions = this.#aborted.filter(
      (one) => last !== undefined && one.lastOffset >= from && one.firstOffset <= lastOf(last),
    );
    return { errorCode: 0, records, abortedTransactions };
  }

  /** Resolves when something was appended. */
  onAppend(wake: () => void): () => void {
    this.#waiting.add(wake);
    return () => this.#waiting.delete(wake);
  }

  /** Retention: whole batches before an offset go. */
  cut(before: bigint): void {
    const to = before < this.stable ? before : this.stable;
    this.#batches = this.#batches.filter((batch) => lastOf(batch) >= to);
    const [oldest] = this.#batches;
    this.first = oldest === undefined ? to : oldest.firstOffset;
  }
}

export interface Fetched {
  readonly errorCode: number;
  readonly records: readonly StoredBatch[];
  readonly abortedTransactions: readonly Aborted[];
}

function lastOf({ firstOffset, lastOffsetDelta }: StoredBatch): bigint {
  return firstOffset + BigInt(lastOffsetDelta);
}
