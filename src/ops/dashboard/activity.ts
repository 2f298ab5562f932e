import type { Clock } from "../../core/clock.ts";
import type { Metrics } from "../../core/contracts/telemetry.ts";

export interface Step {
  rows: number;
  latencySum: number;
  latencyCount: number;
}

export interface TableActivity {
  readonly sink: string;
  readonly table: string;
  rows: number;
  changedMs: number;
}

/** What each sink and table did lately, beside the exported metrics. */
export class Activity implements Metrics {
  readonly #clock: Pick<Clock, "now">;
  readonly #metrics: Metrics;
  #steps = new Map<string, Step>();
  readonly #tables = new Map<string, TableActivity>();

  constructor(clock: Pick<Clock, "now">, metrics: Metrics) {
    this.#clock = clock;
    this.#metrics = metrics;
  }

  get tables(): Iterable<Readonly<TableActivity>> {
    return this.#tables.values();
  }

  /** What happened since the last call, by sink. */
  takeStep(): ReadonlyMap<string, Readonly<Step>> {
    const steps = this.#steps;
    this.#steps = new Map();
    return steps;
  }

  rowsApplied(...given: Parameters<Metrics["rowsApplied"]>): void {
    const [sink, table, , count] = given;
    this.#metrics.rowsApplied(...given);
    this.#stepOf(sink).rows += count;
    const key = JSON.stringify([sink, table]);
    const known = this.#tables.get(key);
    const changedMs = this.#clock.now();
    if (known === undefined) this.#tables.set(key, { sink, table, rows: count, changedMs });
    else {
      known.rows += count;
      known.changedMs = changedMs;
    }
  }

  batchApplied(sink: string, seconds: number): void {
    this.#metrics.batchApplied(sink, seconds);
  }

  commitToApply(...given: Parameters<Metrics["commitToApply"]>): void {
    const [sink, seconds] = given;
    this.#metrics.commitToApply(...given);
    const step = this.#stepOf(sink);
    step.latencySum += seconds;
    step.latencyCount++;
  }

  sinkError(sink: string, kind: string): void {
    this.#metrics.sinkError(sink, kind);
  }

  #stepOf(sink: string): Step {
    const known = this.#steps.get(sink);
    if (known !== undefined) return known;
    const fresh: Step = { rows: 0, latencySum: 0, latencyCount: 0 };
    this.#steps.set(sink, fresh);
    return fresh;
  }
}
