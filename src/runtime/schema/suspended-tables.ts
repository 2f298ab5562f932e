import { type Clock, timestamp } from "../../core/clock.ts";
import type { MillraceError } from "../../core/errors.ts";
import type { SuspendedTable, SuspensionStore, StoredError } from "../../core/contracts/state-store.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { entry } from "../entry.ts";
import { CANNOT_WRITE } from "../errors.ts";
import { ReconnectBackoff } from "../retry.ts";

interface Suspension {
  readonly table: SuspendedTable;
  /** Taken again to see whether it can be written by now; shown as suspended until the sink holds it. */
  isTried: boolean;
  /** When it is tried again by itself; never: only another shape, or an operator, makes a difference. */
  dueMs: number;
}

/**
 * Tables that a sink can't follow or write, for a reason of their own. Each is suspended in that sink: its changes pass over
 * it until it is tried again and read, and the sink's other tables go on. Every other sink has it as before.
 */
export class SuspendedTables {
  readonly #clock: Clock;
  readonly #store: SuspensionStore;
  readonly #logger: Logger;
  readonly #bySink = new Map<string, Map<string, Suspension>>();
  readonly #backoffs = new Map<string, ReconnectBackoff>();

  constructor(clock: Clock, store: SuspensionStore, logger: Logger) {
    this.#clock = clock;
    this.#store = store;
    this.#logger = logger;
  }

  /** Before any sink begins. */
  async load(): Promise<void> {
    for (const table of await this.#store.list()) {
      this.#of(table.sink).set(table.tableId, { table, isTried: false, dueMs: this.#dueMs(table) });
    }
  }

  has(sink: string, tableId: string): boolean {
    return this.#find(sink, tableId)?.isTried === false;
  }

  errorOf(sink: string, tableId: string): StoredError | null {
    return this.has(sink, tableId) ? this.#find(sink, tableId)!.table.error : null;
  }

  get all(): readonly SuspendedTable[] {
    return [...this.#bySink.values()].flatMap((tables) => Array.from(tables.values(), ({ table }) => shown(table)));
  }

  /**
   * Invariant: durable before a change of the table passes the sink by. What the sink still says of the table it takes back
   * next, and at its next start before anything else.
   */
  async suspend(sink: string, tableId: string, { code, message, hint }: MillraceError, shape?: string): Promise<void> {
    const before = this.#find(sink, tableId)?.table.error;
    const isSame = before?.code === code && before.message === message;
    const error = { code, message, hint: hint ?? null, at: isSame ? before.at : timestamp(this.#clock) };
    const table = { sink, tableId, error, ...(shape === undefined ? {} : { shape }) };
    await this.#store.suspend(table);
    this.#of(sink).set(tableId, { table, isTried: false, dueMs: this.#dueMs(table) });
    if (isSame) this.#logger.warn({ sink, table: tableId, code }, `${message}; the table stays suspended in this sink`);
    else this.#logger.error({ sink, table: tableId, code }, `${message}; the table is suspended in this sink`);
  }

  /** The sink takes the tables again. It holds none of them, so they are read. */
  async reinstate(sink: string, tableIds: readonly string[]): Promise<void> {
    const suspended = tableIds.filter((id) => this.#find(sink, id) !== undefined);
    await this.#store.reinstate(sink, suspended);
    for (const id of suspended) this.#forget(sink, id);
  }

  /** Those whose time has come, or whose table has another shape by now than was refused; `shapeOf` null: not now. */
  due(shapeOf: (sink: string, tableId: string) => string | null): readonly SuspendedTable[] {
    return [...this.#bySink.values()].flatMap((tables) =>
      Array.from(tables.values()).flatMap(({ table, isTried, dueMs }) => {
        const shape = isTried ? null : shapeOf(table.sink, table.tableId);
        const isDue = shape !== null && (this.#clock.elapsed() >= dueMs || shape !== (table.shape ?? shape));
        return isDue ? [table] : [];
      }),
    );
  }

  /** The sink takes the table again, which is shown as suspended until it is settled. `list` has it read. */
  async tryAgain({ sink, tableId }: SuspendedTable, list: () => Promise<void>): Promise<void> {
    const suspension = this.#find(sink, tableId);
    if (suspension === undefined) return;
    this.#logger.info({ sink, table: tableId }, "the suspended table is tried again");
    suspension.isTried = true;
    try {
      // Invariant: listed before it counts as taken: a crash in between leaves it suspended.
      await list();
      await this.#store.reinstate(sink, [tableId]);
    } catch (error) {
      suspension.isTried = false;
      throw error;
    }
  }

  get tried(): readonly SuspendedTable[] {
    return [...this.#bySink.values()].flatMap((tables) =>
      Array.from(tables.values()).flatMap(({ table, isTried }) => (isTried ? [table] : [])),
    );
  }

  /** What was tried again is in its sink. */
  settle({ sink, tableId }: SuspendedTable): void {
    if (this.#find(sink, tableId)?.isTried === true) this.#forget(sink, tableId);
  }

  #forget(sink: string, tableId: string): void {
    this.#of(sink).delete(tableId);
    this.#backoffs.delete(entry(sink, tableId));
  }

  /** What may pass is tried at growing distance. */
  #dueMs({ sink, tableId, error }: SuspendedTable): number {
    if (error.code !== CANNOT_WRITE) return Infinity;
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

function shown({ sink, tableId, error }: SuspendedTable): SuspendedTable {
  return { sink, tableId, error };
}
