import type { Clock } from "../../core/clock.ts";
import { findMillraceError } from "../../core/errors.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { News } from "../../core/news.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../../core/contracts/telemetry.ts";
import { isOfShape, withoutTables } from "../../core/checkpoint/completeness.ts";
import { ambiguousKey, internalFailure } from "../errors.ts";
import type { Compacted } from "../compaction/compaction.ts";
import type {
  BatchLimits,
  SinkQueue,
  QueuedWork,
  QueuedChunks,
  QueuedEnds,
  QueuedRowWorks,
} from "../stream/sink-queue.ts";
import type { CompareWork, CompleteWork, CopyWork, SweepWork, TableEnd, TruncateWork, Work } from "../stream/work.ts";
import { BatchWriter } from "./batch-writer.ts";
import { CarriedCopies } from "./carried-copies.ts";
import type { DeadLetterBox } from "./dead-letters.ts";
import { IncompleteKeys } from "./incomplete-keys.ts";
import { LogPassing } from "./log-passing.ts";
import { measuredNow, measureBatch } from "./measured-batches.ts";
import { Prefetch, type CompactedAhead } from "./prefetch.ts";
import { type QueuedRows, queuedRowsOf } from "./queued-rows.ts";
import { loseChanges, passedOver, SinkPosition } from "./sink-position.ts";
import type { SinkTableAnswers } from "./tables-of-sink.ts";
import { TargetShapes } from "./target-shapes.ts";

export interface WorkerParts {
  readonly clock: Clock;
  readonly sink: Sink;
  readonly state: StateStore;
  readonly limits: BatchLimits;
  readonly tables: SinkTableAnswers;
  readonly deadLetters: DeadLetterBox;
  /** Notified when the sink has made progress, or its queue has room. */
  readonly news: News;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** How a work ended. A dropped one must be done again later. */
export type How = "durable" | "dropped";

/**
 * Turns one sink's works into batches: compacts them, prepares their targets, applies them, and lists the keys that the sink
 * still needs.
 */
export class Applier {
  readonly #parts: WorkerParts;
  readonly position: SinkPosition;
  readonly writer: BatchWriter;
  readonly shapes: TargetShapes;
  readonly prefetch: Prefetch;
  readonly #incomplete: IncompleteKeys;
  /** Tables of which the sink has passed changes by since it held them, or since this process began. */
  readonly #passed = new Set<string>();
  /** Null: the sink gets batches of rows, and not the log itself. */
  readonly #passing: LogPassing | null;

  constructor(parts: WorkerParts, queue: SinkQueue) {
    const { sink, state } = parts;
    this.#parts = parts;
    this.position = new SinkPosition(sink, state.bonds);
    const carried = new CarriedCopies(sink, state.schemas);
    this.#incomplete = new IncompleteKeys({ ...parts, position: this.position, carried });
    this.writer = new BatchWriter({ ...parts, position: this.position, incomplete: this.#incomplete });
    this.shapes = new TargetShapes({ ...parts, writer: this.writer, carried });
    this.prefetch = new Prefetch({ ...parts, queue, position: this.position });
    this.#passing = sink.form === "log" ? new LogPassing({ ...parts, writer: this.writer }) : null;
  }

  /** Adds to `passed` the works of `taken` that were dropped although the others are done. */
  async perform(taken: QueuedWork, ahead: CompactedAhead | null, passed: Set<Work>, signal: AbortSignal): Promise<How> {
    if (this.#passing !== null) return await this.#passing.perform(taken, signal);
    this.writer.attempted = "table" in taken ? { kind: "table", tableId: taken.table.id } : null;
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
        await this.writer.verify(signal);
        await this.shapes.verify(this.#parts.tables.named, signal);
        if (this.position.isBeyondCheckpoint || this.#isFirst)
          await this.writer.store({ position: this.position.reached }, signal);
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
    const isLate = comparePositions(this.position.reached, until) > 0;
    const fitting = works.filter((work) => {
      const fits = !isLate && work.block.tables.every((table) => this.#takes(table));
      if (!fits) passed.add(work);
      return fits;
    });
    const { position } = this.position.checkpoint;
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
        await this.writer.reopen(signal);
      }
    }
    for (const [tableId, own] of byTable) {
      this.writer.attempted = { kind: "table", tableId };
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
    const checkpoint = this.shapes.completed(this.position.checkpoint, complete);
    await this.writer.apply({ kind: "sweep", sweeps, checkpoint }, signal);
    this.shapes.noteComplete(complete);
  }

  /** Invariant 7: only at this position does the sink hold exactly these rows. */
  async #compare({ table, until, compare }: CompareWork, signal: AbortSignal): Promise<How> {
    const held = this.position.tables[table.id];
    if (comparePositions(this.position.reached, until) > 0 || this.shapes.isOutdated(table)) return "dropped";
    if (held === undefined || !isOfShape(held, table) || !this.#parts.tables.wants(table)) return "dropped";
    await this.shapes.prepare(table, signal);
    await compare(signal);
    return "durable";
  }

  /** Invariant 10: before its first row the sink has a checkpoint that is bound to the state. */
  async #copy({ table, run, ends }: CopyWork, signal: AbortSignal): Promise<How> {
    const { sink, metrics } = this.#parts;
    if (sink.raw === undefined || !this.#takes(table)) return "dropped";
    await this.shapes.prepare(table, signal);
    if (this.position.stored === null) await this.writer.store({}, signal);
    const onRows = (count: number): void => metrics.rowsApplied(sink.name, table.id, "put", count);
    const how = await run(sink.raw, onRows, signal);
    if (how === "failed") {
      this.shapes.reopen();
      await this.writer.reopen(signal);
    }
    if (how !== "copied") return "dropped";
    await this.#end(ends, signal);
    return "durable";
  }

  async #truncate({ table, version, record, until }: TruncateWork, signal: AbortSignal): Promise<void> {
    if (comparePositions(until, this.position.reached) <= 0) return;
    if (this.#parts.tables.wants(table)) {
      await this.shapes.prepare(table, signal);
      const checkpoint = { ...this.position.checkpoint, position: until };
      await this.writer.apply({ kind: "truncate", table, version, record, checkpoint }, signal);
      this.#parts.metrics.rowsApplied(this.#parts.sink.name, table.id, "truncate", 1);
    } else {
      await this.#skip([table], signal);
    }
    this.position.cover(until);
  }

  async #rows(
    taken: QueuedRowWorks,
    ahead: CompactedAhead | null,
    passed: Set<Work>,
    signal: AbortSignal,
  ): Promise<void> {
    const { reached, checkpoint } = this.position;
    const queued = queuedRowsOf(taken.works, reached, this.#parts.sink.form);
    if (queued === null) return;
    passed.clear();
    await this.#compact(queued, ahead, queued.until ?? checkpoint.position, signal, async () => {
      const complete = taken.complete.filter((work) => this.#isWanted(work, passed));
      // A table without rows gets its target too.
      await this.#prepare(
        complete.map(({ table }) => table),
        signal,
      );
      return complete;
    });
    if (queued.until !== null) this.position.cover(queued.until);
  }

  async #prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const attempted = this.writer.attempted;
    await this.shapes.prepareAll(tables, signal);
    this.writer.attempted = attempted;
  }

  /** Skips a table that has a later shape, or is suspended by now. */
  #isWanted(work: SweepWork | CompleteWork, passed: Set<Work>): boolean {
    const isWanted = this.#takes(work.table);
    if (!isWanted) passed.add(work);
    return isWanted;
  }

