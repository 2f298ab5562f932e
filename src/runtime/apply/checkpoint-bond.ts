import type { Checkpoint } from "../../core/model/batch.ts";
import type { Bond } from "../../core/checkpoint/bond.ts";
import { MillraceError } from "../../core/errors.ts";
import type { Outcome, Sink } from "../../core/contracts/sink.ts";
import type { BondStore, SinkEntry } from "../../core/contracts/state-store.ts";
import { placeOf } from "./standing.ts";

/**
 * Binds each checkpoint of one sink to the state. Invariant: a checkpoint counts every obligation from before its position.
 * A sink finds new obligations while it applies a batch. If the batch's checkpoint does not count them, the batch ends and is
 * applied again with a checkpoint that does.
 */
export class CheckpointBond {
  readonly #sink: string;
  readonly #place: string;
  readonly #bonds: Pick<BondStore, "obligation">;
  #entry: SinkEntry | null = null;

  constructor(sink: Pick<Sink, "name" | "target">, bonds: Pick<BondStore, "obligation">) {
    this.#sink = sink.name;
    this.#place = placeOf(sink);
    this.#bonds = bonds;
  }

  /** The sink was opened. */
  enter(entry: SinkEntry): void {
    this.#entry = entry;
  }

  /** Adds the bond of the sink's next checkpoint, and its place where it has none; adds neither before `enter`. */
  async next(checkpoint: Checkpoint): Promise<Checkpoint> {
    if (this.#entry === null) return checkpoint;
    const { state, session, step } = this.#entry;
    const place = checkpoint.place ?? this.#place;
    return { ...checkpoint, place, bond: { state, session, step: step + 1, obligation: await this.#obligation() } };
  }

  /** The checkpoint is durable in the sink. */
  written({ bond }: Checkpoint): void {
    if (this.#entry !== null && bond !== undefined) this.#entry = { ...this.#entry, step: bond.step };
  }

  /** Wraps `outcome`: each report becomes durable first, then it is checked whether the checkpoint counts it. */
  watch(outcome: Outcome, bond: Bond | undefined): WatchedOutcome {
    let isOutdated = false;
    const look = async (): Promise<void> => {
      if (bond === undefined || (await this.#obligation()) <= bond.obligation) return;
      isOutdated = true;
      throw new MillraceError({
        code: "MR1304",
        kind: "retryable",
        message: `sink ${this.#sink} has more open keys than its checkpoint counts: the batch is applied again`,
      });
    };
    return {
      outcome: {
        ...outcome,
        incomplete: async (writes, entries) => {
          await outcome.incomplete(writes, entries);
          await look();
        },
        poison: async (refused) => {
          if (refused.length === 0) return;
          await outcome.poison(refused);
          await look();
        },
      },
      isOutdated: () => isOutdated,
    };
  }

  async #obligation(): Promise<number> {
    return await this.#bonds.obligation(this.#sink);
  }
}

interface WatchedOutcome {
  readonly outcome: Outcome;
  /** Whether the batch was ended because its checkpoint counts too few obligations. */
  readonly isOutdated: () => boolean;
}
