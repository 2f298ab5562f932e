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
  /** The source's word for how safe the log is that it keeps. */
  readonly logState: string | null;
  readonly sinks: readonly { readonly sink: string; readonly activity: SinkActivity | null }[];
}

export class ActivityGauges {
  readonly #source: Gauge<"activity">;
  readonly #blockedBy: Gauge<"sink">;
  readonly #sinks: Gauge<"sink" | "activity">;
  readonly #readsPaused: Gauge;
  readonly #logState: Gauge<"state">;

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
    this.#logState = new Gauge({
      name: "millrace_slot_state",
      help: "1 for what the server says of the log that it keeps for this daemon.",
      labelNames: ["state"],
      registers,
    });
    this.#sinks = new Gauge({
      name: "millrace_sink_activity",
      help: "1 for what the sink does, 0 for the others.",
      labelNames: ["sink", "activity"],
      registers,
    });
  }

  set({ source, blockedBy, readsPaused, logState, sinks }: ActivityLevels): void {
    this.#readsPaused.set(readsPaused ? 1 : 0);
    for (const gauge of [this.#source, this.#blockedBy, this.#sinks, this.#logState]) gauge.reset();
    if (logState !== null) this.#logState.set({ state: logState }, 1);
    if (source !== null)
      for (const activity of SOURCE_ACTIVITIES) this.#source.set({ activity }, activity === source ? 1 : 0);
    for (const sink of blockedBy) this.#blockedBy.set({ sink }, 1);
    for (const { sink, activity: own } of sinks) {
      if (own === null) continue;
      for (const activity of SINK_ACTIVITIES) this.#sinks.set({ sink, activity }, activity === own ? 1 : 0);
    }
  }
}
