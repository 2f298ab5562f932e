import type { Completeness, CompleteTables } from "../checkpoint/completeness.ts";
import type { Accord, Bond } from "../checkpoint/bond.ts";
import type { Position } from "../model/position.ts";
import type { ReconcileDocument, ReportSummary } from "./reconciliation.ts";
import type { TableVersion } from "../model/schema.ts";
import type { KeyText } from "./row-reads.ts";
import type { LogIdentity } from "./positions.ts";
import type { TableShape } from "./catalog.ts";

/**
 * What Millrace remembers outside of the sinks: one store per source, written only by the holder of its lease. Every
 * method resolves when its effect is durable (SQLite: synchronous=FULL): acknowledgements rest on that.
 */
export interface StateStore {
  readonly lease: LeaseStore;
  readonly source: SourceStore;
  readonly sinks: SinkStore;
  readonly bonds: BondStore;
  readonly schemas: SchemaStore;
  readonly suspensions: SuspensionStore;
  readonly refills: RefillStore;
  readonly deadLetters: DeadLetterStore;
  readonly reports: ReportStore;
  readonly comparisons: ComparisonStore;
  /** Everything that is remembered, as of one moment: what another machine needs to go on. */
  dump(): Promise<StateDump>;
  /** Puts a dump in the place of everything that is remembered. Only for the holder of the lease, who then gives it up. */
  restore(dump: StateDump): Promise<void>;
  /** Removes everything, the store itself included, and closes it. Only for the holder of the lease, which ends with it. */
  remove(): Promise<void>;
  close(): Promise<void>;
}

/** Rows by relation, in the form of one version of the state. */
export interface StateDump {
  readonly migration: number;
  /** Of the last lease: what fences the sinks has to grow. */
  readonly leaseNumber: number;
  readonly relations: Readonly<Record<string, readonly StateRow[]>>;
}

export type StateRow = Readonly<Record<string, string | number | null>>;

export interface Lease {
  /** Grows with every acquisition: the fencing number that sinks compare. */
  readonly number: number;
  /** Who holds it: host, pid, since when. For people. */
  readonly holder: string;
  readonly expiresAtMs: number;
}

export interface LeaseStore {
  /**
   * Takes the lease when it is free, expired, or held by somebody who `isGone`; otherwise returns the holder's lease and
   * takes nothing.
   */
  acquire(
    holder: string,
    durationMs: number,
    isGone?: (holder: string) => boolean,
  ): Promise<{ readonly taken: boolean; readonly lease: Lease }>;
  /** False when the lease is no longer ours (expired and taken): the caller must stop at once. */
  renew(number: number, durationMs: number): Promise<boolean>;
  release(number: number): Promise<void>;
  current(): Promise<Lease | null>;
  /** What was taken last and not given back; it may have expired, as that of a daemon that hangs. */
  unreleased(): Promise<Lease | null>;
}

/** That of a source whose first start has ended. */
export type StartedRecord = SourceRecord & { readonly identity: LogIdentity };

export function hasIdentity(record: SourceRecord): record is StartedRecord {
  return record.identity !== null;
}

export interface SourceRecord {
  /** Null between the announcement of a first start and its end. */
  readonly identity: LogIdentity | null;
  readonly epoch: number;
  /** Where the stream began at first start. */
  readonly origin: Position | null;
  /** The highest position that the source was told it may forget everything before. Stored before it is told. */
  readonly acknowledged: Position | null;
  /** When that was stored: what the source may have forgotten was committed before. */
  readonly acknowledgedAt?: string | null;
}

