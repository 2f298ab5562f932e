import type { MillraceError } from "../../core/errors.ts";
import { type Completeness, type CompleteTables, completeFor } from "../../core/checkpoint/completeness.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import type { SinkStanding } from "../stream/acknowledger.ts";
import { targetsMeet } from "../errors.ts";
import type { SuspendedTables } from "./suspended-tables.ts";
import type { TableGate } from "./table-gate.ts";

/** What of a sink says which tables it takes. */
export interface TableTaker {
  readonly sink: Sink;
  /** Whether the sink's `tables` take this table in. */
  readonly takes: (table: TableShape) => boolean;
}

/** Which tables each sink takes, and which of them it does not hold completely. */
export class SinkTables {
  readonly #gate: TableGate;
  readonly #takers: readonly TableTaker[];
  readonly #suspended: Pick<SuspendedTables, "has">;
  /** By sink: its targets, and the ids of the tables that ever had them. */
  readonly #targets = new Map<string, Map<string, readonly string[]>>();

  constructor(gate: TableGate, takers: readonly TableTaker[], suspended: Pick<SuspendedTables, "has">) {
    this.#gate = gate;
    this.#takers = takers;
    this.#suspended = suspended;
  }

  takes(sink: string, table: TableShape): boolean {
    return this.#takers.find((taker) => taker.sink.name === sink)?.takes(table) ?? false;
  }

  /** Whether the sink takes the table, and it is not suspended there. */
  fills(sink: string, table: TableShape): boolean {
    return this.takes(sink, table) && !this.#suspended.has(sink, table.id);
  }

  /** Ids of the tables of which the sink, holding complete copies of `held`, needs one. */
  lacking(sink: string, held: CompleteTables): readonly string[] {
    return this.#gate.tables
      .filter((table) => {
        const completeness = this.completeness(table);
        return completeness !== null && held[table.id] !== completeness && this.fills(sink, table);
      })
      .map((table) => table.id);
  }

  /** What a sink records of a complete copy of the table as it is now; null while the table can't be read. */
  completeness(table: TableVersion): Completeness | null {
    const generation = this.#gate.generation(table.id);
    return generation === undefined ? null : completeFor(table, generation);
  }

  /** Whether one of the sinks that take the table holds a complete copy made under this generation; also where none takes it. */
  isHeld(tableId: string, generation: string, standings: readonly SinkStanding[]): boolean {
    const table = this.#gate.table(tableId);
    if (table === undefined) return false;
    const completeness = completeFor(table, generation);
    const takers = standings.filter(({ name }) => this.fills(name, table));
    return takers.length === 0 || takers.some(({ tables }) => tables[tableId] === completeness);
  }

  /**
   * An error where a sink would write this table into the target of another one. A name that is gone does not count: what the
   * log still has of that table lies before the place at which the rows of this one are read.
   */
  meetsAnother(table: TableShape): MillraceError | null {
    for (const { sink, takes } of this.#takers) {
      if (!takes(table)) continue;
      const target = sink.target(table);
      const other = this.#alike(sink, target, table).find((id) => id !== table.id && this.#isTaken(id, takes));
      if (other !== undefined) return targetsMeet(sink.name, other, table.id, target);
    }
    return null;
  }

  #isTaken(id: string, takes: (table: TableVersion) => boolean): boolean {
    const other = this.#gate.table(id);
    return other !== undefined && takes(other);
  }

  /** Ids of the tables, this one with them, that ever had this target in the sink. */
  #alike(sink: Sink, target: string, table: TableShape): readonly string[] {
    let ofSink = this.#targets.get(sink.name);
    if (ofSink === undefined) {
      ofSink = new Map();
      for (const known of this.#gate.every) note(ofSink, sink.target(known), known.id);
      this.#targets.set(sink.name, ofSink);
    }
    return note(ofSink, target, table.id);
  }
}

function note(targets: Map<string, readonly string[]>, target: string, id: string): readonly string[] {
  const ids = targets.get(target);
  if (ids?.includes(id) === true) return ids;
  const more = ids === undefined ? [id] : [...ids, id];
  targets.set(target, more);
  return more;
}
