/**
 * Messages that may be larger than a record: parts in a row, in one partition and one transaction. A part's value begins with
 * a byte that says whether it is a message's first part, its last, or both. Where a topic is compacted, each part has a key.
 */
import type { CommittedRecord } from "../client/partition.ts";

const FIRST = 1;
const LAST = 2;
const PART_MAX = FIRST | LAST;
/** What a record and its batch have beside the value, and room for bytes that do not compress. */
const EXTRA_BYTES = 4 * 1024;

export function* partsOf(message: Buffer, batchBytesMax: number): Generator<Buffer> {
  const size = Math.max(1, batchBytesMax >> 1, batchBytesMax - EXTRA_BYTES);
  let at = 0;
  do {
    const end = Math.min(message.length, at + size);
    const how = (at === 0 ? FIRST : 0) | (end === message.length ? LAST : 0);
    yield Buffer.concat([Buffer.of(how), message.subarray(at, end)]);
    at = end;
  } while (at < message.length);
}

const SEPARATOR = "/";

/** The key of a message's part in a compacted topic, which keeps the last message: earlier ones may have had more parts. */
export function partKey(message: string, part: number): Buffer {
  return Buffer.from(part === 0 ? message : `${message}${SEPARATOR}${part}`);
}

export function messageOf(key: Buffer): string {
  return key.toString("utf8").split(SEPARATOR, 1)[0]!;
}

/** Whether a record can be a part of a message without a key. Records of other programs are rarely written in a transaction. */
export function isPart({ key, value, producerId }: CommittedRecord): boolean {
  return key === null && producerId !== null && (value?.[0] ?? PART_MAX + 1) <= PART_MAX;
}

/** A whole message, and the offsets of its first and its last part. */
export interface Whole {
  readonly message: Buffer;
  readonly first: bigint;
  readonly last: bigint;
}

/** Puts the parts of one partition, or of one key in it, together again. */
export class Assembly {
  #parts: Buffer[] = [];
  #first: bigint | null = null;

  /** Null: parts are missing yet, or the beginning of this message was deleted. */
  add({ value, offset }: Pick<CommittedRecord, "value" | "offset">): Whole | null {
    const how = value?.[0] ?? 0;
    if ((how & FIRST) !== 0) {
      this.#parts = [];
      this.#first = offset;
    }
    if (this.#first === null || value === null) return null;
    this.#parts.push(value.subarray(1));
    if ((how & LAST) === 0) return null;
    const first = this.#first;
    this.#first = null;
    const message = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    return { message, first, last: offset };
  }
}
