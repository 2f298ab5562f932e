/** The topic of the log, read as frames. */
import { Frame, UnreadableFrame } from "../../../src/core/model/frame.ts";
import type { Cluster } from "../client/cluster.ts";
import { type Place, readCommitted } from "../client/reading.ts";
import { kafkaError } from "../errors.ts";
import { Assembly, type Whole } from "../log/parts.ts";
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

/** Every frame that begins at offset `from` or later; `until`: see `readCommitted`. */
export async function* framesFrom(
  cluster: Cluster,
  place: Place,
  { from, until }: { readonly from: bigint; readonly until: bigint | null },
  signal: AbortSignal,
): AsyncGenerator<Framed> {
  const assembly = new Assembly();
  for await (const record of readCommitted(cluster, place, { from, until }, signal)) {
    const whole = assembly.add(record);
    if (whole !== null) yield { frame: readable(place, () => new Frame(whole.message)), ...whole };
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
    for await (const { frame } of framesFrom(cluster, place, { from: near, until }, signal)) last = frame;
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
  for await (const { frame } of framesFrom(cluster, place, range, signal)) return frame;
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
    for await (const found of framesFrom(cluster, place, { from: near, until }, signal)) {
      if (found.frame.until.epoch <= epoch) before = found.frame;
      else if (before !== null || near === from) return { found, before };
      else break;
    }
  }
  return null;
}

/** The offset of a frame that begins at or before the position; without one, the range's first. */
export async function offsetBefore(
  cluster: Cluster,
  place: Place,
  { from, until }: Range,
  isBefore: (frame: Frame) => boolean,
  signal: AbortSignal,
): Promise<bigint> {
  for (const near of backwards(from, until)) {
    for await (const { frame, first } of framesFrom(cluster, place, { from: near, until }, signal)) {
      if (isBefore(frame)) return first;
      break;
    }
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

/** The result, or the error that says that the topic holds something else. */
export function readable<T>({ name }: Place, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw unreadable(name, error);
  }
}

export function unreadable(name: string, error: unknown): unknown {
  const isOurs = error instanceof UnreadableFrame || error instanceof RangeError || error instanceof SyntaxError;
  return isOurs ? kafkaError("MR3523", "fatal", `a record of topic ${name} is no frame of this version`, error) : error;
}
