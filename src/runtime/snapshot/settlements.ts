import { type Clock, pause } from "../../core/clock.ts";
import type { SinkWorker } from "../apply/sink-worker.ts";
import { type HandedOver } from "./refill-chunks.ts";

/** How long a fast sink waits for slower ones that were given the same chunk, so that they share the next read too. */
const TOGETHER_MS_MAX = 500;

/** What remains to be done for each sink that has a chunk durably. */
export interface Settling {
  /** Null: it is to be read again. */
  readonly handed: HandedOver | null;
  readonly done: (worker: SinkWorker, lowVersion: bigint) => Promise<void>;
}

/** What was read and handed to sinks, until each of them has it durably and that is noted. */
export class Settlements {
  readonly #clock: Clock;
  /** A sink is free again, or something went wrong. */
  readonly #onChange: () => void;
  readonly #busy = new Set<string>();
  #failure: unknown = undefined;

  constructor(clock: Clock, onChange: () => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** Sinks that have a chunk which is not settled. */
  get busy(): ReadonlySet<string> {
    return this.#busy;
  }

  /** Something went wrong beside the rounds: the next one throws it. */
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
   * Waits until the chunks are durable in the sinks, and does then what remains for each. The slow ones are waited for in
   * the background.
   */
  async settle(chunks: readonly Settling[], signal: AbortSignal): Promise<void> {
    const byWorker = Map.groupBy(chunks.flatMap(worksOf), ({ worker }) => worker);
    const settled = Promise.all(Array.from(byWorker, ([worker, works]) => this.#ended(worker, works)));
    const waiting = new AbortController();
    await Promise.race([settled, pause(this.#clock, TOGETHER_MS_MAX, signal, waiting.signal)]);
    waiting.abort();
    this.throwFailure();
  }

  async #ended(worker: SinkWorker, works: readonly SettlingOne[]): Promise<void> {
    this.#busy.add(worker.name);
    const outcomes = await Promise.allSettled(works.map(({ one }) => one()));
    for (const outcome of outcomes) if (outcome.status === "rejected") this.#failure ??= outcome.reason;
    this.#busy.delete(worker.name);
    this.#onChange();
  }
}

interface SettlingOne {
  readonly worker: SinkWorker;
  readonly one: () => Promise<void>;
}

function worksOf({ handed, done }: Settling): SettlingOne[] {
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
