import { rowIdOf } from "../core/model/row-id.ts";
import type { PendingRow, RuleMemory } from "./former-rules.ts";

const DOUBTED_MAX = 100_000;
/** Before every change: sinks have listed the row to be read. */
const LISTED = -1n;

/**
 * Rows of a stream of which a change was not told, as nobody knew what the filter says of it or could compute it. What a
 * history has of such a row is from before that change: a later change that leaves values out is told with all values, or not.
 */
export class Doubts {
  /** By table and row, where the transaction of the last such change commits. */
  readonly #tables = new Map<string, Map<string, bigint>>();
  /** The same of tables with too many of them: each of their rows may be one. */
  readonly #whole = new Map<string, bigint>();
  /** Told of each such change too. */
  readonly #beside: Doubts | null;
  #count = 0;

  constructor(beside: Doubts | null = null) {
    this.#beside = beside;
  }

  get isEmpty(): boolean {
    return this.#whole.size + this.#tables.size === 0;
  }

  has(tableId: string, rowId: string): boolean {
    return this.#whole.has(tableId) || this.#tables.get(tableId)?.has(rowId) === true;
  }

  /** Whether there is any: rows need not be told apart otherwise. */
  in(tableId: string): boolean {
    return this.#whole.has(tableId) || this.#tables.has(tableId);
  }

  add(tableId: string, rowId: string, commit: bigint): void {
    this.#beside?.add(tableId, rowId, commit);
    const rows = this.#tables.get(tableId) ?? new Map<string, bigint>();
    const known = rows.get(rowId);
    if (this.#whole.has(tableId) || (known === undefined && this.#count >= DOUBTED_MAX))
      return this.#addAll(tableId, commit);
    if (known === undefined) this.#count++;
    this.#tables.set(tableId, rows.set(rowId, later(known, commit)));
  }

  #addAll(tableId: string, commit: bigint): void {
    for (const rowCommit of this.#remove(tableId).values()) commit = later(rowCommit, commit);
    this.#whole.set(tableId, later(this.#whole.get(tableId), commit));
  }

  #remove(tableId: string): ReadonlyMap<string, bigint> {
    const rows = this.#tables.get(tableId) ?? new Map<string, bigint>();
    this.#count -= rows.size;
    this.#tables.delete(tableId);
    return rows;
  }

  delete(tableId: string, rowId: string): void {
    const rows = this.#tables.get(tableId);
    if (rows?.delete(rowId) !== true) return;
    this.#count--;
    if (rows.size === 0) this.#tables.delete(tableId);
  }

  /** Of changes before `passed`, which every sink has, only the rows that are listed now are left: the others were read since. */
  settle(passed: bigint, listed: readonly PendingRow[]): void {
    for (const [tableId, commit] of this.#whole) if (commit < passed) this.#whole.delete(tableId);
    for (const [tableId, rows] of this.#tables)
      for (const [rowId, commit] of rows) if (commit < passed) this.delete(tableId, rowId);
    for (const { tableId, key } of listed) {
      if (key === null) this.#addAll(tableId, LISTED);
      else this.add(tableId, rowIdOf(key), LISTED);
    }
  }
}

function later(a: bigint | undefined, b: bigint): bigint {
  return a !== undefined && a > b ? a : b;
}

/** The rows in doubt of a source's streams. */
export class StreamDoubts {
  /**
   * Of the shared stream, over its connections: changes that it did not tell may wait in sinks' queues, where nobody has
   * listed them yet. A sink that has caught up with a second stream follows this one: what was not told there is in doubt here.
   */
  readonly #shared = new Doubts();
  readonly #pending: RuleMemory["pending"];
  /** Every sink has what commits before it, or has listed the rows. */
  #passed = 0n;

  constructor(pending: RuleMemory["pending"]) {
    this.#pending = pending;
  }

  /** Invariant: before the stream begins. A second one begins where nothing waits for its sink. */
  async opened(isSecond: boolean): Promise<Doubts> {
    const doubts = isSecond ? new Doubts(this.#shared) : this.#shared;
    // A position of another connection may be one of another log.
    if (!isSecond) this.#passed = 0n;
    doubts.settle(0n, await this.#listed());
    return doubts;
  }

  /** Of the shared stream. */
  acknowledged(commit: bigint): void {
    this.#passed = commit;
  }

  /** Called now and then: rows that were read since are in doubt no longer. */
  async settle(): Promise<void> {
    if (this.#shared.isEmpty) return;
    // Invariant: asked after every sink has passed it. A row that is not told meanwhile commits later.
    const passed = this.#passed;
    this.#shared.settle(passed, await this.#listed());
  }

  async #listed(): Promise<readonly PendingRow[]> {
    return (await this.#pending?.()) ?? [];
  }
}
