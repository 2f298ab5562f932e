import type { CreatedLog, CreateRequest, HeldPositions, LogAdmin } from "../../../src/core/contracts/log-admin.ts";
import type { LogIdentity } from "../../../src/core/contracts/positions.ts";
import { withTimeout } from "../../../src/core/with-timeout.ts";
import { scopeOf } from "../../../src/core/clock.ts";
import type { FrameReading } from "../../../src/core/model/frame.ts";
import { extentOf } from "../client/reading.ts";
import { classify, kafkaError } from "../errors.ts";
import type { Calls } from "./calls.ts";
import type { SourceContext } from "./context.ts";
import { crossEpoch } from "./crossing.ts";
import { type Followed, LOSSES } from "./followed.ts";
import { contentOf, findLog, type Framed, framesFrom, lastOf } from "./log-topic.ts";
import { Walk } from "./walk.ts";

/** A start looks at so much behind the place where it goes on. */
const WALKED_BYTES_MAX = 64 * 1024 * 1024;
/** How long a first start waits for each frame until the capturing daemon has written one to begin at. */
const FIRST_FRAME_MS_MAX = 60_000;

/** Whether a frame can be read. */
const LOOKED_AT: FrameReading = { epoch: 1, since: null, markOf: () => null, tableOf: async () => null };

/** Nothing is created: the capturing daemon writes the log, and Kafka keeps it. */
export function logAdmin(context: SourceContext, calls: Calls, followed: Followed): LogAdmin {
  return {
    losses: LOSSES,
    create: (request, signal) => create(context, { calls, followed }, request, signal),
    resume: async (identity, held, signal) => {
      followed.recall(identity);
      return await expectThere(context, { followed, identity, held }, signal);
    },
    cross: (identity, places, signal) => crossEpoch(context, { calls, followed }, identity, places, signal),
    remember: (places) => followed.remember(places),
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
  context: SourceContext,
  { calls, followed }: { readonly calls: Calls; readonly followed: Followed },
  { epoch }: CreateRequest,
  signal: AbortSignal,
): Promise<CreatedLog> {
  using scope = scopeOf(signal);
  try {
    await using cluster = await context.cluster.connect(scope.signal);
    const place = await findLog(cluster, context, scope.signal);
    const { stable } = await extentOf(cluster, place, scope.signal);
    await calls.ask({ kind: "mark", content: "begin" }, scope.signal);
    const frames = framesFrom(cluster, place, { from: stable, until: null }, scope.signal);
    const late = (): never => {
      throw kafkaError("MR3522", "retryable", `daemon ${context.naming.daemon} has written nothing to ${place.name}`);
    };
    const limits = { clock: context.clock, signal, timeoutMs: FIRST_FRAME_MS_MAX, late };
    let begins: Framed;
    // A place in the middle of a transaction is none to begin at: an identity knows only whole ones.
    do begins = await withTimeout(firstOf(frames), limits);
    while (begins.frame.from.index > 0);
    const { frame, first } = begins;
    const begun = { position: frame.from.commit, offset: first };
    const identity = followed.identityOf(place.topic.id, frame.from.epoch, begun);
    followed.recall(identity);
    return { identity, position: { ...frame.from, epoch }, copy: null };
  } catch (error) {
    throw classify(error, signal);
  } finally {
    scope.end();
  }
}

interface ExpectedLog {
  readonly followed: Followed;
  readonly identity: LogIdentity;
  readonly held: HeldPositions;
}

/**
 * Where this daemon stopped, the frames must go on without a gap, and the last one shows whether the log lost its end. A gap
 * further on is met by the stream, which then stops there. Returns the identity to store.
 */
async function expectThere(
  context: SourceContext,
  { followed, identity, held }: ExpectedLog,
  signal: AbortSignal,
): Promise<LogIdentity> {
  const [offset, position] = [BigInt(identity["offset"] ?? 0), BigInt(identity["position"] ?? 0)];
  try {
    await using cluster = await context.cluster.connect(signal);
    const place = await findLog(cluster, context, signal);
    followed.expectSame(place.topic.id);
    const { first, stable } = await extentOf(cluster, place, signal);
    const from = offset < first || offset > stable ? first : offset;
    const walk = new Walk({ epoch: held.from.epoch, commit: position, index: 0 });
    let byteCount = 0;
    for await (const framed of framesFrom(cluster, place, { from, until: stable }, signal)) {
      const { frame, message } = framed;
      if (followed.isLater(frame)) break;
      if (!followed.isEarlier(frame) && walk.step(frame, place.name) !== null)
        await contentOf(place, framed, LOOKED_AT);
      byteCount += message.length;
      if (byteCount > WALKED_BYTES_MAX) break;
    }
    const end = await lastOf(cluster, place, { from, until: stable }, signal);
    if (end === null) return identity;
    if (followed.isEarlier(end)) throw followed.wentBack(end);
    if (followed.isLater(end)) return followed.readingOn(identity, end);
    if (end.until.commit >= held.reached.commit) return identity;
    throw kafkaError(
      "MR3521",
      "fatal",
      `the log in Kafka has lost its end: a sink holds more than topic ${place.name}`,
    );
  } catch (error) {
    throw classify(error, signal);
  }
}

async function firstOf(frames: AsyncGenerator<Framed>): Promise<Framed> {
  const { value, done } = await frames.next();
  if (done === true) throw kafkaError("MR3501", "aborted", "the reading was stopped");
  return value;
}
