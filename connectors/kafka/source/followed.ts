import type { ErrorCode, MillraceError } from "../../../src/core/errors.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import type { Frame } from "../../../src/core/model/frame.ts";
import { DIVISION, divisionText, type Share } from "../../../src/core/sharing/share.ts";
import type { Position } from "../../../src/core/model/position.ts";
import { kafkaError } from "../errors.ts";

/** Numbers of the errors that say that the log does not go on where this daemon stopped. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["MR3520", "MR3521"]);

/** Where a stream can begin: everything before `position` is in records before `offset`. */
interface LogPlace {
  readonly position: bigint;
  readonly offset: bigint;
}

/** How many places are remembered. Beyond it every second one is forgotten: a stream may begin earlier than it must. */
const PLACES_MAX = 10_000;

/** The prefix of marks, as a stream shows them. */
export const MARK_PREFIX = "millrace/log";

/** Which log is followed, and at which offsets its positions are. */
export class Followed {
  /** Distinguishes our marks from those of other readers, and of the capturing daemon. */
  readonly #reader: string;
  readonly #share: Share | null;
  #topicId: string | null = null;
  /** The capturing daemon's. */
  #epoch = 0;
  /** Ascending. */
  #places: LogPlace[] = [];

  constructor(reader: string, share: Share | null) {
    this.#reader = `${reader}/`;
    this.#share = share;
  }

  /** The content of a mark in the source's log. */
  marked(content: string): string {
    return this.#reader + content;
  }

  /** Null for a mark of somebody else. */
  readonly markOf = (content: Uint8Array): { readonly prefix: string; readonly content: Uint8Array } | null => {
    const text = Buffer.from(content).toString("utf8");
    const { length } = this.#reader;
    return text.startsWith(this.#reader) ? { prefix: MARK_PREFIX, content: Buffer.from(text.slice(length)) } : null;
  };

  recall(identity: LogIdentity): void {
    const { topic, epoch, position, offset } = identity;
    if (topic === undefined || epoch === undefined || position === undefined || offset === undefined) return;
    const isSame = topic === this.#topicId && Number(epoch) === this.#epoch;
    if (isSame && this.#places.length > 0) return;
    this.#topicId = topic;
    this.#epoch = Number(epoch);
    this.#places = [{ position: BigInt(position), offset: BigInt(offset) }];
  }

  /** Without an identity (a command that only reads), the log is the one that `last` is of. */
  adopt(last: Frame | null): void {
    if (this.#topicId === null && last !== null) this.#epoch = last.until.epoch;
  }

  expectSame(topicId: string): void {
    if (this.#topicId !== null && topicId !== this.#topicId) throw another("its topic was deleted and made again");
  }

  /** True for a frame of an earlier epoch, which this daemon never has to read. */
  isEarlier({ from, until }: Pick<Frame, "from" | "until">): boolean {
    if (until.epoch < this.#epoch || this.#epoch === 0) return true;
    if (from.epoch !== this.#epoch || until.epoch !== this.#epoch) {
      throw another(`the capturing daemon is in epoch ${until.epoch}, and this log is of epoch ${this.#epoch}`);
    }
    return false;
  }

  /** The offset at which a stream from this position can begin; null: unknown. */
  offsetBefore(position: bigint): bigint | null {
    return this.#placeBefore(position)?.offset ?? null;
  }

  /** A stream has read everything before `position`, and the records before `offset`. */
  passed({ commit, index }: Position, offset: bigint): void {
    const newest = this.#places.at(-1);
    // Another stream, which is behind.
    if (index > 0 || (newest !== undefined && commit <= newest.position)) return;
    this.#places.push({ position: commit, offset });
    if (this.#places.length > PLACES_MAX) this.#places = this.#places.filter((_, i) => i % 2 === 0);
  }

  /** Null: as it was. */
  remember(positions: readonly bigint[]): LogIdentity | null {
    const [first, ...rest] = positions;
    if (first === undefined || this.#topicId === null) return null;
    const lowest = rest.reduce((a, b) => (a < b ? a : b), first);
    const place = this.#placeBefore(lowest);
    if (place === undefined || place === this.#places[0]) return null;
    this.#places = this.#places.filter(({ position }) => position >= place.position);
    return this.identityOf(this.#topicId, this.#epoch, place);
  }

  identityOf(topic: string, epoch: number, { position, offset }: LogPlace): LogIdentity {
    const place = { topic, epoch: String(epoch), position: String(position), offset: String(offset) };
    return this.#share === null ? place : { ...place, [DIVISION]: divisionText(this.#share.of) };
  }

  #placeBefore(commit: bigint): LogPlace | undefined {
    return this.#places.findLast(({ position }) => position <= commit);
  }
}

function another(why: string): MillraceError {
  return kafkaError("MR3521", "fatal", `the log in Kafka is another one: ${why}`);
}
