import type { Clock } from "../../core/clock.ts";
import type { LatencyParts, Metrics } from "../../core/contracts/telemetry.ts";

/** What a sink wrote at once: from the commit of its newest transaction until it was durable. */
export interface TracedBatch {
  readonly sink: string;
  readonly rowCount: number;
  readonly tables: readonly string[];
  /** Milliseconds since 1970. */
  readonly endMs: number;
  readonly parts: LatencyParts;
}

interface TracedOptions {
  /** Of the batches that are not slow, how many are kept: 0 to 1, evenly. */
  readonly share: number;
  /** Batches that took longer are kept all. */
  readonly slowMs: number;
}

/** Kept from one call of `take` to the next. */
export const BATCHES_MAX = 500;
const TABLES_MAX = 20;

interface Writing {
  rowCount: number;
  readonly tables: Set<string>;
}

/** Keeps batches of the stream for a receiver of traces, beside the exported metrics. */
export class TracedBatches implements Metrics {
  readonly #clock: Pick<Clock, "now">;
  readonly #metrics: Metrics;
  readonly #options: TracedOptions;
  /** By sink, what its present batch has written. */
  readonly #writing = new Map<string, Writing>();
  #batches: TracedBatch[] = [];
  #due = 0;

  constructor(clock: Pick<Clock, "now">, metrics: Metrics, options: TracedOptions) {
    this.#clock = clock;
    this.#metrics = metrics;
    this.#options = options;
  }

  /** Those since the last call. */
  take(): readonly TracedBatch[] {
    const batches = this.#batches;
    this.#batches = [];
    return batches;
  }

  rowsApplied(...given: Parameters<Metrics["rowsApplied"]>): void {
    this.#metrics.rowsApplied(...given);
    const [sink, table, , count] = given;
    const writing = this.#writing.get(sink) ?? { rowCount: 0, tables: new Set() };
    this.#writing.set(sink, writing);
    writing.rowCount += count;
    if (writing.tables.size < TABLES_MAX) writing.tables.add(table);
  }

  batchApplied(sink: string, seconds: number): void {
    this.#metrics.batchApplied(sink, seconds);
  }

  commitToApply(sink: string, seconds: number, parts: LatencyParts | null): void {
    this.#metrics.commitToApply(sink, seconds, parts);
    const writing = this.#writing.get(sink);
    this.#writing.delete(sink);
    if (writing === undefined || parts === null || !this.#isKept(seconds) || this.#batches.length >= BATCHES_MAX)
      return;
    const { rowCount, tables } = writing;
    this.#batches.push({ sink, rowCount, tables: [...tables], endMs: this.#clock.now(), parts });
  }

  sinkError(sink: string, kind: string): void {
    this.#metrics.sinkError(sink, kind);
  }

  #isKept(seconds: number): boolean {
    const { share, slowMs } = this.#options;
    if (seconds * 1000 >= slowMs) return true;
    this.#due += share;
    if (this.#due < 1) return false;
    this.#due -= 1;
    return true;
  }
}
