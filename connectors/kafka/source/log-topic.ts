/** The topic of the log, read as frames, over a connection of its own. */
import { Frame, type FrameContent, type FrameReading, UnreadableFrame } from "../../../src/core/model/frame.ts";
import { comparePositions, type Position } from "../../../src/core/model/position.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import { type Cluster, topicsOf } from "../client/cluster.ts";
import type { HeldBack } from "../client/held-back.ts";
import { type CommittedRecord, type Extent, extentOf, type Partition, readCommitted } from "../client/partition.ts";
import { logError } from "../errors.ts";
import { logTopic } from "../names.ts";
import { Assembly, isPart, type Whole } from "../writer/messages.ts";
import type { SourceContext } from "./context.ts";
import type { Followed } from "./followed.ts";

/** In offsets: some frames. */
const NEAR_THE_END = 20n;

/** A frame, and its records. */
export interface Framed extends Whole {
  readonly frame: Frame;
}

interface Range {
  readonly from: bigint;
  readonly until: bigint;
}

type OnForeign = (record: CommittedRecord) => void;

export class LogTopic implements AsyncDisposable {
  readonly #cluster: Cluster;
  readonly #partition: Partition;

  get heldBack(): HeldBack {
    return this.#cluster.heldBack;
  }

  private constructor(cluster: Cluster, partition: Partition) {
    this.#cluster = cluster;
    this.#partition = partition;
  }

  static async open({ cluster: access, naming }: SourceContext, signal: AbortSignal): Promise<LogTopic> {
    await using opening = new AsyncDisposableStack();
    const cluster = opening.use(await access.connect(signal));
    const name = logTopic(naming);
    const topic = (await topicsOf(cluster, [name], signal)).get(name);
    if (topic == null)
      throw logError("MR3522", "blocked", `topic ${name} is not there: daemon ${naming.daemon} has no log yet`);
    opening.move();
    return new LogTopic(cluster, { name, topic, partition: 0 });
  }

  get name(): string {
    return this.#partition.name;
  }

  /** Another one when the topic is made again. */
  get id(): string {
    return this.#partition.topic.id;
  }

