import type { Checkpoint, Batch } from "../../core/model/batch.ts";
import { type Clock, timestamp } from "../../core/clock.ts";
import { findMillraceError, MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { invariant } from "../../core/invariant.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { rowVersion } from "../../core/model/version.ts";
import type { Outcome, Sink, TargetPresence } from "../../core/contracts/sink.ts";
import type { BondStore, SinkEntry, StoredError } from "../../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../../core/contracts/telemetry.ts";
import { CheckpointBond } from "./checkpoint-bond.ts";
import { otherThanWritten, unclassified } from "../errors.ts";
import { kindOf, retryBatch } from "../retry.ts";
import { BatchWatch } from "./batch-watch.ts";

export interface BatchWriterParts {
  readonly clock: Clock;
  readonly sink: Sink;
  readonly bonds: Pick<BondStore, "obligation">;
  readonly outcome: Outcome;
  /** See `BatchWatch`. */
  readonly answerMsMax: number;
  /** An attempt at a batch begins: refusals of rows by an earlier attempt do not count any more. */
  readonly onAttempt: () => void;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** A batch that is repeated in place, and done within this time, is not worth a word. */
const UNSAID_MS_MAX = 5_000;

/** Beyond every position. */
const ANYWHERE: Position = { epoch: Infinity, commit: 0n, index: 0 };

/**
 * Applies batches to one sink, each until it is done or fails for good, and knows the sink's position. `written` is what the
 * sink itself holds. `covered` may be further, if the log had nothing for the sink in between.
 */
export class BatchWriter {
  readonly #parts: BatchWriterParts;
  readonly #bond: CheckpointBond;
  readonly watch: BatchWatch;
  #checkpoint: Checkpoint | null = null;
  #written: Checkpoint | null = null;
  #covered: Position | null = null;
  #writeCount = 0;
  /** See `mayHoldUntil`; undefined until the sink was entered. */
  #mayHoldUntil: Position | null | undefined;
  /** The highest position of a batch that was begun. */
  #attempted: Position | null = null;
  #lease = 0;
  /** Why the present batch was tried again, and when it began. */
  #failing: { readonly begunMs: number; readonly error: StoredError } | null = null;

  constructor(parts: BatchWriterParts) {
    this.#parts = parts;
    this.#bond = new CheckpointBond(parts.sink, parts.bonds);
    this.watch = new BatchWatch({ ...parts, name: parts.sink.name });
  }

  /** What the sink holds; null until `begin`. */
  get checkpoint(): Checkpoint | null {
    return this.#checkpoint;
  }

  /** The same; only after `begin`. */
  get held(): Checkpoint {
    invariant(this.#checkpoint !== null, "a sink's queue is worked only after begin");
    return this.#checkpoint;
  }

  /** What the sink itself has made durable; null for a new sink until its first batch. */
  get written(): Checkpoint | null {
    return this.#written;
  }

  /** Batches done that brought more than a checkpoint. */
  get writeCount(): number {
    return this.#writeCount;
  }

  /** Everything before it is done for this sink; null until `begin`. */
  get covered(): Position | null {
    return this.#covered;
  }

  /**
   * The sink may hold rows of what precedes this position, beyond its checkpoint: of a batch that did not end, here or in an
   * earlier process. Null: it holds none.
   */
  get mayHoldUntil(): Position | null {
    return this.#mayHoldUntil ?? null;
  }

  /** What an earlier process may have written of the log lies anywhere. */
  get holdsUnknown(): boolean {
    return this.#mayHoldUntil === ANYWHERE;
  }

  /** This process has entered the sink, and what the sink holds is what its checkpoint says. */
  get isAtCheckpoint(): boolean {
    return this.#mayHoldUntil === null;
  }

  /** The same; only after `begin`. */
  get reached(): Position {
    invariant(this.#covered !== null, "a sink's queue is worked only after begin");
    return this.#covered;
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#lease = lease;
    return await this.#open(signal);
  }

  async #open(signal: AbortSignal): Promise<Checkpoint | null> {
    return await this.watch.bounded("opening", (until) => this.#parts.sink.open(this.#lease, until), signal);
  }

  /** The entry that the checkpoints name from here on. After `open`, before anything is stored. */
  enter(entry: SinkEntry): void {
    this.#bond.enter(entry);
    // Later entries are this process's own.
    if (this.#mayHoldUntil === undefined)
      this.#mayHoldUntil = entry.wasLeft || this.#parts.sink.delivery === "transactional" ? null : ANYWHERE;
  }

  /** No earlier process has read the log beyond `position`. */
  knowEarlier(position: Position): void {
    if (!this.holdsUnknown) return;
    const attempted = this.#attempted ?? position;
    this.#mayHoldUntil = comparePositions(attempted, position) > 0 ? attempted : position;
    this.#cleared();
  }

  #begun({ position }: Checkpoint): void {
    if (this.#parts.sink.delivery === "transactional") return;
    if (this.#attempted === null || comparePositions(position, this.#attempted) > 0) this.#attempted = position;
    if (this.#mayHoldUntil == null || comparePositions(position, this.#mayHoldUntil) > 0) this.#mayHoldUntil = position;
  }

  #cleared(): void {
    if (this.#mayHoldUntil == null || this.#covered === null) return;
    if (comparePositions(this.#covered, this.#mayHoldUntil) >= 0) this.#mayHoldUntil = null;
  }

  /** A checkpoint of no table: the sink has not stored it yet. */
  first(position: Position): Checkpoint {
    return this.#bond.first(position);
  }

  begin(checkpoint: Checkpoint, written: Checkpoint | null, covered: Position): void {
    this.#checkpoint = checkpoint;
    this.#written = written;
    this.#covered = covered;
  }

  /** Stores a checkpoint that claims less than the sink's own. Before `begin`. */
  async note(checkpoint: Checkpoint, signal: AbortSignal): Promise<void> {
    const bound = await this.#bond.next(checkpoint);
    const { sink, outcome } = this.#parts;
    const batch = { kind: "checkpoint", checkpoint: bound } as const;
    await this.watch.bounded("write", (until) => sink.apply(batch, outcome, until), signal);
    this.#bond.written(bound);
  }

  /** Everything before `position` is done. */
  cover(position: Position): void {
    if (this.#covered === null || comparePositions(position, this.#covered) > 0) this.#covered = position;
    this.#cleared();
  }

  /** `onWaiting`: see Outcome. */
  async apply(batch: Batch, signal: AbortSignal, onWaiting?: () => void): Promise<void> {
    const { clock, sink, metrics } = this.#parts;
    const outcome = onWaiting === undefined ? this.#parts.outcome : { ...this.#parts.outcome, waiting: onWaiting };
    const startedMs = clock.elapsed();
    let bound = await this.#bound(batch);
    let attempt = 0;
    this.#begun(bound.checkpoint);
    await this.retrying(signal, async () => {
      if (attempt++ > 0 && (await this.#alreadyDone(bound, signal))) return;
      while (!(await this.#attempt(bound, outcome, signal))) bound = await this.#bound(batch);
    });
    failpoint("sink.applied");
    this.#bond.written(bound.checkpoint);
    this.#checkpoint = bound.checkpoint;
    this.#written = bound.checkpoint;
    if (batch.kind !== "checkpoint" || batch.log !== undefined) this.#writeCount++;
    this.cover(bound.checkpoint.position);
    metrics.batchApplied(sink.name, (clock.elapsed() - startedMs) / 1000);
  }

  async #bound(batch: Batch): Promise<Batch> {
    return { ...batch, checkpoint: await this.#bond.next(batch.checkpoint) };
  }

  /** False if the batch reported more obligations than its checkpoint counts. */
  async #attempt(bound: Batch, outcome: Outcome, signal: AbortSignal): Promise<boolean> {
    const watched = this.#bond.watch(outcome, bound.checkpoint.bond);
    this.#parts.onAttempt();
    try {
      await this.#applied(bound, watched.outcome, signal);
      return true;
    } catch (error) {
      if (!watched.isOutdated() || signal.aborted) throw error;
      return false;
    }
  }

  async #applied(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const { sink } = this.#parts;
    const task = batch.kind === "rows" || batch.kind === "checkpoint" ? "write" : "table";
    await this.watch.bounded(task, (until) => sink.apply(batch, outcome, until), signal);
  }

  /** Those of these tables whose targets another daemon has prepared since. */
  async foreign(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return await this.#asked((presence, until) => presence.foreign?.(tables, until), signal);
  }

  /** Those of these tables that the target lacks. */
  async missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]> {
    return tables.length === 0 ? [] : await this.#asked((presence, until) => presence.missing(tables, until), signal);
  }

  /** Of a sink that can't tell: nothing. */
  async #asked(
    ask: (presence: TargetPresence, until: AbortSignal) => Promise<readonly TableVersion[]> | undefined,
    signal: AbortSignal,
  ): Promise<readonly TableVersion[]> {
    const { presence } = this.#parts.sink;
    if (presence === undefined) return [];
    let found: readonly TableVersion[] = [];
    await this.#bounded(async (until) => void (found = (await ask(presence, until)) ?? []), signal);
    return found;
  }

  /** Removes rows of these tables that no batch of this sink can have written. */
  async expel(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { rows } = this.#parts.sink;
    const { epoch, commit } = this.held.position;
    await this.#bounded(async (until) => await rows?.expel(tables, rowVersion(epoch, commit), until), signal);
  }

  /** Prepares the targets of these tables for rows of their shapes. */
  async prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void> {
    const { sink } = this.#parts;
    await this.#bounded((until) => sink.prepare(tables, until), signal);
  }

  async #bounded(work: (until: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    await this.retrying(signal, () => this.watch.bounded("table", work, signal));
  }

  /** Looks whether the sink still holds what it did. */
  async verify(signal: AbortSignal): Promise<void> {
    const verify = (until: AbortSignal) => this.#parts.sink.verify(until);
    await this.retrying(signal, () => this.watch.bounded("write", verify, signal));
  }

  /** Stores the sink's checkpoint; parts that are not given stay as they are. */
  async store(checkpoint: Partial<Checkpoint>, signal: AbortSignal): Promise<void> {
    await this.apply({ kind: "checkpoint", checkpoint: { ...this.held, ...checkpoint } }, signal);
  }

  /** Opens the sink again after a failure whose batch is not repeated. */
  async reopen(signal: AbortSignal): Promise<void> {
    await this.retrying(signal, async () => void (await this.#opened(signal)));
  }

  /**
   * `attempted`: the position of a batch that may have been done. Any other than this and the last one is that of a copy that
   * was put in the sink's place: the sink begins again from it.
   */
  async #opened(signal: AbortSignal, attempted?: Position): Promise<Checkpoint | null> {
    const { sink } = this.#parts;
    const held = await this.#open(signal);
    const ours = [this.#written?.position, attempted].filter((position) => position !== undefined);
    const isOurs = held !== null && ours.some((position) => comparePositions(held.position, position) === 0);
    if (this.#written !== null && !isOurs) throw otherThanWritten(sink.name);
    return held;
  }

  /** Opens the sink again after a failure. If only the answer was lost, the sink's checkpoint shows that the batch is done. */
  async #alreadyDone(batch: Batch, signal: AbortSignal): Promise<boolean> {
    const held = await this.#opened(signal, batch.checkpoint.position);
    const moved = comparePositions(batch.checkpoint.position, this.held.position) > 0;
    return moved && held !== null && comparePositions(held.position, batch.checkpoint.position) === 0;
  }

  async retrying(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { clock, sink, metrics, logger } = this.#parts;
    const begunMs = clock.elapsed();
    let since: string | undefined;
    const onRetry = (error: unknown): void => {
      const { code, message, hint = null } = findMillraceError(error) ?? unclassified(sink.name, error);
      const at = timestamp(clock);
      this.#failing = { begunMs, error: { code, message, hint, at, since: (since ??= at) } };
      metrics.sinkError(sink.name, kindOf(error));
      logger.warn({ error }, "a batch failed and is retried");
    };
    try {
      await retryBatch(clock, work, onRetry, signal);
    } catch (error) {
      signal.throwIfAborted();
      metrics.sinkError(sink.name, kindOf(error));
      throw error instanceof MillraceError ? error : unclassified(sink.name, error);
    } finally {
      this.#failing = null;
    }
  }

  /** Why the batch is repeated in place, if that takes so long that somebody may ask. */
  get failing(): StoredError | null {
    const lasts = this.#failing !== null && this.#parts.clock.elapsed() - this.#failing.begunMs > UNSAID_MS_MAX;
    return lasts ? (this.#failing?.error ?? null) : null;
  }
}
