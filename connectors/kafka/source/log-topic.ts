/** The topic of the log, read as frames. */
import { Frame, type FrameReading, type FrameContent, UnreadableFrame } from "../../../src/core/model/frame.ts";
import { findMillraceError } from "../../../src/core/errors.ts";
import type { Cluster } from "../client/cluster.ts";
import { type CommittedRecord, type Place, readCommitted } from "../client/reading.ts";
import { kafkaError } from "../errors.ts";
import { Assembly, isPart, type Whole } from "../parts.ts";
import { logTopic } from "../names.ts";
import type { SourceContext } from "./context.ts";

/** In offsets: some frames. */
const NEAR_THE_END = 20n;

/** A frame, and its records. */
export interface Framed extends Whole {
  readonly frame: Frame;
}

export async function findLog(cluster: Cluster, { naming }: SourceContext, signal: AbortSignal): Promise<Place> {
  const name = logTopic(naming);
  const topic = (await cluster.topics([name], signal)).get(name);
  if (topic == null)
    throw kafkaError("MR3522", "blocked", `topic ${name} is not there: daemon ${naming.daemon} has no log yet`);
  return { name, topic, partition: 0 };
}

/**
 * Every frame that begins at offset `from` or later; `until`: see `readCommitted`. Throws at one that can't be read. What other
 * programs have written is passed over: a reader that goes from frame to frame lacks nothing. See `Walk`.
 */
export async function* framesFrom(
  cluster: Cluster,
  place: Place,
  { from, until }: { readonly from: bigint; readonly until: bigint | null },
  signal: AbortSignal,
  onForeign: (record: CommittedRecord) => void = () => undefined,
): AsyncGenerator<Framed> {
  const all = readCommitted(cluster, place, { from, until }, signal);
  for await (const whole of wholesIn(all, onForeign)) yield framed(place, whole);
}

/** Those that can be read: where others lie, a reader finds a gap. */
async function* readableIn(cluster: Cluster, place: Place, range: Range, signal: AbortSignal): AsyncGenerator<Framed> {
  for await (const found of foundIn(cluster, place, range, signal)) if (found !== null) yield found;
}

/** Null: one that can't be read. */
export async function* foundIn(
  cluster: Cluster,
  place: Place,
  range: Range,
  signal: AbortSignal,
): AsyncGenerator<Framed | null> {
  const all = readCommitted(cluster, place, range, signal);
  for await (const whole of wholesIn(all, () => undefined)) yield readableOf(place, whole);
}

/** The parts of a frame come from one producer; records of another one may lie between them. */
async function* wholesIn(
  records: AsyncIterable<CommittedRecord>,
  onForeign: (record: CommittedRecord) => void,
): AsyncGenerator<Whole> {
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

function framed({ name }: Place, whole: Whole): Framed {
  try {
    return { frame: new Frame(whole.message), ...whole };
  } catch (error) {
    throw unreadable(recordIn(name, whole), error);
  }
}

/** What a frame says. Throws at content that can't be read. */
export async function contentOf(
  { name }: Pick<Place, "name">,
  { frame, ...whole }: Framed,
  reading: FrameReading,
): Promise<FrameContent> {
  try {
    return await frame.read(reading);
  } catch (error) {
    throw unreadable(recordIn(name, whole), error);
  }
}

function recordIn(topic: string, { first }: Whole): string {
  return `the record at offset ${first} of topic ${topic}`;
}

function readableOf(place: Place, whole: Whole): Framed | null {
  try {
    return framed(place, whole);
  } catch (error) {
    if (findMillraceError(error)?.code === "MR3523") return null;
    throw error;
  }
}

interface Range {
  readonly from: bigint;
  readonly until: bigint;
}

/** The last frame that begins in a range of offsets; null: there is none. */
export async function lastOf(
  cluster: Cluster,
  place: Place,
  { from, until }: Range,
  signal: AbortSignal,
): Promise<Frame | null> {
  for (const near of backwards(from, until)) {
    let last: Frame | null = null;
    for await (const { frame } of readableIn(cluster, place, { from: near, until }, signal)) last = frame;
    if (last !== null) return last;
  }
  return null;
}

/** The first frame in a range of offsets; null: there is none. */
export async function firstOf(
  cluster: Cluster,
  place: Place,
  range: Range,
  signal: AbortSignal,
): Promise<Frame | null> {
  for await (const { frame } of readableIn(cluster, place, range, signal)) return frame;
  return null;
}

/** The first frame of a later epoch, and the frame before it if that is there; null: there is no such frame. */
export async function firstAfterEpoch(
  cluster: Cluster,
  place: Place,
  { from, until }: Range,
  epoch: number,
  signal: AbortSignal,
): Promise<{ readonly found: Framed; readonly before: Frame | null } | null> {
  for (const near of backwards(from, until)) {
    let before: Frame | null = null;
    for await (const found of readableIn(cluster, place, { from: near, until }, signal)) {
      if (found.frame.until.epoch <= epoch) before = found.frame;
      else if (before !== null || near === from) return { found, before };
      else break;
    }
  }
  return null;
}

/** The offset of the last frame that begins at or before the position; without one, the range's first. */
export async function offsetBefore(
  cluster: Cluster,
  place: Place,
  { from, until }: Range,
  isBefore: (frame: Frame) => boolean,
  signal: AbortSignal,
): Promise<bigint> {
  for (const near of backwards(from, until)) {
    let last: bigint | null = null;
    for await (const { frame, first } of readableIn(cluster, place, { from: near, until }, signal)) {
      if (!isBefore(frame)) break;
      last = first;
    }
    if (last !== null) return last;
  }
  return from;
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
  return isOurs ? kafkaError("MR3523", "fatal", `${what} is no frame of this version`) : error;
}
