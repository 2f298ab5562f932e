import type { Batch, TableWrites } from "../model/batch.ts";
import type { Checkpoint } from "../checkpoint.ts";
import type { Inspection } from "./comparing.ts";
import type { MillraceError } from "../errors.ts";
import type { Scope, TableVersion } from "../model/schema.ts";
import type { NumberStore, StoredError } from "./state-store.ts";
import type { TargetRawRows } from "./raw-copy.ts";
import type { SourceRelay } from "./source.ts";
import type { Described, Fields } from "../described.ts";
import type { Room } from "../disk-room.ts";

/**
 * What a target keeps of a table, and so what a batch of rows contains:
 * - `mirror`: the rows as they are now. A batch has the net effect of its changes, at most one entry per key.
 * - `history`: every change as a separate entry, in the order of the log, table by table.
 * - `stream`: the same, for passing on: `Batch.order` gives the commit order over all tables. A transaction is complete
 *   once a batch's checkpoint lies after its commit. The target need not find a row by its key.
 * - `log`: the log itself, in the order of the log, for another process whose source it then is (`LogStretch`).
 *   Rows that do not come from the log are not given to it, so no table is ever complete in it.
 */
export type SinkForm = "mirror" | "history" | "stream" | "log";

/**
 * From which rows a reader of a stream can complete a change with unchanged cells: from all that it was shown, only from one
 * under the same key, or from none.
 */
export type ReadersHold = "all" | "same key" | "none";

/**
 * `transactional`: a batch and its checkpoint become durable together, so each effect occurs exactly once. `idempotent`:
 * the batch becomes durable first, and after a crash it is applied again. A mirror's row versions make that harmless;
 * readers of a stream recognise repeated entries by position and index.
 */
export type Delivery = "transactional" | "idempotent";

/**
 * A target that takes changes.
 *
 * Guarantees that every sink gives, and that test/conformance checks:
 * 1. When `apply` resolves, the batch's entries and then its checkpoint are durable: see `Delivery`. Nothing is lost.
 * 2. A mirror never replaces a row by an older one: a write whose version is below the row's version in the sink
 *    changes nothing; an equal version writes.
 * 3. A cell that the log did not carry is never shown as null. A mirror takes it from its row; if that row is missing,
 *    it leaves the entry out and reports it to `outcome.incomplete` before the checkpoint is durable. A history marks it,
 *    unless the filter may have left the row out (`isIfHeld`: as a mirror), and so does a stream whose readers hold the row
 *    (`readersHold`).
 * 4. The fence: before a batch changes anything, the sink compares the stored checkpoint and lease with what this process
 *    wrote last. If another process wrote in between, the batch fails with a fatal error and changes nothing. Sinks
 *    without transactions come as close as the target allows; the connector's README says how close.
 * 5. A batch that fails retryably may be applied again as a whole, with the same effect.
 *
 * One batch is in flight at a time, and methods are never called concurrently, except `close`, `rooms` and those of
 * `prefetch`, `readers`, `copies` and `engine`.
 *
 * What only some targets can do is a capability: an optional property. Each says what the runtime does without it.
 */
export interface Sink {
  readonly name: string;
  readonly kind: string;
  readonly form: SinkForm;
  readonly delivery: Delivery;
  /**
   * What to do after the target lost what it held, if the configuration does not say. A history always fails, because
   * its past can't be read again.
   */
  readonly onLost: OnLost;
  /**
   * The best size of a batch, if enough changes wait and the configuration does not say. Default: the runtime's. `delayMs`:
   * how long after the beginning of one batch the next one begins, unless enough waits to fill it; absent: at once.
   * `hasTruncates`: a batch of rows may empty tables first, or note in a history that they were emptied (for a target that
   * stores a batch in one transaction); absent: a truncate is a batch of its own.
   * `tableCountMax`: of one batch; absent: the target does not mind. After an error with the reason "tables" the runtime
   * gives fewer.
   */
  readonly batchLimits?: {
    readonly rowCountMax: number;
    readonly byteCountMax: number;
    readonly delayMs?: number;
    readonly hasTruncates?: boolean;
    readonly tableCountMax?: number;
  };

  /**
   * The sink's name for this table (qualified table, index, key prefix). Needs no connection; two tables must not share
   * one. Throws a fatal error for a table that can't have a name there; so does `prepare`. No other method is called for it.
   */
  target(table: Pick<TableVersion, "schema" | "table">): string;

