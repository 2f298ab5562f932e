import { type Clock, timestamp, scopeOf } from "../../core/clock.ts";
import { findMillraceError, MillraceError } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoint.ts";
import { type Batch, becomesDeadLetter, type TableWrites, type Truncate } from "../../core/model/batch.ts";
import type { Checkpoint } from "../../core/checkpoint.ts";
import { comparePositions, type Position } from "../../core/model/position.ts";
import type { Outcome, Sink } from "../../core/contracts/sink.ts";
import { type StoredError, storedErrorOf } from "../../core/contracts/state-store.ts";
import type { Logger, Metrics } from "../../core/contracts/telemetry.ts";
import { otherThanWritten, unclassified, noAnswer, type SinkTask } from "../errors.ts";
import { kindOf, retryInPlace } from "../retry.ts";
import type { DeadLetterBox } from "./dead-letters.ts";
import type { IncompleteKeys } from "./incomplete-keys.ts";
import { isSame, type SinkPosition } from "./sink-position.ts";

interface BatchWriterParts {
  readonly clock: Clock;
  readonly sink: Sink;
  readonly position: SinkPosition;
  readonly incomplete: IncompleteKeys;
  readonly deadLetters: DeadLetterBox;
  readonly limits: { readonly answerMsMax?: number };
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** What a sink is working on: a failure may concern only one of these tables. */
export type Attempted =
  | { readonly kind: "table"; readonly tableId: string }
  | {
      readonly kind: "rows";
      readonly tables: readonly TableWrites[];
      readonly truncates: readonly Truncate[];
      /** Of the checkpoint that goes with them. */
      readonly position: Position;
    };

/** How long a write may take, unless the configuration says. */
const ANSWER_MS_MAX = 5 * 60_000;
/** A batch that is repeated in place, and done within this time, is not worth a word. */
const UNSAID_MS_MAX = 5_000;

/**
 * Writes batches to one sink, each until it is done or fails for good, and moves the sink's position with them. A sink finds
 * new obligations while it applies a batch. If the batch's checkpoint does not count them, the batch ends and is applied again
 * with a checkpoint that does.
 */
export class BatchWriter {
  readonly #parts: BatchWriterParts;
  readonly position: SinkPosition;
  readonly watch: BatchWatch;
  /** Called whenever the sink was opened again in the middle of its work. */
  onReopened: (signal: AbortSignal) => Promise<void> = async () => undefined;
  /** Null: not known. */
  attempted: Attempted | null = null;
  /** The table that is tried alone; null: none is. */
  tried: string | null = null;
  #writeCount = 0;
  /** Of the batches of rows: the time of those that are done, and when the present one began. */
  #rowsDoneMs = 0;
  #rowsBegunMs: number | null = null;
  #lease = 0;
  /** Why the present batch was tried again, and when it began. */
  #failing: { readonly begunMs: number; readonly error: StoredError } | null = null;

  constructor(parts: BatchWriterParts) {
    const { clock, sink, limits, logger } = parts;
    this.#parts = parts;
    this.position = parts.position;
    this.watch = new BatchWatch({ clock, name: sink.name, answerMsMax: limits.answerMsMax ?? ANSWER_MS_MAX, logger });
  }

  /** Batches done that brought more than a checkpoint. */
  get writeCount(): number {
    return this.#writeCount;
  }

