import type { MillraceError } from "../../core/errors.ts";
import { areApart, namesOfTable } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { TableShape } from "../../core/contracts/catalog.ts";
import type { Neighbour, TableName } from "../../core/contracts/connector.ts";
import { targetIsNeighbours, targetsMeet } from "../errors.ts";
import type { Refusal, SuspendedTables } from "./suspended-tables.ts";
import type { TableGate } from "./table-gate.ts";

/** The parts of a sink's setup that decide which tables it takes. */
export interface TableTaker {
  readonly sink: Sink;
  /** Whether the sink's `tables` take this table in. */
  readonly takes: (table: TableShape) => boolean;
  /** Default: none. */
  readonly neighbours?: readonly Neighbour[];
}

/** The targets of all sinks' tables: no two tables of a sink are written into the same one, unless routes tell their rows apart. */
export class Targets {
  readonly #gate: TableGate;
  readonly #takers: readonly TableTaker[];
  readonly #suspended: SuspendedTables;
  /** By sink: its targets, and the ids of all tables that ever had them. */
  readonly #targets = new Map<string, Map<string, readonly string[]>>();
  readonly #targetsElsewhere = new Map<
    string,
    { readonly of: readonly TableShape[]; readonly targets: ReadonlyMap<string, readonly string[]> }
  >();

  constructor(gate: TableGate, takers: readonly TableTaker[], suspended: SuspendedTables) {
    this.#gate = gate;
    this.#takers = takers;
    this.#suspended = suspended;
  }

  /**
   * Suspends the tables that the configuration alone refuses. Invariant: before any sink begins. The neighbour may take such a
   * target at once, and the sink that had it would be told of another daemon.
   */
  async keepFromNeighbours(): Promise<void> {
    for (const { sink, takes, neighbours = [] } of this.#takers) {
      if (neighbours.length === 0) continue;
      const free = this.#gate.tables.filter((table) => takes(table) && !this.#suspended.has(sink.name, table.id));
      const refusals = free.flatMap((table): readonly Refusal[] => {
        const target = targetIn(sink, table);
        const failure = target === null ? null : meetsNeighbour(neighbours, sink.name, table.id, target);
        return failure === null ? [] : [{ tableId: table.id, shape: table.fingerprint, failure }];
      });
      if (refusals.length > 0) await this.#suspended.suspend(sink.name, refusals);
    }
  }

  /** Suspends the table in each sink that would write it into the target of another one. */
  async keepApart(table: TableShape): Promise<void> {
    for (const { sink } of this.#takers) {
      if (!this.#suspended.has(sink.name, table.id)) await this.refuseMeeting(sink.name, table);
    }
  }

  /** The same in one sink; false if the table has a target of its own there. */
  async refuseMeeting(sink: string, table: TableShape): Promise<boolean> {
    const meeting = this.meetsAnother(sink, table);
    const refused = { tableId: table.id, shape: table.fingerprint };
    if (meeting !== null) await this.#suspended.suspend(sink, [{ ...refused, failure: meeting }]);
    return meeting !== null;
  }

  /**
   * An error if the sink would write this table into the target of another one, also of one that another share has. A table
   * that is gone does not count: its remaining changes in the log come before the position at which this table's rows are
   * read.
   */
  meetsAnother(name: string, table: TableShape): MillraceError | null {
    const taker = this.#takers.find(({ sink }) => sink.name === name);
    if (taker?.takes(table) !== true) return null;
    const { sink, takes, neighbours = [] } = taker;
    const target = targetIn(sink, table);
    if (target === null) return null;
    const meeting = meetsNeighbour(neighbours, sink.name, table.id, target);
    if (meeting !== null) return meeting;
    const isApart = (id: string): boolean => mayShare(sink, table, namesOfTable(id));
    const other =
      this.#alike(sink, target, table).find((id) => id !== table.id && this.#isTaken(id, taker) && !isApart(id)) ??
      this.#elsewhere(sink, takes)
        .get(target)
        ?.find((id) => !isApart(id));
    return other === undefined ? null : targetsMeet(sink.name, other, table.id, target);
  }

  #isTaken(id: string, { sink, takes }: TableTaker): boolean {
    const other = this.#gate.expected(id);
    return other !== undefined && takes(other) && !this.#suspended.hasNoTarget(sink.name, id);
  }

  /** By target: the tables that other shares have. */
  #elsewhere(sink: Sink, takes: TableTaker["takes"]): ReadonlyMap<string, readonly string[]> {
    const tables = this.#gate.elsewhere;
    const known = this.#targetsElsewhere.get(sink.name);
    if (known?.of === tables) return known.targets;
    const targets = new Map<string, readonly string[]>();
    for (const table of tables) {
      const target = takes(table) ? targetIn(sink, table) : null;
      if (target !== null) note(targets, target, table.id);
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

/** An error if one of the sink's neighbours may write to the target, or all its targets may be parts of it. */
export function meetsNeighbour(
  neighbours: readonly Neighbour[],
  sink: string,
  tableId: string,
  target: string,
): MillraceError | null {
  const met = neighbours.find(({ start }) => target.startsWith(start) || start.startsWith(target));
  return met === undefined ? null : targetIsNeighbours(sink, tableId, target, met);
}

/** Whether routes tell the rows of these tables apart, so that they may have one target in the sink. */
export function mayShare(sink: Sink, one: TableName, other: TableName): boolean {
  return areApart(sink.scope?.(one) ?? null, sink.scope?.(other) ?? null);
}

/** Null: the sink has no name for the table. It says so when it prepares the table, which is then suspended there. */
export function targetIn(sink: Sink, table: TableName): string | null {
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
