import { type Clock, timestamp } from "../../core/clock.ts";
import type { MillraceError } from "../../core/errors.ts";
import {
  type StateStore,
  type StoredError,
  type SuspendedTable,
  TABLE_PAUSED,
} from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { Turn } from "../../core/waiting.ts";
import { CANNOT_WRITE, TARGETS_MEET } from "../errors.ts";
import { ReconnectBackoff } from "../retry.ts";

/** One table in one sink, as a key of a map. */
export function entry(sink: string, tableId: string): string {
  return JSON.stringify([sink, tableId]);
}

export interface SuspendedInSink extends SuspendedTable {
  readonly sink: string;
}

/** A table that a sink can't follow or write. `shape`: the refused one. */
export interface Refusal {
  readonly tableId: string;
  readonly failure: MillraceError;
  readonly shape?: string | undefined;
}

type Listing = (tableIds: readonly string[]) => Promise<void>;

/** Why the table has no target of its own in the sink, also while it is paused; null: it has one. */
export function meetingOf({ error, former }: Pick<SuspendedTable, "error" | "former">): StoredError | null {
  return error.code === TARGETS_MEET ? error : (former ?? null);
}

interface Suspension {
  readonly table: SuspendedInSink;
  /** Tried again, to see whether it can be written by now. It is shown as suspended until the sink holds it. */
  isTried: boolean;
  /** The state has it. */
  isStored: boolean;
  /** When it is next tried by itself. Infinity: only another shape, or an operator, makes a difference. */
  dueMs: number;
}

/**
 * Tables that a sink can't follow or write, for a reason of their own. Each is suspended in that sink: the sink skips its
 * changes until it is tried again and read. The sink's other tables, and the other sinks, continue.
 */
export class SuspendedTables {
  readonly #clock: Clock;
  readonly #store: StateStore["suspensions"];
  readonly #logger: Logger;
  readonly #bySink = new Map<string, Map<string, Suspension>>();
  readonly #backoffs = new Map<string, ReconnectBackoff>();
  /** The state holds what is held here: what one call changes in both, the next one finds in both. */
  readonly #turn = new Turn();

  constructor(clock: Clock, store: StateStore["suspensions"], logger: Logger) {
    this.#clock = clock;
    this.#store = store;
    this.#logger = logger;
  }

  /** Before any sink begins. */
  async load(): Promise<void> {
    for (const { sink, ...rest } of await this.#store.list()) {
      if (sink === null) continue;
      const table = { ...rest, sink };
      this.#of(sink).set(table.tableId, this.#suspension(table));
    }
  }

  has(sink: string, tableId: string): boolean {
    return this.#find(sink, tableId)?.isTried === false;
  }

  errorOf(sink: string, tableId: string): StoredError | null {
    return this.has(sink, tableId) ? this.#find(sink, tableId)!.table.error : null;
  }

