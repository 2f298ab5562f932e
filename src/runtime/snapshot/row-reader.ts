import { type Clock, timestamp } from "../../core/clock.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { keyShape } from "../../core/model/row-id.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { AmbiguousKey, type Chunk, type KeyText } from "../../core/contracts/row-reads.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { PendingKey, SnapshotScope, StoredError, TableSnapshot } from "../../core/contracts/state-store.ts";
import type { UnreadableTable } from "../../core/contracts/status.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { ambiguousKey, conditionRefused, readFailed, WAITED_IN_VAIN } from "../errors.ts";
import { kindOf, ReconnectBackoff } from "../retry.ts";
import type { TableGate } from "../schema/table-gate.ts";

/** Rows that one sink could not complete. */
export interface KeyRead {
  readonly kind: "keys";
  readonly tableId: string;
  readonly sinks: readonly string[];
  readonly keys: readonly PendingKey[];
}

/** The next rows of a table, or of a part of it, for all the sinks whose incremental snapshots are at the same key. */
export interface RangeRead {
  readonly kind: "range";
  readonly tableId: string;
  readonly sinks: readonly string[];
  readonly scope: SnapshotScope;
  readonly cursor: KeyText | null;
  readonly snapshots: readonly TableSnapshot[];
}

export type SnapshotRead = KeyRead | RangeRead;

export interface ReadLimits {
  /** Aborted when the chunk has become useless. */
  readonly signal: AbortSignal;
  /** The maximum number of rows to look at under a condition. */
  readonly scanRowCountMax?: number;
}

interface RowReaderParts {
  readonly clock: Clock;
  readonly source: Pick<Source, "log" | "rows">;
  readonly gate: Pick<TableGate, "table" | "suspend">;
  readonly logger: Logger;
  /** An attempt beside the others has ended; `error`: a failure that does not concern the read itself. */
  readonly onAttempt: (error: unknown) => void;
  /** The read can't succeed: it ends for its sinks. */
  readonly giveUp: (reading: RangeRead, why: MillraceError) => Promise<void>;
}

/** The source refuses one read, and this was recorded; the others continue. */
class ReadRefused extends Error {}

/** Whether the error concerns one table only, and was dealt with. */
export function isOfOneTable(error: unknown): boolean {
  return error instanceof ReadRefused || error instanceof AmbiguousKey;
}

/** A read that the source refuses. */
interface Refused {
  readonly tableId: string;
  readonly since: string;
  readonly backoff: ReconnectBackoff;
  sinks: readonly string[];
  error: StoredError;
  /** When it is next tried, by `Clock.elapsed`. Null: an attempt has worked, and it takes its turn with the others again. */
  nextMs: number | null;
}

/**
 * Reads rows in their turn. A read may be refused for a reason that concerns only its table or part: another session locks
 * it, a privilege was revoked, its condition is wrong. An attempt may wait for a lock as long as the source allows, so these
 * reads are tried beside the others, one at a time, each at its own intervals, until one attempt works.
 */
export class RowReader {
  readonly #parts: RowReaderParts;
  readonly #refused = new Map<string, Refused>();
  #isTrying = false;

  constructor(parts: RowReaderParts) {
    this.#parts = parts;
  }

  async read(table: TableVersion, reading: SnapshotRead, limits: ReadLimits): Promise<Chunk> {
    const chunk = await this.#read(table, reading, limits);
    this.#refused.delete(nameOf(reading));
    return chunk;
  }

  async #read(table: TableVersion, reading: SnapshotRead, limits: ReadLimits): Promise<Chunk> {
    const { source, gate, logger } = this.#parts;
    const { signal, scanRowCountMax } = limits;
    try {
      if (reading.kind === "keys")
        return await source.rows.readKeys(table, fittingKeys(reading.keys, table).texts, signal);
      const where = reading.scope.kind === "where" ? reading.scope.where : null;
      return await source.rows.readRange(table, { after: reading.cursor, where, scanRowCountMax }, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof AmbiguousKey) {
        await gate.suspend(table.id, ambiguousKey(table.id, error.what));
        throw error;
      }
      // If the source does not answer at all, this table is not the cause.
      await source.log.tip(signal);
      if (reading.kind === "range" && (await this.#failsByCondition(table, reading, error, limits))) {
        const why = conditionRefused(table.id, error instanceof Error ? error : new Error(String(error)));
        logger.warn({ table: table.id, error: why }, "a condition can't be used on a row; the read ends");
        await this.#parts.giveUp(reading, why);
        throw new ReadRefused(why.message, { cause: why });
      }
      const waitMs = this.#fail(reading, error);
      const message = "a table can't be read beside the stream; the next attempt follows";
      logger.warn({ table: table.id, error, kind: kindOf(error), waitMs }, message);
      throw new ReadRefused(message, { cause: error });
    }
  }

