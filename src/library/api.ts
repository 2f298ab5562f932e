/**
 * What a program sees of Millrace (docs/library.md). This file and the types that it names are public: they are extended, never
 * changed. test/golden/library-types.txt holds them.
 */
import type { Sink } from "../core/contracts/sink.ts";
import type { Batch } from "../core/model/batch.ts";
import type { Checkpoint } from "../core/checkpoint.ts";
import type { EnvelopeContext } from "../core/model/envelope.ts";

/**
 * A value, in the form that it has in the envelope (docs/envelope.md), without loss:
 *
 * - `number`: integers of up to 32 bits, floats; `bigint`: integers of 64 bits, always
 * - `string`: texts, enums, uuid; decimals with all their digits; dates and times (`2026-11-20T06:43:15.123456Z`); bytes as
 *   base64; NaN and the infinities; all other types as the source prints them
 * - json as what it holds; in it, and only there, an integer beyond 2^53 is a bigint, and another number that a double does
 *   not hold is its text
 * - arrays and vectors as arrays, sparse vectors as objects
 */
export type Value = null | boolean | number | bigint | string | readonly Value[] | { readonly [key: string]: Value };

export interface Row {
  readonly [column: string]: Value;
}

export interface ColumnDescription {
  readonly name: string;
  /** `int`, `text`, `timestamp` …: what decides the form of its values. */
  readonly type: string;
  /** As the source spells it, such as `numeric(12,2)`. */
  readonly native: string;
  readonly nullable: boolean;
}

/** The table's shape at a position of the log. */
export interface SchemaName {
  /** `schema.table`; of MySQL `database.table`. */
  readonly subject: string;
  /** Counts the shapes of the table, from 1. Without `state` it counts those that this process has seen. */
  readonly version: number;
  /** The same for equal shapes, in every process. */
  readonly fingerprint: string;
}

export interface ChangeSource {
  /** `name` of the options. */
  readonly name: string;
  readonly kind: string;
  readonly database: string;
  readonly schema: string;
  readonly table: string;
  /** The row was read from the table, and not from the log. */
  readonly snapshot: boolean;
  /** Postgres: where the transaction's commit record starts. */
  readonly commitLsn?: string;
  readonly txid?: string;
  /** MySQL and MariaDB: where the transaction starts. */
  readonly file?: string;
  readonly pos?: number;
  readonly gtid?: string;
  readonly serverId?: number;
  /** The change's number in its transaction, from 0. */
  readonly index: number;
  readonly commitTime: string;
}

/** A change of one row: the envelope of docs/envelope.md. */
export interface RowChange {
  /** The same each time the same change is read. */
  readonly id: string;
  /** Created, updated, deleted; read from the table (initial snapshot, a table that is read again). */
  readonly op: "c" | "u" | "d" | "r";
  readonly key: Row;
  /** As far as the log has it: whole, or the key's columns, or null. */
  readonly before: Row | null;
  /** Null for `d`. Without the columns in `unchanged`. */
  readonly after: Row | null;
  /** Columns that the change did not touch, and whose values the log did not carry. They are as they were. */
  readonly unchanged: readonly string[];
  /** Of the transaction: grows with the log, 63 bits in digits. */
  readonly version: string;
  readonly schema: SchemaName;
  readonly source: ChangeSource;
  readonly producer: string;
}

/** All rows of the table up to this version are gone. */
export interface TableTruncated {
  readonly id: string;
  readonly op: "t";
  readonly key: null;
  readonly before: null;
  readonly after: null;
  readonly unchanged: readonly [];
  readonly version: string;
  readonly schema: SchemaName;
  readonly source: ChangeSource;
  readonly producer: string;
}

/** The table was read to its end: what has a lower version than `below` was not there, and is gone. */
export interface TableRead {
  readonly op: "s";
  readonly below: string;
  readonly schema: SchemaName;
  readonly source: Pick<ChangeSource, "name" | "kind" | "database" | "schema" | "table">;
}

/** The shape of the table's rows from here on. Told before its first row in a process, and at each change. */
export interface SchemaChange {
  readonly op: "schema";
  readonly schema: SchemaName;
  readonly source: Pick<ChangeSource, "name" | "kind" | "database" | "schema" | "table">;
  readonly columns: readonly ColumnDescription[];
  /** Names of the key's columns, in its order. */
  readonly keyColumns: readonly string[];
}

export type Change = RowChange | TableTruncated | TableRead | SchemaChange;

