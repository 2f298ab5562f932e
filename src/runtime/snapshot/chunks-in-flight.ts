import type { Clock } from "../../core/clock.ts";
import type { SinkWorker } from "../sink/sink-worker.ts";
import { type HandedOver } from "./snapshot-chunks.ts";
import { withTimeout } from "../../core/with-timeout.ts";

/** How long a fast sink waits for slower ones with the same chunk, so that they share the next read too. */
const TOGETHER_MS_MAX = 500;

/** A chunk that was given to sinks, and what is left to do for each sink when it has the chunk durably. */
export interface ChunkInFlight {
  /** Null: the chunk must be read again. */
  readonly handed: HandedOver | null;
  readonly done: (worker: SinkWorker, lowVersion: bigint) => Promise<void>;
}

/** Chunks that were given to sinks, until each sink has them durably and that is recorded. */
export class ChunksInFlight {
  readonly #clock: Clock;
  /** A sink is free again, or an error occurred. */
  readonly #onChange: () => void;
  readonly #busy = new Set<string>();
  #failure: unknown = undefined;

  constructor(clock: Clock, onChange: () => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** Sinks with a chunk that is not durable and recorded yet. */
  get busy(): ReadonlySet<string> {
    return this.#busy;
  }

  /** An error outside of the snapshotter's rounds: the next round throws it. */
  failed(error: unknown): void {
    this.#failure ??= error;
    this.#onChange();
  }

  throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /**
   * Waits until the chunks are durable in the sinks, then does what is left for each sink. It waits for slow sinks in the
   * background.
   */
  async untilDurable(chunks: readonly ChunkInFlight[], signal: AbortSignal): Promise<void> {
    const byWorker = Map.groupBy(chunks.flatMap(worksOf), ({ worker }) => worker);
    const ended = Promise.all(Array.from(byWorker, ([worker, works]) => this.#ended(worker, works)));
    await withTimeout(ended, { clock: this.#clock, signal, timeoutMs: TOGETHER_MS_MAX, late: () => undefined });
    this.throwFailure();
  }

  async #ended(worker: SinkWorker, works: readonly SinkChunk[]): Promise<void> {
    this.#busy.add(worker.name);
    const outcomes = await Promise.allSettled(works.map(({ one }) => one()));
    for (const outcome of outcomes) if (outcome.status === "rejected") this.#failure ??= outcome.reason;
    this.#busy.delete(worker.name);
    this.#onChange();
  }
}

interface SinkChunk {
  readonly worker: SinkWorker;
  readonly one: () => Promise<void>;
}

function worksOf({ handed, done }: ChunkInFlight): SinkChunk[] {
  if (handed === null) return [];
  const { lowVersion, durable, sessions } = handed;
  return Array.from(durable, ([worker, isDurable]) => {
    const one = async (): Promise<void> => {
      // Invariant: a sink that has left since may come back with less.
      if ((await isDurable) && worker.session === sessions.get(worker)) await done(worker, lowVersion);
    };
    return { worker, one };
  });
}
