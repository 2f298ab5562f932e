/**
 * A sink behind the routes of the configuration:
 *
 *   tenant_a.orders ─┐  into: shared.orders        ┌─────────┬────┬───┐
 *                    ├─ add:  { tenant: "$1" }  ──► │ tenant  │ id │ … │   one table of the target
 *   tenant_b.orders ─┘                             └─────────┴────┴───┘
 *
 * Everything before it knows the table under its own name and key: the log, checkpoints, dead letters, comparisons. Everything
 * behind it knows only the routed table, whose key begins with the added columns and whose `scope` has their values.
 */
import type { Inspection, ListedKey, RowsInOrder, StoredRow } from "../core/contracts/comparing.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import type { TargetRawRows } from "../core/contracts/raw-copy.ts";
import type { Outcome, Sink, TargetEvolution, TargetPresence, TargetRows } from "../core/contracts/sink.ts";
import type { Batch } from "../core/model/batch.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { expectOwnNames, routedBlock, type RoutedTable, RoutedTables } from "./routed-tables.ts";
import type { Routes } from "./routes.ts";

export function routedSink(sink: Sink, routes: Routes): Sink {
  // The log between daemons is of the source's tables: the sinks behind it have routes of their own.
  if (routes.text === "" || sink.form === "log") return sink;
  const { scopedBy } = sink;
  const tables = new RoutedTables(routes, scopedBy);
  const { presence, rows, evolution, prefetch, comparison, readers, raw } = sink;
  return {
    name: sink.name,
    kind: sink.kind,
    form: sink.form,
    delivery: sink.delivery,
    onLost: sink.onLost,
    routes: routes.text,
    ...(scopedBy === undefined ? {} : { scopedBy }),
    ...(sink.batchLimits === undefined ? {} : { batchLimits: sink.batchLimits }),
    ...(sink.isLoadedElsewhere === undefined ? {} : { isLoadedElsewhere: sink.isLoadedElsewhere }),
    ...(sink.storesFirst === undefined ? {} : { storesFirst: sink.storesFirst }),
    ...(sink.copies === undefined ? {} : { copies: sink.copies }),
    ...(sink.engine === undefined ? {} : { engine: sink.engine }),
    ...(sink.numbers === undefined ? {} : { numbers: sink.numbers }),
    get hints() {
      return sink.hints ?? [];
    },
    target: (table) => sink.target(routes.named(table)),
    scope: (table) => (scopedBy === undefined ? null : routes.scopeOf(table)),
    open: (lease, signal) => sink.open(lease, signal),
    look: (signal) => sink.look(signal),
    prepare: async (all, signal) => {
      for (const table of all) {
        const found = tables.find(table);
        if (found !== null) expectOwnNames(found);
      }
      await sink.prepare(tables.versions(all), signal);
    },
    apply: (batch, outcome, signal) => sink.apply(routedBatch(tables, batch), routedOutcome(tables, outcome), signal),
    verify: (signal) => sink.verify(signal),
    forget: (signal) => sink.forget(signal),
    close: () => sink.close(),
    ...(presence === undefined ? {} : { presence: routedPresence(tables, presence) }),
    ...(rows === undefined ? {} : { rows: routedRows(tables, rows) }),
    ...(evolution === undefined ? {} : { evolution: routedEvolution(tables, evolution) }),
    ...(prefetch === undefined
      ? {}
      : { prefetch: { prefetchRows: (all) => prefetch.prefetchRows(tables.writes(all)) } }),
    ...(comparison === undefined
      ? {}
      : {
          comparison: {
            ...(comparison.rowsAtOnce === undefined ? {} : { rowsAtOnce: comparison.rowsAtOnce }),
            inspect: async (signal) => new RoutedInspection(tables, await comparison.inspect(signal)),
          },
        }),
    ...(readers === undefined
      ? {}
      : { readers: { show: (all, signal) => readers.show(tables.versions(all), signal) } }),
    ...(raw === undefined ? {} : { raw: routedRaw(tables, raw) }),
    ...(sink.readersHold === undefined ? {} : { readersHold: (table) => sink.readersHold!(tables.version(table)) }),
    ...(sink.rooms === undefined ? {} : { rooms: (signal) => sink.rooms!(signal) }),
  };
}

function routedBatch(tables: RoutedTables, batch: Batch): Batch {
  switch (batch.kind) {
    case "rows": {
      const { truncates } = batch;
      return {
        ...batch,
        ...(truncates === undefined
          ? {}
          : { truncates: truncates.map((one) => ({ ...one, table: tables.version(one.table) })) }),
        tables: tables.writes(batch.tables),
      };
    }
    case "truncate":
      return { ...batch, table: tables.version(batch.table) };
    case "sweep":
      return { ...batch, sweeps: batch.sweeps.map((one) => ({ ...one, table: tables.version(one.table) })) };
    case "checkpoint":
      return batch;
    default:
      return batch satisfies never;
  }
}

