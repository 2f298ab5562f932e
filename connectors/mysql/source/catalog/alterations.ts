/**
 * Tables that were changed without a statement in the log (`sql_log_bin = 0`). The catalogue shows when a table was last
 * altered, and the log every statement that was logged. Where other tables are altered at the same time, it stays unknown.
 *
 * - Shape and number are as before: a column was dropped and made again, or is computed in another way.
 * - Made again, or emptied: such a session fills it, too, and no row of that is in the log (a dump of MySQL with GTIDs is
 *   such a session). The table has another generation until nobody writes to it, so that it is read after that, too.
 */
interface Look {
  /** The end of the log before it. */
  readonly before: bigint;
  readonly tables: ReadonlyMap<string, TableState>;
  /** Those of the tables that were being filled to which somebody has written, but not just now. */
  readonly filled: Iterable<string>;
}

export interface TableState {
  readonly generation: string;
  /** When it was last altered, in seconds. */
  readonly altered: string;
}

interface Doubt {
  readonly altered: string;
  /** It has another number than before, or was not there. */
  readonly isMade: boolean;
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
  readonly #filling = new Set<string>();
  /** The position of the last statement that may have changed a table. */
  #definedAt = -1n;
  /** Those of the last TRUNCATE of a table. */
  readonly #truncatedAt = new Map<string, bigint>();

  /** Tables that were made again or emptied without a statement, and may be being filled. */
  get filling(): ReadonlySet<string> {
    return this.#filling;
  }

  /** Another log begins, with other positions. */
  begin(): void {
    this.#looks = [];
    this.#doubts.clear();
    this.#truncatedAt.clear();
    this.#definedAt = -1n;
  }

  defined(position: bigint): void {
    if (position > this.#definedAt) this.#definedAt = position;
  }

  truncated(id: string, position: bigint): void {
    this.#truncatedAt.set(id, position);
  }

  /** `reached`: the stream's position. Returns the tables' generations. */
  looked(look: Look, after: bigint, reached: bigint): ReadonlyMap<string, string> {
    for (const id of look.filled) this.#filling.delete(id);
    for (const id of this.#filling) if (!look.tables.has(id)) this.#filling.delete(id);
    const [older, last] = this.#looks;
    // A statement is in the log before its change is in the catalogue, so it may lie before the last look.
    if (older !== undefined && last !== undefined)
      for (const [id, { altered, generation }] of look.tables) {
        const before = last.tables.get(id);
        const isMade = before?.generation !== generation;
        if (isMade || before.altered !== altered)
          this.#doubts.set(id, { altered, isMade, from: older.before, to: after });
      }
    for (const [id, { altered, isMade, from, to }] of this.#doubts) {
      if (reached < to) continue;
      this.#doubts.delete(id);
      if (this.#definedAt >= from || (this.#truncatedAt.get(id) ?? -1n) >= from) continue;
      if (isMade) this.#filling.add(id);
      else this.#unlogged.set(id, altered);
    }
    this.#looks = [...this.#looks.slice(-1), look];
    return new Map(Array.from(look.tables, ([id, { generation }]) => [id, this.#marked(id, generation)]));
  }

  #marked(id: string, generation: string): string {
    if (this.#filling.has(id)) return `${generation} filling`;
    const altered = this.#unlogged.get(id);
    return altered === undefined ? generation : `${generation} ${altered}`;
  }
}