  /**
   * How tables with different scopes (`TableVersion.scope`) are kept apart. `rows`: they share a target and its columns, and their
   * key begins with the scope; what empties, sweeps, lists or compares a table's rows leaves those of other scopes alone. `keys`:
   * the same, and each has columns of its own. `names`: the scope is a part of the target's name, and not of the key. Absent: two
   * tables must not share a target.
   */
  readonly scopedBy?: "rows" | "keys" | "names";
  /** What tells the table's rows from those of others in its target, behind the configuration's routes. Absent or null: nothing. */
  scope?(table: Pick<TableVersion, "schema" | "table">): Scope | null;
  /** What else decides where all rows lie. With another text they lie elsewhere. */
  readonly routes?: string;

  /**
   * Connects, creates Millrace's own metadata if missing, takes over the fence under lease number `lease` (a higher
   * number wins, a lower one is refused) and returns the checkpoint that the sink holds; null: it holds none.
   */
  open(lease: number, signal: AbortSignal): Promise<Checkpoint | null>;

  /**
   * The checkpoint that the sink holds, as `open` returns it. Takes nothing over and creates nothing. May be called at
   * any time, without `open`.
   */
  look(signal: AbortSignal): Promise<Checkpoint | null>;

  /**
   * Prepares the targets for rows of these versions, of one table each: creates or extends them. Idempotent; called
   * before the first row of each version in a process. A change that the sink can't follow is a fatal error that names
   * the table (`MillraceError.table`): the runtime suspends it in this sink and passes the others again. A target
   * without Millrace's columns is refused in the same way, unless `presence.adoptable` names it. After any other error the runtime assumes nothing and passes
   * each table separately.
   */
  prepare(tables: readonly TableVersion[], signal: AbortSignal): Promise<void>;

  apply(batch: Batch, outcome: Outcome, signal: AbortSignal): Promise<void>;

  /**
   * Called with each heartbeat while idle: checks that what we wrote still exists. Throws an error of kind `reopen` if
   * another program emptied or replaced the target (index dropped, FLUSHALL, file deleted).
   */
  verify(signal: AbortSignal): Promise<void>;

  /**
   * Removes the sink's own metadata from the target; the rows stay. Called after `open`; after it only `close` is
   * called.
   */
  forget(signal: AbortSignal): Promise<void>;

  /** Closes connections and abandons a batch in flight. Idempotent. */
  close(): Promise<void>;

  /**
   * True: readers load what the target gets into tables of their own. They may still have rows when neither target nor state
   * is there any more, so every initial snapshot ends each table with a sweep.
   */
  readonly isLoadedElsewhere?: boolean;

  /** True: a new sink stores its first checkpoint with the first heartbeat, also if it has got nothing: its owner has a position then. */
  readonly storesFirst?: boolean;

  /**
   * What the target may do to rows that lie there, or what its upkeep can't do, as the sink saw last; and what prevents it.
   * Absent: the sink knows of nothing.
   */
  readonly hints?: readonly TargetHint[];
  readonly presence?: TargetPresence;
  readonly rows?: TargetRows;
  readonly evolution?: TargetEvolution;
  readonly prefetch?: BatchPrefetch;
  readonly comparison?: TargetComparison;
  /** For a target whose readers see what is stored only some time later. */
  readonly readers?: TargetReaders;
  readonly copies?: TargetCopies;
  readonly engine?: TargetEngine;
  readonly numbers?: TargetNumbers;
  /** Takes large tables of an initial snapshot undecoded. Without it, or for another form, they come as batches of rows. */
  readonly raw?: TargetRawRows;
  /**
   * Only for a stream; asked before each batch, before `prepare` too. A change that readers can't complete is not passed on:
   * its key is read from the source. Without it readers hold all.
   */
  readersHold?(table: TableVersion): ReadersHold;
  /**
   * How much room there is where it writes, as far as that can be told now: without a connection, only of disks of this
   * machine. Called at any time, beside the writes. Without it the first word of a full disk is its failure.
   */
  rooms?(signal: AbortSignal): Promise<readonly Room[]>;
  /** Only for form `log`. */
  readonly relay?: SourceRelay;
}

