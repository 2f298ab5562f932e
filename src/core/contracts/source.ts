import type { Block } from "../model/block.ts";
import { type ErrorCode, MillraceError } from "../errors.ts";
import type { Position } from "../model/position.ts";
import type { TableVersion } from "../model/schema.ts";

/** What tells one log from another; stored beside the progress and compared at each connect. Opaque outside the source. */
export type LogIdentity = Readonly<Record<string, string>>;

/** A key as the text forms of its columns, in key order. */
export type KeyText = readonly string[];

export interface Source {
  readonly kind: string;
  readonly database: string;
  /** Numbers of the errors that say that the log can't be gone on in: see `millrace recover`. */
  readonly losses: ReadonlySet<ErrorCode>;

  /** A log position in the source's own spelling (`0/1A2B3C8`), and back. */
  formatPosition(commit: bigint): string;
  parsePosition(text: string): bigint;
  /** Told what is stored of the log, before positions are spelled by somebody who makes no connection. */
  recall?(identity: LogIdentity): void;
  /** The names of the transactions before a position, as the server spells such a set; where `recall` was told of them. */
  namesBefore?(commit: bigint): string | undefined;
  /** Bytes of log between two positions, where they are no count of bytes themselves; as far as it is known. */
  bytesBetween?(from: bigint, to: bigint): number;
  /** Position of the own record of a row of a block that `stream` gave; undefined where it can't be told. */
  recordPosition?(block: Block, row: number): bigint | undefined;

  /**
   * First start: makes what capture needs (publication, then slot) and returns where the stream begins. With `copy`, the
   * tables' rows as of exactly that position can be read from `copy` until it is closed.
   */
  create(request: CreateRequest, signal: AbortSignal): Promise<CreatedLog>;

  /**
   * Any later start: checks that this is still the log of `identity`, that it still holds everything from `held.from` on,
   * and that it reaches as far as `held.reached`.
   * Throws a fatal numbered error where a gap can't be ruled out. Returns the identity to store from now on.
   */
  resume(identity: LogIdentity, held: HeldPositions, signal: AbortSignal): Promise<LogIdentity>;

  /**
   * Asked before a start, with what is stored of the log and the places of the sinks in it: where the source has another log
   * by now (a failover) and that holds what was read, how it is gone on in; null where it is the same. Throws a fatal
   * numbered error where a gap can't be ruled out. Absent: `resume` decides alone.
   */
  cross?(identity: LogIdentity, places: readonly bigint[], signal: AbortSignal): Promise<Crossing | null>;

  /** Told where the sinks stand, before that is stored: returns the identity to store with it, or null where it is the same. */
  remember?(places: readonly bigint[]): LogIdentity | null;

  /**
   * The stream from `from` on. `temporary`: a second stream beside the first, for a sink that catches up; rejects with a
   * `SecondStreamRefused` where there is none to be had although the first may go on.
   */
  stream(from: Position, options: StreamOptions, signal: AbortSignal): Promise<ChangeStream>;

  /** The captured tables as the catalogue has them now, and those that cannot be captured with the reason. */
  tables(signal: AbortSignal): Promise<CapturedTables>;

  /**
   * Brings what the source publishes in step with the wanted tables. Who reads a table that was added waits with `settle`
   * first. `onChange` is given the identity to store from now on, as soon as it is another, and awaited.
   */
  publish(onChange: (identity: LogIdentity) => Promise<void>, signal: AbortSignal): Promise<void>;

  /**
   * The shape that takes the place of this version, which an earlier process registered, where the configuration's rules
   * are others by now. Asked after `create` or `resume`. Absent, or null: none does.
   */
  revised?(table: TableVersion): TableShape | null;

  /** Resolves when every transaction that was writing at the call has ended; `onWait` says who holds it up. */
  settle(onWait: (blocker: Blocker) => void, signal: AbortSignal): Promise<void>;

  /** Which transactions can be seen now. */
  visibility(signal: AbortSignal): Promise<Visibility>;

  /** Writes a mark into the log; it comes back in the stream as a message with the prefix `markPrefix`. */
  mark(content: string, signal: AbortSignal): Promise<void>;
  readonly markPrefix: string;

  /**
   * Writes a mark behind which every stream looks at the shapes of its tables anew, and returns its place: what was in
   * doubt at a row, since the catalogue had gone on, is certain from there on.
   */
  renew(signal: AbortSignal): Promise<bigint>;