export interface SourceStore {
  get(): Promise<SourceRecord | null>;
  /** First start: says what is about to be created, so that a crash half-way is recognised as ours. */
  announce(epoch: number): Promise<void>;
  created(identity: LogIdentity, origin: Position): Promise<void>;
  identify(identity: LogIdentity): Promise<void>;
  /** Stores what sinks hold and cover, and with it the position to acknowledge, in one transaction. */
  acknowledge(
    position: Position,
    covered: ReadonlyMap<string, Position>,
    written?: readonly WrittenProgress[],
  ): Promise<void>;
  /**
   * Another log is gone on in, from `origin`, in a new epoch: stored with where each sink begins in it, in one transaction.
   */
  crossed(identity: LogIdentity, origin: Position, resets: ReadonlyMap<string, SinkReset>): Promise<void>;
  /**
   * Puts sinks elsewhere; each applies it before it goes on. From here on the source keeps the log for them from there, and
   * what it was told it may forget is set back with it, in one transaction.
   */
  reset(resets: ReadonlyMap<string, SinkReset>): Promise<void>;
}

/** What a sink said that it holds. */
export interface WrittenProgress {
  readonly name: string;
  readonly position: Position;
  /** Left out where the store has them. */
  readonly tables?: CompleteTables;
}

/** The store's copy of one sink's progress; the sink's own counts. */
export interface SinkRecord {
  readonly name: string;
  /** What the sink last said that it holds. */
  readonly written: Position | null;
  /** The log up to here has nothing more for the sink than `written` has: at or after `written`. */
  readonly covered: Position | null;
  readonly tables: CompleteTables;
  readonly paused: boolean;
  /** Last failure, for `status` while the daemon is down. */
  readonly error: StoredError | null;
  /** Set while an operator's word has not reached the sink itself. */
  readonly reset?: SinkReset | null;
}

/** Where an operator, or a crossing into another log, has put a sink. */
export interface SinkReset {
  readonly to: Position;
  /** Fill it from the source, whatever it holds: rows that were spoiled by hand too. */
  readonly anew: boolean;
  readonly crossing?: SinkCrossing;
  /**
   * What each table's name stands for now, by its id: the sink keeps what it has of them, wherever it stood, as what differs is
   * listed to be read. Where it has nothing it is filled.
   */
  readonly keeps?: Readonly<Record<string, string>>;
}

/** `to` is where a sink goes on that stands at `from`, with all that it holds. */
export interface SinkCrossing {
  /** Null: no sink does. */
  readonly from: Position | null;
  /** Where any other goes on, filled again. */
  readonly otherwise: Position;
  /** What follows the fingerprint in what sinks record of a complete table, by table id, and what takes its place. */
  readonly generations: Readonly<Record<string, readonly [before: string, now: string]>>;
}

export interface StoredError {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
  readonly at: string;
}

export interface SinkStore {
  all(): Promise<readonly SinkRecord[]>;
  get(name: string): Promise<SinkRecord | null>;
  written(name: string, position: Position, tables: CompleteTables): Promise<void>;
  covered(name: string, position: Position): Promise<void>;
  /** The sink itself stands where its reset put it, holding `tables` completely: the reset is done. */
  settleReset(name: string, position: Position, tables: CompleteTables): Promise<void>;
  setPaused(name: string, paused: boolean): Promise<void>;
  setError(name: string, error: StoredError | null): Promise<void>;
  /** Forgets a sink that left the configuration. */
  remove(name: string): Promise<void>;
}

/** What ties the checkpoints of the sinks to this state: see `Bond`. */
export interface BondStore {
  /** How what the sink says of itself goes with what is stored. */
  accord(sink: string, own: Bond | undefined): Promise<Accord>;
  /** Tables of which something was settled behind this step of the sink: a sink that stands there owes it again. */
  undone(sink: string, step: number): Promise<readonly string[]>;
  /** The sink was opened: stores the session, and that it owes the differences of these tables, in one transaction. */
  enter(sink: string, opening: SinkOpening): Promise<SinkEntry>;
  /** Number of the last obligation that was stored for the sink. */
  obligation(sink: string): Promise<number>;
}

export interface SinkOpening {
  /** What the sink's checkpoint says; undefined: nothing. */
  readonly own: Bond | undefined;
  /** Ids of tables that it may not hold completely although it says so. */
  readonly owed: readonly string[];
  readonly reason: string;
}

