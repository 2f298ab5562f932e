/** Reads committed records of one partition, outside of any consumer group. */
import type { Cluster, Ending, Topic } from "./cluster.ts";
import { about, failureOf } from "./failures.ts";

export interface CommittedRecord {
  readonly offset: bigint;
  /** Null: it was not written in a transaction. */
  readonly producerId: bigint | null;
  readonly key: Buffer | null;
  readonly value: Buffer | null;
}

export interface Partition {
  readonly name: string;
  readonly topic: Topic;
  readonly partition: number;
}

/** A partition in which a transaction is open. */
export interface OpenPartition extends Partition {
  /** The offset at which it begins. */
  readonly since: bigint;
}

/** Which offsets a partition has. */
export interface Extent {
  readonly first: bigint;
  /** Everything before it is committed or aborted. */
  readonly stable: bigint;
  /** Everything before it is written. */
  readonly end: bigint;
}

const COMMITTED = 1;
const UNCOMMITTED = 0;
const EARLIEST = -2n;
const LATEST = -1n;
const NO_REPLICA = -1;
const NO_EPOCH = -1;
const FETCH_BYTES = 8 * 1024 * 1024;
const FETCH_WAIT_MS = 500;
const TRANSACTIONAL = 0x10;
const CONTROL = 0x20;
const OFFSET_MAX = 2n ** 63n - 1n;
/** The second number in the key of a control record. */
const ABORT = 0;

interface OffsetsAnswer {
  readonly topics: readonly {
    readonly name: string;
    readonly partitions: readonly {
      readonly partitionIndex: number;
      readonly errorCode: number;
      readonly offset: bigint;
    }[];
  }[];
}

interface FetchAnswer {
  readonly responses: readonly { readonly partitions: readonly FetchedPartition[] }[];
}

interface FetchedPartition {
  readonly errorCode: number;
  readonly abortedTransactions: readonly { readonly producerId: bigint; readonly firstOffset: bigint }[] | null;
  readonly records: readonly FetchedBatch[] | null;
}

interface FetchedBatch {
  readonly firstOffset: bigint;
  readonly lastOffsetDelta: number;
  readonly attributes: number;
  readonly producerId: bigint;
  readonly records: readonly {
    readonly offsetDelta: number;
    readonly key: Buffer | null;
    readonly value: Buffer | null;
  }[];
}

export async function extentOf(cluster: Cluster, partition: Partition, signal: AbortSignal): Promise<Extent> {
  const [first, stable, end] = await Promise.all([
    offsetAt(cluster, partition, [UNCOMMITTED, EARLIEST], signal),
    offsetAt(cluster, partition, [COMMITTED, LATEST], signal),
    offsetAt(cluster, partition, [UNCOMMITTED, LATEST], signal),
  ]);
  return { first, stable, end };
}

/** Fails as long as the partition's leader does not serve it yet. */
export async function expectServed(cluster: Cluster, partition: Partition, signal: AbortSignal): Promise<void> {
  await offsetAt(cluster, partition, [UNCOMMITTED, EARLIEST], signal);
}

/** Fails if the client may not read the partition, which an empty one does not show otherwise. */
export async function expectReadable(
  cluster: Cluster,
  partition: Partition,
  from: bigint,
  signal: AbortSignal,
): Promise<void> {
  await fetchFrom(cluster, partition, from, signal, { waitMs: 0 });
}

async function offsetAt(
  cluster: Cluster,
  partition: Partition,
  [isolation, timestamp]: readonly [isolation: number, timestamp: bigint],
  signal: AbortSignal,
): Promise<bigint> {
  const [offset] = await offsetsAt(cluster, [partition], [isolation, timestamp], signal);
  return offset!;
}

/** `of`: with one leader. */
async function offsetsAt(
  cluster: Cluster,
  of: readonly Partition[],
  [isolation, timestamp]: readonly [isolation: number, timestamp: bigint],
  signal: AbortSignal,
): Promise<readonly bigint[]> {
  const { name, topic, partition } = of[0]!;
  const leader = topic.leaders[partition]!;
  if (leader < 0) throw failureOf("LEADER_NOT_AVAILABLE", name);
  const asked = [...Map.groupBy(of, (one) => one.name)].map(([ofTopic, all]) => ({
    name: ofTopic,
    partitions: all.map((one) => ({ partitionIndex: one.partition, currentLeaderEpoch: NO_EPOCH, timestamp })),
  }));
  const { topics } = await cluster.request<OffsetsAnswer>("ListOffsets", leader, signal, NO_REPLICA, isolation, asked);
  const found = new Map(
    topics.map((one) => [one.name, new Map(one.partitions.map((its) => [its.partitionIndex, its]))]),
  );
  return of.map((one) => {
    const answer = found.get(one.name)?.get(one.partition);
    if (answer === undefined || answer.errorCode !== 0) throw failureOf(answer?.errorCode ?? -1, one.name);
    return answer.offset;
  });
}

