/**
 * The sink's checkpoint: records in a compacted topic of its own, written in the transaction of the changes. Two keys:
 *
 *   position   {"lease":3,"position":"1/4711/0","bond":"…","open":""}             with every step
 *   tables     {"tables":"{…}","topics":{"shop.public.users":"<topic id> 6"},"form":"millrace","owner":"…"}   after a change, and
 *                                                                                                          now and then
 *
 * Now and then, so that the newest of both lies near the end of the topic: a start reads back from there.
 */
import * as z from "zod";
import { parseCheckpoint } from "../../src/core/checkpoint/checkpoint-text.ts";
import type { SinkProgress } from "../../src/core/model/batch.ts";
import { parsePosition } from "../../src/core/model/position.ts";
import type { Cluster } from "./client/cluster.ts";
import { failureOf } from "./client/failures.ts";
import { type CommittedRecord, expectReadable, extentOf, readCommitted } from "./client/reading.ts";

const POSITION = z.object({ lease: z.int(), position: z.string(), bond: z.string(), open: z.string() });
const TABLES = z.object({
  tables: z.string(),
  topics: z.record(z.string(), z.string()),
  form: z.string().default(""),
  owner: z.string().default(""),
});

export interface Checkpoint {
  readonly lease: number;
  /** "" where there is none. */
  readonly position: string;
  readonly bond: string;
  /** The version of a transaction whose end is not written yet; "" where there is none. */
  readonly open: string;
  /** The text of `checkpointTexts`. */
  readonly tables: string;
  /** By name, the topics with changes of tables: see `placeOf`. */
  readonly topics: Readonly<Record<string, string>>;
  /** How the records of the topics look: `form` of the settings; "" where it is not known. */
  readonly form: string;
  /** The transactional id of the sink; "" where it is not known. */
  readonly owner: string;
}

export const NO_CHECKPOINT: Checkpoint = {
  lease: 0,
  position: "",
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

const POSITION_KEY = Buffer.from("position");
const TABLES_KEY = Buffer.from("tables");
/** So many records of the position may follow one of the tables. */
const TABLES_EVERY = 500;
/** Each step takes an offset for its record and one for its transaction's end. */
export const NEAR_THE_END = BigInt(TABLES_EVERY * 2 + 100);

export interface CheckpointRecord {
  readonly key: Buffer;
  readonly value: Buffer;
}

/** Which records a step writes. */
export class CheckpointWriter {
  /** What was written of them last. */
  #last: Pick<Checkpoint, "tables" | "topics"> | null = null;
  #since = 0;

  records({ lease, position, bond, open, tables, topics, form, owner }: Checkpoint): readonly CheckpointRecord[] {
    const record = { key: POSITION_KEY, value: json({ lease, position, bond, open }) };
    const isSame = this.#last?.tables === tables && this.#last.topics === topics;
    if (isSame && this.#since < TABLES_EVERY) {
      this.#since++;
      return [record];
    }
    this.#last = { tables, topics };
    this.#since = 0;
    return [record, { key: TABLES_KEY, value: json({ tables, topics, form, owner }) }];
  }
}

/** Waits for no transaction that is open. */
export async function readCheckpoint(cluster: Cluster, name: string, signal: AbortSignal): Promise<Checkpoint> {
  const topic = (await cluster.topics([name], signal)).get(name);
  if (topic == null) return NO_CHECKPOINT;
  const place = { name, topic, partition: 0 };
  const { first, stable } = await extentOf(cluster, place, signal);
  const near = stable - NEAR_THE_END;
  let hasRecords = false;
  for (const from of near > first ? [near, first] : [first]) {
    let position: z.output<typeof POSITION> | undefined;
    let tables: z.output<typeof TABLES> | undefined;
    for await (const { key, value } of readCommitted(cluster, place, { from, until: stable }, signal)) {
      hasRecords = true;
      if (key === null || value === null) continue;
      if (key.equals(POSITION_KEY)) position = parsed(POSITION, value, name);
      else if (key.equals(TABLES_KEY)) tables = parsed(TABLES, value, name);
    }
    if (position !== undefined && tables !== undefined) return { ...position, ...tables };
  }
  if (hasRecords) throw failureOf("CORRUPT_MESSAGE", name);
  // No offset at all, or those of a transaction that was given up: the broker ends one that was open in a topic of this name
  // that was deleted.
  await expectReadable(cluster, place, first, signal);
  return NO_CHECKPOINT;
}

/** Whether records that were written in one transaction are all that a step writes to this topic. */
export function isWholeCheckpoint(records: readonly Pick<CommittedRecord, "key">[]): boolean {
  return records.some(({ key }) => key?.equals(POSITION_KEY) === true);
}

export function progressOf({ position, tables, bond }: Checkpoint): SinkProgress | null {
  return position === "" ? null : { position: parsePosition(position), ...parseCheckpoint(tables, bond) };
}

function parsed<T>(shape: z.ZodType<T>, value: Buffer, name: string): T {
  try {
    return shape.parse(JSON.parse(value.toString("utf8")));
  } catch {
    throw failureOf("CORRUPT_MESSAGE", name);
  }
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}