export type TargetHint = Described<typeof TARGET_HINT>;

export const TARGET_HINT = {
  table: [{ orNull: "text" }, "the table of the target that it concerns alone"],
  what: ["text", "what that is"],
  fix: ["text", "what prevents it"],
  slows: [{ optional: "boolean" }, "true if it makes the sink slow; else absent"],
  needsPerson: [{ optional: "boolean" }, "true if it ends only when somebody acts; else absent"],
} as const satisfies Fields;

export interface ForeignTarget {
  readonly table: TableVersion;
  /** `<daemon>/<sink>`. */
  readonly owner: string;
}

/** Detects missing targets. Without it a dropped target is only noticed at its next rows, or never. */
export interface TargetPresence {
  /**
   * Which of these tables the target lacks, under the names and in the form that they would have now. Called after
   * `open`, for tables that are complete according to the checkpoint, or partly filled: the missing ones are read again.
   * In `open` a sink may also remove complete tables from its checkpoint by itself.
   */
  missing(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]>;

  /**
   * Which of these tables have a target with rows of another daemon, or of another sink: that one prepared the target
   * last, or this sink has prepared it since and has not called `expel` yet. `missing` and `verify` do not tell these
   * again.
   *
   * Order of the calls: `open`, `foreign`, `prepare` (from then on the former owner writes nothing there, or is found
   * out), `expel` (removes its rows of later versions); then the tables are read again. If another one prepares a
   * target between `foreign` and `prepare`, either `prepare` refuses it (`takenBy`), or `foreign`, asked again after
   * `prepare`, tells it, and the target is prepared once more. Without `foreign` two daemons that write one target hide
   * each other's rows.
   *
   * Where tables share a target by rows (`scopedBy`), this is about each table's own rows there. Who came first has them, until
   * `keepOnly` or `forget` lets go of them: the caller prepares such a table only where an operator has said so.
   */
  foreign?(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly ForeignTarget[]>;

  /**
   * Lets go of what this sink has in shared targets, but for these tables: all that it takes and that the source has. What is let go
   * is the next sink's that prepares it; its rows stay. Called after `open`; such a table is prepared again before its next row.
   */
  keepOnly?(tables: readonly TableVersion[], signal: AbortSignal): Promise<void>;

  /**
   * Which of these tables have a target that another program made, and that the next `prepare` takes over with its rows. Called
   * after \`open\`. The caller has the rows compared with the source: they have version 0, and say nothing about the log.
   * Without it such a target is refused.
   */
  adoptable?(tables: readonly TableVersion[], signal: AbortSignal): Promise<readonly TableVersion[]>;
}

export type AllTargets = "all" | "own";

/**
 * Finds rows by their versions. Without it a target that lost its checkpoint counts as free of old rows, and rows written
 * by hand stay.
 */
export interface TargetRows {
  /**
   * Removes rows of these tables that no batch can have written, from targets that exist: rows with a version above
   * `version`, or without a version. Afterwards every row from that version on can be written under their keys. Called
   * - after `open`, if an operator has the sink filled again;
   * - after `prepare`, for tables that were `foreign`: when it resolves, the removal is durable, and they are `foreign`
   *   no more. In a history there is no such row (the runtime has looked), and only that state is ended;
   * - after `prepare`, for tables whose part of a shared target has later rows, before this sink has written any there.
   *
   * A target that another daemon has prepared since is left alone, or refused: its rows are that daemon's.
   */
  expel(tables: readonly TableVersion[], version: bigint, signal: AbortSignal): Promise<void>;

