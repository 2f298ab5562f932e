import type { TableWrites } from "../../core/model/batch.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { SinkSteps } from "./sink-steps.ts";

/** What a sink was at work on when it failed. */
export type Attempted =
  | { readonly kind: "table"; readonly tableId: string }
  | { readonly kind: "rows"; readonly tables: readonly TableWrites[] };

export interface Guilty {
  readonly tableId: string;
  readonly error: MillraceError;
}

/** Finds the one table that a failure of a step is about, by what the sink still does without it. */
export class Isolation {
  readonly #sink: Sink;
  readonly #steps: SinkSteps;
  readonly #logger: Logger;

  constructor(sink: Sink, steps: SinkSteps, logger: Logger) {
    this.#sink = sink;
    this.#steps = steps;
    this.#logger = logger;
  }

  /** Whether the sink takes anything at all. */
  async takes(signal: AbortSignal): Promise<boolean> {
    return (await this.#failure(() => this.#steps.store({}, signal), signal)) === null;
  }

  /** Null: the sink takes nothing at all, or none of several tables, or each of them alone: the failure is its own. */
  async guilty(attempted: Attempted, error: MillraceError, signal: AbortSignal): Promise<Guilty | null> {
    if (!(await this.takes(signal))) return null;
    if (attempted.kind === "table") return { tableId: attempted.tableId, error };
    const { tables } = attempted;
    if (tables.length === 1) return { tableId: tables[0]!.table.id, error };
    // What is tried would be in the stream, out of its order, and once more with the step.
    if (this.#sink.form === "stream") return null;
    const refused: Guilty[] = [];
    for (const writes of tables) {
      // The sink's position stays: given again, the rows change nothing.
      const step = { kind: "rows", tables: [writes], progress: this.#steps.held } as const;
      const failure = await this.#failure(() => this.#steps.apply(step, signal), signal);
      if (failure !== null) refused.push({ tableId: writes.table.id, error: failure });
    }
    const ids = refused.map(({ tableId }) => tableId);
    this.#logger.warn({ refused: ids, tables: tables.length }, "a step failed: its tables were tried one by one");
    return refused.length === tables.length ? null : (refused[0] ?? null);
  }

  async #failure(work: () => Promise<void>, signal: AbortSignal): Promise<MillraceError | null> {
    try {
      await this.#steps.reopen(signal);
      await work();
      return null;
    } catch (error) {
      signal.throwIfAborted();
      const known = findMillraceError(error);
      if (known === undefined) throw error;
      return known;
    }
  }
}
