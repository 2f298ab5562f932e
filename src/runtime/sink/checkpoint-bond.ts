import type { Checkpoint } from "../../core/model/batch.ts";
import type { Bond } from "../../core/checkpoint/bond.ts";
import { MillraceError } from "../../core/errors.ts";
import { invariant } from "../../core/invariant.ts";
import type { Position } from "../../core/model/position.ts";
import type { Outcome, Sink } from "../../core/contracts/sink.ts";
import type { BondStore, SinkEntry } from "../../core/contracts/state-store.ts";
import { placeOf } from "./sink-position.ts";

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

  /** A checkpoint of no table: the sink has not stored it yet. */
  first(position: Position): Checkpoint {
    const { state, session, step } = this.#entered();
    return { position, tables: {}, place: this.#place, bond: { state, session, step, obligation: 0 } };
  }

  /** The same checkpoint with the bond that it is stored with. */
  async next(checkpoint: Checkpoint): Promise<Checkpoint> {
    const { state, session, step } = this.#entered();
    return { ...checkpoint, bond: { state, session, step: step + 1, obligation: await this.#obligation() } };
  }

  #entered(): SinkEntry {
    invariant(this.#entry !== null, "the state knows the opening of a sink before its checkpoints");
    return this.#entry;
  }

  /** The checkpoint is durable in the sink. */
  written({ bond }: Checkpoint): void {
    this.#entry = { ...this.#entered(), step: bond.step };
  }

  /** Wraps `outcome`: each report becomes durable first, then it is checked whether the checkpoint counts it. */
  watch(outcome: Outcome, bond: Bond): WatchedOutcome {
    let isOutdated = false;
    const look = async (): Promise<void> => {
      if ((await this.#obligation()) <= bond.obligation) return;
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