/** A transaction of the source, or a piece of one that is large; or rows of a snapshot, which belong to none. */
export interface Transaction {
  /** In the order of the commit. Empty where only the position has moved. */
  readonly changes: readonly Change[];
  /** False: more of the same transaction follows. */
  readonly isLast: boolean;
  /** The rows were read from the tables. */
  readonly isSnapshot: boolean;
  /** Of the transaction, as its changes have it; null where there is none. */
  readonly version: string | null;
  readonly commitTime: string | null;
  /**
   * The next transaction is at hand. A program that stores several at once takes it first; where this is false, it stores what
   * it has. Transactions that are not done keep the next ones away.
   */
  readonly hasNext: boolean;
  /**
   * Where to go on after this: `from` of the next run. For programs that store it together with what the transaction did.
   * Begins as `millrace offsets show` prints it; the rest proves that it is the same log, and says what was read.
   */
  readonly position: string;
  /**
   * The transaction is dealt with. Resolves when this and all transactions before it are done, and that is stored: then the
   * source may forget them, and they do not come again. With `from` this program has stored the position before it calls.
   */
  done(): Promise<void>;
}

/** A line of the log. Never with values of rows or secrets. */
export interface LogEntry {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly message: string;
  readonly [field: string]: unknown;
}

export type Log = (entry: LogEntry) => void;

export interface FollowOptions {
  /** `postgres://…`, `mysql://…`, or the keys of `source` in millrace.yaml, `kind` among them (docs/config.md). */
  readonly source: string | { readonly [key: string]: unknown };
  /** `schema.table` globs, `!` excludes. Default: every table with a usable key. */
  readonly tables?: readonly string[];
  /** Without a stored position: the rows first, or only what changes from now on. Default: initial. */
  readonly snapshot?: "initial" | "none";
  /** `sqlite:PATH` or `postgres://…`: keeps the position, and what is left to read. Without it give `from`. */
  readonly state?: string;
  /**
   * The position that this program has stored; null or undefined at its first run. If the key is there, even so, positions are
   * the program's own, and nothing counts as stored before it is `done()`.
   */
  readonly from?: string | null | undefined;
  /** Names the slot, the publication and the state: `[a-z][a-z0-9_]{0,39}`. Default: follow. */
  readonly name?: string;
  /**
   * Updates for which the log did not carry all values: `mark` names the columns in `unchanged`; `complete` gives the row as it
   * is now, read from the table (`op: "r"`), in their place. `complete` needs `state`. Default: mark.
   */
  readonly unchanged?: "mark" | "complete";
  /** How often the position of an idle source moves, as an empty transaction where positions are the program's. Default: 10s. */
  readonly heartbeat?: string;
  /** Most rows and bytes of one piece. Default: 10,000 and 1MB. */
  readonly batch?: { readonly rows?: number; readonly bytes?: string };
  /** Ends it: the loop ends after the transaction that it is at. */
  readonly signal?: AbortSignal;
  /** Default: nothing is logged. */
  readonly log?: Log;
}

/**
 * The transactions, once: a loop over it starts the work, and leaving the loop ends it. Failures that pass are waited out; what
 * needs a person, or would leave a gap, is thrown as a MillraceError.
 */
export interface Following extends AsyncIterableIterator<Transaction, undefined, undefined>, AsyncDisposable {
  [Symbol.asyncIterator](): Following;
  next(): Promise<IteratorResult<Transaction, undefined>>;
  return(): Promise<IteratorReturnResult<undefined>>;
}

/** What envelopes say of the source. */
export type Origin = EnvelopeContext;

/** A sink of the program's own: the object, or what makes it, in place of a map of keys; or beside keys of all sinks. */
export type OwnSink = Sink | ((origin: Origin) => Sink);

/** The keys of millrace.yaml (docs/config.md). A value is taken as it is: `${…}` refers to nothing. */
export interface RunConfig {
  readonly name: string;
  readonly source: { readonly [key: string]: unknown };
  readonly sinks: {
    readonly [name: string]:
      | OwnSink
      | { readonly sink: OwnSink; readonly [key: string]: unknown }
      | { readonly [key: string]: unknown };
  };
  readonly [key: string]: unknown;
}

export interface RunOptions {
  /** Ends the daemon in order; then `run` resolves. */
  readonly signal?: AbortSignal;
  /** Default: nothing is logged. */
  readonly log?: Log;
  /** Sinks of the program's own, beside those of the config. */
  readonly sinks?: { readonly [name: string]: OwnSink };
}

/** Follows a database: `for await (const transaction of follow({ … }))`. */
export type Follow = (options: FollowOptions) => Following;

/** Runs the daemon in this process: the path of a millrace.yaml, or its keys. */
export type Run = (config: string | RunConfig, options?: RunOptions) => Promise<void>;

/** For sinks of the program's own, of the forms `stream` and `history`: the changes of a batch, in commit order. */
export type ChangesOf = (batch: Batch, origin: Origin) => readonly Change[];

/** For sinks of the program's own: a checkpoint as the text that they store with their rows, and back. */
export type CheckpointText = (checkpoint: Checkpoint) => string;
export type CheckpointOf = (text: string) => Checkpoint;

/** The contract of sinks. */
export type { Sink, SinkForm, Delivery, Outcome } from "../core/contracts/sink.ts";
export type { Checkpoint } from "../core/checkpoint.ts";
export type { Batch, TableWrites } from "../core/model/batch.ts";
export type { TableVersion } from "../core/model/schema.ts";