  /** Whether another table has its target in the sink: while this one is paused, that one keeps it. */
  hasNoTarget(sink: string, tableId: string): boolean {
    return this.has(sink, tableId) && meetingOf(this.#find(sink, tableId)!.table) !== null;
  }

  get all(): readonly SuspendedInSink[] {
    return [...this.#bySink.values()].flatMap((tables) => Array.from(tables.values(), ({ table }) => table));
  }

  /**
   * Invariant: durable before the sink skips a change of the tables. Next, and at its next start before anything else, the
   * sink removes them from its complete ones. Another shape than the refused one is tried by itself, unless somebody else
   * has the target, who would lose it.
   */
  async suspend(sink: string, refusals: readonly Refusal[]): Promise<void> {
    await this.#turn.run(async () => await this.#suspend(sink, refusals));
  }

  async #suspend(sink: string, refusals: readonly Refusal[]): Promise<void> {
    const suspended = refusals.map((refusal) => this.#refused(sink, refusal));
    await this.#store.suspend(suspended.map(({ table }) => table));
    for (const { table, isSame } of suspended) {
      const { tableId, error } = table;
      const { code, message } = error;
      this.#of(sink).set(tableId, this.#suspension(table));
      // Each retry tells it again, of each table.
      if (isSame) this.#logger.debug({ sink, table: tableId, code }, `${message}; the table stays suspended`);
      else if (code === TABLE_PAUSED) this.#logger.warn({ sink, table: tableId }, message);
      else this.#logger.error({ sink, table: tableId, code }, `${message}; the table is suspended in this sink`);
    }
  }

  #refused(sink: string, { tableId, failure, shape }: Refusal): { table: SuspendedInSink; isSame: boolean } {
    const { code, message, hint, reason } = failure;
    const known = this.#find(sink, tableId);
    const before = known?.table.error;
    const isSame = before?.code === code && before.message === message;
    const error = { code, message, hint: hint ?? null, at: isSame ? before.at : timestamp(this.#clock) };
    // Another shape helps against neither.
    const isForPerson = reason === "taken" || reason === "untold";
    // Once it is tried it has its target.
    const former = code === TABLE_PAUSED && known?.isTried === false ? meetingOf(known.table) : null;
    const table = {
      sink,
      tableId,
      error,
      ...(shape === undefined || isForPerson ? {} : { shape }),
      ...(former === null ? {} : { former }),
    };
    return { table, isSame };
  }

  /** The sink takes the tables again. `list` requests the rows that it lacks. */
  async reinstate(sink: string, tableIds: readonly string[], list: Listing): Promise<void> {
    await this.#takeAgain(sink, tableIds, list);
    for (const id of tableIds) if (this.#find(sink, id)?.isTried === true) this.#forget(sink, id);
  }

  /**
   * By sink, ids of tables whose time has come, or that have another shape than the refused one. `shapeOf` null: it has none
   * now. `isPossible`: whether the sink can take it now; it is asked of those alone.
   */
  due(
    shapeOf: (tableId: string) => string | null,
    isPossible: (sink: string, tableId: string) => boolean,
  ): ReadonlyMap<string, readonly string[]> {
    const nowMs = this.#clock.elapsed();
    const due = new Map<string, readonly string[]>();
    for (const [sink, tables] of this.#bySink) {
      const ids: string[] = [];
      for (const [id, { table, isTried, dueMs }] of tables) {
        if (isTried || (nowMs < dueMs && table.shape === undefined)) continue;
        const shape = shapeOf(id);
        if (shape === null || (nowMs < dueMs && shape === table.shape) || !isPossible(sink, id)) continue;
        ids.push(id);
      }
      if (ids.length > 0) due.set(sink, ids);
    }
    return due;
  }

  /** The sink takes the tables again. They are shown as suspended until `finishTrials`. `list` requests their rows. */
  async tryAgain(sink: string, tableIds: readonly string[], list: Listing): Promise<void> {
    this.#logger.debug({ sink, tables: tableIds }, "suspended tables are retried");
    await this.#takeAgain(sink, tableIds, list);
  }

  /** Those that are suspended now: another call may have ended a suspension meanwhile. */
  async #takeAgain(sink: string, tableIds: readonly string[], list: Listing): Promise<void> {
    const suspensions = tableIds.flatMap((id) => this.#find(sink, id) ?? []);
    if (suspensions.length === 0) return;
    const suspended = suspensions.map(({ table }) => table.tableId);
    // What is listed for a table that the sink skips is void.
    for (const suspension of suspensions) suspension.isTried = true;
    try {
      // Invariant: the read is listed before the suspension ends. A crash in between leaves the table suspended.
      await list(suspended);
      await this.#turn.run(async () => await this.#end(sink, suspensions));
    } catch (error) {
      // Of those that were tried before, the state has none: they flow.
      for (const suspension of suspensions) if (suspension.isStored) suspension.isTried = false;
      throw error;
    }
  }

  /** Those that no other one has replaced meanwhile. */
  async #end(sink: string, suspensions: readonly Suspension[]): Promise<void> {
    const still = suspensions.filter((one) => one.isStored && this.#find(sink, one.table.tableId) === one);
    await this.#store.reinstate(
      sink,
      still.map(({ table }) => table.tableId),
    );
    for (const suspension of still) {
      suspension.isStored = false;
      suspension.isTried = true;
    }
  }

  get tried(): readonly SuspendedInSink[] {
    return [...this.#bySink.values()].flatMap((tables) =>
      Array.from(tables.values()).flatMap(({ table, isTried }) => (isTried ? [table] : [])),
    );
  }

  /** Tables that were tried again are complete in their sinks. */
  finishTrials(complete: readonly SuspendedInSink[]): void {
    const ended = complete.filter(({ sink, tableId }) => this.#find(sink, tableId)?.isTried === true);
    for (const { sink, tableId } of ended) this.#forget(sink, tableId);
    for (const [sink, own] of Map.groupBy(ended, (one) => one.sink)) {
      const tables = own.map(({ tableId }) => tableId);
      this.#logger.info({ sink, tables }, "tables that were suspended in this sink are complete there again");
    }
  }

  #forget(sink: string, tableId: string): void {
    this.#of(sink).delete(tableId);
    this.#backoffs.delete(entry(sink, tableId));
  }

  #suspension(table: SuspendedInSink): Suspension {
    return { table, isTried: false, isStored: true, dueMs: this.#dueMs(table) };
  }

  /** A failure that may pass is retried at growing intervals. */
  #dueMs({ sink, tableId, error }: SuspendedInSink): number {
    if (error.code !== CANNOT_WRITE && error.code !== TARGETS_MEET) return Infinity;
    const key = entry(sink, tableId);
    let backoff = this.#backoffs.get(key);
    if (backoff === undefined) this.#backoffs.set(key, (backoff = new ReconnectBackoff(this.#clock)));
    return this.#clock.elapsed() + backoff.next();
  }

  #find(sink: string, tableId: string): Suspension | undefined {
    return this.#bySink.get(sink)?.get(tableId);
  }

  #of(sink: string): Map<string, Suspension> {
    let tables = this.#bySink.get(sink);
    if (tables === undefined) this.#bySink.set(sink, (tables = new Map<string, Suspension>()));
    return tables;
  }
}