  /** How long batches of rows took that are done, and the present one so far. */
  get ofRows(): { readonly doneMs: number; readonly presentMs: number } {
    const presentMs = this.#rowsBegunMs === null ? 0 : this.#parts.clock.elapsed() - this.#rowsBegunMs;
    return { doneMs: this.#rowsDoneMs, presentMs };
  }

  async open(lease: number, signal: AbortSignal): Promise<Checkpoint | null> {
    this.#lease = lease;
    return await this.watch.bounded("opening", (until) => this.#parts.sink.open(lease, until), signal);
  }

  /** Stores a checkpoint that claims less than the sink's own, before the sink begins. */
  async note(checkpoint: Checkpoint, signal: AbortSignal): Promise<Checkpoint> {
    const bound = await this.position.next(checkpoint);
    const { sink } = this.#parts;
    const batch = { kind: "checkpoint", checkpoint: bound } as const;
    await this.watch.bounded(
      "write",
      (until) =>
        sink.apply(
          batch,
          this.#outcomeOf(async () => {}),
          until,
        ),
      signal,
    );
    this.position.note(bound);
    return bound;
  }

  /** `onWaiting`: see Outcome. */
  async apply(batch: Batch, signal: AbortSignal, onWaiting?: () => void): Promise<void> {
    const { clock, sink, metrics } = this.#parts;
    const startedMs = clock.elapsed();
    let bound = await this.#bound(batch);
    let attempt = 0;
    this.position.attempt(bound.checkpoint);
    if (batch.kind === "rows") this.#rowsBegunMs = startedMs;
    try {
      await this.retrying(signal, async () => {
        if (attempt++ > 0 && (await this.#alreadyDone(bound.checkpoint, signal))) return;
        while (!(await this.#attempt(bound, signal, onWaiting))) bound = await this.#bound(batch);
      });
    } finally {
      this.#rowsDoneMs += this.ofRows.presentMs;
      this.#rowsBegunMs = null;
    }
    failpoint("sink.applied");
    this.position.store(bound.checkpoint);
    if (batch.kind !== "checkpoint" || batch.log !== undefined) this.#writeCount++;
    metrics.batchApplied(sink.name, (clock.elapsed() - startedMs) / 1000);
  }

  async #bound(batch: Batch): Promise<Batch> {
    return { ...batch, checkpoint: await this.position.next(batch.checkpoint) };
  }

  /** False if the batch reported more obligations than its checkpoint counts. */
  async #attempt(bound: Batch, signal: AbortSignal, onWaiting?: () => void): Promise<boolean> {
    let isOutdated = false;
    const look = async (): Promise<void> => {
      isOutdated = await this.position.isOutdated(bound.checkpoint);
      if (isOutdated) throw this.#outdated();
    };
    this.#parts.deadLetters.beginAttempt();
    try {
      await this.#applied(bound, this.#outcomeOf(look, onWaiting), signal);
      return true;
    } catch (error) {
      if (!isOutdated || signal.aborted) throw error;
      return false;
    }
  }

  async #applied(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void> {
    const { sink } = this.#parts;
    const task = batch.kind === "rows" || batch.kind === "checkpoint" ? "write" : "table";
    await this.watch.bounded(task, (until) => sink.apply(batch, outcome, until), signal);
  }

  /** Each report becomes durable first; then `look` checks whether the checkpoint counts it. */
  #outcomeOf(look: () => Promise<void>, waiting?: () => void): Outcome {
    const { deadLetters, incomplete } = this.#parts;
    return {
      incomplete: async (writes, entries) => {
        await incomplete.listEntries(writes, entries);
        await look();
      },
      poison: async (refused) => {
        if (refused.length === 0) return;
        const { letters = [], asked = [] } = Object.groupBy(refused, ({ writes, entry }) =>
          becomesDeadLetter(writes, entry) ? "letters" : "asked",
        );
        for (const [writes, some] of Map.groupBy(asked, ({ writes }) => writes)) {
          const entries = some.map(({ entry }) => entry);
          await incomplete.listEntries(writes, entries);
        }
        for (const { writes, entry, error } of letters) {
          await deadLetters.add(writes, entry, error);
          await incomplete.listAfter(writes, entry);
        }
        await look();
      },
      ...(waiting === undefined ? {} : { waiting }),
    };
  }

  #outdated(): MillraceError {
    const { name } = this.#parts.sink;
    const message = `sink ${name} has more open keys than its checkpoint counts: the batch is applied again`;
    return new MillraceError({ code: "MR1304", kind: "retryable", message });
  }

  /** Stores the sink's checkpoint; parts that are not given stay as they are. */
  async store(checkpoint: Partial<Checkpoint>, signal: AbortSignal): Promise<void> {
    await this.apply({ kind: "checkpoint", checkpoint: { ...this.position.checkpoint, ...checkpoint } }, signal);
  }

  /** Opens the sink again after a failure whose batch is not repeated. */
  async reopen(signal: AbortSignal): Promise<void> {
    await this.retrying(signal, async () => void (await this.#opened(signal)));
  }

  /** `attempted`: of a batch that may have been done. A copy in the sink's place makes the sink begin again. */
  async #opened(signal: AbortSignal, attempted?: Checkpoint): Promise<Checkpoint | null> {
    const { sink } = this.#parts;
    const opened = async (until: AbortSignal): Promise<Checkpoint | null> => {
      const found = await sink.open(this.#lease, until);
      if (!this.position.isOwn(found, attempted)) throw otherThanWritten(sink.name);
      await this.onReopened(until);
      return found;
    };
    return await this.watch.bounded("opening", opened, signal);
  }

  /** Opens the sink again after a failure. If only the answer was lost, the sink's checkpoint shows that the batch is done. */
  async #alreadyDone(attempted: Checkpoint, signal: AbortSignal): Promise<boolean> {
    const found = await this.#opened(signal, attempted);
    const moved = comparePositions(attempted.position, this.position.checkpoint.position) > 0;
    return moved && found !== null && isSame(found, attempted);
  }

  /** Work on targets beside batches, repeated like these. */
  async onTargets(work: (until: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    await this.retrying(signal, () => this.watch.bounded("table", work, signal));
  }

  /** Looks whether the sink still holds what it did. */
  async verify(signal: AbortSignal): Promise<void> {
    const verify = (until: AbortSignal) => this.#parts.sink.verify(until);
    await this.retrying(signal, () => this.watch.bounded("write", verify, signal));
  }

  async retrying(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { clock, sink, metrics, logger } = this.#parts;
    const begunMs = clock.elapsed();
    let since: string | undefined;
    const onRetry = (error: unknown): void => {
      const known = findMillraceError(error) ?? unclassified(sink.name, error);
      const at = timestamp(clock);
      this.#failing = { begunMs, error: storedErrorOf(known, at, (since ??= at)) };
      metrics.sinkError(sink.name, kindOf(error));
      logger.warn({ error }, "a batch failed and is retried");
    };
    try {
      await retryInPlace(clock, work, onRetry, signal);
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

interface BatchWatchParts {
  readonly clock: Clock;
  readonly name: string;
  /** A write of rows that takes longer is given up; other work has a multiple of it. */
  readonly answerMsMax: number;
  readonly logger: Logger;
}

/** How long the work on a whole table takes depends on its size. */
const TIMES: Readonly<Record<SinkTask, number>> = { write: 1, table: 12, opening: 1 };
/** A task that takes this long makes its sink slow. */
const SLOW_MS = 10_000;
/**
 * Each task of a kind that was given up doubles the time of the next one of that kind, so that a slow target gets ahead in
 * the end.
 */
const DOUBLINGS_MAX = 6;

/**
 * Watches what is in flight to one sink. When its time is up, the signal that it was given is aborted: the sink cuts its
 * connection, and is opened again.
 */
export class BatchWatch {
  readonly #parts: BatchWatchParts;
  #begunMs: number | null = null;
  #isLate = false;
  /** By task: how many in a row were given up. */
  readonly #late: Record<SinkTask, number> = { write: 0, table: 0, opening: 0 };

  constructor(parts: BatchWatchParts) {
    this.#parts = parts;
  }

  /** Whether the present task takes long. */
  get isSlow(): boolean {
    return this.#presentMs >= SLOW_MS;
  }

  /** How long the present task goes on without an end; null: it has just begun, or there is none. */
  get unansweredSeconds(): number | null {
    return this.isSlow ? this.#presentMs / 1000 : null;
  }

  get #presentMs(): number {
    return this.#begunMs === null ? 0 : this.#parts.clock.elapsed() - this.#begunMs;
  }

  /**
   * Whether the sink gets no answer: the present task was given up and has not ended, or the last write or opening was given
   * up. After work on a table that was given up, rows flow again until its next attempt.
   */
  get isWedged(): boolean {
    return this.#isLate || this.#late.write > 0 || this.#late.opening > 0;
  }

  /** Whether the present task was given up and goes on all the same: only a restart of the daemon ends it. */
  get isStuck(): boolean {
    return this.#isLate;
  }

  async bounded<T>(task: SinkTask, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    const { clock, name, answerMsMax, logger } = this.#parts;
    const limitMs = answerMsMax * TIMES[task] * 2 ** Math.min(DOUBLINGS_MAX, this.#late[task]);
    using scope = scopeOf(signal);
    this.#begunMs = clock.elapsed();
    const takeBack = clock.after(limitMs, () => {
      this.#isLate = true;
      logger.warn({ task, seconds: limitMs / 1000 }, "the sink gives no answer: its connection is cut");
      scope.end();
    });
    try {
      const result = await work(scope.signal);
      this.#late[task] = 0;
      return result;
    } catch (error) {
      if (!this.#isLate || signal.aborted) throw error;
      this.#late[task]++;
      throw noAnswer({ sink: name, task, ms: limitMs }, error);
    } finally {
      takeBack();
      this.#isLate = false;
      this.#begunMs = null;
    }
  }
}
