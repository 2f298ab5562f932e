import { Gauge, type Registry } from "prom-client";
import {
  SINK_ACTIVITIES,
  type SinkActivity,
  SOURCE_ACTIVITIES,
  type SourceActivity,
} from "../core/contracts/status.ts";

/** What the stream and the sinks do; null: not known. */
export interface ActivityLevels {
  readonly source: SourceActivity | null;
  readonly blockedBy: readonly string[];
  readonly readsPaused: boolean;
  readonly sinks: readonly { readonly sink: string; readonly activity: SinkActivity | null }[];
}

export class ActivityGauges {
  readonly #source: Gauge<"activity">;
  readonly #blockedBy: Gauge<"sink">;
  readonly #sinks: Gauge<"sink" | "activity">;
  readonly #readsPaused: Gauge;

  constructor(registers: Registry[]) {
    this.#source = new Gauge({
      name: "millrace_source_activity",
      help: "1 for what the stream from the source does, 0 for the others.",
      labelNames: ["activity"],
      registers,
    });
    this.#blockedBy = new Gauge({
      name: "millrace_source_blocked_by",
      help: "1 for each sink that the stream from the source waits for.",
      labelNames: ["sink"],
      registers,
    });
    this.#readsPaused = new Gauge({
      name: "millrace_source_reads_paused",
      help: "1 while reads beside the stream wait because the source keeps too much log.",
      registers,
    });
    this.#sinks = new Gauge({
      name: "millrace_sink_activity",
      help: "1 for what the sink does, 0 for the others.",
      labelNames: ["sink", "activity"],
      registers,
    });
  }

  set({ source, blockedBy, readsPaused, sinks }: ActivityLevels): void {
    this.#readsPaused.set(readsPaused ? 1 : 0);
    for (const gauge of [this.#source, this.#blockedBy, this.#sinks]) gauge.reset();
    if (source !== null)
      for (const activity of SOURCE_ACTIVITIES) this.#source.set({ activity }, activity === source ? 1 : 0);
    for (const sink of blockedBy) this.#blockedBy.set({ sink }, 1);
    for (const { sink, activity: own } of sinks) {
      if (own === null) continue;
      for (const activity of SINK_ACTIVITIES) this.#sinks.set({ sink, activity }, activity === own ? 1 : 0);
    }
  }
}
