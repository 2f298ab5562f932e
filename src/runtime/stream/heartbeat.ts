import type { Clock } from "../../core/clock.ts";
import type { Watermarks } from "../../core/contracts/watermarks.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { FanOut } from "./fan-out.ts";
import { encodeMark } from "./marks.ts";

export interface HeartbeatParts {
  readonly clock: Clock;
  readonly watermarks: Watermarks;
  readonly fanOut: FanOut;
  readonly intervalMs: number;
  readonly logger: Logger;
}

/** Each beat writes a mark into the log, so that an idle source's position moves, and checks idle sinks. */
export async function heartbeat(parts: HeartbeatParts, signal: AbortSignal): Promise<never> {
  const { clock, watermarks, fanOut, intervalMs, logger } = parts;
  for (;;) {
    try {
      await watermarks.mark(encodeMark({ edge: null }), signal);
      for (const worker of fanOut.sinks) if (worker.idle) fanOut.push(worker, { kind: "heartbeat" });
    } catch (error) {
      signal.throwIfAborted();
      logger.warn({ error }, "a heartbeat failed; the next one tries again");
    }
    await clock.sleep(intervalMs, signal);
  }
}
