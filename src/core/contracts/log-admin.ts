import type { Described, Fields } from "../described.ts";
import type { ErrorCode } from "../errors.ts";
import type { Block } from "../model/block.ts";
import type { Position } from "../model/position.ts";
import type { TableVersion } from "../model/schema.ts";
import type { TableGenerations, TableShape } from "./catalog.ts";
import type { LogIdentity } from "./positions.ts";
import type { RawRows } from "./raw-copy.ts";

/** What a source may count besides its log. Null: it does not, or could not be asked. */
export type SourceCounts = Described<typeof SOURCE_COUNTS>;

export const SOURCE_COUNTS = {
  zeroDates: [
    { orNull: "count" },
    "MySQL and MariaDB: dates that do not exist, counted since the start; null: unknown",
  ],
  unconfirmedBytes: [{ orNull: "bytes" }, "Postgres: log behind the position that the slot has as confirmed"],
  oldestTransactionSeconds: [
    { orNull: "seconds" },
    "age of the oldest open transaction, on Postgres the oldest that writes or is prepared; 0: there is none",
  ],
  spilledTransactions: [
    { orNull: "count" },
    "Postgres: transactions that the server wrote to its disk while it decoded them",
  ],
  spilledBytes: [{ orNull: "bytes" }, "Postgres: bytes that it wrote so"],
} as const satisfies Fields;

/**
 * Creates, checks and removes what capture needs at the source. No change is lost silently: from the position that
 * `create` returns, and from each that `resume` or `cross` accepted, a stream returns every change, or the call throws
 * a fatal numbered error. The stored identity tells which objects are ours, so `remove` removes nothing else.
 */
export interface LogAdmin {
  /** Numbers of the errors that say that the stream can't continue in the log: see `millrace recover`. */
  readonly losses: ReadonlySet<ErrorCode>;

  /**
   * Throws if another daemon reads the log under our name, and says which. Asked before a start touches anything, with
   * the stored identity. Null means a first start, which is refused for good. At a later start the reader may be the
   * session of a daemon that lost its connection: the start waits for its end, unless the source knows it by the
   * identity. Absent: the source can't tell.
   */
  readonly expectFree?: (identity: LogIdentity | null, signal: AbortSignal) => Promise<void>;

  /**
   * First start: creates what capture needs (publication, then slot) and returns where the stream begins. The tables' rows
   * can be read from `copy` until it is closed. Called again while it fails in a way that may pass.
   */
  readonly create: (request: CreateRequest, signal: AbortSignal) => Promise<CreatedLog>;

  /**
   * Any later start: checks that this is still the log of `identity`, that it still holds everything from `held.from` on,
   * and that it reaches as far as `held.reached`.
   * Throws a fatal numbered error where a gap can't be ruled out, with the reason `moved` if the log may lack what a sink may hold.
   * Returns the identity to store from now on.
   */
  readonly resume: (identity: LogIdentity, held: HeldPositions, signal: AbortSignal) => Promise<LogIdentity>;

  /**
   * Asked before a start, with the stored identity and the sinks' positions. If the source has another log by now (a
   * failover) that contains everything that was read, returns how to continue in it; null if the log is the same.
   * Throws a fatal numbered error if a gap can't be ruled out. Absent: `resume` decides alone.
   */
  readonly cross?: (
    identity: LogIdentity,
    positions: readonly bigint[],
    signal: AbortSignal,
  ) => Promise<Crossing | null>;

  /**
   * Receives the sinks' positions before they are stored. Returns the identity to store with them, or null if it has
   * not changed.
   */
  readonly remember?: (positions: readonly bigint[]) => LogIdentity | null;

  /** What capture has created at the source; absent: it needs nothing there. */
  readonly made?: (record: LogRecord, signal: AbortSignal) => Promise<readonly MadeObject[]>;
  /** Removes the objects of `made` that are ours. After a crash, a repeated call removes the rest. */
  readonly remove?: (record: LogRecord, signal: AbortSignal) => Promise<void>;

  /** What the operator should know about the log: bytes kept for us, blockers, whether the slot is in danger. */
  readonly health: (signal: AbortSignal) => Promise<LogHealth>;
}

/** The sinks' positions in the log: the lowest and the highest. */
export interface HeldPositions {
  readonly from: Position;
  readonly reached: Position;
  /** A sink may hold rows of what precedes this position: of a batch that did not end. Null or absent: none does. */
  readonly mayReach?: Position | null;
}

