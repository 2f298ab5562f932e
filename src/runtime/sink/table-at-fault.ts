import type { TableWrites, Truncate } from "../../core/model/batch.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import type { BatchWriter } from "./batch-writer.ts";

/** What a sink was working on when it failed. */
export type Attempted =
  | { readonly kind: "table"; readonly tableId: string }
  | { readonly kind: "rows"; readonly tables: readonly TableWrites[]; readonly truncates: readonly Truncate[] };

export interface Guilty {
  readonly tableId: string;
  readonly error: MillraceError;
}

/** Finds the one table that made a batch fail, by testing what the sink can still do without it. */
export class Isolation {
  readonly #sink: Sink;
  readonly #batches: BatchWriter;
  readonly #logger: Logger;

  constructor(sink: Sink, batches: BatchWriter, logger: Logger) {
    this.#sink = sink;
    this.#batches = batches;
    this.#logger = logger;
  }

  /** Whether the sink accepts any write at all. */
  async takes(signal: AbortSignal): Promise<boolean> {
    return (await this.#failure(() => this.#batches.store({}, signal), signal)) === null;
  }

  /** Null if the failure concerns the whole sink: it accepts nothing, or none of several tables, or each of them alone. */
  async guilty(attempted: Attempted, error: MillraceError, signal: AbortSignal): Promise<Guilty | null> {
    if (!(await this.takes(signal))) return null;
    if (attempted.kind === "table") return { tableId: attempted.tableId, error };
    const writes = new Map(attempted.tables.map((own) => [own.table.id, own]));
    const truncates = Map.groupBy(attempted.truncates, ({ table }) => table.id);
    const tableIds = [...new Set([...truncates.keys(), ...writes.keys()])];
    if (tableIds.length === 1) return { tableId: tableIds[0]!, error };
    // A stream would show these trial rows out of order, and a second time with the batch.
    if (this.#sink.form === "stream") return null;
    const refused: Guilty[] = [];
    for (const tableId of tableIds) {
      const own = writes.get(tableId);
      // The sink's position stays the same, so applying these a second time changes nothing.
      const batch = {
        kind: "rows",
        truncates: truncates.get(tableId) ?? [],
        tables: own === undefined ? [] : [own],
        checkpoint: this.#batches.held,
      } as const;
      const failure = await this.#failure(() => this.#batches.apply(batch, signal), signal);
      if (failure !== null) refused.push({ tableId, error: failure });
    }
    const ids = refused.map(({ tableId }) => tableId);
    this.#logger.warn({ refused: ids, tables: tableIds.length }, "a batch failed: its tables were tried one by one");
    return refused.length === tableIds.length ? null : (refused[0] ?? null);
  }

  async #failure(work: () => Promise<void>, signal: AbortSignal): Promise<MillraceError | null> {
    try {
      await this.#batches.reopen(signal);
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