/** What the next checkpoints of the sink name; `step` is that of the last one. */
export type SinkEntry = Pick<Bond, "state" | "session" | "step">;

export interface SchemaStore {
  /**
   * The version in force for this shape at this position: the one registered for an equal fingerprint at the latest
   * position not after `position`, when no other shape lies in between; else a new one.
   */
  resolve(shape: TableShape, position: Position): Promise<TableVersion>;
  list(): Promise<readonly TableVersion[]>;
  /** In the order of the log. */
  versions(tableId: string): Promise<readonly TableVersion[]>;
  /**
   * A table whose changes are counted and passed over until an operator lets it in again. What was read of it beside the
   * stream is void with it.
   */
  setAside(tableId: string, error: StoredError): Promise<void>;
  aside(): Promise<ReadonlyMap<string, StoredError>>;
  readmit(tableId: string): Promise<void>;
}

/** A table that one sink can't follow or write. */
export interface SuspendedTable {
  readonly sink: string;
  readonly tableId: string;
  readonly error: StoredError;
  /** Fingerprint of the shape that it could not follow, or write; absent: not known. */
  readonly shape?: string;
}

export interface SuspensionStore {
  list(): Promise<readonly SuspendedTable[]>;
  suspend(table: SuspendedTable): Promise<void>;
  /** The caller has the tables read. */
  reinstate(sink: string, tableIds: readonly string[]): Promise<void>;
}

/** `differences`: what the sink holds is compared with the source, and the rows that differ are read. */
export type RefillScope =
  | { readonly kind: "table" | "differences" }
  | { readonly kind: "where"; readonly where: string };

/** Rows to be read from the source beside the stream for one sink: a whole table, or a part of it. */
export interface Refill extends RefillProgress {
  readonly tableId: string;
  readonly sink: string;
  readonly scope: RefillScope;
  readonly reason: string;
  /** Without it the sink is short of rows: nobody can give it up. */
  readonly needed: boolean;
  readonly state: "waiting" | "running" | "done" | "cancelled";
  readonly createdAt: string;
  /** Of the first chunk that counts, and of the end. */
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

/** How far a refill is: what the next process goes on from. */
export interface RefillProgress {
  readonly id: number;
  /** Grows when the refill begins again from the first key: progress of an earlier attempt is void. */
  readonly attempt: number;
  /** What the sink's copy will be complete for. With another value now, what was read is void. Null until the first chunk. */
  readonly completeness: Completeness | null;
  /** Version of the first low watermark: a whole table's sweep removes what lies below. Null until the first chunk. */
  readonly sweepBelow: bigint | null;
  /** Everything up to this key is durable in the sink. */
  readonly cursor: KeyText | null;
  /** The step of the sink's checkpoint then: a sink at an earlier one has lost rows of it. */
  readonly held: number | null;
  readonly rowsDone: number;
  readonly chunksDone: number;
  /** How often a process went on with what another one had begun. */
  readonly resumedCount: number;
}

const COMPARISONS_MAX = 3;

/** Whether a table differed each time that it was compared, although what differed was read again: a person has to look. */
export function isStubborn({ scope, chunksDone }: Pick<Refill, "scope" | "chunksDone">): boolean {
  return scope.kind === "differences" && chunksDone >= COMPARISONS_MAX;
}

export interface RefillStore {
  /** An unfinished refill of the same table, sink and scope is returned instead of a second one. */
  add(refill: RefillRequest): Promise<Refill>;
  /** The same for many, in one transaction. */
  addAll(refills: readonly RefillRequest[]): Promise<readonly Refill[]>;
  /**
   * The same, but what was read of an unfinished one is void: rows that it has passed may be the ones that are asked for.
   * `isAhead`: of one that nothing was read of yet, which stays as it is. In one transaction, so that none ends in between.
   */
  again(refill: RefillRequest, isAhead: (open: Refill) => boolean): Promise<Refill>;
  /** Unfinished ones, oldest first; with `all` the finished ones too. */
  list(all?: boolean): Promise<readonly Refill[]>;
  /** Stores how far they are, in one transaction. Passes over those that have begun again, or ended, since. */
  advance(progress: readonly RefillProgress[]): Promise<void>;
  /**
   * False, and nothing changed, when it has begun again, or ended, since. `settledAt`: the step of the sink's checkpoint that
   * has its last row.
   */
  finish(progress: RefillProgress, settledAt?: number): Promise<boolean>;
  /** False where there is no such unfinished one; with `evenNeeded` one that the sink is short of rows without, too. */
  cancel(id: number, evenNeeded?: boolean): Promise<boolean>;
  /** Begins again from the first key: what was read does not count any more. */
  restart(id: number): Promise<void>;

