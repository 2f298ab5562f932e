/**
 * What the parts of a filter said of rows. The log leaves a long value out of a change that does not touch it (TOAST); then the
 * parts that read it say what they said before. And it may show the key of an old row alone: whether the filter let that row
 * through is what it said before.
 *
 * Knowledge must be as of the change. What the stream told holds for the changes behind it, and is replaced or forgotten with
 * the row's next change that the stream tells. A row that was read at the source holds for the changes that the read did not
 * see. Several streams may follow the log at different places: the one in front tells, and all of them ask.
 */
import type { CapturedTables, TableShape } from "../core/contracts/catalog.ts";
import { type Position, rowVersion } from "../core/model/position.ts";

/** Whether a snapshot saw a transaction. */
export type Sees = (xid: number) => boolean;

/** Of rows that were read before the log begins. */
export const SEES_NOTHING: Sees = () => false;

/** The change of which the memory is asked, or that it is told. */
export interface ChangeAt {
  readonly version: bigint;
  readonly index: number;
  readonly xid: number;
}

interface Remembered {
  /** `Condition.parts` of the row. */
  readonly truths: string;
  /** Null: the stream told it, at this change. */
  readonly sees: Sees | null;
  readonly at: ChangeAt;
}

interface TableMemory {
  /** What the condition reads and rows are told apart by: with others, what was remembered is of no use. */
  readonly of: string;
  /** By id of the row. */
  readonly rows: Map<string, Remembered>;
}

/** A read of a table that is under way. What the stream tells of rows meanwhile may be newer than the read. */
export interface OpenRead extends Disposable {
  readonly told: Set<string>;
  /** Its rows may be those of another table or partition. */
  isVoid: boolean;
}

/** For all tables together: about 20 MB. */
const ROWS_MAX = 100_000;
const BEFORE_ALL: ChangeAt = { version: -1n, index: 0, xid: 0 };

export class FilterMemory {
  readonly #tables = new Map<string, TableMemory>();
  readonly #reads = new Map<OpenRead, string>();
  /** By table, the last one that a look has shown. */
  readonly #generations = new Map<string, string>();
  /** By table without partitions, its `relation` at the last look. */
  readonly #relations = new Map<string, number>();
  /** Tables under whose keys rows have come, or may have, that no stream tells. */
  readonly #unsteady = new Set<string>();
  /** By table, the partitions whose rows the stream tells: those of the first look, and those that it has shown since. */
  readonly #parts = new Map<string, Set<number>>();
  /** Ids of the tables of the last look; null: nobody has looked yet. */
  #present: ReadonlySet<string> | null = null;
  #count = 0;
  /** Up to here the streams have told everything. */
  #version = -1n;
  #index = 0;