  async extent(signal: AbortSignal): Promise<Extent> {
    return await extentOf(this.#cluster, this.#partition, signal);
  }

  /**
   * Every frame that begins at offset `from` or later; `until`: see `readCommitted`. Throws at one that can't be read. What other
   * programs have written is passed over: a reader that goes from frame to frame lacks nothing. See `Walk`.
   */
  async *frames(
    range: { readonly from: bigint; readonly until: bigint | null },
    signal: AbortSignal,
    onForeign: OnForeign = () => undefined,
  ): AsyncGenerator<Framed> {
    const records = readCommitted(this.#cluster, this.#partition, range, signal);
    for await (const whole of wholesIn(records, onForeign)) yield this.#framed(whole);
  }

  /** The same up to an offset; null: a frame that can't be read. */
  async *found(range: Range, signal: AbortSignal): AsyncGenerator<Framed | null> {
    const records = readCommitted(this.#cluster, this.#partition, range, signal);
    for await (const whole of wholesIn(records, () => undefined)) {
      let framed: Framed | null = null;
      try {
        framed = this.#framed(whole);
      } catch (error) {
        if (!isUnreadable(error)) throw error;
      }
      yield framed;
    }
  }

  /** What a frame says. Throws at content that can't be read. */
  async contentOf({ frame, first }: Framed, reading: FrameReading): Promise<FrameContent> {
    try {
      return await frame.read(reading);
    } catch (error) {
      throw unreadable(this.#recordAt(first), error);
    }
  }

  /** The last frame that begins in a range of offsets; null: there is none. */
  async last({ from, until }: Range, signal: AbortSignal): Promise<Frame | null> {
    for (const near of backwards(from, until)) {
      let last: Frame | null = null;
      for await (const found of this.found({ from: near, until }, signal)) last = found?.frame ?? last;
      if (last !== null) return last;
    }
    return null;
  }

  /** The first frame in a range of offsets; null: there is none. */
  async first(range: Range, signal: AbortSignal): Promise<Frame | null> {
    for await (const found of this.found(range, signal)) if (found !== null) return found.frame;
    return null;
  }

  /** The first frame of a later epoch, and the frame before it if that is there; null: there is no such frame. */
  async firstAfterEpoch(
    { from, until }: Range,
    epoch: number,
    signal: AbortSignal,
  ): Promise<{ readonly found: Framed; readonly before: Frame | null } | null> {
    for (const near of backwards(from, until)) {
      let before: Frame | null = null;
      for await (const found of this.found({ from: near, until }, signal)) {
        if (found === null) continue;
        if (found.frame.until.epoch <= epoch) before = found.frame;
        else if (before !== null || near === from) return { found, before };
        else break;
      }
    }
    return null;
  }

  /**
   * Where to read the epoch that is followed from a position on: the offset of the last frame that ends before it, or of the
   * first one behind what can't be read; without one, the range's first.
   */
  async offsetBefore(
    { from, until }: Range,
    { commit }: Pick<Position, "commit">,
    followed: Followed,
    signal: AbortSignal,
  ): Promise<bigint> {
    for (const near of backwards(from, until)) {
      let start: bigint | null = null;
      let isBehindUnreadable = false;
      let isEarlier = false;
      for await (const found of this.found({ from: near, until }, signal)) {
        if (found === null) {
          start = null;
          isBehindUnreadable = true;
          continue;
        }
        const { frame, first } = found;
        isEarlier = followed.isEarlier(frame);
        const isEnough = !isEarlier && (followed.isLater(frame) || frame.until.commit > commit);
        const isBefore = isEarlier || (!isEnough && frame.until.commit < commit);
        if (isBefore || isBehindUnreadable) start = first;
        isBehindUnreadable = false;
        if (isEnough) break;
      }
      // Frames of an earlier epoch with none of this one behind them may be where the log went back.
      if (start !== null && !isEarlier) return start;
    }
    return from;
  }

  #framed(whole: Whole): Framed {
    try {
      return { frame: new Frame(whole.message), ...whole };
    } catch (error) {
      throw unreadable(this.#recordAt(whole.first), error);
    }
  }

  #recordAt(offset: bigint): string {
    return `the record at offset ${offset} of topic ${this.name}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#cluster[Symbol.asyncDispose]();
  }
}

/** The parts of a frame come from one producer; records of another one may lie between them. */
async function* wholesIn(records: AsyncIterable<CommittedRecord>, onForeign: OnForeign): AsyncGenerator<Whole> {
  let writer: bigint | null = null;
  let assembly = new Assembly();
  for await (const record of records) {
    if (!isPart(record)) {
      onForeign(record);
      continue;
    }
    if (record.producerId !== writer) {
      writer = record.producerId;
      assembly = new Assembly();
    }
    const whole = assembly.add(record);
    if (whole !== null) yield whole;
  }
}

/** Offsets at growing distances from the end. */
function* backwards(from: bigint, until: bigint): Generator<bigint> {
  for (let back = NEAR_THE_END; ; back *= 10n) {
    const near = until - back > from ? until - back : from;
    yield near;
    if (near === from) return;
  }
}

/** The error that says that a message is none of this version; another error remains. The message's own text is not told. */
export function unreadable(what: string, error: unknown): unknown {
  const isOurs = error instanceof UnreadableFrame || error instanceof RangeError || error instanceof SyntaxError;
  return isOurs ? logError("MR2023", "fatal", `${what} is no frame of this version`) : error;
}

function isUnreadable(error: unknown): boolean {
  return findMillraceError(error)?.code === "MR2023";
}

/** A reader's way from frame to frame: each begins where the one before ended, or earlier, where a part of the log was written again. */
export class Walk {
  #at: Position;

  /** `at`: everything before it was read; in the reader's epoch. */
  constructor(at: Position) {
    this.#at = at;
  }

  get at(): Position {
    return this.#at;
  }

  /**
   * What a frame of the log's own epoch brings, in the reader's epoch: everything between `since` (null: its beginning) and
   * `until`. Null: it was read before. Throws at a gap.
   */
  step(
    frame: Pick<Frame, "from" | "until">,
    topic: string,
  ): { readonly since: Position | null; readonly until: Position } | null {
    const since = this.#at;
    const { epoch } = since;
    const until = { ...frame.until, epoch };
    if (comparePositions(until, since) < 0) return null;
    if (this.lacksBefore(frame)) {
      throw logError("MR2010", "fatal", `topic ${topic} does not have the changes that follow those already read`);
    }
    this.#at = until;
    return { since: comparePositions({ ...frame.from, epoch }, since) < 0 ? since : null, until };
  }

  /** Whether changes between here and the frame are in no frame before it. */
  lacksBefore({ from }: Pick<Frame, "from">): boolean {
    return comparePositions({ ...from, epoch: this.#at.epoch }, this.#at) > 0;
  }
}
