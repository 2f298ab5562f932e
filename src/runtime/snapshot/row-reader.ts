import type { Clock } from "../../core/clock.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { AmbiguousKey, type Chunk } from "../../core/contracts/row-reads.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { ambiguousKey } from "../errors.ts";
import { FailingReads } from "./failing-reads.ts";
import { type ReadLimits, type SnapshotRead, readRows } from "./reads.ts";
import { kindOf } from "../retry.ts";
import type { TableGate } from "../schema/table-gate.ts";

export interface RowReaderParts {
  readonly clock: Clock;
  readonly source: Pick<Source, "log" | "rows">;
  readonly gate: Pick<TableGate, "table" | "suspend">;
  readonly logger: Logger;
  /** An attempt beside the others has ended; `error`: a failure that does not concern the read itself. */
  readonly onAttempt: (error: unknown) => void;
}

/** The source refuses one read, and this was recorded; the others continue. */
export class ReadRefused extends Error {}

/** Whether the error concerns one table only, and was dealt with. */
export function isOfOneTable(error: unknown): boolean {
  return error instanceof ReadRefused || error instanceof AmbiguousKey;
}

/** Reads rows in their turn, and tries refused reads beside that, one at a time. */
export class RowReader {
  readonly #parts: RowReaderParts;
  readonly failing: FailingReads;
  #isTrying = false;

  constructor(parts: RowReaderParts) {
    this.#parts = parts;
    this.failing = new FailingReads(parts.clock);
  }

  async read(table: TableVersion, reading: SnapshotRead, { signal, scanRowCountMax }: ReadLimits): Promise<Chunk> {
    const chunk = await this.#read(table, reading, signal, scanRowCountMax);
    this.failing.worked(reading);
    return chunk;
  }

  /**
   * `readings`: all unfinished ones. The rows of an attempt are dropped: once it works, the read takes its turn with the
   * others.
   */
  tryRefused(readings: readonly SnapshotRead[], signal: AbortSignal): void {
    this.failing.keep(readings);
    const reading = this.#isTrying ? undefined : this.failing.due(readings);
    const table = reading === undefined ? undefined : this.#parts.gate.table(reading.tableId);
    if (reading === undefined || table === undefined) return;
    this.#isTrying = true;
    void this.#attempt(table, reading, signal).then((error) => {
      this.#isTrying = false;
      this.#parts.onAttempt(error);
    });
  }

  /** Milliseconds until the next attempt can begin. */
  get dueInMs(): number {
    return this.#isTrying ? Infinity : this.failing.dueInMs;
  }

  async #attempt(table: TableVersion, reading: SnapshotRead, signal: AbortSignal): Promise<unknown> {
    try {
      (await this.#read(table, reading, signal)).block?.release();
      this.failing.rejoin(reading);
      return undefined;
    } catch (error) {
      return error instanceof ReadRefused ? undefined : error;
    }
  }

  async #read(
    table: TableVersion,
    reading: SnapshotRead,
    signal: AbortSignal,
    scanRowCountMax?: number,
  ): Promise<Chunk> {
    const { source, gate, logger } = this.#parts;
    try {
      return await readRows(source.rows, table, reading, signal, scanRowCountMax);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof AmbiguousKey) {
        await gate.suspend(table.id, ambiguousKey(table.id, error.what));
        throw error;
      }
      // If the source does not answer at all, this table is not the cause.
      await source.log.tip(signal);
      const waitMs = this.failing.failed(reading, error);
      const message = "a table can't be read beside the stream; the next attempt follows";
      logger.warn({ table: table.id, error, kind: kindOf(error), waitMs }, message);
      throw new ReadRefused(message, { cause: error });
    }
  }
}
