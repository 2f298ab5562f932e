import type { Clock } from "../../core/clock.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { News } from "../../core/news.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../../core/contracts/telemetry.ts";
import type { DeadLetterBox } from "./dead-letters.ts";
import { ambiguousKey, internalFailure } from "../errors.ts";
import { TargetShapes } from "./target-shapes.ts";
import { IncompleteKeys } from "./incomplete-keys.ts";
import type { Attempted } from "./table-at-fault.ts";
import { measuredNow, measureBatch } from "./measured-batches.ts";
import { LogPassing } from "./log-passing.ts";
import { Prefetch, type CompactedAhead } from "./prefetch.ts";
import { type Compacted, Compactor } from "../compaction/compaction.ts";
import { type QueuedRows, queuedRowsOf } from "./queued-rows.ts";
import type { BatchLimits, SinkQueue, QueuedWork, QueuedChunks, QueuedEnds, QueuedRowWorks } from "../stream/sink-queue.ts";
import { BatchWriter } from "./batch-writer.ts";
import { isOfShape, withoutTables } from "../../core/checkpoint/completeness.ts";
import type { CompareWork, CompleteWork, CopyWork, SweepWork, TableEnd, TruncateWork, Work } from "../stream/work.ts";

export interface WorkerParts {
  readonly clock: Clock;
  readonly sink: Sink;
  readonly state: StateStore;
  readonly limits: BatchLimits;
  /**
   * Whether the sink takes this table, and the table is suspended neither in this sink nor in all. Asked once per block and
   * table.
   */
  readonly wants: (table: TableVersion) => boolean;
  /** Whether the sink skips the table's changes, because of the configuration or because the table is suspended in it. */
  readonly leavesOut: (tableId: string) => boolean;
  /** The newest version of each table that was ever known. */
  readonly known: () => Iterable<TableVersion>;
  /** The newest version of each table that flows and whose rows the sink takes. */
  readonly tables: () => readonly TableVersion[];
  readonly deadLetters: DeadLetterBox;
  /** Whether the sink is going to get a whole copy of the table, and nothing of it was read yet. */
  readonly willRead: (tableId: string) => boolean;
  /** Whether no snapshot reads the table for this sink any more. */
  readonly isVoid: (tableId: string) => boolean;
  readonly onPendingKeys: () => void;
  /** The sink no longer holds the table completely, as its shape has changed. */
  readonly onVoid: (tableId: string) => void;
  /** The sink can't follow or write the table. When this resolves, `wants` is false for the table. */
  readonly onRefused: (tableId: string, error: MillraceError, shape: string | undefined) => Promise<void>;
  /** Suspends a table whose rows can't be processed. When this resolves, `wants` is false for the table. */
  readonly suspend: (tableId: string, error: MillraceError) => Promise<void>;
  /** Notified when the sink has made progress, or its queue has room. */
  readonly news: News;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** How long a write may take, unless the configuration says. */
const ANSWER_MS_MAX = 5 * 60_000;

/** How a work ended. A dropped one must be done again later. */
export type How = "durable" | "dropped";

/**
 * Turns one sink's works into batches: compacts them, prepares their targets, applies them, and lists the keys that the sink
 * still needs.
 */
export class Applier {
  readonly #parts: WorkerParts;
  /** They take turns: the result of one stays valid while the other compacts. */
  readonly #compactors: readonly [Compactor, Compactor];
  #compactions = 0;
  readonly prefetch: Prefetch;
  readonly #incomplete: IncompleteKeys;
  /** Null: the sink gets batches of rows, and not the log itself. */
  readonly #passing: LogPassing | null;
  readonly batches: BatchWriter;
  readonly shapes: TargetShapes;
  /** What the sink is working on, if it is known: a failure may concern only one of these tables. */
  attempted: Attempted | null = null;

