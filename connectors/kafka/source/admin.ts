/** Where a reader of the log begins, goes on, and goes on in another epoch. Nothing is created: the capturing daemon writes the log. */
import { scopeOf } from "../../../src/core/clock.ts";
import type {
  CreatedLog,
  CreateRequest,
  Crossing,
  HeldPositions,
  LogAdmin,
} from "../../../src/core/contracts/log-admin.ts";
import type { OnRenamed } from "../../../src/core/contracts/change-log.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import type { Position } from "../../../src/core/model/position.ts";
import type { Frame, FrameReading } from "../../../src/core/model/frame.ts";
import { withTimeout } from "../../../src/core/waiting.ts";
import { classifySource, logError } from "../errors.ts";
import { type Calls, tablesFrom } from "./asking.ts";
import type { SourceContext } from "./context.ts";
import { type Followed, LOSSES } from "./followed.ts";
import { type Framed, LogTopic, Walk } from "./log-topic.ts";

/** A start looks at so much behind the position where it goes on. */
const WALKED_BYTES_MAX = 64 * 1024 * 1024;
/** How long a start waits for each frame until the capturing daemon has written the one that it needs. */
const FRAME_MS_MAX = 60_000;

/** Whether a frame can be read. */
const LOOKED_AT: FrameReading = { epoch: 1, since: null, markOf: () => null, tableOf: async () => null };

/** What a reader of the log has. */
export interface LogReader {
  readonly context: SourceContext;
  readonly calls: Calls;
  readonly followed: Followed;
}

export function logAdmin(reader: LogReader): LogAdmin {
  const { calls, followed } = reader;
  return {
    losses: LOSSES,
    create: (request, signal) => create(reader, request, signal),
    resume: async (identity, held, signal) => {
      followed.recall(identity);
      return await expectThere(reader, identity, held, signal);
    },
    cross: (identity, positions, signal) => crossEpoch(reader, identity, positions, signal),
    remember: (positions) => followed.remember(positions),
    health: async (signal) => {
      const { said } = await calls.ask({ kind: "health" }, signal);
      return {
        tip: BigInt(said.position ?? ""),
        retainedBytes: 0,
        safeBytes: null,
        warnings: [],
        hints: followed.hints,
      };
    },
  };
}

/**
 * Begins at the log's present end, which the next frame tells that begins between two transactions. The rows from before are
 * read through the capturing daemon.
 */
async function create(
  { context, calls, followed }: LogReader,
  { epoch }: CreateRequest,
  signal: AbortSignal,
): Promise<CreatedLog> {
  using scope = scopeOf(signal);
  try {
    await using log = await LogTopic.open(context, scope.signal);
    const { stable } = await log.extent(scope.signal);
    await calls.ask({ kind: "mark", content: "begin" }, scope.signal);
    const frames = log.frames({ from: stable, until: null }, scope.signal);
    let begins: Framed;
    // A position in the middle of a transaction is none to begin at: an identity knows only whole ones.
    do begins = await nextOf(frames, context, log, signal);
    while (begins.frame.from.index > 0);
    const { frame, first } = begins;
    const begun = { position: frame.from.commit, offset: first };
    const identity = followed.identityOf(log.id, frame.from.epoch, begun);
    followed.recall(identity);
    return { identity, position: { ...frame.from, epoch }, copy: null };
  } catch (error) {
    throw classifySource(error, signal);
  } finally {
    scope.end();
  }
}

/** The capturing daemon has been asked for a mark. */
async function nextOf(
  frames: AsyncGenerator<Framed>,
  { clock, naming }: SourceContext,
  log: LogTopic,
  signal: AbortSignal,
): Promise<Framed> {
  const late = (): never => {
    const what = `the capturing daemon, ${naming.daemon}, has written nothing to ${log.name}`;
    throw logError("MR3522", "retryable", what);
  };
  return await withTimeout(firstOf(frames), { clock, signal, timeoutMs: FRAME_MS_MAX, late });
}

async function firstOf(frames: AsyncGenerator<Framed>): Promise<Framed> {
  const { value, done } = await frames.next();
  if (done === true) throw logError("MR2029", "aborted", "the reading was stopped");
  return value;
}

/**
 * Where this daemon stopped, the frames must go on without a gap, and the last one shows whether the log lost its end. A gap
 * further on is met by the stream, which then stops there. Returns the identity to store.
 */
async function expectThere(
  { context, followed }: LogReader,
  identity: LogIdentity,
  held: HeldPositions,
  signal: AbortSignal,
): Promise<LogIdentity> {
  const [offset, position] = [BigInt(identity["offset"] ?? 0), BigInt(identity["position"] ?? 0)];
  try {
    await using log = await LogTopic.open(context, signal);
    followed.expectSame(log.id);
    const { first, stable } = await log.extent(signal);
    const from = offset < first || offset > stable ? first : offset;
    const walk = new Walk({ epoch: held.from.epoch, commit: position, index: 0 });
    let byteCount = 0;
    for await (const framed of log.frames({ from, until: stable }, signal)) {
      const { frame, message } = framed;
      if (followed.isLater(frame)) break;
      if (!followed.isEarlier(frame) && walk.step(frame, log.name) !== null) await log.contentOf(framed, LOOKED_AT);
      byteCount += message.length;
      if (byteCount > WALKED_BYTES_MAX) break;
    }
    const end = await log.last({ from, until: stable }, signal);
    if (end === null) return identity;
    if (followed.isEarlier(end)) throw followed.wentBack(end);
    if (followed.isLater(end)) return followed.readingOn(identity, end);
    if (end.until.commit >= held.reached.commit) return identity;
    const what = `the log in Kafka has lost its end: a sink holds more than topic ${log.name}`;
    throw logError("MR2013", "fatal", what);
  } catch (error) {
    throw classifySource(error, signal);
  }
}

