import type { SinkProgress, Step, TableWrites } from "../model/batch.ts";
import type { Inspection } from "./comparing.ts";
import type { MillraceError } from "../errors.ts";
import type { TableVersion } from "../model/schema.ts";

/**
 * What a target keeps of a table, and so what a step of rows holds:
 * - `mirror`: the rows as they are now. A step has the net effect of its changes, at most one entry per key.
 * - `history`: every change as an entry of its own, in the order of the log, table by table.
 * - `stream`: the same, to be handed on: `Step.order` gives the commit order over all tables. A transaction is whole once a
 *   step's progress lies behind its commit. The target need not find a row by its key.
 */
export type SinkForm = "mirror" | "history" | "stream";

/**
 * `transactional`: a step and its progress become durable at once, so each effect is there exactly once. `idempotent`: the
 * step is durable first; after a crash it comes again, which a mirror's row versions make harmless, and which readers of a
 * stream tell by position and index.
 */
export type Delivery = "transactional" | "idempotent";

/**
 * A target that takes changes.
 *
 * Guarantees that every sink gives, and that test/conformance checks:
 * 1. When `apply` resolves, the step's entries and then its progress are durable: see `Delivery`. Nothing is lost.
 * 2. A mirror's row is never set back: a write whose version is below the row's version in the sink changes nothing; an
 *    equal version writes.
 * 3. A cell that the log did not carry is never shown as null. A mirror takes it from its row; where that is missing the
 *    entry is left out and given to `outcome.incomplete` before progress is durable. A history and a stream mark it.
 * 4. The fence: before a step changes anything, the stored progress and lease are compared with what this process wrote
 *    last; where another process wrote in between, the step fails with a fatal error and changes nothing (sinks without
 *    transactions: as closely as the target allows; said in the connector's README).
 * 5. A step that fails retryably may be given again, whole, and has the same effect.
 *
 * One step is in flight at a time, and methods are never called concurrently, except `close` and those of `prefetch`,
 * `copies` and `engine`.
 *
 * What not every target can do is a capability: a property that is there or not. Without one the runtime does as it says there.
 */
export interface Sink {
  readonly name: string;
  readonly kind: string;
  readonly form: SinkForm;
  readonly delivery: Delivery;
  /** What is done where it lost what it held, if the configuration says nothing else. A history always fails: it can't be read again. */
  readonly onLost: OnLost;
  /** How much it takes best in one step, where it lies ready and the configuration says nothing else. Default: the runtime's. */
  readonly batch?: { readonly rowCountMax: number; readonly byteCountMax: number };

  /** What the sink calls this table (qualified table, index, key prefix). Needs no connection; two tables must not share one. */
  target(table: Pick<TableVersion, "schema" | "table">): string;

  /**
   * Connects, creates Millrace's own metadata where missing, takes the fence over under lease number `lease` (a higher
   * number wins, a lower one is refused) and returns the progress that the sink holds; null: the sink holds none.
   */
  open(lease: number, signal: AbortSignal): Promise<SinkProgress | null>;

  /** The progress that the sink holds, as `open` returns it; takes nothing over, and makes nothing. At any time, without `open`. */
  look(signal: AbortSignal): Promise<SinkProgress | null>;

  /**
   * Makes the targets ready for rows of these versions, of one table each: creates or extends them. Idempotent, called before
   * the first row of each version in a process. A change that the sink can't follow is a fatal error that names the table
   * (`MillraceError.table`): it is suspended in this sink, and the others are given again. A target that exists without
   * Millrace's columns is refused in the same way. After any other error nothing is known, and each is given by itself.
   */
  prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void>;

  apply(step: Step, outcome: Outcome, signal: AbortSignal): Promise<void>;

  /**
   * Called with each heartbeat while idle: is what we wrote still there? Throws an error of kind `reopen` where the target
   * was emptied or replaced behind our back (index dropped, FLUSHALL, file deleted).
   */
  verify(signal: AbortSignal): Promise<void>;

  /** Removes what the sink keeps for itself in the target; the rows stay. Called after `open`; then it is only closed. */
  forget(signal: AbortSignal): Promise<void>;

  /** Closes connections; a step in flight is abandoned. Idempotent. */
  close(): Promise<void>;