  constructor(parts: WorkerParts, queue: SinkQueue) {
    const { sink, state, deadLetters, willRead } = parts;
    this.#parts = parts;
    this.#compactors = [new Compactor(sink.form, sink), new Compactor(sink.form, sink)];
    this.prefetch = new Prefetch({
      ...parts,
      queue,
      isComplete: ({ id }) => this.#isComplete(id),
      compact: (queued, wants, isComplete) => this.#compacted(queued, wants, isComplete),
      prefetch: (tables) => sink.prefetch?.prefetchRows(tables),
    });
    this.batches = new BatchWriter({
      ...parts,
      bonds: state.bonds,
      answerMsMax: parts.limits.answerMsMax ?? ANSWER_MS_MAX,
      outcome: {
        incomplete: (writes, entries) => this.#incomplete.listEntries(writes, entries),
        poison: async (refused) => {
          for (const { writes, entry, error } of refused) {
            await deadLetters.add(writes, entry, error);
            await this.#incomplete.listAfter(writes, entry);
          }
        },
      },
      onAttempt: () => deadLetters.beginAttempt(),
    });
    this.#passing = sink.form === "log" ? new LogPassing({ ...parts, batches: this.batches }) : null;
    this.shapes = new TargetShapes({
      ...parts,
      schemas: state.schemas,
      batches: this.batches,
      onWork: (tableId) => (this.attempted = tableId === null ? null : { kind: "table", tableId }),
    });
    this.#incomplete = new IncompleteKeys({
      ...parts,
      // Invariant: if a copy may count as complete again without being read, the keys that it lacks are listed.
      willRead: (tableId) => !this.shapes.mayCarry(tableId) && willRead(tableId),
      snapshots: state.snapshots,
      isComplete: (tableId) => this.#isComplete(tableId),
    });
  }

  /** Adds to `passed` the works of `taken` that were dropped although the others are done. */
  async perform(taken: QueuedWork, ahead: CompactedAhead | null, passed: Set<Work>, signal: AbortSignal): Promise<How> {
    if (this.#passing !== null) return await this.#passing.perform(taken, signal);
    this.attempted = "table" in taken ? { kind: "table", tableId: taken.table.id } : null;
    switch (taken.kind) {
      case "rows":
        await this.#rows(taken, ahead, passed, signal);
        break;
      case "chunks":
        await this.#chunks(taken, passed, signal);
        break;
      case "compare":
        return await this.#compare(taken, signal);
      case "copy":
        return await this.#copy(taken, signal);
      case "truncate":
        await this.#truncate(taken, signal);
        break;
      case "ends":
        await this.#ends(taken, passed, signal);
        break;
      case "carry":
        if (!this.#takes(taken.table)) return "dropped";
        return (await this.shapes.carry(taken, signal)) ? "durable" : "dropped";
      case "notice":
        if (taken.entry.kind !== "lost") return "dropped";
        await this.#skip([{ id: taken.entry.tableId }], signal);
        break;
      case "heartbeat":
        await this.batches.verify(signal);
        await this.shapes.verify(this.#parts.tables(), signal);
        if (comparePositions(this.batches.reached, this.batches.held.position) > 0) {
          await this.batches.store({ position: this.batches.reached }, signal);
        }
        break;
      default:
        taken satisfies never;
    }
    return "durable";
  }

  /**
   * Invariant 7: a sink that joined its fan-out beyond the chunk's position may have deleted rows that the chunk still shows.
   * Invariant: each chunk moves the sink's position forward, so that an older copy of the sink is recognised by it.
   */
  async #chunks({ works }: QueuedChunks, passed: Set<Work>, signal: AbortSignal): Promise<void> {
    passed.clear();
    const { until } = works[0]!;
    const isLate = comparePositions(this.batches.reached, until) > 0;
    const fitting = works.filter((work) => {
      const fits = !isLate && work.block.tables.every((table) => this.#takes(table));
      if (!fits) passed.add(work);
      return fits;
    });
    const { position } = this.batches.held;
    const reached = comparePositions(until, position) > 0 ? until : position;
    const slices = fitting.map(({ block }) => ({ block, from: 0, to: block.count }));
    await this.#compact({ slices, truncates: [], since: null, until: null }, null, reached, signal);
  }

  /** All tables in one batch. If that fails and the error names no table, one batch per table follows. */
  async #ends({ works }: QueuedEnds, passed: Set<Work>, signal: AbortSignal): Promise<void> {
    passed.clear();
    const ends = works.filter((work) => this.#isWanted(work, passed));
    const byTable = Map.groupBy(ends, ({ table }) => table.id);
    if (byTable.size > 1) {
      try {
        return await this.#end(ends, signal);
      } catch (error) {
        const known = findMillraceError(error);
        if (signal.aborted || known?.kind !== "fatal" || known.table !== undefined) throw error;
        this.shapes.reopen();
        await this.batches.reopen(signal);
      }
    }
    for (const [tableId, own] of byTable) {
      this.attempted = { kind: "table", tableId };
      await this.#end(own, signal);
    }
  }

  /** Deletes the rows that the snapshot did not see, and marks the tables complete. */
  async #end(works: readonly TableEnd[], signal: AbortSignal): Promise<void> {
    const tables = new Set(works.map(({ table }) => table));
    await this.#prepare([...tables], signal);
    const sweeps = works.filter((work) => work.kind === "sweep");
    const complete = works.filter((work) => work.kind === "complete");
    if (sweeps.length === 0) return await this.shapes.complete(complete, signal);
    const checkpoint = this.shapes.completed(this.batches.held, complete);
    await this.batches.apply({ kind: "sweep", sweeps, checkpoint }, signal);
    this.shapes.noteComplete(complete);
  }

  /** Invariant 7: only at this position does the sink hold exactly these rows. */
  async #compare({ table, until, compare }: CompareWork, signal: AbortSignal): Promise<How> {
    const held = this.batches.held.tables[table.id];
    if (comparePositions(this.batches.reached, until) > 0 || this.shapes.isOutdated(table)) return "dropped";
    if (held === undefined || !isOfShape(held, table) || !this.#parts.wants(table)) return "dropped";
    await this.shapes.prepare(table, signal);
    await compare(signal);
    return "durable";
  }

  /** Invariant 10: before its first row the sink has a checkpoint that is bound to the state. */
  async #copy({ table, run, ends }: CopyWork, signal: AbortSignal): Promise<How> {
    const { sink, metrics } = this.#parts;
    if (sink.raw === undefined || !this.#takes(table)) return "dropped";
    await this.shapes.prepare(table, signal);
    if (this.batches.written === null) await this.batches.store({}, signal);
    const onRows = (count: number): void => metrics.rowsApplied(sink.name, table.id, "put", count);
    const how = await run(sink.raw, onRows, signal);
    if (how === "failed") {
      this.shapes.reopen();
      await this.batches.reopen(signal);
    }
    if (how !== "copied") return "dropped";
    await this.#end(ends, signal);
    return "durable";
  }

  async #truncate({ table, version, record, until }: TruncateWork, signal: AbortSignal): Promise<void> {
    if (comparePositions(until, this.batches.reached) <= 0) return;
    if (this.#parts.wants(table)) {
      await this.shapes.prepare(table, signal);
      const checkpoint = { ...this.batches.held, position: until };
      await this.batches.apply({ kind: "truncate", table, version, record, checkpoint }, signal);
      this.#parts.metrics.rowsApplied(this.#parts.sink.name, table.id, "truncate", 1);
    } else {
      await this.#skip([table], signal);
    }
    this.batches.cover(until);
  }

  async #rows(
    taken: QueuedRowWorks,
    ahead: CompactedAhead | null,
    passed: Set<Work>,
    signal: AbortSignal,
  ): Promise<void> {
    const { reached, held } = this.batches;
    const queued = queuedRowsOf(taken.works, reached, this.#parts.sink.form);
    if (queued === null) return;
    passed.clear();
    await this.#compact(queued, ahead, queued.until ?? held.position, signal, async () => {
      const complete = taken.complete.filter((work) => this.#isWanted(work, passed));
      // A table without rows gets its target too.
      await this.#prepare(
        complete.map(({ table }) => table),
        signal,
      );
      return complete;
    });
    if (queued.until !== null) this.batches.cover(queued.until);
  }

  async #prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const attempted = this.attempted;
    await this.shapes.prepareAll(tables, signal);
    this.attempted = attempted;
  }

  /** Skips a table that has a later shape, or is suspended by now. */
  #isWanted(work: SweepWork | CompleteWork, passed: Set<Work>): boolean {
    const isWanted = this.#takes(work.table);
    if (!isWanted) passed.add(work);
    return isWanted;
  }

  #takes(table: TableVersion): boolean {
    return !this.shapes.isOutdated(table) && this.#parts.wants(table);
  }

  /**
   * Compacts the rows, unless that was done ahead, and applies the result. The sink is then at `position` and holds the tables
   * that `complete` returns. A batch without rows or complete tables for this sink writes nothing.
   */
  async #compact(
    queued: QueuedRows,
    ahead: CompactedAhead | null,
    position: Position,
    signal: AbortSignal,
    complete: () => Promise<readonly CompleteWork[]> = async () => [],
  ): Promise<void> {
    if (queued.slices.length + queued.truncates.length === 0)
      return await this.shapes.complete(await complete(), signal);
    const known = ahead?.isValid(this.batches.reached) === true ? ahead.compacted : null;
    const compacted = known ?? this.#compacted(queued, this.#parts.wants, ({ id }) => this.#isComplete(id));
    if (await this.#suspended(compacted)) return await this.#compact(queued, null, position, signal, complete);
    const truncates = queued.truncates.filter(({ table }) => this.#parts.wants(table));
    const passedOver = queued.truncates.flatMap(({ table }) => (this.#parts.wants(table) ? [] : [table]));
    await this.#skip([...compacted.skipped, ...passedOver], signal);
    // Invariant: a key is listed durably before the checkpoint passes its change.
    if (compacted.untold.length > 0) await this.#incomplete.list(compacted.untold);
    for (const row of compacted.unplaced) await this.#parts.deadLetters.updateUnplaced(row);
    const { tables, order } = compacted;
    if (tables.length + truncates.length === 0) {
      compacted.release();
      return await this.shapes.complete(await complete(), signal);
    }
    await this.#incomplete.listDoubtful(tables);
    const written = [...new Set([...truncates, ...tables].map(({ table }) => table))];
    this.attempted = written.length === 1 ? { kind: "table", tableId: written[0]!.id } : null;
    await this.#prepare(written, signal);
    const ended = await complete();
    this.attempted = { kind: "rows", tables, truncates };
    const { reached, held } = this.batches;
    const batch = {
      kind: "rows",
      ...(truncates.length === 0 ? {} : { truncates }),
      tables,
      order,
      checkpoint: { ...this.shapes.completed(held, ended), position },
    } as const;
    const end = comparePositions(position, reached) > 0 ? position : reached;
    const begunMs = measuredNow();
    await this.prefetch.during(end, (onWaiting) => this.batches.apply(batch, signal, onWaiting));
    this.attempted = null;
    this.shapes.noteComplete(ended);
    const { metrics, sink } = this.#parts;
    for (const { table } of truncates) metrics.rowsApplied(sink.name, table.id, "truncate", 1);
    measureBatch(metrics, sink.name, tables, begunMs);
    await this.#parts.deadLetters.supersede(tables);
    compacted.release();
  }

  /** Invariant: the sink forgets that it holds a table before it passes a change of the table that it skips. */
  async #skip(skipped: Iterable<Pick<TableVersion, "id">>, signal: AbortSignal): Promise<void> {
    const ids = new Set(Array.from(skipped, ({ id }) => id).filter((id) => this.#isComplete(id)));
    if (ids.size === 0) return;
    await this.batches.store({ tables: withoutTables(this.batches.held.tables, ids) }, signal);
    for (const id of ids) this.#parts.onVoid(id);
  }

  /** Suspends the tables that can't be compacted. True: there were some, and the others must be compacted again. */
  async #suspended({ unkeyed, failed }: Compacted): Promise<boolean> {
    const { suspend, logger } = this.#parts;
    for (const { id } of unkeyed) await suspend(id, ambiguousKey(id, "null"));
    for (const [{ id }, error] of failed) {
      logger.error({ table: id, error }, "a table's changes could not be processed: it is suspended");
      await suspend(id, internalFailure(id, error));
    }
    return unkeyed.length > 0 || failed.size > 0;
  }

  #compacted(
    { slices, since }: QueuedRows,
    wants: (table: TableVersion) => boolean,
    isComplete: (table: TableVersion) => boolean,
  ): Compacted {
    return this.#compactors[this.#compactions++ % 2]!.compact(slices, wants, since, isComplete);
  }

  #isComplete(tableId: string): boolean {
    return this.batches.held.tables[tableId] !== undefined;
  }
}
