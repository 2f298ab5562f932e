/**
 * The sink's checkpoint: messages in a compacted topic of its own, written in the transaction of the changes. Two of them:
 *
 *   tables     {"tables":"{…}","topics":{"shop.public.users":"<topic id> 6"},"form":"millrace","owner":"…"}   after a change, and
 *                                                                                                          now and then
 *   position   {"lease":3,"position":"1/4711/0","epoch":0,"bond":"…","open":""}   with every batch, last
 *
 * Now and then, so that the newest of both lies near the end of the topic: a start reads back from there. Tables may be
 * thousands, so a message has as many parts as it needs: `position`, `tables`, `tables/1`, `tables/2` … are the keys.
 */
import * as z from "zod";
import { checkpointFromTexts, type Checkpoint } from "../../../src/core/checkpoint.ts";
import { parsePosition } from "../../../src/core/model/position.ts";
import { type Cluster, topicsOf } from "../client/cluster.ts";
import { foreignRecords } from "../errors.ts";
import { type CommittedRecord, expectReadable, extentOf, readCommitted } from "../client/partition.ts";
import { Assembly, messageOf, partKey, partsOf } from "./messages.ts";

const POSITION = z.object({
  lease: z.int(),
  position: z.string(),
  epoch: z.int().default(0),
  bond: z.string(),
  open: z.string(),
});
const TABLES = z.object({
  tables: z.string(),
  topics: z.record(z.string(), z.string()),
  form: z.string().default(""),
  owner: z.string().default(""),
});

export interface TopicCheckpoint {
  readonly lease: number;
  /** "" where there is none. */
  readonly position: string;
  /** The highest of the records in the topics, where there is no position any more. */
  readonly epoch: number;
  readonly bond: string;
  /** The version of a transaction whose end is not written yet; "" where there is none. */
  readonly open: string;
  /** The text of `checkpointTexts`. */
  readonly tables: string;
  /** By name, the topics with changes of tables: see `stateOf`. */
  readonly topics: Readonly<Record<string, string>>;
  /** How the records of the topics look: `form` of the settings; "" where it is not known. */
  readonly form: string;
  /** The transactional id of the sink; "" where it is not known. */
  readonly owner: string;
}

export const NO_CHECKPOINT: TopicCheckpoint = {
  lease: 0,
  position: "",
  epoch: 0,
  bond: "",
  open: "",
  tables: "{}",
  topics: {},
  form: "",
  owner: "",
};

/** Settings of the topic. Small segments, so that compaction keeps it short. */
export const CHECKPOINT_SETTINGS: Readonly<Record<string, string>> = {
  "cleanup.policy": "compact",
  "segment.bytes": "16777216",
  "segment.ms": "3600000",
  "min.cleanable.dirty.ratio": "0.1",
};

const POSITION_MESSAGE = "position";
const TABLES_MESSAGE = "tables";
/** So many records of the position may follow one of the tables. */
const TABLES_EVERY = 500;
/** Each batch takes an offset for its record and one for its transaction's end. Where there are more, a start reads all. */
export const NEAR_THE_END = BigInt(TABLES_EVERY * 2 + 100);

interface CheckpointRecord {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** Which records a batch writes. */
export class CheckpointWriter {
  /** What was written of them last. */
  #last: Pick<TopicCheckpoint, "tables" | "topics"> | null = null;
  #since = 0;

  /** `batchBytesMax`: of the topic. */
  records(
    { lease, position, epoch, bond, open, tables, topics, form, owner }: TopicCheckpoint,
    batchBytesMax: number,
  ): readonly CheckpointRecord[] {
    const last = recordsOf(POSITION_MESSAGE, { lease, position, epoch, bond, open }, batchBytesMax);
    const isSame = this.#last?.tables === tables && this.#last.topics === topics;
    if (isSame && this.#since < TABLES_EVERY) {
      this.#since++;
      return last;
    }
    this.#last = { tables, topics };
    this.#since = 0;
    return [...recordsOf(TABLES_MESSAGE, { tables, topics, form, owner }, batchBytesMax), ...last];
  }
}

function recordsOf(message: string, content: object, batchBytesMax: number): readonly CheckpointRecord[] {
  const parts = [...partsOf(Buffer.from(JSON.stringify(content)), batchBytesMax)];
  return parts.map((value, part) => ({ key: partKey(message, part), value }));
}

/** What is left of a checkpoint that counts no more: later writers and records come above it, and have the same form. */
export function forgotten(last: TopicCheckpoint): TopicCheckpoint {
  return { ...NO_CHECKPOINT, lease: last.lease, epoch: epochIn(last), form: last.form };
}

/** Waits for no transaction that is open. */
export async function readCheckpoint(cluster: Cluster, name: string, signal: AbortSignal): Promise<TopicCheckpoint> {
  const topic = (await topicsOf(cluster, [name], signal)).get(name);
  if (topic == null) return NO_CHECKPOINT;
  const partition = { name, topic, partition: 0 };
  const { first, stable } = await extentOf(cluster, partition, signal);
  const near = stable - NEAR_THE_END;
  let hasRecords = false;
  let last: Pick<TopicCheckpoint, "lease" | "position" | "epoch"> | null = null;
  for (const from of near > first ? [near, first] : [first]) {
    const parts = { [POSITION_MESSAGE]: new Assembly(), [TABLES_MESSAGE]: new Assembly() };
    const found: Partial<Record<string, Buffer>> = {};
    for await (const record of readCommitted(cluster, partition, { from, until: stable }, signal)) {
      hasRecords = true;
      const message = record.key === null ? "" : messageOf(record.key);
      if (message !== POSITION_MESSAGE && message !== TABLES_MESSAGE) continue;
      const whole = parts[message].add(record);
      if (whole !== null) found[message] = whole.message;
    }
    const { [POSITION_MESSAGE]: position, [TABLES_MESSAGE]: tables } = found;
    if (position !== undefined && tables !== undefined)
      return { ...parsed(POSITION, position, name), ...parsed(TABLES, tables, name) };
    if (position !== undefined) last = parsed(POSITION, position, name);
  }
  // Retention has deleted a part of it.
  if (last !== null) return forgotten({ ...NO_CHECKPOINT, ...last });
  if (hasRecords) throw foreignRecords(name);
  // No offset at all, or those of a transaction that was given up: the broker ends one that was open in a topic of this name
  // that was deleted.
  await expectReadable(cluster, partition, first, signal);
  return NO_CHECKPOINT;
}

/** Whether records that were written in one transaction are all that a batch writes to this topic. */
export function isWholeCheckpoint(records: readonly Pick<CommittedRecord, "key" | "value" | "offset">[]): boolean {
  const position = new Assembly();
  const ofPosition = records.filter(({ key }) => key !== null && messageOf(key) === POSITION_MESSAGE);
  return ofPosition.some((record) => position.add(record) !== null);
}

/** The highest epoch of the records in the topics; 0: it is not known. */
export function epochIn({ position, epoch }: TopicCheckpoint): number {
  return position === "" ? epoch : parsePosition(position).epoch;
}

export function checkpointOf({ position, tables, bond }: TopicCheckpoint): Checkpoint | null {
  return position === "" ? null : { position: parsePosition(position), ...checkpointFromTexts(tables, bond) };
}

function parsed<T>(shape: z.ZodType<T>, value: Buffer, name: string): T {
  try {
    return shape.parse(JSON.parse(value.toString("utf8")));
  } catch {
    throw foreignRecords(name);
  }
}
