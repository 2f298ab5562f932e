import type { Clock } from "../../core/clock.ts";
import type { Watermarks } from "../../core/contracts/watermarks.ts";
import { type Logger, Repeated } from "../../core/contracts/telemetry.ts";
import type { FanOut } from "./fan-out.ts";
import { encodeMark } from "./marks.ts";

interface HeartbeatParts {
  readonly clock: Clock;
  readonly watermarks: Watermarks;
  readonly fanOut: FanOut;
  /** The end of the log; null: whether this is still the log that was read is not known at the moment. */
  readonly tip: (signal: AbortSignal) => Promise<bigint | null>;
  readonly intervalMs: number;
  readonly logger: Logger;
}

/**
 * Each beat writes a mark into the log, so that an idle source's position moves, checks idle sinks, and tells those that an
 * earlier process may have left in the middle of a batch where all that it can have read ends.
 */
export async function heartbeat(parts: HeartbeatParts, signal: AbortSignal): Promise<never> {
  const { clock, watermarks, fanOut, tip, intervalMs, logger } = parts;
  const told = new Repeated(logger);
  for (;;) {
    try {
      await watermarks.mark(encodeMark({ edge: null }), signal);
      for (const worker of fanOut.sinks) if (worker.idle) fanOut.push(worker, { kind: "heartbeat" });
      const unknown = [...fanOut.sinks].filter((worker) => worker.position.holdsUnknown);
      const commit = unknown.length === 0 ? null : await tip(signal);
      const { epoch } = fanOut.position;
      if (commit !== null) for (const worker of unknown) worker.position.knowEarlier({ epoch, commit, index: 0 });
      told.passed();
    } catch (error) {
      signal.throwIfAborted();
      told.failed(error, "a heartbeat failed; the next one tries again");
    }
    await clock.sleep(intervalMs, signal);
  }
}
