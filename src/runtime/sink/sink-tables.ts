import { type Completeness, type CompleteTables, mayDiffer } from "../../core/checkpoint.ts";
import type { MillraceError } from "../../core/errors.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import { type TableTaker, targetIn } from "../schema/targets.ts";
import type { Refusal, SuspendedTables } from "../schema/suspended-tables.ts";
import type { TableGate } from "../schema/table-gate.ts";
import type { Ledger } from "../snapshot/ledger.ts";

/** A table's id, and what the copy of it is a copy of. */
export type Copy = readonly [tableId: string, copy: Completeness];

/** What a sink asks about tables, and tells. */
export type SinkTableAnswers = Pick<SinkTables, keyof SinkTables>;

interface SinkTablesParts {
  readonly gate: TableGate;
  readonly suspended: SuspendedTables;
  readonly ledger: Ledger;
  /** See `areReadUnasked`. */
  readonly areReadUnasked: boolean;
  /** What the sink holds, or still needs, has changed. */
  readonly onChange: () => void;
  readonly onPendingKeys: () => void;
}

interface Compared {
  readonly held: CompleteTables;
  /** Of the gate. */
  readonly changeCount: number;
  /** Whether or not they are suspended. */
  readonly lacked: Set<string>;
}

/** One sink's tables: which flow, which it skips, which will be read for it, and which it can't write. */
export class SinkTables {
  readonly #taker: TableTaker;
  readonly #parts: SinkTablesParts;
  /** What the last comparison found. It is asked for whenever something may have changed, often a single table. */
  #compared: Compared | null = null;

  constructor(taker: TableTaker, parts: SinkTablesParts) {
    this.#taker = taker;
    this.#parts = parts;
  }