  /** Keys that a sink could not complete; `shape`: see `keyShape`. A key listed twice is one entry. */
  addKeys(sink: string, tableId: string, keys: readonly KeyText[], shape?: string): Promise<void>;
  /** The longest waiting keys of these sinks and tables; null: of all tables. */
  keys(sinks: readonly string[], tableIds: readonly string[] | null, limit: number): Promise<readonly PendingKey[]>;
  removeKeys(ids: readonly number[], settled?: SettledKeys): Promise<void>;
  /** Those of the keys that are listed, by their place in `keys`. */
  listed(sink: string, tableId: string, keys: readonly KeyText[]): Promise<ReadonlySet<number>>;
  countKeys(): Promise<number>;
}

export type RefillRequest = Pick<Refill, "tableId" | "sink" | "scope" | "reason"> & { readonly needed?: boolean };

/** Where keys were read and not merely given up: `step` is that of the sink's checkpoint that has the last of their rows. */
export interface SettledKeys {
  readonly sink: string;
  readonly tableId: string;
  readonly step: number;
}

export interface PendingKey {
  readonly id: number;
  readonly sink: string;
  readonly tableId: string;
  readonly key: KeyText;
  /** What the key consisted of when it was listed (`keyShape`); empty where that is not known. */
  readonly shape: string;
}

export interface DeadLetter {
  readonly id: number;
  readonly sink: string;
  readonly tableId: string;
  readonly key: KeyText;
  readonly op: string;
  readonly position: Position;
  readonly code: string;
  /** Why, without cell values. */
  readonly reason: string;
  /** The envelope as JSON. */
  readonly envelope: string;
  readonly createdAt: string;
  readonly state: "waiting" | "superseded" | "replayed" | "discarded";
}

/** What the comparison that was begun last has found, until it ends. */
export interface ComparisonStore {
  /** In the place of what was kept, of whichever comparison. */
  save(id: string, content: string): Promise<void>;
  get(id: string): Promise<string | null>;
  forget(id: string): Promise<void>;
}

export interface DeadLetterStore {
  /** A letter for the same sink, table and key replaces the waiting one. */
  add(letter: Omit<DeadLetter, "id" | "createdAt" | "state">): Promise<void>;
  list(filter?: { readonly sink?: string; readonly state?: DeadLetter["state"] }): Promise<readonly DeadLetter[]>;
  get(id: number): Promise<DeadLetter | null>;
  /** Waiting letters per sink. */
  counts(): Promise<ReadonlyMap<string, number>>;
  /** All letters of a table, of every sink: they hold values that the configuration has hidden since. */
  forget(tableId: string): Promise<void>;
  /** Keys of a sink with a waiting letter that were written since are superseded. */
  supersede(sink: string, tableId: string, keys: readonly KeyText[]): Promise<void>;
}

/** What comparisons have found: the newest ones, a bounded number. */
export interface ReportStore {
  /** Without effect where one of this id is kept. */
  add(found: ReconcileDocument): Promise<void>;
  /** Newest first. */
  list(): Promise<readonly ReportSummary[]>;
  get(id: string): Promise<ReconcileDocument | null>;
}