/** Those in which a transaction is open, and the offset at which the first such begins. */
export async function openIn(
  cluster: Cluster,
  partitions: readonly Partition[],
  signal: AbortSignal,
): Promise<readonly OpenPartition[]> {
  const byLeader = Map.groupBy(partitions, ({ topic, partition }) => topic.leaders[partition]!);
  const open = [...byLeader.values()].map(async (of) => {
    // What ends in between does not count as open.
    const ends = await offsetsAt(cluster, of, [UNCOMMITTED, LATEST], signal);
    const stable = await offsetsAt(cluster, of, [COMMITTED, LATEST], signal);
    return of.flatMap((one, i) => (stable[i]! < ends[i]! ? [{ ...one, since: stable[i]! }] : []));
  });
  return (await Promise.all(open)).flat();
}

/**
 * All records from offset `from` on, as they come, until aborted: also those of transactions that are open, or were taken
 * back. A writer that was killed in a transaction holds up nobody.
 */
export async function* readAny(
  cluster: Cluster,
  partition: Partition,
  from: bigint,
  signal: AbortSignal,
): AsyncGenerator<CommittedRecord> {
  for (let next = from; ;) {
    const { records } = await fetchFrom(cluster, partition, next, signal, { isolation: UNCOMMITTED });
    for (const batch of records ?? []) {
      if ((batch.attributes & CONTROL) === 0) yield* recordsOf(batch, next);
      const last = batch.firstOffset + BigInt(batch.lastOffsetDelta);
      if (last >= next) next = last + 1n;
    }
  }
}

/**
 * What the last transaction of a producer came to, as far as this partition shows from offset `from` on: its mark, or, before
 * that, its records.
 */
export async function lastBy(
  cluster: Cluster,
  partition: Partition,
  { from, until, producerId }: { readonly from: bigint; readonly until: bigint; readonly producerId: bigint },
  signal: AbortSignal,
): Promise<Ending | readonly CommittedRecord[]> {
  let last: Ending | CommittedRecord[] = [];
  for (let next = from; next < until;) {
    const { records } = await fetchFrom(cluster, partition, next, signal, { isolation: UNCOMMITTED });
    for (const batch of records ?? []) {
      next = batch.firstOffset + BigInt(batch.lastOffsetDelta) + 1n;
      if (batch.producerId !== producerId) continue;
      if ((batch.attributes & CONTROL) !== 0) last = isAbort(batch) ? "aborted" : "committed";
      else last = [...(typeof last === "string" ? [] : last), ...recordsOf(batch, from)];
    }
  }
  return last;
}

function isAbort({ records }: FetchedBatch): boolean {
  return records[0]?.key?.readInt16BE(2) === ABORT;
}

/** Those from an offset on. */
function* recordsOf(batch: FetchedBatch, from: bigint): Generator<CommittedRecord> {
  const producerId = (batch.attributes & TRANSACTIONAL) === 0 ? null : batch.producerId;
  for (const { offsetDelta, key, value } of batch.records) {
    const offset = batch.firstOffset + BigInt(offsetDelta);
    if (offset >= from) yield { offset, producerId, key, value };
  }
}

/**
 * The committed records from offset `from` up to, not including, `until`, which is not beyond `Extent.stable`. Null: on and
 * on, as they come, until aborted.
 */
export async function* readCommitted(
  cluster: Cluster,
  partition: Partition,
  { from, until }: { readonly from: bigint; readonly until: bigint | null },
  signal: AbortSignal,
): AsyncGenerator<CommittedRecord> {
  let next = from;
  const end = until ?? OFFSET_MAX;
  while (next < end) {
    signal.throwIfAborted();
    const { records, abortedTransactions } = await fetchFrom(cluster, partition, next, signal);
    const aborting = new Set<bigint>();
    const aborted = (abortedTransactions ?? []).toSorted((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1));
    for (const batch of records ?? []) {
      const last = batch.firstOffset + BigInt(batch.lastOffsetDelta);
      while (aborted[0] !== undefined && aborted[0].firstOffset <= last) aborting.add(aborted.shift()!.producerId);
      if ((batch.attributes & CONTROL) !== 0) {
        if (isAbort(batch)) aborting.delete(batch.producerId);
      } else if ((batch.attributes & TRANSACTIONAL) === 0 || !aborting.has(batch.producerId)) {
        for (const record of recordsOf(batch, next)) if (record.offset < end) yield record;
      }
      if (last >= next) next = last + 1n;
    }
  }
}

async function fetchFrom(
  cluster: Cluster,
  { name, topic, partition }: Partition,
  from: bigint,
  signal: AbortSignal,
  { waitMs = FETCH_WAIT_MS, isolation = COMMITTED }: { readonly waitMs?: number; readonly isolation?: number } = {},
): Promise<FetchedPartition> {
  const partitions = [
    {
      partition,
      currentLeaderEpoch: NO_EPOCH,
      fetchOffset: from,
      lastFetchedEpoch: NO_EPOCH,
      partitionMaxBytes: FETCH_BYTES,
    },
  ];
  const asked = [{ topic: name, topicId: topic.id, partitions }];
  // An answer has the topic's id alone.
  const answer = cluster.request<FetchAnswer>(
    "Fetch",
    topic.leaders[partition]!,
    signal,
    waitMs,
    1,
    FETCH_BYTES,
    isolation,
    0,
    NO_EPOCH,
    asked,
    [],
    "",
  );
  const { responses } = await about(name, answer);
  const found = responses[0]?.partitions[0];
  if (found === undefined || found.errorCode !== 0) throw failureOf(found?.errorCode ?? -1, name);
  return found;
}