function routedOutcome(tables: RoutedTables, outcome: Outcome): Outcome {
  return {
    incomplete: (writes, entries) => outcome.incomplete(tables.ownWrites(writes), entries),
    poison: (refused) => outcome.poison(refused.map((one) => ({ ...one, writes: tables.ownWrites(one.writes) }))),
    ...(outcome.waiting === undefined ? {} : { waiting: () => outcome.waiting!() }),
  };
}

function routedPresence(tables: RoutedTables, presence: TargetPresence): TargetPresence {
  const own = (all: readonly TableVersion[]): readonly TableVersion[] => all.map((table) => tables.own(table));
  return {
    missing: async (all, signal) => own(await presence.missing(tables.versions(all), signal)),
    ...(presence.foreign === undefined
      ? {}
      : {
          foreign: async (all, signal) => {
            const foreign = await presence.foreign!(tables.versions(all), signal);
            return foreign.map((one) => ({ ...one, table: tables.own(one.table) }));
          },
        }),
    ...(presence.keepOnly === undefined
      ? {}
      : { keepOnly: (all, signal) => presence.keepOnly!(tables.versions(all), signal) }),
    ...(presence.adoptable === undefined
      ? {}
      : { adoptable: async (all, signal) => own(await presence.adoptable!(tables.versions(all), signal)) }),
  };
}

function routedRows(tables: RoutedTables, rows: TargetRows): TargetRows {
  return {
    expel: (all, version, signal) => rows.expel(tables.versions(all), version, signal),
    highestVersion: (all, signal) => rows.highestVersion(typeof all === "string" ? all : tables.versions(all), signal),
  };
}

function routedEvolution(tables: RoutedTables, evolution: TargetEvolution): TargetEvolution {
  return { carries: (from, to, signal) => evolution.carries(tables.version(from), tables.version(to), signal) };
}

/** A row that its source does not decode gets no column. */
function routedRaw(tables: RoutedTables, raw: TargetRawRows): TargetRawRows {
  return {
    form: raw.form,
    columns: (table) => (tables.find(table) === null ? raw.columns(table) : null),
    begin: (table, signal) => raw.begin(table, signal),
    writer: (signal) => raw.writer(signal),
    finish: (table, signal) => raw.finish(table, signal),
  };
}

/** Shows the rows as the table's own. */
class RoutedInspection implements Inspection {
  readonly #tables: RoutedTables;
  readonly #inspection: Inspection;
  readonly equal?: Inspection["equal"] & {};
  readonly page?: Inspection["page"] & {};

  constructor(tables: RoutedTables, inspection: Inspection) {
    this.#tables = tables;
    this.#inspection = inspection;
    if (inspection.equal !== undefined)
      this.equal = (table, asked, signal) => {
        const found = tables.find(table);
        return inspection.equal!(found?.version ?? table, found === null ? asked : this.#asked(found, asked), signal);
      };
    if (inspection.page !== undefined)
      this.page = async (table, after, signal) => {
        const page = await inspection.page!(tables.version(table), after, signal);
        return { ...page, keys: ownKeys(tables.find(table), page.keys) };
      };
  }

  expected(table: TableVersion, ordinal: number, text: string): string | null {
    return this.#inspection.expected(this.#tables.version(table), ordinal, text);
  }

  id(table: TableVersion, key: KeyText): string {
    const found = this.#tables.find(table);
    return this.#inspection.id(found?.version ?? table, routedKey(found, key));
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    const found = this.#tables.find(table);
    const routed = keys.map((key) => routedKey(found, key));
    const rows = await this.#inspection.rows(found?.version ?? table, routed, signal);
    if (found === null) return rows;
    return rows.map((row) => ({ ...row, cells: row.cells.slice(0, table.columns.length) }));
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    const found = this.#tables.find(table);
    for await (const keys of this.#inspection.keys(found?.version ?? table, signal)) yield ownKeys(found, keys);
  }

  #asked(found: RoutedTable, { block, rows, keys, ids, cells, versionMax }: RowsInOrder): RowsInOrder {
    const { own, version, values } = found;
    const added = values.map((value, i) => this.#inspection.expected(version, own.columns.length + i, value));
    return {
      block: routedBlock(found, [block], { count: rows.length, row: rows }),
      rows: rows.map((_, i) => i),
      keys: keys.map((key) => routedKey(found, key)),
      ids,
      cells: (i) => [...cells(i), ...added],
      versionMax,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inspection[Symbol.asyncDispose]();
  }
}

function routedKey(found: RoutedTable | null, key: KeyText): KeyText {
  return found === null ? key : [...found.keyStart, ...key];
}

function ownKeys(found: RoutedTable | null, keys: readonly ListedKey[]): readonly ListedKey[] {
  if (found === null) return keys;
  return keys.map(({ id, key }) => ({ id, key: key === null ? null : key.slice(found.keyStart.length) }));
}
