import type { Clock } from "../../core/clock.ts";
import { timestamp } from "../../core/clock.ts";
import type { PipelineStatus } from "../../core/contracts/status.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { Activity } from "./activity.ts";
import type { HistoryPoint, SinkPoint } from "./view.ts";

export const STEP_SECONDS = 5;
/** Half an hour: with ten sinks about 1 MB. */
export const POINTS_MAX = 360;

export interface HistoryParts {
  readonly clock: Clock;
  readonly activity: Activity;
  readonly status: () => Promise<PipelineStatus>;
  readonly logger: Logger;
}

/** The figures of the last half an hour, for the dashboard's charts. They are gone with the process. */
export class History {
  readonly #parts: HistoryParts;
  readonly #points: HistoryPoint[] = [];

  constructor(parts: HistoryParts) {
    this.#parts = parts;
  }

  get points(): readonly HistoryPoint[] {
    return this.#points;
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock, logger } = this.#parts;
    for (;;) {
      await clock.sleep(STEP_SECONDS * 1000, signal);
      try {
        this.#points.push(await this.#point());
      } catch (error) {
        signal.throwIfAborted();
        // A chart with a gap is no reason to stop the daemon.
        logger.debug({ error }, "the dashboard's charts lack a point");
      }
      if (this.#points.length > POINTS_MAX) this.#points.shift();
    }
  }

  async #point(): Promise<HistoryPoint> {
    const { clock, activity, status } = this.#parts;
    const { source, sinks } = await status();
    const { lagSeconds, lagBytes, retainedBytes } = source;
    const steps = activity.takeStep();
    const points = sinks.map(({ name, lagSeconds, lagBytes }): SinkPoint => {
      const { rows = 0, latencySum = 0, latencyCount = 0 } = steps.get(name) ?? {};
      return {
        name,
        lagSeconds,
        lagBytes,
        rowsPerSecond: rows / STEP_SECONDS,
        latencySeconds: latencyCount === 0 ? null : latencySum / latencyCount,
      };
    });
    return { at: timestamp(clock), source: { lagSeconds, lagBytes, retainedBytes }, sinks: points };
  }
}
