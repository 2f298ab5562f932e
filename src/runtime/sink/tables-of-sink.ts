import type { Completeness } from "../../core/checkpoint/completeness.ts";
import type { MillraceError } from "../../core/errors.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { SinkTables, TableTaker } from "../schema/sink-tables.ts";
import type { SuspendedTables } from "../schema/suspended-tables.ts";
import type { TableGate } from "../schema/table-gate.ts";
import type { Ledger } from "../snapshot/ledger.ts";

/** A table's id, and what the copy of it is a copy of. */
export type Copy = readonly [tableId: string, copy: Completeness];

/** What a sink asks about tables, and tells. */
export type SinkTableAnswers = Pick<TablesOfSink, keyof TablesOfSink>;

interface TablesOfSinkParts {
  readonly gate: TableGate;
  readonly suspended: SuspendedTables;
  readonly tables: SinkTables;
  readonly ledger: Ledger;
  /** What the sink holds, or still needs, has changed. */
  readonly onChange: () => void;
}

/** One sink's tables: which flow, which it skips, which will be read for it, and which it can't write. */
export class TablesOfSink {
  readonly #taker: TableTaker;
  readonly #parts: TablesOfSinkParts;

  constructor(taker: TableTaker, parts: TablesOfSinkParts) {
    this.#taker = taker;
    this.#parts = parts;
  }

  get #sink(): string {
    return this.#taker.sink.name;
  }

  /**
   * Whether the sink takes this table, and the table is suspended neither in this sink nor in all. Asked once per block and
   * table.
   */
  wants(table: TableVersion): boolean {
    const { tables, gate } = this.#parts;
    return tables.flows(this.#sink, table) && gate.flows(table);
  }

  /** Whether the sink skips the table's changes, because of the configuration or because the table is suspended in it. */
  leavesOut(tableId: string): boolean {
    const { gate, suspended } = this.#parts;
    const table = gate.newest(tableId);
    return suspended.has(this.#sink, tableId) || (table !== undefined && !this.#taker.takes(table));
  }

  /** The newest version of each table that was ever known. */
  get known(): Iterable<TableVersion> {
    return this.#parts.gate.every;
  }

  /** The newest version of each table that flows and whose rows the sink takes. */
  get named(): readonly TableVersion[] {
    return this.#parts.tables.named(this.#taker.sink);
  }

  /** Whether the sink is going to get a whole copy of the table, and nothing of it was read yet. */
  willRead(tableId: string): boolean {
    return this.#parts.ledger.willRead(this.#sink, tableId);
  }

  /** Whether no snapshot reads the table for this sink any more. */
  isVoid(tableId: string): boolean {
    const { gate, suspended } = this.#parts;
    return gate.isGone(tableId) || suspended.has(this.#sink, tableId);
  }

  /** The sink can't follow or write the table. When this resolves, `wants` is false for the table. */
  async refuse(tableId: string, error: MillraceError, shape?: string): Promise<void> {
    const { gate, suspended } = this.#parts;
    await suspended.suspend(this.#sink, tableId, error, shape ?? gate.newest(tableId)?.fingerprint);
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
}