  /**
   * Rows of `table` in key order behind `after` (null: from the start), at most half a second's worth. Under a condition at
   * most `scanRowCountMax` rows are looked at (default: SCAN_ROW_COUNT_MAX), so that a chunk may have none and not be the
   * last. Both ways to read reject with `AmbiguousKey` where nothing guards the key, and it does not tell the rows apart.
   */
  readRange(
    table: TableVersion,
    after: KeyText | null,
    where: string | null,
    signal: AbortSignal,
    scanRowCountMax?: number,
  ): Promise<Chunk>;
  /** The rows under these keys; a key that is not in the result does not exist. */
  readKeys(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<Chunk>;

  /** Where the log ends now: everything committed before the call lies before it. */
  tip(signal: AbortSignal): Promise<bigint>;
  /** What capture has at the source, whoever made it. `identity` as it is stored; null: a first start did not end. */
  made(identity: LogIdentity | null, signal: AbortSignal): Promise<readonly MadeObject[]>;
  /** Removes what of it is ours. Repeated after a crash half-way it removes the rest. */
  remove(identity: LogIdentity | null, signal: AbortSignal): Promise<void>;

  /**
   * Throws where another daemon reads the log under our name, and says who. Asked before a start touches anything, with what is
   * stored of the log; null: nothing, a first start, which is refused for good. At a later one the reader may be the session
   * of a daemon that was cut off: it is waited for, unless the source knows it by what is stored. Absent: that can't be told.
   */
  expectFree?(identity: LogIdentity | null, signal: AbortSignal): Promise<void>;

  /** From where on the log can still be read for this daemon's sinks; null: there is none. Its end is `tip`. */
  earliest(signal: AbortSignal): Promise<bigint | null>;
  /** What the operator should see of the log: bytes kept for us, blockers, whether the slot is in danger. */
  health(signal: AbortSignal): Promise<LogHealth>;

  close(): Promise<void>;
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

/** Rows that a condition is tried on in one chunk: without an index the ones that it wants may be far apart. */
export const SCAN_ROW_COUNT_MAX = 50_000;

export interface StreamOptions {
  readonly temporary: boolean;
  /** Bytes that the stream may keep in blocks before it stops reading; default 24 MiB. */
  readonly byteCountMax?: number;
  /** Called, and awaited, when the log shows a table or a shape that this stream has not seen. */
  readonly resolve: SchemaResolver;
  /**
   * Whether the table was followed before. One that was not is passed over where it can't be, as one without a key; where
   * nobody says, each is shown.
   */
  readonly isKnown?: (tableId: string) => boolean;
  /** Called, and awaited, where the log shows that rows of a table have come, gone or changed that are not in it themselves. */
  readonly onUnloggedRows?: (tableId: string) => Promise<void>;
}

/** No second stream can be had now: no slot or session is free for it, or the server refuses. Says nothing about the first. */
export class SecondStreamRefused extends MillraceError {}

/** Gives a shape its place in the schema registry. The same shape at the same position is the same object, always. */
export type SchemaResolver = (shape: TableShape, position: Position) => Promise<TableVersion>;

export type TableShape = Omit<TableVersion, "version" | "since">;

export interface ChangeStream extends AsyncDisposable {
  /**
   * The next block: all that has arrived, at once when idle, larger under load. A block without rows moves the position.
   * Not reading is backpressure: the stream stops reading the socket when its buffers are all held.
   */
  next(signal: AbortSignal): Promise<Block>;
  /** Everything before `commit` may be forgotten by the source. Sent with the next status message; never moves back. */
  acknowledge(commit: bigint): void;
}

export interface Visibility {
  /** Whether other sessions see the transaction. */
  readonly sees: (xid: number) => boolean;
  /** Transactions that may be committed in the log although nobody sees them yet. */
  readonly committing: readonly number[];
}

export interface Chunk {
  /** Rows as OP_READ, or null where there are none. */
  readonly block: Block | null;
  /** The key of the last row read; null: nothing lies behind, the range is finished. */
  readonly last: KeyText | null;
  /** Whether the chunk's snapshot saw the transaction. */
  readonly sees: (xid: number) => boolean;
}

/** A row that was read has no value in its table's key, or the key of another row: nothing at the source forbids it. */
export class AmbiguousKey extends Error {
  readonly what: "null" | "twice";

  constructor(what: "null" | "twice") {
    super(what === "null" ? "a row has a null in its key" : "two rows have one key");
    this.what = what;
  }
}

export interface RefusedTable {
  readonly id: string;
  readonly reason: string;
  readonly fix: string;
  /** True where nothing but a privilege of our role is missing: once it is there the table is captured. */
  readonly byPrivilege?: boolean;
  /** True where it is captured by itself in a while, as when somebody has locked it: who waits, waits for it. */
  readonly isPassing?: boolean;
  /** Where the reason has a number of its own. */
  readonly code?: ErrorCode;
  /** Where nothing but the key that the configuration chooses is wrong: a column is unknown, or it can't be the key. */
  readonly chosenKey?: "unknown" | "unfit";
}

export interface CapturedTables {
  readonly tables: readonly TableShape[];
  readonly refused: readonly RefusedTable[];
  readonly generations: TableGenerations;
  /** By table id. Without them no row that did not move is certain after a change of shape. */
  readonly columns?: ReadonlyMap<string, ColumnFacts>;
}

/** What the catalogue says of a table's columns beside their shape: for core/targets/carrying. */
export interface ColumnFacts {
  /** Identities of columns that were added while this process looked, and are null in the rows that were there before. */
  readonly nullBefore: ReadonlySet<number>;
  /** Identities of columns that were dropped, whenever that was. */
  readonly dropped: readonly number[];
}

/**
 * By table id, what the name stands for. Another value than before says that rows came or went without a word in the log:
 * the table was made anew or rewritten, swapped by renames, left out of what is published for a while, or a partition was
 * attached, detached or truncated by its own name. A table that is not published yet has none.
 */
export type TableGenerations = ReadonlyMap<string, string>;

export interface MadeObject {
  readonly what: string;
  /** False: it was there before, or was made by somebody else, and stays. */
  readonly isOurs: boolean;
}

export interface Blocker {
  readonly pid: number;
  readonly ageSeconds: number;
  readonly what: string;
}

export interface LogHealth {
  readonly tip: bigint;
  readonly retainedBytes: number;
  /** Bytes until the source drops the log, or null where it never does. */
  readonly safeBytes: number | null;
  /** Seconds after which it may drop what we still need, going by the clock; null or absent: it never does. */
  readonly safeSeconds?: number | null;
  readonly warnings: readonly string[];
  /** Dates that do not exist, as they were met since the start, whatever became of them. */
  readonly zeroDates?: number;
}