  /** A stream begins. Invariant: what was told before is of use only if nothing lies in between. */
  streamFrom({ epoch, commit, index }: Position): void {
    const version = rowVersion(epoch, commit);
    const isFirst = this.#version < 0n;
    if (!isFirst && (this.#isTold(version, index) || (version === this.#version && index === this.#index))) return;
    if (!isFirst) for (const id of this.#tables.keys()) this.forgetTable(id);
    this.#version = version;
    this.#index = index;
  }

  streamedUntil({ epoch, commit, index }: Position): void {
    const version = rowVersion(epoch, commit);
    if (this.#isTold(version, index)) return;
    this.#version = version;
    this.#index = index;
  }

  /** False for a change that another stream, in front of this one, has told already. */
  isNews({ version, index }: ChangeAt): boolean {
    return !this.#isTold(version, index);
  }

  #isTold(version: bigint, index: number): boolean {
    return version < this.#version || (version === this.#version && index < this.#index);
  }

  /** Of the row before this change; null: it is not known. */
  recall(tableId: string, of: string, rowId: string, at: ChangeAt): string | null {
    const found = this.#rowsOf(tableId, of)?.get(rowId);
    if (found === undefined) return null;
    const { sees, at: told, truths } = found;
    const isEarlier =
      sees === null
        ? told.version < at.version || (told.version === at.version && told.index < at.index)
        : sees === SEES_NOTHING || (at.xid !== 0 && !sees(at.xid));
    return isEarlier ? truths : null;
  }

  /** After a change in the stream; `truths` null: the row is gone, or has no long value. */
  tell(tableId: string, of: string, rowId: string, truths: string | null, at: ChangeAt): void {
    for (const [{ told }, id] of this.#reads) if (id === tableId) told.add(rowId);
    if (!this.isNews(at)) return;
    const rows = truths === null ? this.#rowsOf(tableId, of) : this.#startedRows(tableId, of);
    const earlier = rows?.get(rowId);
    if (earlier !== undefined && earlier.sees !== null && earlier.sees !== SEES_NOTHING && earlier.sees(at.xid)) return;
    if (rows?.delete(rowId) === true) this.#count--;
    if (truths !== null) this.#add(rows!, rowId, { truths, sees: null, at });
  }

  /** Of the row as it was before this change. */
  know(tableId: string, of: string, rowId: string, truths: string, at: ChangeAt): void {
    const rows = this.#startedRows(tableId, of);
    if (rows.delete(rowId)) this.#count--;
    this.#add(rows, rowId, { truths, sees: null, at: { ...at, index: at.index - 1 } });
  }

  /** Of a row that was read. */
  tellRead(tableId: string, of: string, rowId: string, truths: string | null, sees: Sees): void {
    // A sink that is filled beside the stream: what was told of the row since, and forgotten, may be otherwise.
    if (sees === SEES_NOTHING && this.#version >= 0n) return;
    const rows = this.#startedRows(tableId, of);
    const earlier = rows.get(rowId);
    // The stream may deliver a transaction before others see it.
    if (earlier?.sees === null && !sees(earlier.at.xid)) return;
    if (rows.delete(rowId)) this.#count--;
    if (truths !== null) this.#add(rows, rowId, { truths, sees, at: BEFORE_ALL });
  }

  /** From before the read until its rows were told. */
  reading(tableId: string): OpenRead {
    const read: OpenRead = { told: new Set(), isVoid: false, [Symbol.dispose]: () => void this.#reads.delete(read) };
    this.#reads.set(read, tableId);
    return read;
  }

  /** The catalogue shows only these tables. In another generation, rows under the same keys may be others that no stream tells. */
  looked({ tables, generations }: Pick<CapturedTables, "tables" | "generations">): void {
    const ids = new Set(tables.map(({ id }) => id));
    const others = this.#present?.symmetricDifference(ids) ?? new Set<string>();
    this.#present = ids;
    for (const known of [this.#tables, this.#generations, this.#parts])
      for (const id of known.keys()) if (!ids.has(id)) others.add(id);
    // What comes may be another table than the one that had the name before.
    for (const id of others) {
      this.#areOthers(id);
      this.#generations.delete(id);
      this.#parts.delete(id);
    }
    for (const [id, generation] of generations) {
      const before = this.#generations.get(id);
      if (ids.has(id)) this.#generations.set(id, generation);
      if (before !== undefined && before !== generation) this.#areOthers(id);
    }
    this.#relations.clear();
    for (const { id, parts, relation } of tables) {
      if (parts === undefined) {
        this.#relations.set(id, relation);
        continue;
      }
      const known = this.#parts.get(id);
      this.#parts.set(id, known === undefined ? new Set(parts) : known.intersection(new Set(parts)));
    }
  }

  /** The stream shows rows of these partitions. Before those of one that is new, it may have told others under the same keys. */
  shows({ id, parts = [] }: Pick<TableShape, "id" | "parts">): void {
    const known = this.#parts.get(id) ?? new Set();
    if (parts.every((part) => known.has(part))) return;
    this.#parts.set(id, known.union(new Set(parts)));
    this.forgetTable(id);
  }

  /** Changes of its rows pass that no stream tells. */
  passedBy(tableId: string): void {
    this.#unsteady.add(tableId);
    this.forgetTable(tableId);
  }

  /**
   * Whether streams have told all that became of its rows since this process's first look. Of a table with partitions this is
   * not known: one may come with rows of its own.
   */
  isSteady({ id, relation }: Pick<TableShape, "id" | "relation">): boolean {
    return this.#relations.get(id) === relation && !this.#unsteady.has(id);
  }

  /** Rows under this name may be those of another table. */
  #areOthers(tableId: string): void {
    this.passedBy(tableId);
    for (const [read, of] of this.#reads) if (of === tableId) read.isVoid = true;
  }

  /** After a truncate, or after changes that no stream tells. */
  forgetTable(tableId: string): void {
    this.#count -= this.#tables.get(tableId)?.rows.size ?? 0;
    this.#tables.delete(tableId);
  }

  #rowsOf(tableId: string, of: string): Map<string, Remembered> | undefined {
    const found = this.#tables.get(tableId);
    return found?.of === of ? found.rows : undefined;
  }

  #startedRows(tableId: string, of: string): Map<string, Remembered> {
    const found = this.#rowsOf(tableId, of);
    if (found !== undefined) return found;
    this.forgetTable(tableId);
    const rows = new Map<string, Remembered>();
    this.#tables.set(tableId, { of, rows });
    return rows;
  }

  /** The rows that changed last stay. */
  #add(rows: Map<string, Remembered>, rowId: string, remembered: Remembered): void {
    rows.set(rowId, remembered);
    if (++this.#count <= ROWS_MAX) return;
    for (const [id, { rows: others }] of this.#tables) {
      const [oldest] = others.keys();
      if (oldest === undefined) continue;
      others.delete(oldest);
      this.#count--;
      // The table that has not been started for longest gives first.
      if (others.size === 0 && others !== rows) this.#tables.delete(id);
      return;
    }
  }
}
