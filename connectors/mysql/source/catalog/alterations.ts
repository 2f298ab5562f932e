/**
 * Tables that were altered without a statement in the log (`sql_log_bin = 0`), and whose shape and number are as before: a
 * column that was dropped and made again, or is computed in another way. The catalogue shows when a table was last altered,
 * and the log every statement that was logged. Where other tables are altered at the same time, it stays unknown.
 */
interface Look {
  /** The end of the log before it. */
  readonly before: bigint;
  readonly tables: ReadonlyMap<string, TableState>;
}

export interface TableState {
  readonly generation: string;
  /** When it was last altered, in seconds. */
  readonly altered: string;
}

interface Doubt {
  readonly altered: string;
  /** Where the statement is in the log, if it was logged. */
  readonly from: bigint;
  readonly to: bigint;
}

export class Alterations {
  /** The last two. */
  #looks: readonly Look[] = [];
  readonly #doubts = new Map<string, Doubt>();
  /** When tables were last altered without a statement. */
  readonly #unlogged = new Map<string, string>();
  /** The position of the last statement that may have changed a table. */
  #definedAt = -1n;

  /** Another log begins, with other positions. */
  begin(): void {
    this.#looks = [];
    this.#doubts.clear();
    this.#definedAt = -1n;
  }

  defined(position: bigint): void {
    if (position > this.#definedAt) this.#definedAt = position;
  }

  /** `reached`: the stream's position. Returns the tables' generations. */
  looked(look: Look, after: bigint, reached: bigint): ReadonlyMap<string, string> {
    for (const [id, { altered, from, to }] of this.#doubts) {
      if (reached < to) continue;
      this.#doubts.delete(id);
      if (this.#definedAt < from) this.#unlogged.set(id, altered);
    }
    const [older, last] = this.#looks;
    // A statement is in the log before its change is in the catalogue, so it may lie before the last look.
    if (older !== undefined && last !== undefined)
      for (const [id, { altered, generation }] of look.tables) {
        const before = last.tables.get(id);
        if (before?.generation === generation && before.altered !== altered)
          this.#doubts.set(id, { altered, from: older.before, to: after });
      }
    this.#looks = [...this.#looks.slice(-1), look];
    return new Map(Array.from(look.tables, ([id, { generation }]) => [id, this.#marked(id, generation)]));
  }

  #marked(id: string, generation: string): string {
    const altered = this.#unlogged.get(id);
    return altered === undefined ? generation : `${generation} ${altered}`;
  }
}
