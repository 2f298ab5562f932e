import { type Clock, pause } from "../core/clock.ts";
import type { RelayedSource } from "../core/contracts/source.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { Pipeline } from "../runtime/pipeline.ts";
import { type Logger, Repeated } from "../core/contracts/telemetry.ts";

const AGAIN_MS = 1_000;

interface RelayingParts {
  readonly clock: Clock;
  readonly sinks: readonly Sink[];
  readonly pipeline: Pipeline;
  readonly logger: Logger;
}

/** Answers the daemons that follow the logs of these sinks, until aborted. What goes wrong there stops nothing else. */
export async function relay({ clock, sinks, pipeline, logger }: RelayingParts, signal: AbortSignal): Promise<void> {
  const { gate, news, source } = pipeline;
  const relayed: RelayedSource = {
    source,
    epoch: () => pipeline.epoch,
    look: async (until) => {
      for (let told = news.count; !(await pipeline.look(until)); told = news.count) {
        await news.after(told, clock, AGAIN_MS, until);
      }
    },
    table: (id) => gate.table(id),
    withFix: async (refused) => await gate.withFix(refused),
    isSuspended: (id) => gate.suspended.has(id),
  };
  const one = async (sink: Sink): Promise<void> => {
    const repeated = new Repeated(logger.child({ sink: sink.name }));
    while (!signal.aborted) {
      try {
        await sink.relay?.serve(relayed, signal);
      } catch (error) {
        if (signal.aborted) return;
        repeated.failed(error, "daemons that follow the log get no answers; the next attempt follows");
      }
      await pause(clock, AGAIN_MS, signal).catch(() => undefined);
    }
  };
  await Promise.all(sinks.filter(({ relay: own }) => own !== undefined).map(one));
}
