import { scopeOf } from "../../core/clock.ts";
import type { Checkpoint } from "../../core/checkpoint.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import { type BatchLimits, type QueuedWork, SinkQueue, type Work } from "../stream/sink-queue.ts";
import { Applier, type How, type WorkerParts } from "./applier.ts";
import type { Attempted, BatchWriter } from "./batch-writer.ts";
import type { CompactedAhead } from "./prefetch.ts";
import type { SinkPosition } from "./sink-position.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import type { Logger } from "../../core/contracts/telemetry.ts";
import { cannotWrite, UNCLASSIFIED } from "../errors.ts";
import type { Refusal } from "../schema/suspended-tables.ts";

/** The time that a batch in flight still gets when its sink is stopped, paused or detached. */
const BATCH_GRACE_MS = 5_000;

/** Works off one sink's queue, work by work (applier.ts). A failure that concerns one table suspends only that table. */
export class SinkWorker {
  readonly name: string;
  readonly sink: Sink;
  readonly limits: BatchLimits;
  readonly queue = new SinkQueue();
  readonly position: SinkPosition;
  readonly writer: BatchWriter;
  readonly #parts: WorkerParts;
  readonly #applier: Applier;
  readonly #fault: TableAtFault;
  /** Everything before it has been put into the queue. */
  #given: Position | null = null;
  #session = 0;
  #busy = false;
  /** See `beat`. */
  #hasBeat = false;

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    this.name = parts.sink.name;
    this.sink = parts.sink;
    this.limits = parts.limits;
    this.#applier = new Applier(parts, this.queue);
    this.position = this.#applier.position;
    this.writer = this.#applier.writer;
    this.#fault = new TableAtFault(parts.sink, this.writer, parts.logger);
  }

  /**
   * The number changes when the sink is dropped from its fan-out. Receipts from before then prove nothing about what it holds.
   */
  get session(): number {
    return this.#session;
  }

  /** True when nothing waits and nothing is in flight. */
  get idle(): boolean {
    return !this.#busy && this.#applier.prefetch.isEmpty && this.queue.length === 0;
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#applier.shapes.reopen();
    return await this.writer.open(lease, signal);
  }

  /**
   * Sets the sink's position before its queue is worked off. `covered` is at or behind `checkpoint.position`. `isStored`: the
   * sink itself holds this checkpoint.
   */
  begin(checkpoint: Checkpoint, covered: Position, isStored = true): void {
    this.position.begin(checkpoint, covered, isStored);
    this.#given = null;
    this.#busy = false;
    this.#hasBeat = false;
    this.#applier.shapes.begin();
  }

  /** Removes rows that no batch can have written. Before `begin`. */
  async expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void> {
    await this.ask(tables, async (some) => await this.sink.rows?.expel(some, version, signal), signal);
  }

  /** Asks the sink about these tables. One that it can't answer for is suspended in it, and the answer is about the others. */
  async ask<T>(
    tables: readonly TableVersion[],
    question: (tables: readonly TableVersion[]) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    let asked = tables;
    for (;;) {
      try {
        return await question(asked);
      } catch (error) {
        signal.throwIfAborted();
        const refusals = await this.#fault.ofQuestion(error, asked, question, signal);
        const refused = refusals.filter(({ table }) => asked.some(({ id }) => id === table));
        if (refused.length === 0) throw error;
        await this.#parts.tables.refuse(refused.map((failure) => ({ tableId: failure.table!, failure })));
        asked = asked.filter(({ id }) => refused.every(({ table }) => table !== id));
      }
    }
  }

  /** See `TargetShapes.lost`. A table of which the sink does not answer, or which it may not take back, is suspended in it. */
  async lost(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return await this.ask(tables, async (some) => await this.#applier.shapes.lost(some, signal), signal);
  }

  /** A heartbeat comes while it is busy: before its next work it looks whether its targets are still there. */
  beat(): void {
    this.#hasBeat = true;
  }

  /** See `TargetShapes`. */
  get hasToRelease(): boolean {
    return this.#applier.shapes.hasToRelease;
  }

  /** Everything before `position` is in the queue; when the queue is worked off, it is done for this sink. */
  cover(position: Position): void {
    this.#given = position;
    this.#coverGiven();
  }

  #coverGiven(): void {
    if (!this.idle || this.#given === null || this.position.covered === null) return;
    this.position.cover(this.#given);
    this.#parts.news.tell();
  }

  /** Drops waiting works. A batch in flight may still end. */
  drop(): void {
    this.#session++;
    this.#given = null;
    this.#applier.prefetch.drop();
    this.queue.clear();
  }

  /**
   * Works off the queue until aborted, or until a batch fails for good. After an abort, a batch in flight gets some time to
   * end.
   */
  async run(signal: AbortSignal): Promise<never> {
    const batch = new AbortController();
    let takeBack = (): void => undefined;
    const onAbort = (): void => {
      takeBack = this.#parts.clock.after(BATCH_GRACE_MS, () => batch.abort(signal.reason));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await this.#run(signal, batch.signal);
    } finally {
      signal.removeEventListener("abort", onAbort);
      takeBack();
      this.#applier.prefetch.drop();
    }
  }

  async #run(signal: AbortSignal, batchSignal: AbortSignal): Promise<never> {
    let begunMs = -Infinity;
    for (;;) {
      if (this.#applier.prefetch.isEmpty) {
        await this.queue.wait(signal);
        const waitMs = this.#delayMs(begunMs);
        if (waitMs > 0) await this.#filled(waitMs, signal);
      }
      begunMs = this.#parts.clock.elapsed();
      // The queue may have been cleared, and filled again from another position, since it woke this worker.
      signal.throwIfAborted();
      const prepared = this.#applier.prefetch.take();
      if (prepared === null && this.queue.length === 0) continue;
      const taken = prepared?.taken ?? this.queue.take(this.#parts.limits);
      this.#busy = true;
      let how: How = "dropped";
      const passed = new Set<Work>();
      try {
        const hasBeat = this.#hasBeat && taken.kind !== "heartbeat";
        this.#hasBeat = false;
        if (hasBeat) await this.#work({ kind: "heartbeat" }, null, passed, batchSignal);
        how = await this.#work(taken, prepared?.ahead ?? null, passed, batchSignal);
        // Invariant: after a failure nothing is covered until the sink begins again, because dropped works lie before it.
        this.#busy = false;
      } finally {
        this.queue.done(taken, how, passed);
        this.#parts.news.tell();
      }
      this.#coverGiven();
    }
  }

  /** Waits so long, or until the next batch can't grow any more. */
  async #filled(ms: number, signal: AbortSignal): Promise<void> {
    const { clock, limits } = this.#parts;
    const { signal: waiting, end } = scopeOf(signal);
    try {
      await Promise.race([clock.sleep(ms, waiting), this.queue.waitGrown(limits, waiting)]);
    } finally {
      end();
    }
  }

  #delayMs(begunMs: number): number {
    const { clock, limits } = this.#parts;
    return this.queue.isGrown(limits) ? 0 : begunMs + (limits.delayMs ?? 0) - clock.elapsed();
  }

  /**
   * Invariant: a failure that concerns some tables suspends only those. Each retry therefore fails with other tables at most.
   */
  async #work(taken: QueuedWork, ahead: CompactedAhead | null, passed: Set<Work>, signal: AbortSignal): Promise<How> {
    const leftOut = new Set<string>();
    const withdrawn = new Set<string>();
    for (;;) {
      try {
        // Here too, because the sink, once it is opened again, may tell of further tables.
        if (withdrawn.size > 0) await this.#withdraw(withdrawn, signal);
        withdrawn.clear();
        return await this.#applier.perform(taken, ahead, passed, signal);
      } catch (error) {
        const refused = new Map<string, MillraceError>();
        for (const one of await this.#fault.ofWork(error, signal))
          if (one.table !== undefined) refused.set(one.table, one);
        // The sink may tell late of changes that it took before.
        const isNew = (table: string): boolean => !this.#parts.tables.leavesOut(table) || !leftOut.has(table);
        if (![...refused.keys()].some(isNew)) throw error;
        const refusals: Refusal[] = [];
        for (const [tableId, failure] of refused) {
          if (this.#parts.tables.leavesOut(tableId)) leftOut.add(tableId);
          else refusals.push({ tableId, failure, shape: this.#applier.shapes.tried(tableId) });
        }
        await this.#parts.tables.refuse(refusals);
        failpoint("sink.table-suspended");
        for (const tableId of refused.keys()) withdrawn.add(tableId);
      }
    }
  }

  /** Invariant: the sink forgets that it holds a table before a change of the table is skipped. */
  async #withdraw(tableIds: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
    this.#applier.shapes.reopen();
    await this.writer.reopen(signal);
    await this.#applier.forget(tableIds, signal);
  }
}

interface Guilty {
  readonly tableId: string;
  readonly error: MillraceError;
}

/** A failure of the target: its connector's, or one that the connector does not know. */
function isOfTarget({ connector, code }: MillraceError): boolean {
  return connector?.side === "sink" || code === UNCLASSIFIED;
}

/** Whether it may be one table's although the sink goes on: what a login may not do, or what its error says of a table. */
function mayBeOfTable({ kind, reason, table }: MillraceError): boolean {
  return kind === "fatal" || (kind === "blocked" && (reason === "privilege" || table !== undefined));
}

/** Finds the one table that made a sink fail, by testing what the sink can still do without it. */
class TableAtFault {
  readonly #sink: Sink;
  readonly #writer: BatchWriter;
  readonly #logger: Logger;

  constructor(sink: Sink, writer: BatchWriter, logger: Logger) {
    this.#sink = sink;
    this.#writer = writer;
    this.#logger = logger;
  }

  /** The failures of a work that concern a table each; none: the failure concerns the whole sink, or it may pass. */
  async ofWork(error: unknown, signal: AbortSignal): Promise<readonly MillraceError[]> {
    try {
      return await this.#ofWork(error, signal);
    } catch (thrown) {
      // The work is tried again without these first.
      const known = findMillraceError(thrown);
      if (known?.reason !== "taken") throw thrown;
      return [known, ...known.further];
    }
  }

  async #ofWork(error: unknown, signal: AbortSignal): Promise<readonly MillraceError[]> {
    const known = findMillraceError(error);
    const { attempted } = this.#writer;
    this.#writer.attempted = null;
    if (known === undefined || known.kind === "aborted" || signal.aborted) return [];
    if (known.table !== undefined) {
      const failures = [known, ...known.further];
      const fatal = failures.filter(({ kind }) => kind === "fatal");
      const mayPass = failures.filter(({ kind }) => kind === "blocked" || kind === "retryable");
      if (mayPass.length === 0 || !(await this.#takes(signal))) return fatal;
      return [...fatal, ...mayPass.map((one) => cannotWrite(this.#sink.name, one.table!, one))];
    }
    if (attempted === null || !mayBeOfTable(known) || !isOfTarget(known)) return [];
    const guilty = await this.#guilty(attempted, known, signal);
    return guilty.map(({ tableId, error: cause }) => cannotWrite(this.#sink.name, tableId, cause));
  }

  /** The failures of a question that concern a single table each: the sink answers for the others, or for none at least. */
  async ofQuestion(
    error: unknown,
    tables: readonly TableVersion[],
    question: (tables: readonly TableVersion[]) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<readonly MillraceError[]> {
    const known = findMillraceError(error);
    if (known?.kind === "fatal" && known.table !== undefined) return [known, ...known.further];
    if (known === undefined || !mayBeOfTable(known) || !isOfTarget(known)) return [];
    const failing: MillraceError[] = [];
    for (const some of [[], ...tables.map((table) => [table])]) {
      try {
        await question(some);
      } catch (failure) {
        signal.throwIfAborted();
        const [table] = some;
        const own = findMillraceError(failure);
        if (table === undefined || own === undefined || !mayBeOfTable(own)) return [];
        failing.push(cannotWrite(this.#sink.name, table.id, own));
      }
    }
    return failing.length === tables.length && tables.length > 1 ? [] : failing;
  }

  /** Whether the sink accepts any write at all. */
  async #takes(signal: AbortSignal): Promise<boolean> {
    return (await this.#failure(() => this.#writer.store({}, signal), signal)) === null;
  }

  /** None if the failure concerns the whole sink: it accepts nothing, or none of several tables, or each of them alone. */
  async #guilty(attempted: Attempted, error: MillraceError, signal: AbortSignal): Promise<readonly Guilty[]> {
    if (!(await this.#takes(signal))) return [];
    if (attempted.kind === "table") return [{ tableId: attempted.tableId, error }];
    const writes = new Map(attempted.tables.map((own) => [own.table.id, own]));
    const truncates = Map.groupBy(attempted.truncates, ({ table }) => table.id);
    const tableIds = [...new Set([...truncates.keys(), ...writes.keys()])];
    if (tableIds.length === 1) return [{ tableId: tableIds[0]!, error }];
    // A stream would show these trial rows out of order, and a second time with the batch.
    if (this.#sink.form === "stream") return [];
    await this.#writer.position.exceed(attempted.position);
    const refused: Guilty[] = [];
    for (const tableId of tableIds) {
      this.#writer.tried = tableId;
      const own = writes.get(tableId);
      // The sink's position stays the same, so applying these a second time changes nothing.
      const batch = {
        kind: "rows",
        truncates: truncates.get(tableId) ?? [],
        tables: own === undefined ? [] : [own],
        checkpoint: this.#writer.position.checkpoint,
      } as const;
      try {
        const failure = await this.#failure(() => this.#writer.apply(batch, signal), signal);
        if (failure !== null) refused.push({ tableId, error: failure });
      } finally {
        this.#writer.tried = null;
      }
    }
    const ids = refused.map(({ tableId }) => tableId);
    this.#logger.warn({ refused: ids, tables: tableIds.length }, "a batch failed: its tables were tried one by one");
    return refused.length === tableIds.length ? [] : refused;
  }

  async #failure(work: () => Promise<void>, signal: AbortSignal): Promise<MillraceError | null> {
    try {
      await this.#writer.reopen(signal);
      await work();
      return null;
    } catch (error) {
      signal.throwIfAborted();
      const known = findMillraceError(error);
      // The sink has to be opened again, and what it says that it lost is for those who do that. What was taken over is none that
      // the trial is about.
      if (known === undefined || known.kind === "reopen" || known.reason === "taken") throw error;
      return known;
    }
  }
}
