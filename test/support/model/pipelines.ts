/** The runtime's pipeline in memory: a test names what it is about. */
import { systemClock } from "../../../src/core/clock.ts";
import type { Sink } from "../../../src/core/contracts/sink.ts";
import { Pipeline, type PipelineParts } from "../../../src/runtime/pipeline.ts";
import { quietLog } from "../run/quiet-log.ts";
import { noMetrics } from "./scripted.ts";

type Parts = Pick<PipelineParts, "source" | "state" | "sinks"> & Partial<PipelineParts>;

export function pipelineOf(parts: Parts): Pipeline {
  return new Pipeline({
    clock: systemClock,
    name: "test",
    producer: "millrace/test",
    lease: 1,
    snapshot: "initial",
    revised: async () => [],
    onSkipped: async () => {},
    heartbeatMs: 50,
    logger: quietLog,
    metrics: noMetrics,
    ...parts,
  });
}

/** Sinks that keep what they refuse as dead letters. */
export function lenient(sinks: readonly Sink[], rowCountMax = 1000): PipelineParts["sinks"] {
  return sinks.map((sink) => ({
    sink,
    limits: { rowCountMax, byteCountMax: 1 << 20 },
    onPoison: "deadLetter",
    takes: () => true,
  }));
}