  get #isFirst(): boolean {
    return this.#parts.sink.storesFirst === true && this.position.stored === null;
  }

  #takes(table: TableVersion): boolean {
    return !this.shapes.isOutdated(table) && this.#parts.tables.wants(table);
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
    const compacted = this.prefetch.compacted(queued, ahead);
    if (await this.#suspended(compacted)) return await this.#compact(queued, null, position, signal, complete);
    const truncates = queued.truncates.filter(({ table }) => this.#parts.tables.wants(table));
    const passedOver = queued.truncates.flatMap(({ table }) => (this.#parts.tables.wants(table) ? [] : [table]));
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
    this.writer.attempted = written.length === 1 ? { kind: "table", tableId: written[0]!.id } : null;
    await this.#prepare(written, signal);
    const ended = await complete();
    this.writer.attempted = { kind: "rows", tables, truncates };
    const { reached, checkpoint } = this.position;
    const batch = {
      kind: "rows",
      ...(truncates.length === 0 ? {} : { truncates }),
      tables,
      order,
      checkpoint: { ...this.shapes.completed(checkpoint, ended), position },
    } as const;
    const end = comparePositions(position, reached) > 0 ? position : reached;
    const begunMs = measuredNow();
    await this.prefetch.during(end, (onWaiting) => this.writer.apply(batch, signal, onWaiting));
    this.writer.attempted = null;
    this.shapes.noteComplete(ended);
    const { metrics, sink } = this.#parts;
    for (const { table } of truncates) metrics.rowsApplied(sink.name, table.id, "truncate", 1);
    measureBatch(metrics, sink.name, tables, begunMs);
    await this.#parts.deadLetters.supersede(tables, compacted.unplaced);
    compacted.release();
  }

  /** Invariant: the sink forgets that it holds a table before it passes a change of the table that it skips. */
  async #skip(skipped: Iterable<Pick<TableVersion, "id">>, signal: AbortSignal): Promise<void> {
    await this.forget(new Set(Array.from(skipped, ({ id }) => id)), signal);
  }

  /** Invariant: what a history or a stream lacks from here on is stored before. */
  async forget(ids: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    const { sink, tables } = this.#parts;
    const held = new Set([...ids].filter((id) => this.position.holds(id)));
    const passed = [...ids].filter((id) => (held.has(id) || !this.#passed.has(id)) && tables.misses(id));
    for (const id of passed) this.#passed.add(id);
    if (passed.length > 0) await loseChanges({ ...this.#parts, worker: { sink } }, passedOver(passed));
    if (held.size === 0) return;
    await this.writer.store({ tables: withoutTables(this.position.tables, held) }, signal);
    tables.changed();
  }

  /** Suspends the tables that can't be compacted. True: there were some, and the others must be compacted again. */
  async #suspended({ unkeyed, failed }: Compacted): Promise<boolean> {
    const { tables, logger } = this.#parts;
    for (const { id } of unkeyed) await tables.suspend(id, ambiguousKey(id, "null"));
    for (const [{ id }, error] of failed) {
      logger.error({ table: id, error }, "a table's changes could not be processed: it is suspended");
      await tables.suspend(id, internalFailure(id, error));
    }
    return unkeyed.length > 0 || failed.size > 0;
  }
}
