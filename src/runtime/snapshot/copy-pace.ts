import type { Clock } from "../../core/clock.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import { bytesFor, OWN_BATCHES } from "../stream/fan-out.ts";

/** Others have waited for the sink this long, and for half of the time: it takes twice as long as they do. */
const WAITED_MS_MIN = 3_000;
/** The same at the end, where the others could stream: what is left to write is less than what would be read again. */
const ENDING_MS_MAX = 10_000;
/** Half of what was measured counts as past after this time: a sink may become slow late. */
const MEASURED_MS = 20_000;

/** `reading`: a read waits until each sink has room. `ending`: all is read, and each sink has to write what waits for it. */
export type CopyStage = "reading" | "ending";

/**
 * Who goes along in an initial snapshot. All sinks get each block at about the same time, so the slowest one sets the pace;
 * one that the others wait for leaves, and is filled beside the stream.
 */
export class CopyPace {
  readonly #clock: Clock;
  readonly #onLeft: (worker: SinkWorker) => void;
  readonly #left = new Set<SinkWorker>();
  /** By sink: how long others have waited for it. */
  readonly #waitedMs = new Map<SinkWorker, number>();
  /** Those for which others waited at the last look. */
  #waitedFor: readonly SinkWorker[] = [];
  #measuredMs = 0;
  #lookedMs: number;
  #endingMs: number | null = null;

  constructor(clock: Clock, onLeft: (worker: SinkWorker) => void) {
    this.#clock = clock;
    this.#onLeft = onLeft;
    this.#lookedMs = clock.elapsed();
  }

  /** Whether the sink has left. */
  hasLeft(worker: SinkWorker): boolean {
    return this.#left.has(worker);
  }

  /** Called while these sinks, which take the same table, wait for one of them. */
  look(stage: CopyStage, workers: readonly SinkWorker[]): void {
    const nowMs = this.#clock.elapsed();
    const passedMs = nowMs - this.#lookedMs;
    this.#lookedMs = nowMs;
    this.#measuredMs += passedMs;
    if (stage === "ending") this.#endingMs ??= nowMs;
    for (const worker of this.#waitedFor) {
      const waitedMs = (this.#waitedMs.get(worker) ?? 0) + passedMs;
      this.#waitedMs.set(worker, waitedMs);
      const isSlow =
        this.#endingMs === null
          ? waitedMs >= WAITED_MS_MIN && waitedMs > this.#measuredMs / 2
          : nowMs - this.#endingMs >= ENDING_MS_MAX;
      if (!isSlow || !this.#isWaitedFor(worker, stage, workers)) continue;
      this.#left.add(worker);
      this.#onLeft(worker);
    }
    this.#waitedFor = workers.filter((worker) => this.#isWaitedFor(worker, stage, workers));
    if (this.#measuredMs < MEASURED_MS) return;
    this.#measuredMs /= 2;
    for (const [worker, waitedMs] of this.#waitedMs) this.#waitedMs.set(worker, waitedMs / 2);
  }

  #isWaitedFor(worker: SinkWorker, stage: CopyStage, workers: readonly SinkWorker[]): boolean {
    if (this.#left.has(worker) || (stage === "reading" ? hasRoom(worker) : worker.idle)) return false;
    const heldBytes = worker.queue.heldBytes;
    return workers.some(
      (other) => other !== worker && !this.#left.has(other) && (other.idle || other.queue.heldBytes < heldBytes / 4),
    );
  }
}

export function hasRoom({ queue, limits }: SinkWorker): boolean {
  return queue.heldBytes <= bytesFor(OWN_BATCHES, [limits]);
}
