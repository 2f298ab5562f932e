import { type Clock, measuredNow } from "../../core/clock.ts";
import { findMillraceError } from "../../core/errors.ts";
import { mayBeLeftOut } from "../../core/model/block.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { News } from "../../core/waiting.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../../core/contracts/telemetry.ts";
import { isOfShape, withoutTables } from "../../core/checkpoint.ts";
import { ambiguousKey, internalFailure } from "../errors.ts";
import type { Compacted, Slice } from "../compaction/compaction.ts";
import {
  type BatchLimits,
  type CompareWork,
  type CompleteWork,
  type CopyWork,
  type NoticeWork,
  type QueuedCarries,
  type QueuedChunks,
  type QueuedEnds,
  type QueuedRows,
  queuedRowsOf,
  type QueuedRowWorks,
  type QueuedWork,
  type SinkQueue,
  type SweepWork,
  type TableEnd,
  type TruncateWork,
  type Work,
} from "../stream/sink-queue.ts";
import { BatchWriter } from "./batch-writer.ts";
import { CarriedCopies, TargetShapes } from "./target-shapes.ts";
import type { DeadLetterBox } from "./dead-letters.ts";
import { IncompleteKeys } from "./incomplete-keys.ts";
import { type CompactedAhead, Prefetch } from "./prefetch.ts";
import { loseChanges, passedOver, SinkPosition } from "./sink-position.ts";
import type { SinkTableAnswers } from "./sink-tables.ts";
import type { LogEntry, TableWrites } from "../../core/model/batch.ts";

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
    this.writer.onReopened = (signal) => this.shapes.reopened(signal);
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
      case "carries":
        await this.#carries(taken, passed, signal);
        break;
      case "notice":
        return await this.#notice(taken, signal);
      case "heartbeat":
        await this.writer.verify(signal);
        await this.shapes.verify(this.#parts.tables.named, signal);
        await this.shapes.release(signal);
        if (this.position.isBeyondCheckpoint || this.#isFirst)
          await this.writer.store({ position: this.position.reached }, signal);
        break;
      default:
        taken satisfies never;
    }
    return "durable";
  }

  async #notice({ entries }: NoticeWork, signal: AbortSignal): Promise<How> {
    const lost = entries.flatMap((entry) => (entry.kind === "lost" ? [{ id: entry.tableId }] : []));
    if (lost.length === 0) return "dropped";
    await this.#skip(lost, signal);
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
    const slices = fitting.map(({ block, from, to }) => ({ block, from, to }));
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

  async #carries({ works }: QueuedCarries, passed: Set<Work>, signal: AbortSignal): Promise<void> {
    passed.clear();
    const wanted = works.filter(({ table }) => this.#takes(table));
    const carried = await this.shapes.carry(wanted, signal);
    for (const work of works) if (!carried.has(work)) passed.add(work);
  }

  /** Deletes the rows that the snapshot did not see, and marks the tables complete. */
  async #end(works: readonly TableEnd[], signal: AbortSignal): Promise<void> {
    const tables = new Set(works.map(({ table }) => table));
    await this.#prepare([...tables], signal);
    const sweeps = works.filter((work) => work.kind === "sweep");
    const complete = works.filter((work) => work.kind === "complete");
    if (sweeps.length === 0) return await this.shapes.complete(complete, signal);
    const checkpoint = this.shapes.completed(this.position.checkpoint, complete);
    for (const { table, below } of sweeps) await this.#parts.deadLetters.empties(table, below);
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
      await this.#parts.deadLetters.empties(table, version);
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
    const tables = await this.#incomplete.withoutUnsure(compacted.tables, signal);
    const truncates = queued.truncates.filter(({ table }) => this.#parts.tables.wants(table));
    const passedOver = queued.truncates.flatMap(({ table }) => (this.#parts.tables.wants(table) ? [] : [table]));
    await this.#skip([...compacted.skipped, ...passedOver], signal);
    // Invariant: a key is listed durably before the checkpoint passes its change.
    if (compacted.untold.length > 0) await this.#incomplete.list(compacted.untold);
    for (const row of compacted.unplaced) await this.#parts.deadLetters.updateUnplaced(row);
    const { order } = compacted;
    if (tables.length + truncates.length === 0) {
      compacted.release();
      return await this.shapes.complete(await complete(), signal);
    }
    await this.#incomplete.listDoubtful(tables);
    const written = [...new Set([...truncates, ...tables].map(({ table }) => table))];
    this.writer.attempted = written.length === 1 ? { kind: "table", tableId: written[0]!.id } : null;
    await this.#prepare(written, signal);
    const ended = await complete();
    this.writer.attempted = { kind: "rows", tables, truncates, position };
    const { reached, checkpoint } = this.position;
    const batch = {
      kind: "rows",
      ...(truncates.length === 0 ? {} : { truncates }),
      tables,
      order,
      checkpoint: { ...this.shapes.completed(checkpoint, ended), position },
    } as const;
    const end = comparePositions(position, reached) > 0 ? position : reached;
    for (const { table, version } of truncates) await this.#parts.deadLetters.empties(table, version);
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

interface LogPassingParts {
  readonly writer: BatchWriter;
  readonly tables: SinkTableAnswers;
}

/**
 * Gives a sink of form `log` the log as it is. Changes of a table that is suspended are left out, and the sink is told that
 * they are lost: a reader then reads the table again.
 */
class LogPassing {
  readonly #parts: LogPassingParts;
  /**
   * The configuration changes between two processes: the first batch of each says which rules are in force, and which tables
   * are left out. The source may show nothing of these.
   */
  #hasTold = false;

  constructor(parts: LogPassingParts) {
    this.#parts = parts;
  }

  async perform(taken: QueuedWork, signal: AbortSignal): Promise<"durable" | "dropped"> {
    switch (taken.kind) {
      case "rows":
        await this.#rows(taken, signal);
        return "durable";
      case "truncate":
        await this.#truncate(taken, signal);
        return "durable";
      case "notice":
        await this.#notice(taken, signal);
        return "durable";
      case "heartbeat":
        await this.#heartbeat(signal);
        return "durable";
      case "chunks":
      case "ends":
      case "carries":
      case "compare":
      case "copy":
        // What does not come from the log.
        return "dropped";
      default:
        return taken satisfies never;
    }
  }

  async #rows({ works }: QueuedRowWorks, signal: AbortSignal): Promise<void> {
    const batch = queuedRowsOf(works, this.#parts.writer.position.reached, "log");
    if (batch?.until == null) return;
    const lost = new Set<string>();
    const entries = batch.slices.flatMap((slice) => this.#wanted(slice, lost));
    await this.#pass([...entries, ...lossesOf(lost)], batch.until, signal);
  }

  /**
   * The runs of rows that are passed on; the tables of the others are added to `lost`. Invariant: no key of a row is told that a
   * filter may have left out all along. Rules suspend such a table; they may see only now that the source logs less.
   */
  #wanted({ block, from, to }: Slice, lost: Set<string>): readonly LogEntry[] {
    const isWanted = block.tables.map((table) => this.#parts.tables.wants(table));
    const hides = block.tables.map(({ ruled }) => ruled?.filtered === true && ruled.filteredByKey !== true);
    if (!hides.some(Boolean) && isWanted.every(Boolean)) return [{ kind: "rows", block, from, to }];
    const mayTell = (row: number): boolean => {
      const table = block.table[row]!;
      return isWanted[table]! && !(hides[table]! && mayBeLeftOut(block, row));
    };
    const runs: LogEntry[] = [];
    let start = from;
    for (let row = from; row <= to; row++) {
      if (row < to && mayTell(row)) continue;
      if (start < row) runs.push({ kind: "rows", block, from: start, to: row });
      if (row < to) lost.add(block.tables[block.table[row]!]!.id);
      start = row + 1;
    }
    return runs;
  }

  async #truncate({ table, version, record, until }: TruncateWork, signal: AbortSignal): Promise<void> {
    const { writer, tables } = this.#parts;
    if (comparePositions(until, writer.position.reached) <= 0) return;
    const entry: LogEntry = tables.wants(table)
      ? { kind: "truncate", table, version, record }
      : { kind: "lost", tableId: table.id };
    await this.#pass([entry], until, signal);
  }

  /** A mark at the sink's own position may be there already; twice at one position does no harm. */
  async #notice({ entries, until }: NoticeWork, signal: AbortSignal): Promise<void> {
    const { reached } = this.#parts.writer.position;
    if (until !== null && comparePositions(until, reached) < 0) return;
    await this.#pass(entries, until ?? reached, signal);
  }

  async #heartbeat(signal: AbortSignal): Promise<void> {
    const { writer } = this.#parts;
    await writer.verify(signal);
    const { position } = writer;
    if (position.isBeyondCheckpoint) await this.#pass([], position.reached, signal);
  }

  async #pass(entries: readonly LogEntry[], until: Position, signal: AbortSignal): Promise<void> {
    const { writer } = this.#parts;
    const { checkpoint } = writer.position;
    const log = { from: checkpoint.position, entries: this.#hasTold ? entries : [...this.#configured(), ...entries] };
    await writer.apply({ kind: "checkpoint", log, checkpoint: { ...checkpoint, position: until } }, signal);
    this.#hasTold = true;
  }

  #configured(): readonly LogEntry[] {
    const { tables } = this.#parts;
    const known = [...tables.known];
    const ruled = known.filter((table) => table.ruled !== undefined);
    const leftOut = known.map(({ id }) => id).filter((id) => tables.leavesOut(id));
    return [...ruled.map((table): LogEntry => ({ kind: "shape", table })), ...lossesOf(leftOut)];
  }
}

