/**
 * What a process knows of the transactions under one transactional id, whichever of its writers began them. Of a partition in
 * which a transaction is open the brokers tell only where that begins: where committed batches lie shows whether it is one of
 * those that were committed.
 */
import type { Ending, Topic } from "./cluster.ts";
import type { OpenPartition } from "./partition.ts";
import type { ProducerIdentity } from "./record-batch.ts";

interface Place {
  readonly topic: Topic;
  readonly partition: number;
}

/** A batch that the brokers have, and its offset. */
export interface StoredBatch extends Place {
  readonly offset: bigint;
}

export class Ledger {
  #ending: Ending | null = null;
  /** An earlier writer's step went on when this process came. */
  #hasFoundStep = false;
  #isStepAborted = false;
  /** By partition, the offset of the last committed batch. */
  readonly #committed = new Map<string, bigint>();
  #writer: ProducerIdentity | null = null;
  /** Its transaction lacks nothing but its end. */
  #isCommitting = false;

  /** What the last transaction came to, as its coordinator said; null: nobody has asked in time. */
  get ending(): Ending | null {
    return this.#ending;
  }

  /** The last step was aborted, whether its partitions have heard of it or not. */
  get isStepAborted(): boolean {
    return this.#isStepAborted;
  }

  /** A step goes on that this process will not commit. */
  foundStep(): void {
    this.#hasFoundStep = true;
  }

  /** What the coordinator says of the last transaction, each time that it is asked before this process takes the id. */
  tell(ending: Ending | null): void {
    this.#ending ??= ending;
    this.#isStepAborted ||= this.#hasFoundStep && ending === "aborted";
  }

  /** Nothing of earlier writers is open any more. */
  settle(): void {
    this.#ending = null;
    this.#hasFoundStep = false;
    this.#isStepAborted = false;
  }

  open(writer: ProducerIdentity): void {
    this.#writer = writer;
    this.#isCommitting = false;
  }

  commit(): void {
    this.#isCommitting = true;
  }

  /** `committed`: its batches; none of a transaction that was aborted. */
  end(committed: readonly StoredBatch[]): void {
    this.#isCommitting = false;
    for (const batch of committed) this.#committed.set(placeOf(batch), batch.offset);
  }

  /** Whether this process has begun it. */
  isOwn({ producerId, producerEpoch }: ProducerIdentity): boolean {
    return this.#writer?.producerId === producerId && this.#writer.producerEpoch === producerEpoch;
  }

  isCommitting(transaction: ProducerIdentity): boolean {
    return this.#isCommitting && this.isOwn(transaction);
  }

  /** Whether what is open there has records of a transaction that was committed. */
  isCommitted(open: OpenPartition): boolean {
    const offset = this.#committed.get(placeOf(open));
    return offset !== undefined && open.since <= offset;
  }
}

/** Offsets begin again when a topic is made again. */
function placeOf({ topic, partition }: Place): string {
  return `${topic.id} ${partition}`;
}