  readonly presence?: TargetPresence;
  readonly rows?: TargetRows;
  readonly evolution?: TargetEvolution;
  readonly prefetch?: StepPrefetch;
  readonly comparison?: TargetComparison;
  readonly copies?: TargetCopies;
  readonly engine?: TargetEngine;
}

/** Tells a target that is gone. Without it a target that was dropped is noticed at its next rows, or by nobody. */
export interface TargetPresence {
  /**
   * Which of these tables the target does not have, under the names and in the form that they would have now. Called after
   * `open`, for tables that the progress says are complete, or of which the sink was given a part: those are read again.
   * What is complete a sink may also take off its progress by itself, in `open`.
   */
  missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]>;
}

/**
 * Finds rows by their versions. Without it rows of an earlier life, in a target that lost its progress, count as none, and
 * what was written by hand stays.
 */
export interface TargetRows {
  /**
   * Removes what no step can have written, from the targets that exist: rows of these tables with a version above
   * `version`, or without one. Afterwards any row from there on can be written under their keys. Called after `open`, on
   * the word of an operator who has a sink filled anew because it was changed by hand.
   */
  expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void>;

  /**
   * The highest version that a row has where this sink writes: in the targets of these tables, or (null) in all that lie there.
   * 0: there is none. Called after `open`, where the sink holds no progress: rows may be left of an earlier life, and no change
   * of this log has any effect on them unless its version is above.
   */
  highestVersion(tables: readonly TableVersion[] | null, signal: AbortSignal): Promise<bigint>;
}

/** Follows some changes of a table's shape with the rows that are there. Without it all rows are read again after each. */
export interface TargetEvolution {
  /**
   * Whether the rows that the target has of `from`, the shape that it followed last, are without being written again what
   * rows of `to` would be that have the same values in the columns that go on, and null in those that are added. Asked
   * before `prepare(to)`; changes nothing.
   */
  carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean>;
}

/** Prepares a step while the target is at work on the one before. Without it each begins when its turn comes. */
export interface StepPrefetch {
  /**
   * The tables of the next step of rows, as far as can be said while `apply` waits for the target with the one before: what
   * they need can be made ready, without the target. A step comes that has just this list, or none that does; a later call is
   * for another step.
   */
  stage(tables: readonly TableWrites[]): void;
}

/** Reads back what the target holds. Without it neither `reconcile` nor `recover` looks into the sink. */
export interface TargetComparison {
  /** Opens a way to read, beside the writes, to compare. Called after `open`. */
  inspect(signal: AbortSignal): Promise<Inspection>;
}

/** For a target that one process at a time has open. Without it `query` asks the target itself. */
export interface TargetCopies {
  /**
   * Makes a copy of what is committed, as of one moment, beside the writes and at any time: a file that the caller queries
   * in another process (`Connector.query`) and removes with its folder. Whoever asks has no share in the writer's memory.
   */
  copy(signal: AbortSignal): Promise<string>;
}

/** For a target whose engine runs in this process. */
export interface TargetEngine {
  /** Memory that the engine counts as its own; null: it is not open. */
  memoryBytes(): Promise<number | null>;
  /** Rows that the target keeps although they are gone: room that it has not given back yet. */
  readonly deadRows: number;
}

/** Of a sink that was emptied, dropped or put back: read everything again, or stop and wait for somebody. */
export type OnLost = "resync" | "fail";

/** One statement that reads, and how much of its answer is wanted. */
export interface QueryRequest {
  readonly sql: string;
  readonly rowCountMax: number;
  /** Of the rows as JSON. */
  readonly byteCountMax: number;
}

export interface QueryResult {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** Values as JSON has them; integers beyond 2^53 and decimals are strings. */
  readonly rows: readonly (readonly unknown[])[];
  /** True where there is more than was asked for. */
  readonly truncated: boolean;
}

/** Where a sink reports on a step. Where a promise is returned the report is durable when it resolves: await it. */
export interface Outcome {
  /** Entries whose base row is missing in the sink; their keys will be read from the source. */
  incomplete(writes: TableWrites, entries: readonly number[]): Promise<void>;
  /** An entry that the target refuses for its content. */
  poison(writes: TableWrites, entry: number, error: MillraceError): Promise<void>;
  /**
   * Nothing is left to do for this step but to wait for the target: there is time for the next one (`stage`). Said any
   * number of times, or never, by a sink that has no such time.
   */
  readonly waiting?: () => void;
}
