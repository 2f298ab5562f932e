import type { MillraceError } from "../../core/errors.ts";
import { type Completeness, type CompleteTables, completeFor } from "../../core/checkpoint/completeness.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import type { SinkPositions } from "../sink/sink-position.ts";
import { targetsMeet } from "../errors.ts";
import type { SuspendedTables } from "./suspended-tables.ts";
import type { TableGate } from "./table-gate.ts";

/** The parts of a sink's setup that decide which tables it takes. */
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
  /** By sink: its targets, and the ids of all tables that ever had them. */
  readonly #targets = new Map<string, Map<string, readonly string[]>>();
  readonly #targetsElsewhere = new Map<
    string,
    { readonly of: readonly TableShape[]; readonly targets: ReadonlyMap<string, string> }
  >();

  constructor(gate: TableGate, takers: readonly TableTaker[], suspended: Pick<SuspendedTables, "has">) {
    this.#gate = gate;
    this.#takers = takers;
    this.#suspended = suspended;
  }

  takes(sink: string, table: TableShape): boolean {
    return this.#takers.find((taker) => taker.sink.name === sink)?.takes(table) ?? false;
  }

  /** Whether the table's changes go to the sink: it takes the table, and the table is not suspended there. */
  flows(sink: string, table: TableShape): boolean {
    return this.takes(sink, table) && !this.#suspended.has(sink, table.id);
  }

  /** The same for a sink that holds rows, and so also needs those that do not come from the log. */
  fills(sink: string, table: TableShape): boolean {
    return this.holds(sink, table) && !this.#suspended.has(sink, table.id);
  }

  /** Whether the sink takes the table and holds rows. */
  holds(sink: string, table: TableShape): boolean {
    return this.#takers.some((taker) => taker.sink.name === sink && taker.sink.form !== "log" && taker.takes(table));
  }

  /** What the sink can be asked about: the tables that flow, whose rows it takes, and for which it has a name. */
  named(sink: Sink): readonly TableVersion[] {
    return this.#gate.tables.filter((table) => this.fills(sink.name, table) && targetIn(sink, table) !== null);
  }

  /** Ids of the tables that the sink takes and does not hold completely; `held`: its complete copies. */
  lacking(sink: string, held: CompleteTables): readonly string[] {
    return this.#gate.tables
      .filter((table) => {
        const completeness = this.completeness(table);
        return completeness !== null && held[table.id] !== completeness && this.fills(sink, table);
      })
      .map((table) => table.id);
  }

  /** What a sink records about a complete copy of the table as it is now; null while the table can't be read. */
  completeness(table: TableVersion): Completeness | null {
    const generation = this.#gate.generation(table.id);
    return generation === undefined ? null : completeFor(table, generation);
  }

  /** Whether one of the sinks that take the table holds a complete copy of this generation; also true if no sink takes it. */
  isHeld(tableId: string, generation: string, sinks: readonly SinkPositions[]): boolean {
    const table = this.#gate.table(tableId);
    if (table === undefined) return false;
    const completeness = completeFor(table, generation);
    const takers = sinks.filter(({ name }) => this.fills(name, table));
    return takers.length === 0 || takers.some(({ tables }) => tables[tableId] === completeness);
  }

  /**
   * An error if a sink would write this table into the target of another one, also of one that another share has. A table
   * that is gone does not count: its remaining changes in the log come before the position at which this table's rows are
   * read.
   */
  meetsAnother(table: TableShape): MillraceError | null {
    for (const { sink, takes } of this.#takers) {
      if (!takes(table)) continue;
      const target = targetIn(sink, table);
      if (target === null) continue;
      const other =
        this.#alike(sink, target, table).find((id) => id !== table.id && this.#isTaken(id, takes)) ??
        this.#elsewhere(sink, takes).get(target);
      if (other !== undefined) return targetsMeet(sink.name, other, table.id, target);
    }
    return null;
  }

  #isTaken(id: string, takes: (table: TableVersion) => boolean): boolean {
    const other = this.#gate.table(id);
    return other !== undefined && takes(other);
  }

  /** By target: the tables that other shares have. */
  #elsewhere(sink: Sink, takes: TableTaker["takes"]): ReadonlyMap<string, string> {
    const tables = this.#gate.elsewhere;
    const known = this.#targetsElsewhere.get(sink.name);
    if (known?.of === tables) return known.targets;
    const targets = new Map<string, string>();
    for (const table of tables) {
      const target = takes(table) ? targetIn(sink, table) : null;
      if (target !== null) targets.set(target, table.id);
    }
    this.#targetsElsewhere.set(sink.name, { of: tables, targets });
    return targets;
  }

  /** Ids of the tables that ever had this target in the sink, this one included. */
  #alike(sink: Sink, target: string, table: TableShape): readonly string[] {
    let ofSink = this.#targets.get(sink.name);
    if (ofSink === undefined) {
      ofSink = new Map();
      for (const known of this.#gate.every) {
        const ofKnown = targetIn(sink, known);
        if (ofKnown !== null) note(ofSink, ofKnown, known.id);
      }
      this.#targets.set(sink.name, ofSink);
    }
    return note(ofSink, target, table.id);
  }
}

/** Null: the sink has no name for the table. It says so when it prepares the table, which is then suspended there. */
function targetIn(sink: Sink, table: TableShape): string | null {
  try {
    return sink.target(table);
  } catch {
    return null;
  }
}

function note(targets: Map<string, readonly string[]>, target: string, id: string): readonly string[] {
  const ids = targets.get(target);
  if (ids?.includes(id) === true) return ids;
  const more = ids === undefined ? [id] : [...ids, id];
  targets.set(target, more);
  return more;
}