function lossesOf(tableIds: Iterable<string>): readonly LogEntry[] {
  return Array.from(tableIds, (tableId) => ({ kind: "lost", tableId }));
}

/**
 * Counts the rows of a durable batch, and measures how long after its commit the newest of them arrived. `begunMs`: when the
 * write began.
 */
function measureBatch(metrics: Metrics, sink: string, tables: readonly TableWrites[], begunMs: number): void {
  if (tables.length === 0) return;
  let newestUs = 0n;
  let arrivedMs = 0;
  for (const writes of tables) {
    const { table, count, deleteCount, patchCount } = writes;
    if (deleteCount > 0) metrics.rowsApplied(sink, table.id, "delete", deleteCount);
    if (patchCount > 0) metrics.rowsApplied(sink, table.id, "patch", patchCount);
    const putCount = count - deleteCount - patchCount;
    if (putCount > 0) metrics.rowsApplied(sink, table.id, "put", putCount);
    const block = writes.blocks[writes.block[count - 1]!]!;
    const timeUs = block.transactions.commitTimeUs[block.tx[writes.row[count - 1]!]!]!;
    if (timeUs > newestUs) {
      newestUs = timeUs;
      ({ arrivedMs } = block);
    }
  }
  const commitMs = Number(newestUs) / 1000;
  const nowMs = measuredNow();
  const seconds = (fromMs: number, toMs: number): number => Math.max(0, toMs - fromMs) / 1000;
  const parts =
    arrivedMs === 0
      ? null
      : {
          source: seconds(commitMs, arrivedMs),
          internal: seconds(arrivedMs, begunMs),
          sink: seconds(begunMs, nowMs),
        };
  metrics.commitToApply(sink, seconds(commitMs, nowMs), parts);
}
