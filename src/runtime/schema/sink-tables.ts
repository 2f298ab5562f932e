import type { MillraceError } from "../../core/errors.ts";
import { type Completeness, completeFor } from "../../core/checkpoint/completeness.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import { targetsMeet } from "../errors.ts";
import type { TableGate } from "./table-gate.ts";

/** The parts of a sink's setup that decide which tables it takes. */
export interface TableTaker {
  readonly sink: Sink;
  /** Whether the sink's `tables` take this table in. */
  readonly takes: (table: TableShape) => boolean;
}

/** The targets of all sinks' tables, and what a complete copy of a table is. */
export class SinkTables {
  readonly #gate: TableGate;
  readonly #takers: readonly TableTaker[];
  /** By sink: its targets, and the ids of all tables that ever had them. */
  readonly #targets = new Map<string, Map<string, readonly string[]>>();
  readonly #targetsElsewhere = new Map<
    string,
    { readonly of: readonly TableShape[]; readonly targets: ReadonlyMap<string, string> }
  >();

  constructor(gate: TableGate, takers: readonly TableTaker[]) {
    this.#gate = gate;
    this.#takers = takers;
  }

  /** What a sink records about a complete copy of the table as it is now; null while the table can't be read. */
  completeness(table: TableVersion): Completeness | null {
    const generation = this.#gate.generation(table.id);
    return generation === undefined ? null : completeFor(table, generation);
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
export function targetIn(sink: Sink, table: TableShape): string | null {
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
