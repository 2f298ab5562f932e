import type { Clock } from "../../core/clock.ts";
import { timestamp } from "../../core/clock.ts";
import type { PipelineStatus } from "../../core/contracts/status.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { Activity } from "./activity.ts";
import { type HistoryPoint, type SinkPoint, STEP_SECONDS, STEPS_OF_DAY } from "./view.ts";

/** Half an hour: with ten sinks about 1 MB. */
export const POINTS_MAX = 360;
/** A day, a point every two minutes. */
const DAY_POINTS_MAX = 720;

export interface HistoryParts {
  readonly clock: Clock;
  readonly activity: Activity;
  readonly status: () => Promise<PipelineStatus>;
  readonly logger: Logger;
}

/** The figures for the dashboard's charts: the last half an hour, and coarser the last day. They are gone with the process. */
export class History {
  readonly #parts: HistoryParts;
  readonly #points: HistoryPoint[] = [];
  readonly #day: HistoryPoint[] = [];
  /** Since the day's last point. */
  #fresh: HistoryPoint[] = [];

  constructor(parts: HistoryParts) {
    this.#parts = parts;
  }

  get points(): readonly HistoryPoint[] {
    return this.#points;
  }

  get day(): readonly HistoryPoint[] {
    return this.#day;
  }

  async run(signal: AbortSignal): Promise<never> {
    const { clock, logger } = this.#parts;
    for (;;) {
      await clock.sleep(STEP_SECONDS * 1000, signal);
      try {
        this.#add(await this.#point());
      } catch (error) {
        signal.throwIfAborted();
        // A chart with a gap is no reason to stop the daemon.
        logger.debug({ error }, "the dashboard's charts lack a point");
      }
    }
  }

  #add(point: HistoryPoint): void {
    this.#points.push(point);
    if (this.#points.length > POINTS_MAX) this.#points.shift();
    this.#fresh.push(point);
    if (this.#fresh.length < STEPS_OF_DAY) return;
    this.#day.push(joined(this.#fresh));
    this.#fresh = [];
    if (this.#day.length > DAY_POINTS_MAX) this.#day.shift();
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

/** One point for several: what lags at its worst, rates and latencies as their mean. A sink is one of the last point's. */
export function joined(points: readonly HistoryPoint[]): HistoryPoint {
  const { at, sinks } = points.at(-1)!;
  const worst = ofKnown((known) => Math.max(...known));
  const mean = ofKnown((known) => known.reduce((sum, value) => sum + value, 0) / known.length);
  const sources = points.map(({ source }) => source);
  return {
    at,
    source: {
      lagSeconds: worst(sources.map(({ lagSeconds }) => lagSeconds)),
      lagBytes: worst(sources.map(({ lagBytes }) => lagBytes)),
      retainedBytes: worst(sources.map(({ retainedBytes }) => retainedBytes)),
    },
    sinks: sinks.map(({ name }): SinkPoint => {
      const own = points.flatMap((point) => point.sinks.filter((sink) => sink.name === name));
      return {
        name,
        lagSeconds: worst(own.map(({ lagSeconds }) => lagSeconds)),
        lagBytes: worst(own.map(({ lagBytes }) => lagBytes)),
        rowsPerSecond: mean(own.map(({ rowsPerSecond }) => rowsPerSecond)) ?? 0,
        latencySeconds: mean(own.map(({ latencySeconds }) => latencySeconds)),
      };
    }),
  };
}

/** Null if there is no figure at all. */
function ofKnown(figure: (known: readonly number[]) => number) {
  return (values: readonly (number | null)[]): number | null => {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : figure(known);
  };
}
