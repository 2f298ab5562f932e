import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { cannotWrite, UNCLASSIFIED } from "../errors.ts";
import type { Attempted, BatchWriter } from "./batch-writer.ts";

interface Guilty {
  readonly tableId: string;
  readonly error: MillraceError;
}

/** A failure of the target: its connector's, or one that the connector does not know. */
function isOfTarget({ connector, code }: MillraceError): boolean {
  return connector?.side === "sink" || code === UNCLASSIFIED;
}

/** Finds the one table that made a sink fail, by testing what the sink can still do without it. */
export class TableAtFault {
  readonly #sink: Sink;
  readonly #writer: BatchWriter;
  readonly #logger: Logger;

  constructor(sink: Sink, writer: BatchWriter, logger: Logger) {
    this.#sink = sink;
    this.#writer = writer;
    this.#logger = logger;
  }

  /** The failure of a work, if it concerns a single table; null: it concerns the whole sink, or it may pass. */
  async ofWork(error: unknown, signal: AbortSignal): Promise<MillraceError | null> {
    const known = findMillraceError(error);
    const { attempted } = this.#writer;
    this.#writer.attempted = null;
    if (known === undefined || known.kind === "aborted" || signal.aborted) return null;
    if (known.table !== undefined) {
      if (known.kind === "fatal") return known;
      const mayPass = known.kind === "blocked" || known.kind === "retryable";
      return mayPass && (await this.#takes(signal)) ? cannotWrite(this.#sink.name, known.table, known) : null;
    }
    const isOfTable = known.kind === "fatal" || (known.kind === "blocked" && known.reason === "privilege");
    if (attempted === null || !isOfTable || !isOfTarget(known)) return null;
    const guilty = await this.#guilty(attempted, known, signal);
    return guilty === null ? null : cannotWrite(this.#sink.name, guilty.tableId, guilty.error);
  }

  /** The failure of a question, if it concerns a single table: the sink answers for the others, or for none at least. */
  async ofQuestion(
    error: unknown,
    tables: readonly TableVersion[],
    question: (tables: readonly TableVersion[]) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<MillraceError | null> {
    const known = findMillraceError(error);
    if (known?.kind !== "fatal" || known.table !== undefined) return known?.kind === "fatal" ? known : null;
    if (!isOfTarget(known)) return null;
    const failing: MillraceError[] = [];
    for (const some of [[], ...tables.map((table) => [table])]) {
      try {
        await question(some);
      } catch (failure) {
        signal.throwIfAborted();
        const [table] = some;
        const own = findMillraceError(failure);
        if (table === undefined || own?.kind !== "fatal") return null;
        failing.push(cannotWrite(this.#sink.name, table.id, own));
      }
    }
    return failing.length === tables.length && tables.length > 1 ? null : (failing[0] ?? null);
  }

  /** Whether the sink accepts any write at all. */
  async #takes(signal: AbortSignal): Promise<boolean> {
    return (await this.#failure(() => this.#writer.store({}, signal), signal)) === null;
  }

  /** Null if the failure concerns the whole sink: it accepts nothing, or none of several tables, or each of them alone. */
  async #guilty(attempted: Attempted, error: MillraceError, signal: AbortSignal): Promise<Guilty | null> {
    if (!(await this.#takes(signal))) return null;
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
        checkpoint: this.#writer.position.checkpoint,
      } as const;
      const failure = await this.#failure(() => this.#writer.apply(batch, signal), signal);
      if (failure !== null) refused.push({ tableId, error: failure });
    }
    const ids = refused.map(({ tableId }) => tableId);
    this.#logger.warn({ refused: ids, tables: tableIds.length }, "a batch failed: its tables were tried one by one");
    return refused.length === tableIds.length ? null : (refused[0] ?? null);
  }

  async #failure(work: () => Promise<void>, signal: AbortSignal): Promise<MillraceError | null> {
    try {
      await this.#writer.reopen(signal);
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
