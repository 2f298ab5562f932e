import { withoutTables } from "../../core/checkpoint/completeness.ts";
import { scopeOf } from "../../core/clock.ts";
import type { Checkpoint } from "../../core/model/batch.ts";
import { findMillraceError, type MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import type { Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { SinkEntry } from "../../core/contracts/state-store.ts";
import { cannotWrite } from "../errors.ts";
import { Isolation } from "./table-at-fault.ts";
import type { CompactedAhead } from "./prefetch.ts";
import { Applier, type How, type WorkerParts } from "./applier.ts";
import { type BatchLimits, SinkQueue, type QueuedWork } from "../stream/sink-queue.ts";
import type { StoredError } from "../../core/contracts/state-store.ts";
import type { BatchWriter } from "./batch-writer.ts";
import type { BatchWatch } from "./batch-watch.ts";
import type { Work } from "../stream/work.ts";

/** Errors of targets, classified or not. */
const OF_CONNECTORS = /^MR([34]\d{3}|1304)$/;
/** The time that a batch in flight still gets when its sink is stopped, paused or detached. */
const BATCH_GRACE_MS = 5_000;

/** Works off one sink's queue, work by work (applier.ts). A failure that concerns one table suspends only that table. */
export class SinkWorker {
  readonly name: string;
  readonly queue = new SinkQueue();
  readonly #parts: WorkerParts;
  readonly #applier: Applier;
  readonly #batches: BatchWriter;
  /** Everything before it has been put into the queue. */
  #given: Position | null = null;
  #session = 0;
  #busy = false;

  constructor(parts: WorkerParts) {
    this.#parts = parts;
    this.name = parts.sink.name;
    this.#applier = new Applier(parts, this.queue);
    this.#batches = this.#applier.batches;
  }

  get sink(): Sink {
    return this.#parts.sink;
  }

  /** Of the write in flight. */
  /** See `BatchWriter`. */
  get failing(): StoredError | null {
    return this.#batches.failing;
  }

  get watch(): BatchWatch {
    return this.#batches.watch;
  }

  /** What the sink holds; null until `begin`. */
  get checkpoint(): Checkpoint | null {
    return this.#batches.checkpoint;
  }

  /** What the sink itself has made durable; null for a new sink until its first batch. */
  get written(): Checkpoint | null {
    return this.#batches.written;
  }

  get limits(): BatchLimits {
    return this.#parts.limits;
  }

  /** See `SinkQueue`. */
  takeFewerTables(): void {
    this.queue.takeFewerTables(this.limits);
  }

  get writeCount(): number {
    return this.#batches.writeCount;
  }

  /** The batch of the sink's last checkpoint; null if there is none. */
  get batch(): number | null {
    return this.written?.bond.step ?? null;
  }

  /** See `BatchWriter`. */
  get mayHoldUntil(): Position | null {
    return this.#batches.mayHoldUntil;
  }

  /** See `BatchWriter`. */
  get holdsUnknown(): boolean {
    return this.#batches.holdsUnknown;
  }

  /** See `BatchWriter`. */
  get isAtCheckpoint(): boolean {
    return this.#batches.isAtCheckpoint;
  }

  /** See `BatchWriter`. */
  knowEarlier(position: Position): void {
    this.#batches.knowEarlier(position);
  }

  /** Everything before it is done for this sink. */
  get covered(): Position | null {
    return this.#batches.covered;
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
    return await this.#batches.open(lease, signal);
  }

  /** The entry that the sink's checkpoints name from here on. After `open`. */
  enter(entry: SinkEntry): void {
    this.#batches.enter(entry);
  }

  /** A checkpoint of no table: the sink has not stored it yet. */
  first(position: Position): Checkpoint {
    return this.#batches.first(position);
  }

  /**
   * Sets the sink's position before its queue is worked off. `covered` is at or behind `checkpoint.position`. `isNew`: the
   * sink itself does not hold this checkpoint yet.
   */
  begin(checkpoint: Checkpoint, covered: Position, isNew: boolean): void {
    this.#batches.begin(checkpoint, isNew ? null : checkpoint, covered);
    this.#given = null;
    this.#busy = false;
    this.#applier.shapes.begin();
  }

  /** What the sink holds when it is opened, which may be less than before. Before `begin`. */
  stand(checkpoint: Checkpoint, covered: Position): void {
    this.#batches.begin(checkpoint, checkpoint, covered);
  }

  /** Stores a checkpoint that claims less than the sink's own. Before `begin`. */
  async note(checkpoint: Checkpoint, signal: AbortSignal): Promise<void> {
    await this.#batches.note(checkpoint, signal);
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
        const refused = await this.#unanswered(error, asked, question, signal);
        if (refused?.table === undefined || asked.every(({ id }) => id !== refused.table)) throw error;
        await this.#parts.onRefused(refused.table, refused, undefined);
        asked = asked.filter(({ id }) => id !== refused.table);
      }
    }
  }

  /** The failure, if it concerns a single table: the sink answers for the others, or for none at least. */
  async #unanswered(
    error: unknown,
    tables: readonly TableVersion[],
    question: (tables: readonly TableVersion[]) => Promise<unknown>,
    signal: AbortSignal,
  ): Promise<MillraceError | null> {
    const known = findMillraceError(error);
    if (known?.kind !== "fatal" || known.table !== undefined) return known?.kind === "fatal" ? known : null;
    if (!OF_CONNECTORS.test(known.code)) return null;
    const failing: MillraceError[] = [];
    for (const some of [[], ...tables.map((table) => [table])]) {
      try {
        await question(some);
      } catch (failure) {
        signal.throwIfAborted();
        const [table] = some;
        const own = findMillraceError(failure);
        if (table === undefined || own?.kind !== "fatal") return null;
        failing.push(cannotWrite(this.name, table.id, own));
      }
    }
    return failing.length === tables.length && tables.length > 1 ? null : (failing[0] ?? null);
  }

  /** Everything before `position` is in the queue; when the queue is worked off, it is done for this sink. */
  cover(position: Position): void {
    this.#given = position;
    this.#coverGiven();
  }

  #coverGiven(): void {
    if (!this.idle || this.#given === null || this.#batches.covered === null) return;
    this.#batches.cover(this.#given);
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

  /** Waits so long, or until a full batch waits. */
  async #filled(ms: number, signal: AbortSignal): Promise<void> {
    const { clock, limits } = this.#parts;
    const { signal: waiting, end } = scopeOf(signal);
    try {
      await Promise.race([clock.sleep(ms, waiting), this.queue.waitFull(limits, waiting)]);
    } finally {
      end();
    }
  }

  #delayMs(begunMs: number): number {
    const { clock, limits } = this.#parts;
    return this.queue.isFull(limits) ? 0 : begunMs + (limits.delayMs ?? 0) - clock.elapsed();
  }

  /**
   * Invariant: a failure that concerns one table suspends only that table. Each retry therefore fails with another table at
   * most.
   */
  async #work(taken: QueuedWork, ahead: CompactedAhead | null, passed: Set<Work>, signal: AbortSignal): Promise<How> {
    for (;;) {
      try {
        return await this.#applier.perform(taken, ahead, passed, signal);
      } catch (error) {
        const refused = await this.#blamed(error, signal);
        if (refused?.table === undefined || this.#parts.leavesOut(refused.table)) throw error;
        await this.#parts.onRefused(refused.table, refused, this.#applier.shapes.tried(refused.table));
        failpoint("sink.table-suspended");
        await this.#withdraw(refused.table, signal);
      }
    }
  }

  /** The failure, if it concerns a single table; null: it concerns the whole sink, or it may pass. */
  async #blamed(error: unknown, signal: AbortSignal): Promise<MillraceError | null> {
    const known = findMillraceError(error);
    const attempted = this.#applier.attempted;
    this.#applier.attempted = null;
    if (known === undefined || known.kind === "aborted" || signal.aborted) return null;
    const isolation = new Isolation(this.sink, this.#batches, this.#parts.logger);
    if (known.table !== undefined) {
      if (known.kind === "fatal") return known;
      const mayPass = known.kind === "blocked" || known.kind === "retryable";
      return mayPass && (await isolation.takes(signal)) ? cannotWrite(this.name, known.table, known) : null;
    }
    const isOfTable = known.kind === "fatal" || (known.kind === "blocked" && known.reason === "privilege");
    if (attempted === null || !isOfTable || !OF_CONNECTORS.test(known.code)) return null;
    const guilty = await isolation.guilty(attempted, known, signal);
    return guilty === null ? null : cannotWrite(this.name, guilty.tableId, guilty.error);
  }

  /** Invariant: the sink forgets that it holds the table before a change of the table is skipped. */
  async #withdraw(tableId: string, signal: AbortSignal): Promise<void> {
    this.#applier.shapes.reopen();
    await this.#batches.reopen(signal);
    const held = this.#batches.held.tables;
    const tables = withoutTables(held, new Set([tableId]));
    if (tables !== held) await this.#batches.store({ tables }, signal);
  }
}