export interface CreateRequest {
  readonly epoch: number;
  readonly wantCopy: boolean;
  /** True if an earlier attempt called `making` and did not finish: its leftovers are ours to create again. */
  readonly resumeIntent: boolean;
  /** To be called where nothing is there to adopt, before the first thing is created that doesn't tell who made it. */
  readonly making?: () => Promise<void>;
}

/** What the state knows of the log. */
export interface LogRecord {
  /** Null from the announcement of a first start to its end. */
  readonly identity: LogIdentity | null;
  /** That start found nothing to adopt, and makes the log. */
  readonly makes: boolean;
}

export interface CreatedLog {
  readonly identity: LogIdentity;
  readonly position: Position;
  /** Null if no copy was requested, or if an existing log was adopted (then tables are read by chunks). */
  readonly copy: FirstCopy | null;
}

/**
 * The tables' rows, each table as of the position at which the log was created or as of a moment after it: then the stream
 * brings the changes in between again, with higher versions.
 */
export interface FirstCopy {
  /** The captured tables; the caller registers a version for each. */
  readonly tables: readonly TableShape[];
  /** As of the copy, or of a moment before. */
  readonly generations: TableGenerations;
  /**
   * All rows of one table as blocks of OP_READ. Several tables may be read at once. Fails if the copy can't show the
   * table as it was (rewritten since): then it must be read by chunks.
   */
  read(table: TableVersion, signal: AbortSignal): AsyncIterable<Block>;
  /** The same rows for a sink that takes them undecoded; absent: there is no such form. */
  readonly raw?: RawRows;
  close(): Promise<void>;
}

/** Another log replaces the one that was read, and its positions have no meaning in the new one: a new epoch begins. */
export interface Crossing {
  readonly identity: LogIdentity;
  /** By position in the former log, if known: exactly what precedes it also precedes the position here. */
  readonly positions: ReadonlyMap<bigint, bigint>;
  /** The lowest of them. */
  readonly from: bigint;
  /** The end of the log when it was checked: a sink whose position is unknown continues there and is filled again. */
  readonly end: bigint;
  /** By table id, the generation before and now; without tables for which that is uncertain. */
  readonly generations: ReadonlyMap<string, { readonly before: string; readonly now: string }>;
  /**
   * Present if changes may be missing between the two logs: every sink continues at `end`, keeps its rows of the tables that
   * exist now (these are their generations), and is compared.
   */
  readonly compared?: TableGenerations;
  /**
   * Present if the log goes on from the former one, where it was left here: positions before mean the same in both. It
   * matters only if a sink may hold more than its checkpoint says: what follows there is lost.
   */
  readonly leftAt?: bigint;
}

export interface MadeObject {
  readonly what: string;
  /** False: it existed before, or somebody else created it, so it stays. */
  readonly isOurs: boolean;
}

interface KeptPlace {
  /** It keeps its log from here on. */
  readonly from: bigint | null;
  /** What it has as confirmed by us. */
  readonly confirmed: bigint | null;
  /** How safe that log is, in the source's own word. */
  readonly state: string;
}

/** A function of a computed column or a document that takes longer than its budget, by the average of its last calls. */
export type SlowFunction = Described<typeof SLOW_FUNCTION>;

export const SLOW_FUNCTION = {
  table: ["text", "id of the table"],
  column: [{ orNull: "text" }, "the computed column, or the relation of a document; null: it makes the whole document"],
  function: ["text", "as the configuration names it"],
  averageMs: ["number", "what a call takes, in milliseconds, on average"],
  budgetMs: ["number", "what it may take: `budget` of the column"],
} as const satisfies Fields;

export interface LogHealth {
  readonly tip: bigint;
  readonly retainedBytes: number;
  /** How many more bytes until the source drops the log; null: it never does. */
  readonly safeBytes: number | null;
  /** Seconds until it may drop log that we still need; null or absent: not by time. */
  readonly safeSeconds?: number | null;
  /** Dangers to the log that we still need: somebody has to act. */
  readonly warnings: readonly string[];
  /** Of the transactions that are open there, who has the oldest, and how it ends; absent: none is, or it is not known. */
  readonly oldestTransaction?: string;
  /** What may become a danger; absent: nothing. */
  readonly hints?: readonly string[];
  /** Functions of the configuration that take longer than they may; absent: none. */
  readonly slowFunctions?: readonly SlowFunction[];
  /** Where the source keeps its log for us; absent: it keeps it for nobody in particular. */
  readonly kept?: KeptPlace;
  /** The counters that the source has; absent: none. */
  readonly counts?: Partial<SourceCounts>;
}