/**
 * The capturing daemon goes on in a new epoch: where a reader goes on there. Null: the log has no later epoch, or there are
 * frames of this one to read first. Between two epochs anything may be missing: the capturing daemon's own crossing says
 * nothing of what its readers have. So every sink keeps its rows, goes on where the newest epoch begins, and is compared.
 */
async function crossEpoch(
  { context, calls, followed }: LogReader,
  identity: LogIdentity,
  positions: readonly bigint[],
  signal: AbortSignal,
): Promise<Crossing | null> {
  followed.recall(identity);
  try {
    await using log = await LogTopic.open(context, signal);
    if (!followed.isTopic(log.id)) return null;
    const { first, stable } = await log.extent(signal);
    const all = { from: first, until: stable };
    const newest = (await log.last(all, signal))?.until.epoch ?? 0;
    if (newest <= followed.epoch) return null;
    if (!followed.hasReadOn(newest) && (await hasMore(log, followed.epoch, positions, signal))) return null;
    const { frame, first: offset } = (await log.firstAfterEpoch(all, newest - 1, signal))!.found;
    const position = frame.from.commit;
    // Invariant: after the position was found. A table of a later generation is read as a whole.
    const { generations } = await tablesFrom(context, calls, signal);
    return {
      identity: followed.identityOf(log.id, newest, { position, offset }),
      positions: new Map(),
      from: position,
      end: position,
      generations: new Map(),
      compared: generations,
    };
  } catch (error) {
    throw classifySource(error, signal);
  }
}

/** Whether the log has changes of this epoch that follow what every sink has: histories need them. */
async function hasMore(
  log: LogTopic,
  epoch: number,
  positions: readonly bigint[],
  signal: AbortSignal,
): Promise<boolean> {
  const { first, stable } = await log.extent(signal);
  const all = { from: first, until: stable };
  const lowest = positions.reduce<bigint | null>((low, one) => (low === null || one < low ? one : low), null);
  const oldest = await log.first(all, signal);
  if (lowest === null || oldest === null || oldest.until.epoch > epoch) return false;
  // What retention has cut off can't be read: the comparison finds it.
  if (oldest.from.epoch === epoch && oldest.from.commit > lowest) return false;
  const before = (await log.firstAfterEpoch(all, epoch, signal))?.before ?? null;
  return before !== null && before.until.commit > lowest;
}

/** See `ChangeLog`. What the catalogue shows may come to the log a moment later: the capturing daemon is asked how far it is. */
export async function renames(
  { context, calls, followed }: LogReader,
  { from, to }: { readonly from: Position; readonly to: Position | null },
  onRenamed: OnRenamed,
  signal: AbortSignal,
): Promise<bigint> {
  using scope = scopeOf(signal);
  try {
    await using log = await LogTopic.open(context, scope.signal);
    followed.expectSame(log.id);
    const { first, stable } = await log.extent(scope.signal);
    const last = await log.last({ from: first, until: stable }, scope.signal);
    followed.adopt(last);
    const isThere = to !== null && last !== null && !followed.isEarlier(last) && isBeyond(last, to, followed);
    const tip = isThere ? to.commit : followed.positionIn(await calls.ask({ kind: "tip" }, scope.signal));
    if (!isThere) await calls.ask({ kind: "mark", content: "renames" }, scope.signal);
    const until = to === null || to.commit > tip ? tip : to.commit;
    const walk = new Walk(from);
    const start = await log.offsetBefore({ from: first, until: stable }, from, followed, scope.signal);
    const frames = log.frames({ from: start, until: null }, scope.signal);
    const reading: FrameReading = {
      ...LOOKED_AT,
      epoch: from.epoch,
      onRenamed: async (told, position) => onRenamed(told, position),
    };
    for (;;) {
      const framed = await nextOf(frames, context, log, signal);
      if (followed.isEarlier(framed.frame)) continue;
      if (followed.isLater(framed.frame)) return walk.at.commit;
      if (walk.step(framed.frame, log.name) !== null) await log.contentOf(framed, reading);
      if (framed.frame.until.commit >= until) return until;
    }
  } catch (error) {
    throw classifySource(error, signal);
  } finally {
    scope.end();
  }
}

function isBeyond(frame: Frame, { commit }: Position, followed: Followed): boolean {
  return followed.isLater(frame) || frame.until.commit >= commit;
}

/** Behind the last gap, and the last frame that can't be read, which only the frames themselves show: reads the log to its end. */
export async function earliest({ context, followed }: LogReader, signal: AbortSignal): Promise<bigint | null> {
  try {
    await using log = await LogTopic.open(context, signal);
    const { first: from, stable: until } = await log.extent(signal);
    followed.adopt(await log.last({ from, until }, signal));
    let walk: Walk | null = null;
    let begin: bigint | null = null;
    for await (const found of log.found({ from, until }, signal)) {
      if (found === null) {
        walk = null;
        begin = null;
        continue;
      }
      const { frame } = found;
      if (followed.isEarlier(frame)) continue;
      if (followed.isLater(frame)) break;
      if (walk === null || walk.lacksBefore(frame)) {
        // A position in the middle of a transaction is none to begin at.
        const isWhole: boolean = frame.from.index === 0;
        walk = isWhole ? new Walk(frame.from) : null;
        begin = isWhole ? frame.from.commit : null;
      }
      walk?.step(frame, log.name);
    }
    return begin;
  } catch (error) {
    throw classifySource(error, signal);
  }
}