  /** Whether these rows can be read, but never under the condition of an operator: it fails on one of them. */
  async #failsByCondition(
    table: TableVersion,
    { cursor: after, scope }: RangeRead,
    error: unknown,
    { signal, scanRowCountMax }: ReadLimits,
  ): Promise<boolean> {
    if (scope.kind !== "where" || findMillraceError(error)?.code === WAITED_IN_VAIN) return false;
    const works = async (where: string | null): Promise<boolean> => {
      try {
        const { rows } = this.#parts.source;
        (await rows.readRange(table, { after, where, scanRowCountMax }, signal)).block?.release();
        return true;
      } catch {
        signal.throwIfAborted();
        return false;
      }
    };
    return (await works(null)) && !(await works(scope.where));
  }

  /** Returns the milliseconds until the next attempt. */
  #fail(reading: SnapshotRead, cause: unknown): number {
    const { clock } = this.#parts;
    const { tableId, sinks } = reading;
    const { code, message, hint } = findMillraceError(cause) ?? readFailed(tableId, cause);
    const at = timestamp(clock);
    const error = { code, message, hint: hint ?? null, at };
    const backoff = new ReconnectBackoff(clock);
    const refused = this.#refused.get(nameOf(reading)) ?? { tableId, since: at, backoff, sinks, error, nextMs: 0 };
    refused.error = error;
    this.#refused.set(nameOf(reading), refused);
    return this.#putOff(refused);
  }

  #putOff(refused: Refused): number {
    const waitMs = refused.backoff.next();
    refused.nextMs = this.#parts.clock.elapsed() + waitMs;
    return waitMs;
  }

  /**
   * `readings`: all unfinished ones, for whatever reason they wait; others are done or given up, and are forgotten. The rows
   * of an attempt are dropped: once it works, the read takes its turn with the others.
   */
  tryRefused(readings: readonly SnapshotRead[], signal: AbortSignal): void {
    this.#keep(readings);
    const reading = this.#isTrying ? undefined : this.#due(readings);
    const table = reading === undefined ? undefined : this.#parts.gate.table(reading.tableId);
    if (reading === undefined || table === undefined) return;
    this.#isTrying = true;
    void this.#attempt(table, reading, signal).then((error) => {
      this.#isTrying = false;
      this.#parts.onAttempt(error);
    });
  }

  #keep(readings: readonly SnapshotRead[]): void {
    const left = Map.groupBy(readings, nameOf);
    for (const [name, refused] of this.#refused) {
      const sinks = left.get(name)?.flatMap((reading) => reading.sinks);
      if (sinks === undefined) this.#refused.delete(name);
      else refused.sinks = [...new Set(sinks)].toSorted();
    }
  }

  /** The read whose attempt is most overdue; its attempt counts as begun. */
  #due(readings: readonly SnapshotRead[]): SnapshotRead | undefined {
    const nowMs = this.#parts.clock.elapsed();
    const nextMs = (reading: SnapshotRead) => this.#refused.get(nameOf(reading))?.nextMs ?? Infinity;
    const [first] = readings.filter((one) => nextMs(one) <= nowMs).toSorted((a, b) => nextMs(a) - nextMs(b));
    if (first !== undefined) this.#putOff(this.#refused.get(nameOf(first))!);
    return first;
  }

  async #attempt(table: TableVersion, reading: SnapshotRead, signal: AbortSignal): Promise<unknown> {
    try {
      (await this.#read(table, reading, { signal })).block?.release();
      const refused = this.#refused.get(nameOf(reading));
      if (refused !== undefined) refused.nextMs = null;
      return undefined;
    } catch (error) {
      return error instanceof ReadRefused ? undefined : error;
    }
  }

  /** Milliseconds until the next attempt can begin. */
  get dueInMs(): number {
    if (this.#isTrying) return Infinity;
    const nextMs = Math.min(...[...this.#refused.values()].map((refused) => refused.nextMs ?? Infinity));
    return Math.max(0, nextMs - this.#parts.clock.elapsed());
  }

  get hasRefused(): boolean {
    return this.#refused.size > 0;
  }

  /** True while the read does not take turns with the others. */
  holds(reading: SnapshotRead): boolean {
    return (this.#refused.get(nameOf(reading))?.nextMs ?? null) !== null;
  }

  /** Tables whose listed keys could not be read; `held`: only those that do not take turns with the others. */
  tablesOfKeys(held: boolean): ReadonlySet<string> {
    const found = [...this.#refused].filter(([name, { tableId, nextMs }]) => {
      return name === nameOfKeys(tableId) && (!held || nextMs !== null);
    });
    return new Set(found.map(([, { tableId }]) => tableId));
  }

  get unreadable(): readonly UnreadableTable[] {
    const byTable = Map.groupBy(this.#refused.values(), ({ tableId }) => tableId);
    return [...byTable].map(([table, refused]) => {
      const sinks = [...new Set(refused.flatMap((one) => one.sinks))].toSorted();
      const since = refused.map((one) => one.since).toSorted()[0]!;
      const error = refused.map((one) => one.error).toSorted((a, b) => (a.at < b.at ? 1 : -1))[0]!;
      return { table, sinks, since, error };
    });
  }

  /** Why the incremental snapshot makes no progress. */
  errorOf({ tableId, sink, scope, state }: TableSnapshot): StoredError | null {
    const refused = this.#refused.get(nameOfRange(tableId, scope));
    const isOpen = state === "waiting" || state === "running";
    return isOpen && refused?.sinks.includes(sink) === true ? refused.error : null;
  }
}

/** The same name for every key that a table has been read up to. */
function nameOf(reading: SnapshotRead): string {
  return reading.kind === "keys" ? nameOfKeys(reading.tableId) : nameOfRange(reading.tableId, reading.scope);
}

function nameOfKeys(tableId: string): string {
  return JSON.stringify([tableId]);
}

function nameOfRange(tableId: string, scope: SnapshotScope): string {
  return JSON.stringify([tableId, scope]);
}

interface FittingKeys {
  /** Keys that may name rows of the table as it is now. */
  readonly fitting: readonly PendingKey[];
  readonly texts: readonly KeyText[];
  /** Keys that were listed while the table had another key. */
  readonly others: readonly PendingKey[];
}

export function fittingKeys(keys: readonly PendingKey[], table: TableVersion): FittingKeys {
  const now = keyShape(table);
  const fits = ({ key, shape }: PendingKey) => (shape === "" ? key.length === table.key.length : shape === now);
  const fitting = keys.filter(fits);
  return { fitting, texts: fitting.map(({ key }) => key), others: keys.filter((pending) => !fits(pending)) };
}
