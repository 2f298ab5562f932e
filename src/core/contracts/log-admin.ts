import { type ErrorCode, MillraceError } from "../errors.ts";
import type { Block } from "../model/block.ts";
import type { Position } from "../model/position.ts";
import type { TableVersion } from "../model/schema.ts";
import type { TableGenerations, TableShape } from "./catalog.ts";
import type { LogIdentity } from "./positions.ts";
import type { SourceCounts } from "./source-counters.ts";

/**
 * Makes, proves and removes what capture needs at the source. No change is passed over in silence: from the position that
 * `create` returns on, and from each that `resume` or `cross` accepted, a stream gives every change, or the call throws a
 * fatal numbered error. What was made for us is known by the stored identity, so that `remove` takes nothing else away.
 */
export interface LogAdmin {
  /** Numbers of the errors that say that the log can't be gone on in: see `millrace recover`. */
  readonly losses: ReadonlySet<ErrorCode>;

  /**
   * Throws where another daemon reads the log under our name, and says who. Asked before a start touches anything, with what is
   * stored of the log; null: nothing, a first start, which is refused for good. At a later one the reader may be the session
   * of a daemon that was cut off: it is waited for, unless the source knows it by what is stored. Absent: that can't be told.
   */
  readonly expectFree?: (identity: LogIdentity | null, signal: AbortSignal) => Promise<void>;

  /**
   * First start: makes what capture needs (publication, then slot) and returns where the stream begins. With `copy`, the
   * tables' rows as of exactly that position can be read from `copy` until it is closed.
   */
  readonly create: (request: CreateRequest, signal: AbortSignal) => Promise<CreatedLog>;

  /**
   * Any later start: checks that this is still the log of `identity`, that it still holds everything from `held.from` on,
   * and that it reaches as far as `held.reached`.
   * Throws a fatal numbered error where a gap can't be ruled out. Returns the identity to store from now on.
   */
  readonly resume: (identity: LogIdentity, held: HeldPositions, signal: AbortSignal) => Promise<LogIdentity>;

  /**
   * Asked before a start, with what is stored of the log and the places of the sinks in it: where the source has another log
   * by now (a failover) and that holds what was read, how it is gone on in; null where it is the same. Throws a fatal
   * numbered error where a gap can't be ruled out. Absent: `resume` decides alone.
   */
  readonly cross?: (identity: LogIdentity, places: readonly bigint[], signal: AbortSignal) => Promise<Crossing | null>;

  /** Told where the sinks stand, before that is stored: returns the identity to store with it, or null where it is the same. */
  readonly remember?: (places: readonly bigint[]) => LogIdentity | null;

  /** What capture has at the source; absent: it needs nothing there. `identity` as it is stored, null: a first start did not end. */
  readonly made?: (identity: LogIdentity | null, signal: AbortSignal) => Promise<readonly MadeObject[]>;
  /** Removes what of `made` is ours. Repeated after a crash half-way it removes the rest. */
  readonly remove?: (identity: LogIdentity | null, signal: AbortSignal) => Promise<void>;

  /** What the operator should see of the log: bytes kept for us, blockers, whether the slot is in danger. */
  readonly health: (signal: AbortSignal) => Promise<LogHealth>;
}

/** Where the sinks stand in the log: the one that is least far, and the one that is furthest. */
export interface HeldPositions {
  readonly from: Position;
  readonly reached: Position;
}

export interface CreateRequest {
  readonly epoch: number;
  readonly wantCopy: boolean;
  /** True when an earlier start announced that it would create the log and did not finish: what it left is ours to remake. */
  readonly resumeIntent: boolean;
}

export interface CreatedLog {
  readonly identity: LogIdentity;
  readonly position: Position;
  /** Null when no copy was asked for, or when a log that existed before was adopted (then tables are read by chunks). */
  readonly copy: FirstCopy | null;
}

/** Rows as of the position at which the log was created. */
export interface FirstCopy {
  /** The captured tables as of the copy; the caller gives each its version in the registry. */
  readonly tables: readonly TableShape[];
  /** As of the copy, or of a moment before. */
  readonly generations: TableGenerations;
  /**
   * All rows of one table as blocks of OP_READ. Several tables may be read at once. Fails where the copy can't show the table
   * as it was (rewritten since): it must be read by chunks.
   */
  read(table: TableVersion, signal: AbortSignal): AsyncIterable<Block>;
  close(): Promise<void>;
}

/** Another log in place of the one that was read, whose positions mean nothing in it: a new epoch begins. */
export interface Crossing {
  readonly identity: LogIdentity;
  /** By place in the former log where it is known: everything before it, and nothing else, lies before the place here. */
  readonly places: ReadonlyMap<bigint, bigint>;
  /** The lowest of them. */
  readonly from: bigint;
  /** Where the log ended when it was looked at: a sink whose place is not known goes on there and is filled again. */
  readonly end: bigint;
  /** By table id, what the name stood for and stands for now; without those of which that is not certain. */
  readonly generations: ReadonlyMap<string, { readonly before: string; readonly now: string }>;
}

/** The source has another log than the one that is stored: a new start asks `cross` whether it can be gone on in. */
export class LogMoved extends MillraceError {}

export interface MadeObject {
  readonly what: string;
  /** False: it was there before, or was made by somebody else, and stays. */
  readonly isOurs: boolean;
}

export interface LogHealth {
  readonly tip: bigint;
  readonly retainedBytes: number;
  /** Bytes until the source drops the log, or null where it never does. */
  readonly safeBytes: number | null;
  /** Seconds after which it may drop what we still need, going by the clock; null or absent: it never does. */
  readonly safeSeconds?: number | null;
  readonly warnings: readonly string[];
  /** What the source counts, of all that a source may; absent: nothing. */
  readonly counts?: Partial<SourceCounts>;
}
