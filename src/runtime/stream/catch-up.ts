import type { Clock } from "../../core/clock.ts";
import { findMillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { comparePositions } from "../../core/model/position.ts";
import { SecondStreamRefused, type StreamOptions } from "../../core/contracts/change-log.ts";
import type { Source } from "../../core/contracts/source.ts";
import { bytesFor, FanOut, OWN_BATCHES } from "./fan-out.ts";
import { encodeMark } from "./marks.ts";
import { ReconnectBackoff } from "../retry.ts";
import type { GoBack } from "./go-back.ts";
import { SinkQueue } from "./sink-queue.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import type { InitialSnapshot } from "../snapshot/first-copy.ts";

/** At this distance in the log, in its own unit (Postgres: bytes), a catching-up sink is handed over to the main fan-out. */
const NEAR = 1n << 20n;

/** Attempts to get a second stream while the source has none free: about fifteen seconds. */
export const SECOND_STREAM_TRIES_MAX = 6;

/**
 * What the stream that feeds this fan-out asks about the tables that it shows. `sink`: the one whose own stream it is; null: the
 * main stream.
 */
export type AnswersFor = (fanOut: FanOut, sink: string | null) => Omit<StreamOptions, "temporary" | "byteCountMax">;

export interface CatchUpParts {
  readonly clock: Clock;
  /** Null: there is none. */
  readonly snapshot: Pick<InitialSnapshot, "fill"> | null;
  readonly source: Pick<Source, "log" | "watermarks">;
  readonly main: FanOut;
  readonly goBack: GoBack;
  readonly answersFor: AnswersFor;
  readonly secondStreamTriesMax: number;
}

/**
 * Brings a sink that is behind to the main fan-out: with its own stream or, if the source has none free, by making the main
 * fan-out go back. `onRefused` is called each time the source refuses a stream. Runs beside `worker.run`.
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
        // A source whose log has changed is noticed here first, because nothing looks at an idle main stream.
        if (!signal.aborted && parts.main.isAtRest) parts.goBack.reopen();
        throw error;
      }
      await onRefused(refusal);
      const isLast = tries >= parts.secondStreamTriesMax;
      if (isLast) parts.goBack.ask(refusal);
      if (await parts.goBack.comesBy(worker, isLast ? null : backoff.next(), signal)) return;
    }
  }
}

/**
 * Brings one sink to the main fan-out with a second stream, while the others continue. Near the end, the main fan-out already
 * collects the sink's changes in a queue. That queue is appended when the second stream has passed the position where it
 * began; changes that both streams carried are skipped by position.
 */
async function catchUp(worker: SinkWorker, parts: CatchUpParts, signal: AbortSignal): Promise<void> {
  const { source, main } = parts;
  /** Besides those of the main stream. */
  const byteCountMax = bytesFor(OWN_BATCHES, [worker.limits]);
  const from = worker.position.reached;
  const own = new FanOut(from, source.watermarks.markPrefix);
  const options = { temporary: true, ...parts.answersFor(own, worker.name), byteCountMax };
  await using stream = await source.log.stream(from, options, signal);
  failpoint("catch-up.opened");
  own.attach(worker);
  const collected = new SinkQueue();
  try {
    // Near the end nothing more may come on its own stream: what the sink still has to work off must not count.
    await own.run(stream, signal, () => own.hasRoom && main.position.commit - own.position.commit < NEAR);
    main.attach(worker, collected);
    const joint = main.position;
    failpoint("catch-up.collecting");
    // In an idle log both streams would wait for a change beyond that position.
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
