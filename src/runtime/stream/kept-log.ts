import type { Clock } from "../../core/clock.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import { News } from "../../core/waiting.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { SinkLife } from "../sink/sink-life.ts";

/** How much log the source may keep, and what happens beyond that. */
export interface KeptLogPolicy {
  readonly byteCountMax: number;
  readonly policy: "alarm" | "pauseSource" | "dropSink";
}

/** Reads go on below this part of the limit, so that they do not stop and go on with each chunk. */
const READ_AGAIN_BELOW = 0.9;

/** Whether reads beside the stream wait from now on. */
export function holdsReads({ byteCountMax, policy }: KeptLogPolicy, retainedBytes: number, isOn: boolean): boolean {
  return policy === "pauseSource" && retainedBytes >= byteCountMax * (isOn ? READ_AGAIN_BELOW : 1);
}

interface KeptLog {
  readonly retainedBytes: number;
  /** Where the stream is. */
  readonly reached: Position;
  /** Log between a position and the end of the source's log. */
  readonly bytesBehind: (position: Position) => number;
}

/**
 * Gives up the positions of sinks that are further behind than the source may keep its log, and are not about to be elsewhere.
 * Only mirrors: what a history, a stream or a log lacks can't be read again. A sink that flows with the stream holds back
 * no more than the stream does.
 */
export function keepWithin(
  { byteCountMax, policy }: KeptLogPolicy,
  { retainedBytes, reached, bytesBehind }: KeptLog,
  lives: readonly SinkLife[],
  logger: Logger,
): void {
  if (policy !== "dropSink" || retainedBytes < byteCountMax) return;
  for (const life of lives) {
    const { checkpoint, covered } = life.positions;
    const position = checkpoint ?? covered;
    const flows = life.state === "streaming" && !life.catchingUp;
    if (position === null || flows || life.worker.sink.form !== "mirror") continue;
    if (comparePositions(position, reached) >= 0 || bytesBehind(position) < byteCountMax) continue;
    logger.warn({ sink: life.name, retainedBytes, byteCountMax }, "the source keeps too much log for this sink");
    life.giveUp(reached);
  }
}

/** By then it also looks without an event. */
const LOOK_MS = 1_000;

/**
 * While it is on, nothing reads ranges of rows from the source beside the stream: reads load the source, write watermarks
 * into its log, and fill the queues of the sinks. Key lookups go on, because rows of the stream wait for them.
 */
export class ReadHold {
  readonly #news = new News();
  #isOn = false;

  get isOn(): boolean {
    return this.#isOn;
  }

  /** Returns whether that is a change. */
  set(isOn: boolean): boolean {
    if (isOn === this.#isOn) return false;
    this.#isOn = isOn;
    this.#news.tell();
    return true;
  }

  /** Resolves at once while it is off. */
  async over(clock: Clock, signal: AbortSignal): Promise<void> {
    for (let told = this.#news.count; this.#isOn; told = this.#news.count) {
      await this.#news.after(told, clock, LOOK_MS, signal);
    }
  }
}