  /**
   * The highest version of a row where this sink writes: in the targets of these tables, in all targets there ("all"),
   * or in all but those with rows of another sink ("own"). 0: there is no row. It shows old rows, on which a change has
   * an effect only if its version is higher. Called after `open` if the sink holds no progress, for tables of a
   * history that are `foreign`, and after `prepare` of a table that shares a target and is new to the sink.
   */
  highestVersion(tables: readonly TableVersion[] | AllTargets, signal: AbortSignal): Promise<bigint>;
}

/**
 * Follows some changes of a table's shape with the existing rows. Without it all rows are read again after each change.
 */
export interface TargetEvolution {
  /**
   * Whether the target's existing rows of `from`, the last shape that it followed, become rows of `to` without being
   * written again: the kept columns have the same values, and added columns are null. Asked before `prepare(to)`;
   * changes nothing.
   */
  carries(from: TableVersion, to: TableVersion, signal: AbortSignal): Promise<boolean>;
  /** The table with the columns alone that the sink holds. Default: all. */
  kept?(table: TableVersion): TableVersion;
}

/** Prepares a batch while the target works on the previous one. Without it each batch begins when its turn comes. */
export interface BatchPrefetch {
  /**
   * The tables of the next batch of rows, as far as they are known while `apply` waits for the target. The sink can
   * prepare everything that does not need the target. The next batch has exactly this list, or another one; a later call
   * replaces it.
   */
  prefetchRows(tables: readonly TableWrites[]): void;
}

/** Reads back what the target holds. Without it `reconcile` and `recover` skip the sink. */
export interface TargetComparison {
  /** How many rows to compare at a time where a comparison gets all the time: what each query costs beside its rows. */
  readonly rowsAtOnce?: number;
  /** Opens separate connections for comparing, beside the writes. Called after `open`. */
  inspect(signal: AbortSignal): Promise<Inspection>;
}

/** For a target whose readers see what is stored only some time later. Without it they see it at once. */
export interface TargetReaders {
  /** Makes what is stored of these tables visible to every reader. Called beside the writes. */
  show(tables: readonly TableVersion[], signal: AbortSignal): Promise<void>;
}

/** For a target that only one process at a time can open. Without it `query` asks the target itself. */
export interface TargetCopies {
  /**
   * Copies the committed data as of one moment, beside the writes and at any time, into a file. The caller queries it
   * in another process (`Connector.query`) and removes it with its folder. So a query takes none of the writer's
   * memory.
   */
  copy(signal: AbortSignal): Promise<string>;
}

/** For a target whose engine is a library: a fault of its own can end the process that it runs in, and all sinks with it. */
export interface TargetEngine {
  /** Told by the daemon before anything else. An engine that may have ended the former process runs in one of its own. */
  follows(former: FormerProcess): void;
  /** Memory that the engine has allocated; null: it is not open. */
  memoryBytes(): Promise<number | null>;
  /** Deleted rows that still occupy space in the target. */
  readonly deadRows: number;
}

/**
 * For a target that numbers what its readers load: they keep the numbers, and go by them, when the target is emptied or put back.
 * Without it only the target knows which numbers it gave.
 */
export interface TargetNumbers {
  /** Told before the sink is opened. Invariant: numbers are reserved there before a reader can see them. */
  keepIn(store: NumberStore): void;
}

/** The daemon's process before this one. */
export interface FormerProcess {
  /** It was not stopped, but ended: by a signal, by the system, by a fault. */
  readonly died: boolean;
  /** The last errors of the sink and of its suspended tables. */
  readonly errors: readonly StoredError[];
}

/** For a sink that was emptied, dropped or restored: read everything again, or stop and wait for somebody. */
export type OnLost = "resync" | "fail";

/** One reading statement, and how much of its answer is wanted. */
export interface QueryRequest {
  readonly sql: string;
  readonly rowCountMax: number;
  /** Size of the rows as JSON. */
  readonly byteCountMax: number;
}

export interface QueryResult {
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  /** Values as in JSON; integers beyond 2^53 and decimals are strings. */
  readonly rows: readonly (readonly unknown[])[];
  /** True if there is more than requested. */
  readonly truncated: boolean;
}

/**
 * A sink reports about a batch here. If a method returns a promise, await it: when it resolves the report is durable.
 */
export interface RefusedEntry {
  readonly writes: TableWrites;
  readonly entry: number;
  readonly error: MillraceError;
}

export interface Outcome {
  /** Entries whose base row is missing in the sink; their keys will be read from the source. */
  incomplete(writes: TableWrites, entries: readonly number[]): Promise<void>;
  /**
   * Entries whose content the target refuses, as many at once as are known: a report of more than the batch's checkpoint
   * counts ends the batch, which is then applied again. Those that become no dead letters (`becomesDeadLetter`) are reported too:
   * their keys will be read from the source.
   */
  poison(refused: readonly RefusedEntry[]): Promise<void>;
  /**
   * The batch only waits for the target now: there is time for preparing the next one (`prefetchRows`). A sink may call it any
   * number of times, or never.
   */
  readonly waiting?: () => void;
}
