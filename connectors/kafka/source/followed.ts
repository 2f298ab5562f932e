import type { HeldBack } from "../client/held-back.ts";
import type { Clock } from "../../../src/core/clock.ts";
import type { ErrorCode, MillraceError } from "../../../src/core/errors.ts";
import { News } from "../../../src/core/waiting.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import type { Frame } from "../../../src/core/model/frame.ts";
import { DIVISION, divisionText, type Share } from "../../../src/core/sharing/share.ts";
import type { Position } from "../../../src/core/model/position.ts";
import type { Answer } from "../log/calls.ts";
import { logError } from "../errors.ts";

/** Numbers of the errors that say that the log does not go on where this daemon stopped. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["MR2010", "MR2013", "MR2023"]);

/** Where a stream can begin: everything before `position` is in records before `offset`. */
interface KnownOffset {
  readonly position: bigint;
  readonly offset: bigint;
}

/** The key of a log's stored identity under which a daemon notes that it reads its epoch to the end, before a later one. */
const READ_ON = "readOnBefore";

/** How many offsets are remembered. Beyond it every second one is forgotten: a stream may begin earlier than it must. */
const OFFSETS_MAX = 10_000;

/** How long a stream waits at the end of its epoch for sinks to make durable what it has brought. */
const DURABLE_MS_MAX = 20_000;

/** How long records of another program are told after the last one. */
const FOREIGN_TOLD_MS = 60 * 60_000;

/** The prefix of marks, as a stream shows them. */
export const MARK_PREFIX = "millrace/log";

/** Which log is followed, and at which offsets its positions are. */
export class Followed {
  /** Distinguishes our marks from those of other readers, and of the capturing daemon. */
  readonly #reader: string;
  readonly #share: Share | null;
  readonly #clock: Clock;
  #topicId: string | null = null;
  /** The capturing daemon's. */
  #epoch = 0;
  /** Ascending. */
  #offsets: KnownOffset[] = [];
  /** The later epoch that the log had when this daemon went on in its own one; null: none. */
  #readOnBefore: number | null = null;
  /** The last record of another program that was passed over. */
  #foreign: { readonly topic: string; readonly offset: bigint; readonly atMs: number } | null = null;
  /** Every sink holds what is before it. */
  #acknowledged = 0n;
  readonly #news = new News();

  constructor(reader: string, share: Share | null, clock: Clock) {
    this.#reader = `${reader}/`;
    this.#share = share;
    this.#clock = clock;
  }

  /** The content of a mark in the source's log. */
  marked(content: string): string {
    return this.#reader + content;
  }

  /** Of the present stream. */
  heldBack: HeldBack | null = null;

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
    if (isSame && this.#offsets.length > 0) return;
    this.#topicId = topic;
    this.#epoch = Number(epoch);
    this.#readOnBefore = identity[READ_ON] === undefined ? null : Number(identity[READ_ON]);
    this.#offsets = [{ position: BigInt(position), offset: BigInt(offset) }];
  }

