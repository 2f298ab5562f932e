import type { Clock } from "../../core/clock.ts";
import { findMillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { invariant } from "../../core/invariant.ts";
import { comparePositions } from "../../core/model/position.ts";
import { SecondStreamRefused, type SchemaResolver } from "../../core/contracts/change-log.ts";
import type { Source } from "../../core/contracts/source.ts";
import { Lane } from "./lane.ts";
import { encodeMark } from "./marks.ts";
import { ReconnectBackoff } from "../retry.ts";
import type { Rewind } from "./rewind.ts";
import { SinkQueue } from "../apply/sink-queue.ts";
import type { SinkWorker } from "../apply/sink-worker.ts";

/** Distance in the log, in its own unit (Postgres: bytes), at which a catching-up sink is handed over. */
const NEAR = 1n << 20n;

/** Attempts to get a second stream, where there is none to be had: it may become free. Some fifteen seconds. */
export const SECOND_STREAM_TRIES_MAX = 6;

export interface CatchUpParts {
  readonly clock: Clock;
  readonly source: Pick<Source, "log" | "watermarks">;
  readonly main: Lane;
  readonly rewind: Rewind;
  readonly resolve: SchemaResolver;
  /** `StreamOptions.isKnown` */
  readonly isKnown: (tableId: string) => boolean;
  /** `StreamOptions.onUnloggedRows`, of the stream of one sink. */
  readonly onUnloggedRows: (tableId: string, sink: string) => Promise<void>;
  readonly secondStreamTriesMax: number;
  /** Bytes that this stream may hold, apart from the main one's. */
  readonly byteCountMax: number;
}

/**
 * Brings one sink that lies behind to the main lane: by a stream of its own, or, where there is none to be had, by having
 * the main lane go back. `onRefused` is told each time that no stream was to be had. Runs beside `worker.run`.
 */
export async function rejoin(
  worker: SinkWorker,
  parts: CatchUpParts,
  onRefused: (refusal: SecondStreamRefused) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const backoff = new ReconnectBackoff(parts.clock);
  for (let tries = 1; ; tries++) {
    try {
      return await catchUp(worker, parts, signal);
    } catch (error) {
      const refusal = findMillraceError(error);
      if (!(refusal instanceof SecondStreamRefused)) {
        // What has become of the log is met here first, as a stream that brings nothing for anybody is not looked at.
        if (!signal.aborted && parts.main.isAtRest) parts.rewind.reopen();
        throw error;
      }
      await onRefused(refusal);
      const isLast = tries >= parts.secondStreamTriesMax;
      if (isLast) parts.rewind.ask(refusal);
      if (await parts.rewind.comesBy(worker, isLast ? null : backoff.next(), signal)) return;
    }
  }
}

/**
 * Brings one sink from where it stands to the main lane by a second stream of its own, while the others go on. Near the
 * end the main lane already collects for the sink, in a queue that is appended when the second stream has passed the
 * place where that began; what both carried is passed over by position.
 */
async function catchUp(worker: SinkWorker, parts: CatchUpParts, signal: AbortSignal): Promise<void> {
  const { source, main, resolve, isKnown, byteCountMax } = parts;
  const onUnloggedRows = (tableId: string) => parts.onUnloggedRows(tableId, worker.name);
  const from = worker.covered;
  invariant(from !== null, "a sink catches up from a known position");
  const options = { temporary: true, resolve, isKnown, onUnloggedRows, byteCountMax };
  await using stream = await source.log.stream(from, options, signal);
  failpoint("catch-up.opened");
  const own = new Lane(from, source.watermarks.markPrefix);
  own.attach(worker);
  const collected = new SinkQueue();
  try {
    await own.run(stream, signal, () => worker.queue.length <= 1 && main.position.commit - own.position.commit < NEAR);
    main.attach(worker, collected);
    const joint = main.position;
    failpoint("catch-up.collecting");
    // An idle log would keep both streams waiting for something to pass the joint.
    await source.watermarks.mark(encodeMark({ edge: null }), signal);
    await own.run(stream, signal, () => comparePositions(own.position, joint) >= 0);
    signal.throwIfAborted();
  } catch (error) {
    main.detach(worker);
    throw error;
  }
  worker.queue.append(collected);
  main.attach(worker);
  failpoint("catch-up.handed-over");
}
