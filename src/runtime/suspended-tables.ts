import type { MillraceError } from "../core/errors.ts";
import type { StoredError, SuspendedTable, SuspensionStore } from "../core/state-store.ts";
import type { Logger } from "../core/telemetry.ts";

/**
 * Tables that a sink can't follow or write, for a reason of their own. Each is suspended in that sink: its changes pass over
 * it until an operator has it read again, and the sink's other tables go on. Every other sink has it as before.
 */
export class SuspendedTables {
  readonly #store: SuspensionStore;
  readonly #logger: Logger;
  readonly #bySink = new Map<string, Map<string, StoredError>>();

  constructor(store: SuspensionStore, logger: Logger) {
    this.#store = store;
    this.#logger = logger;
  }

  /** Before any sink begins. */
  async load(): Promise<void> {
    for (const { sink, tableId, error } of await this.#store.list()) this.#of(sink).set(tableId, error);
  }

  has(sink: string, tableId: string): boolean {
    return this.#bySink.get(sink)?.has(tableId) === true;
  }

  errorOf(sink: string, tableId: string): StoredError | null {
    return this.#bySink.get(sink)?.get(tableId) ?? null;
  }

  get all(): readonly SuspendedTable[] {
    return [...this.#bySink].flatMap(([sink, tables]) =>
      Array.from(tables, ([tableId, error]) => ({ sink, tableId, error })),
    );
  }

  /**
   * Invariant: durable before a change of the table passes the sink by. What the sink still says of the table it takes back
   * next, and at its next start before anything else.
   */
  async suspend(sink: string, tableId: string, { code, message, hint }: MillraceError): Promise<void> {
    const error = { code, message, hint: hint ?? null, at: new Date().toISOString() };
    await this.#store.suspend(sink, tableId, error);
    this.#of(sink).set(tableId, error);
    this.#logger.error({ sink, table: tableId, code }, `${message}; the table is suspended in this sink`);
  }

  /** The sink takes the tables again. It holds none of them, so they are read. */
  async reinstate(sink: string, tableIds: readonly string[]): Promise<void> {
    const suspended = tableIds.filter((id) => this.has(sink, id));
    await this.#store.reinstate(sink, suspended);
    for (const id of suspended) this.#of(sink).delete(id);
  }

  #of(sink: string): Map<string, StoredError> {
    let tables = this.#bySink.get(sink);
    if (tables === undefined) this.#bySink.set(sink, (tables = new Map<string, StoredError>()));
    return tables;
  }
}