  /** Without an identity (a command that only reads), the log is the one that `last` is of. */
  adopt(last: Frame | null): void {
    if (this.#topicId === null && last !== null) this.#epoch = last.until.epoch;
  }

  /** Of the capturing daemon, as far as this one has come; 0: unknown. */
  get epoch(): number {
    return this.#epoch;
  }

  isTopic(topicId: string): boolean {
    return this.#topicId === null || topicId === this.#topicId;
  }

  expectSame(topicId: string): void {
    if (this.isTopic(topicId)) return;
    throw logError("MR2013", "fatal", "the log in Kafka is another one: its topic was deleted and made again");
  }

  /** True for a frame of an earlier epoch, which this daemon never has to read. */
  isEarlier({ until }: Pick<Frame, "until">): boolean {
    return until.epoch < this.#epoch || this.#epoch === 0;
  }

  /** True for a frame of a later epoch: the next start goes on there. */
  isLater({ from, until }: Pick<Frame, "from" | "until">): boolean {
    return this.#epoch !== 0 && Math.max(from.epoch, until.epoch) > this.#epoch;
  }

  /** For a frame of an earlier epoch behind frames of this one. */
  wentBack({ until }: Pick<Frame, "until">): MillraceError {
    const message = `the log in Kafka is another one: it goes on in epoch ${until.epoch}, which is before epoch ${this.#epoch}`;
    return logError("MR2013", "fatal", message);
  }

  /** Throws for a position of another epoch: this daemon has not come there yet, and it means nothing before. */
  positionIn({ said: { position = "", epoch } }: Answer): bigint {
    if (epoch === undefined || this.#epoch === 0 || epoch === this.#epoch) return BigInt(position);
    throw logError("MR3522", "retryable", otherEpoch(epoch, this.#epoch));
  }

  /** Whether this daemon has read its own epoch although the log had this one already. */
  hasReadOn(epoch: number): boolean {
    return this.#readOnBefore === epoch;
  }

  /** The identity to store. `last`: the log's last frame. */
  readingOn(identity: LogIdentity, last: Frame): LogIdentity {
    if (!this.isLater(last)) return identity;
    this.#readOnBefore = last.until.epoch;
    return { ...identity, [READ_ON]: String(last.until.epoch) };
  }

  passedOver(topic: string, offset: bigint): void {
    // A stream that is behind reads it again.
    if (this.#foreign !== null && offset <= this.#foreign.offset) return;
    this.#foreign = { topic, offset, atMs: this.#clock.elapsed() };
  }

  /** What the operator should know. */
  get hints(): readonly string[] {
    const quotas = (this.heldBack?.hints ?? []).map(({ what, fix }) => `${what}: ${fix}`);
    const foreign = this.#foreign;
    if (foreign === null || this.#clock.elapsed() - foreign.atMs >= FOREIGN_TOLD_MS) return quotas;
    const { topic, offset } = foreign;
    return [
      ...quotas,
      `topic ${topic} has records of another program, the last one seen at offset ${offset}: they are passed over; let only the capturing daemon write there`,
    ];
  }

  acknowledged(commit: bigint): void {
    if (commit <= this.#acknowledged) return;
    this.#acknowledged = commit;
    this.#news.tell();
  }

  /** Rejects when every sink holds what is before the position, at which another epoch follows, or after a while. */
  async moved({ commit }: Position, { until }: Pick<Frame, "until">, signal: AbortSignal): Promise<never> {
    const clock = this.#clock;
    const untilMs = clock.elapsed() + DURABLE_MS_MAX;
    for (let told = this.#news.count; this.#acknowledged < commit; told = this.#news.count) {
      const leftMs = untilMs - clock.elapsed();
      if (leftMs <= 0) break;
      await this.#news.after(told, clock, leftMs, signal);
    }
    throw logError("MR2013", "fatal", otherEpoch(until.epoch, this.#epoch), { reason: "moved" });
  }

  /** The offset at which a stream from this position can begin; null: unknown. */
  offsetBefore(position: bigint): bigint | null {
    return this.#offsetBefore(position)?.offset ?? null;
  }

  /** A stream has read everything before `position`, and the records before `offset`. */
  passed({ commit, index }: Position, offset: bigint): void {
    const newest = this.#offsets.at(-1);
    // Another stream, which is behind.
    if (index > 0 || (newest !== undefined && commit <= newest.position)) return;
    this.#offsets.push({ position: commit, offset });
    if (this.#offsets.length > OFFSETS_MAX) this.#offsets = this.#offsets.filter((_, i) => i % 2 === 0);
  }

  /** Null: as it was. */
  remember(positions: readonly bigint[]): LogIdentity | null {
    const [first, ...rest] = positions;
    if (first === undefined || this.#topicId === null) return null;
    const lowest = rest.reduce((a, b) => (a < b ? a : b), first);
    const known = this.#offsetBefore(lowest);
    if (known === undefined || known === this.#offsets[0]) return null;
    this.#offsets = this.#offsets.filter(({ position }) => position >= known.position);
    return this.identityOf(this.#topicId, this.#epoch, known);
  }

  identityOf(topic: string, epoch: number, { position, offset }: KnownOffset): LogIdentity {
    const readOn = this.#readOnBefore;
    return {
      topic,
      epoch: String(epoch),
      position: String(position),
      offset: String(offset),
      ...(this.#share === null ? {} : { [DIVISION]: divisionText(this.#share.of) }),
      ...(readOn === null || readOn <= epoch ? {} : { [READ_ON]: String(readOn) }),
    };
  }

  #offsetBefore(commit: bigint): KnownOffset | undefined {
    return this.#offsets.findLast(({ position }) => position <= commit);
  }
}

function otherEpoch(now: number, read: number): string {
  return `the capturing daemon is in epoch ${now}, and this daemon reads what it wrote in epoch ${read}`;
}