  get #sink(): string {
    return this.#taker.sink.name;
  }

  /** Whether tables that the sink lacks are read without a request. If not, those that it loses are listed at the loss. */
  get areReadUnasked(): boolean {
    return this.#parts.areReadUnasked;
  }

  /** Whether the sink's `tables` take this table in. */
  takes(table: TableShape): boolean {
    return this.#taker.takes(table);
  }

  /**
   * Whether the sink takes this table, and the table is suspended neither in this sink nor in all. Asked once per block and
   * table.
   */
  wants(table: TableVersion): boolean {
    return this.takes(table) && !this.isSuspended(table.id) && this.#parts.gate.flows(table);
  }

  holds(table: TableShape): boolean {
    return this.#taker.sink.form !== "log" && this.takes(table);
  }

  /** The same if the table is not suspended there: the sink also needs rows that do not come from the log. */
  fills(table: TableShape): boolean {
    return this.holds(table) && !this.isSuspended(table.id);
  }

  /** In this sink. */
  isSuspended(tableId: string): boolean {
    return this.#parts.suspended.has(this.#sink, tableId);
  }

  /** Whether the sink skips the table's changes, because of the configuration or because the table is suspended in it. */
  leavesOut(tableId: string): boolean {
    const table = this.#parts.gate.newest(tableId);
    return this.isSuspended(tableId) || (table !== undefined && !this.takes(table));
  }

  /** The newest version of each table that was ever known. */
  get known(): Iterable<TableVersion> {
    return this.#parts.gate.every;
  }

  /** Whether the state has, or ever had, a shape of the table. */
  isKnown(tableId: string): boolean {
    return this.#parts.gate.newest(tableId) !== undefined;
  }

  /** What the sink can be asked about: the tables that flow, whose rows it takes, and for which it has a name. */
  get named(): readonly TableVersion[] {
    const { sink } = this.#taker;
    return this.#parts.gate.tables.filter((table) => this.fills(table) && targetIn(sink, table) !== null);
  }

  /** This process has looked which tables the source has. */
  get isCatalogKnown(): boolean {
    return this.#parts.gate.isCatalogKnown;
  }

  /** Ids of the tables that the sink takes and does not hold completely; `held`: its complete copies. */
  lacking(held: CompleteTables): readonly string[] {
    const { gate } = this.#parts;
    const { changeCount } = gate;
    const before = this.#compared;
    const changed = before === null ? null : changedSince(before, held, gate);
    const lacked = before === null || changed === null ? new Set<string>() : before.lacked;
    const looked = changed === null ? gate.tables.map(({ id }) => id) : changed;
    for (const id of looked) {
      const table = gate.table(id);
      if (table !== undefined && this.#lacks(table, held)) lacked.add(id);
      else lacked.delete(id);
    }
    this.#compared = { held, changeCount, lacked };
    return [...lacked].filter((id) => !this.isSuspended(id));
  }

  /**
   * Whether the sink's copy is one of the table as the catalogue shows it. Waits for this process's first look: before it nobody knows
   * whether the name means another table by now.
   */
  async isCurrent(table: TableVersion, held: CompleteTables, signal: AbortSignal): Promise<boolean> {
    const { gate } = this.#parts;
    await gate.looked(signal);
    const completeness = gate.completeness(table);
    return completeness !== null && held[table.id] === completeness;
  }

  #lacks(table: TableVersion, held: CompleteTables): boolean {
    const completeness = this.#parts.gate.completeness(table);
    return completeness !== null && held[table.id] !== completeness && this.holds(table);
  }

  /** Whether the sink is going to get a whole copy of the table, and nothing of it was read yet. */
  willRead(tableId: string): boolean {
    return this.#parts.ledger.willRead(this.#sink, tableId);
  }

  /** Whether the sink takes the table, which the source has: changes of it that the sink passes by are missing there. */
  misses(tableId: string): boolean {
    const table = this.#parts.gate.newest(tableId);
    return table !== undefined && this.takes(table) && !this.#parts.gate.isGone(tableId);
  }

  /** Whether no snapshot reads the table for this sink any more. */
  isVoid(tableId: string): boolean {
    return this.#taker.sink.form === "log" || this.#parts.gate.isGone(tableId) || this.leavesOut(tableId);
  }

  /** The sink can't follow or write the tables. When this resolves, `wants` is false for each. */
  async refuse(refusals: readonly Refusal[]): Promise<void> {
    const { gate, suspended } = this.#parts;
    await suspended.suspend(
      this.#sink,
      refusals.map((one) => ({ ...one, shape: one.shape ?? gate.newest(one.tableId)?.fingerprint })),
    );
  }

  /** Suspends a table whose rows can't be processed in all sinks. When this resolves, `wants` is false for the table. */
  async suspend(tableId: string, error: MillraceError): Promise<void> {
    await this.#parts.gate.suspend(tableId, error);
  }

  /** Tables of which the sink has a part, from which an unfinished snapshot continues. */
  async parts(): Promise<readonly Copy[]> {
    return await this.#parts.ledger.partsOf(this.#sink);
  }

  /**
   * The tables of which changes may pass the sink by unnoticed: their copies were made under other rules than those in
   * force, or the configuration leaves them out.
   */
  async passedBy(copies: readonly Copy[]): Promise<ReadonlySet<string>> {
    const leftOut = copies.map(([id]) => id).filter((id) => this.leavesOut(id));
    return (await this.#parts.gate.ofOtherRules(copies)).union(new Set(leftOut));
  }

  /**
   * The sink continues from the checkpoint of this batch (null: nothing proves what the sink got), without these tables.
   * When this resolves, the parts that the sink lacks do not count any more.
   */
  async rejoin(batch: number | null, invalid: ReadonlySet<string>): Promise<void> {
    await this.#parts.ledger.rejoin(this.#sink, batch, invalid);
  }

  /** What the sink holds, or still needs, has changed. */
  changed(): void {
    this.#parts.onChange();
  }

  /** Keys were listed for the sink. */
  keysListed(): void {
    this.#parts.onPendingKeys();
  }
}

/** The tables that may be lacked since then, or no longer; null: each may. */
function changedSince(before: Compared, held: CompleteTables, gate: TableGate): ReadonlySet<string> | null {
  const atGate = gate.changedSince(before.changeCount);
  const atSink = mayDiffer(before.held, held);
  return atGate === null || atSink === null ? null : atGate.union(atSink);
}
