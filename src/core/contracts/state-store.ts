import type { AuditStore } from "../audit/audit-store.ts";
import type { EndingStore, NoticeStore } from "../conditions/condition.ts";
import type { Accord, Bond, Completeness, CompleteTables, Checkpoint } from "../checkpoint.ts";
import type { Described, Fields } from "../described.ts";
import type { MillraceError } from "../errors.ts";
import type { Position } from "../model/position.ts";
import type { ReconcileDocument, ReportSummary } from "./reconciliation.ts";
import type { TableVersion } from "../model/schema.ts";
import type { KeyText } from "./row-reads.ts";
import type { LogRecord } from "./log-admin.ts";
import type { LogIdentity } from "./positions.ts";
import type { TableShape } from "./catalog.ts";
import type { Rename } from "./change-log.ts";

/**
 * What Millrace remembers outside of the sinks: one store per configuration, written only by the holder of its lease. Every
 * method resolves when its effect is durable (SQLite: synchronous=FULL): acknowledgements rely on that.
 */
export interface StateStore {
  readonly lease: LeaseStore;
  readonly source: SourceStore;
  /** The record of the nest, which is a source too: of documents. */
  readonly nest: SourceStore;
  readonly sinks: SinkStore;
  readonly bonds: BondStore;
  readonly checkpoints: CheckpointStore;
  readonly numbers: NumberStore;
  readonly schemas: SchemaStore;
  readonly suspensions: SuspensionStore;
  readonly snapshots: SnapshotStore;
  readonly deadLetters: DeadLetterStore;
  readonly reports: ReportStore;
  readonly comparisons: ComparisonStore;
  readonly proofs: ProofStore;
  readonly audit: AuditStore;
  readonly notices: NoticeStore;
  readonly ending: EndingStore;
  /** The whole content as of one moment: what another machine needs to continue. */
  dump(): Promise<StateDump>;
  /** Replaces the whole content by a dump. Only for the holder of the lease, who then releases it. */
  restore(dump: StateDump): Promise<void>;
  /** Removes the store and closes it. Only for the holder of the lease, which ends with it. */
  remove(): Promise<void>;
  close(): Promise<void>;
  /** Why its calls wait now, where they wait by themselves. */
  readonly waitsFor?: () => StateWait | null;
}

export interface StateWait {
  readonly error: StoredError;
  /** True if nothing has failed yet, but there is no answer. */
  readonly isSilent: boolean;
}

/** Rows by table, in the form of one version of the state. */
export interface StateDump {
  readonly migration: number;
  /** Number of the last lease: it must grow, because it fences the sinks. */
  readonly leaseNumber: number;
  readonly relations: Readonly<Record<string, readonly StateRow[]>>;
}

export type StateRow = Readonly<Record<string, string | number | null>>;

export interface Lease {
  /** Grows with every acquisition: the fencing number that sinks compare. */
  readonly number: number;
  /** Who holds it: host, pid, since when. For people. */
  readonly holder: string;
  /** Until it expires, by the clock of the state; negative: it has expired. */
  readonly leftMs: number;
}

export interface Acquired {
  readonly taken: boolean;
  readonly lease: Lease;
  readonly isInherited: boolean;
}

export interface LeaseStore {
  /**
   * Takes the lease if it is free, expired, or held by a holder for whom `isGone` is true; otherwise returns the
   * present lease and takes nothing. `isInherited`: the holder before did not release it.
   */
  acquire(holder: string, durationMs: number, isGone?: (holder: string) => boolean): Promise<Acquired>;
  /**
   * Who keeps `acquire` from taking it. A lease that lasts longer than `durationMs` is shortened to that: the clock was set back
   * since, and a holder that lives renews it in time.
   */
  holder(durationMs: number, isGone?: (holder: string) => boolean): Promise<Lease | null>;
  /** False when another process has taken the expired lease: the caller must stop at once. */
  renew(number: number, durationMs: number): Promise<boolean>;
  release(number: number): Promise<void>;
  current(): Promise<Lease | null>;
  /** The last lease that was not released. It may have expired, for example if its daemon hangs. */
  unreleased(): Promise<Lease | null>;
}

/** The record of a source whose first start has ended. */
export type StartedRecord = SourceRecord & { readonly identity: LogIdentity };

export function hasIdentity(record: SourceRecord): record is StartedRecord {
  return record.identity !== null;
}

export interface SourceRecord extends LogRecord {
  readonly epoch: number;
  /** See `looked`. */
  readonly hasLooked: boolean;
  /** Where the stream began at the first start. */
  readonly origin: Position | null;
  /** The highest position up to which the source may forget its log. Stored before the source is told. */
  readonly acknowledged: Position | null;
  /** When that was stored: the source has forgotten only what was committed earlier. */
  readonly acknowledgedAt?: string | null;
  /** See `foresee`. */
  readonly foreseen?: Position | null;
}

export interface SourceStore {
  get(): Promise<SourceRecord | null>;
  /** A first start begins. */
  announce(epoch: number): Promise<void>;
  /** It found no log of its name at the source and makes it now: after a crash, what is there is recognised as ours. */
  making(): Promise<void>;
  created(identity: LogIdentity, origin: Position): Promise<void>;
  /** All tables that the source had at the first look are registered: a table that comes from here on is new. */
  looked(): Promise<void>;
  identify(identity: LogIdentity): Promise<void>;
  /** Rules have changed: each start before this position looks for what tables become further on in the log. Never moves back. */
  foresee(until: Position): Promise<void>;
  /** Stores the sinks' positions, and with them the position to acknowledge, in one transaction. */
  acknowledge(
    position: Position,
    covered: ReadonlyMap<string, Position>,
    checkpoints?: readonly SinkCheckpoint[],
  ): Promise<void>;
  /** The stream continues in another log, from `origin`, in a new epoch: stored at once with each sink's start in it. */
  crossed(identity: LogIdentity, origin: Position, resets: ReadonlyMap<string, SinkReset>): Promise<void>;
  /**
   * Moves sinks to other positions; each applies that before it continues. From here on the source keeps its log from
   * there, so the acknowledged position goes back too, in one transaction.
   */
  reset(resets: ReadonlyMap<string, SinkReset>): Promise<void>;
}

export interface SinkCheckpoint {
  readonly name: string;
  readonly position: Position;
  /** Omitted if the store has them already. */
  readonly tables?: CompleteTables;
}

/** The store's copy of one sink's progress; the sink's own counts. */
export interface SinkRecord {
  readonly name: string;
  /** The position of the last checkpoint that the sink reported as durable. */
  readonly checkpoint: Position | null;
  /** Up to here the log has nothing for the sink beyond `checkpoint`; at or after `checkpoint`. */
  readonly covered: Position | null;
  readonly tables: CompleteTables;
  readonly paused: boolean;
  /** The last failure, for `status` while no daemon runs. */
  readonly error: StoredError | null;
  /** Set while an operator's reset has not reached the sink itself. */
  readonly reset?: WaitingReset | null;
  readonly lost?: LostChanges | null;
  /** Tables that the sink had, and that its `tables` leave out. */
  readonly leftOut?: readonly string[];
}

/** What the sink's readers, or its history, lack for good. */
export type LostChanges = Described<typeof LOST_CHANGES>;

export const LOST_CHANGES = {
  what: ["text", "what, and why"],
  since: ["time", "when the first of it was lost"],
  until: ["time", "when the last of it was lost"],
} as const satisfies Fields;

/** One loss: why changes did not reach the sink, and what that means for those who read it. */
export interface Loss {
  readonly why: string;
  readonly means: string;
  readonly at: string;
}

/** Whoever reads what was lost wants a sentence, not a list of a thousand tables. */
const LOSS_LENGTH_MAX = 1_000;

/** Together with what was lost before, of which nobody has told the readers yet. */
export function withLoss(before: LostChanges | null, { why, means, at }: Loss): LostChanges {
  if (before === null) return { what: `${why}; ${means}`, since: at, until: at };
  const isKnown = before.what.includes(why) || before.what.length + why.length > LOSS_LENGTH_MAX;
  return { ...before, what: isKnown ? before.what : `${why}, and ${before.what}`, until: at };
}

/** The new position of a sink, from an operator or from a crossing into another log. */
export interface SinkReset {
  readonly to: Position;
  /** Fill the sink from the source whatever it holds, also over rows changed by hand. */
  readonly anew: boolean;
  readonly crossing?: SinkCrossing;
  /**
   * The generation of each table now, by its id: the sink keeps its rows of them, whatever its position was, because
   * the differences are listed to be read. It is filled only if it holds nothing.
   */
  readonly keeps?: Readonly<Record<string, string>>;
}

export interface WaitingReset extends SinkReset {
  /** Random: a sink that names it has done it. */
  readonly id: string;
}

/** A sink at `from` continues at `to`, with all that it holds. */
export interface SinkCrossing {
  /** Null: no sink does. */
  readonly from: Position | null;
  /** The new log has everything that precedes this position of the former one, and may lack what follows. */
  readonly common: Position;
  /** Up to there positions mean the same in both: a sink between `from` and there continues where it is. */
  readonly isContinued?: true;
  /** Where every other sink continues, filled again. */
  readonly otherwise: Position;
  /** New generations of complete tables, by table id: the value before and the value now. */
  readonly generations: Readonly<Record<string, readonly [before: string, now: string]>>;
}

export type StoredError = Described<typeof STORED_ERROR>;

export const STORED_ERROR = {
  code: ["text", "the number, `MR` and four digits; `millrace explain` shows its page"],
  message: ["text", "what is wrong"],
  hint: [{ orNull: "text" }, "what to do"],
  at: ["time", "time of the last attempt"],
  since: [{ optional: "time" }, "time of the first attempt that failed, of those in a row; absent: the same"],
  isOfSource: [{ optional: "boolean" }, "of a sink: true where it waits for the source, which fails; else absent"],
} as const satisfies Fields;

export function storedErrorOf({ code, message, hint }: MillraceError, at: string, since?: string): StoredError {
  return { code, message, hint: hint ?? null, at, ...(since === undefined ? {} : { since }) };
}

export interface SinkStore {
  all(): Promise<readonly SinkRecord[]>;
  get(name: string): Promise<SinkRecord | null>;
  setCheckpoint(name: string, position: Position, tables: CompleteTables): Promise<void>;
  covered(name: string, position: Position): Promise<void>;
  /** The sink itself has reached the position of its reset and holds `tables` completely: the reset is done. */
  finishReset(name: string, position: Position, tables: CompleteTables): Promise<void>;
  setPaused(name: string, paused: boolean): Promise<void>;
  setError(name: string, error: StoredError | null): Promise<void>;
  /** Added to what is kept of earlier losses, until somebody has seen to them: null. */
  setLost(name: string, loss: Loss | null): Promise<void>;
  setLeftOut(name: string, tableIds: readonly string[]): Promise<void>;
  /**
   * The sink holds nothing, or nothing that counts, and is filled again. What operators decided about it stays; `loss` is added
   * to what its readers lack, and the reads are needed. In one transaction.
   */
  empty(name: string, loss: Loss | null, reads: readonly SnapshotRequest[]): Promise<void>;
  /** Forgets a sink that left the configuration. */
  remove(name: string): Promise<void>;
}

/** Links the checkpoints of the sinks to this state: see `Bond`. */
export interface BondStore {
  /** How the sink's checkpoint matches what is stored; undefined: it has none. */
  accord(sink: string, own: Bond | undefined): Promise<Accord>;
  /** Tables of which something was settled after this batch of the sink: a sink at that batch owes it again. */
  undone(sink: string, batch: number): Promise<readonly string[]>;
  /**
   * The sink was opened: stores the session and the sink's debts (tables whose differences must be compared), in one
   * transaction.
   */
  enter(sink: string, opening: SinkOpening): Promise<SinkEntry>;
  /** The sink's session ends, and the sink holds nothing beyond its checkpoint. */
  leave(sink: string): Promise<void>;
  /** From here on the sink may hold rows beyond its checkpoint, until it is left. */
  exceed(sink: string): Promise<void>;
  /** Whether the sink holds nothing beyond its checkpoint: its last session was left, or there was none. */
  isLeft(sink: string): Promise<boolean>;
  /** Number of the last obligation that was stored for the sink. */
  obligation(sink: string): Promise<number>;
}

/** The checkpoints of sinks that keep nothing themselves. */
export interface CheckpointStore {
  get(sink: string): Promise<Checkpoint | null>;
  put(sink: string, checkpoint: Checkpoint): Promise<void>;
}

/** Which numbers sinks gave to their readers (`TargetNumbers`). It stays when a sink is emptied, or leaves the configuration. */
export interface NumberStore {
  /** All are below; 0: there are none. */
  reserved(sink: string): Promise<number>;
  reserve(sink: string, below: number): Promise<void>;
}

export interface SinkOpening {
  /** The bond in the sink's checkpoint; undefined: none. */
  readonly own: Bond | undefined;
  /** Ids of tables that the sink may not hold completely although it says so. */
  readonly owed: readonly string[];
  readonly reason: string;
  /** True: no batch of the sink ends in part, so that this session counts as left until `exceed`, if the one before was left. */
  readonly isLeft?: boolean;
}

/** What the next checkpoints of the sink contain; `batch` and `resets` are those of the last one. */
export interface SinkEntry extends Omit<Bond, "obligation"> {
  /** The session before was left, or there was none. */
  readonly wasLeft: boolean;
}

export interface SchemaStore {
  /**
   * For each of these shapes, of different tables, the version in force at this position: the one registered for an equal
   * fingerprint at the latest position not after `position`, when no other shape lies in between; else a new one. In one
   * transaction.
   */
  resolve(shapes: readonly TableShape[], position: Position): Promise<readonly TableVersion[]>;
  /** The newest of each table. */
  list(): Promise<readonly TableVersion[]>;
  /** All of tables that another share has, as far as they stand under rules. */
  elsewhere(): Promise<readonly TableVersion[]>;
  /** In the order of the log. */
  versions(tableId: string): Promise<readonly TableVersion[]>;
  /** Renames of tables that stood under rules; those of one position once. */
  rename(renames: StoredRenames["renames"], position: Position): Promise<void>;
  renames(): Promise<readonly StoredRenames[]>;
}

/** In place of renames: from the position on the log was passed over, and any tables may have exchanged their names there. */
export const UNREAD = "unread";

export interface StoredRenames {
  readonly position: Position;
  readonly renames: readonly (Rename | typeof UNREAD)[];
}

/** A table whose changes are skipped until it is reinstated. */
export interface SuspendedTable {
  /** The sink that can't follow or write it; null: nothing can, and every sink skips its changes. */
  readonly sink: string | null;
  readonly tableId: string;
  readonly error: StoredError;
  /** Fingerprint of the shape that the sink could not follow or write. Absent: no other shape makes a difference. */
  readonly shape?: string;
  /** Of a table that an operator has paused: why it had no target, which the pause does not give it. Absent: it had one. */
  readonly former?: StoredError;
}

/** The code of a table that an operator has paused in a sink. */
export const TABLE_PAUSED = "MR1326";

export interface SuspensionStore {
  list(): Promise<readonly SuspendedTable[]>;
  /** In one transaction. Rows of the tables that were read beside the stream, for the sink or for all, become void. */
  suspend(tables: readonly SuspendedTable[]): Promise<void>;
  /** The caller requests the reading of these tables. */
  reinstate(sink: string | null, tableIds: readonly string[]): Promise<void>;
}

/** `differences`: the sink is compared with the source, and differing rows are read. */
export type SnapshotScope =
  | { readonly kind: "table" | "differences" }
  | { readonly kind: "where"; readonly where: string };

/** Rows to read from the source beside the stream for one sink: a whole table, or a part of it. */
export interface TableSnapshot extends SnapshotProgress {
  readonly tableId: string;
  readonly sink: string;
  readonly scope: SnapshotScope;
  readonly reason: string;
  /** Without it the sink lacks rows, so nobody can cancel it. */
  readonly needed: boolean;
  readonly state: "waiting" | "running" | "done" | "cancelled";
  readonly createdAt: string;
  /** Times of the first chunk that counts, and of the end. */
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

/** The progress of an incremental snapshot: the next process continues from it. */
export interface SnapshotProgress {
  readonly id: number;
  /** Grows when the incremental snapshot starts again from the first key: progress of an earlier attempt is void. */
  readonly attempt: number;
  /**
   * What the sink's copy will be complete for. If that changes, the rows read so far are void. Null until the first
   * chunk.
   */
  readonly completeness: Completeness | null;
  /** Version of the first low watermark: the sweep of a whole table removes lower ones. Null until the first chunk. */
  readonly sweepBelow: bigint | null;
  /** Everything up to this key is durable in the sink. */
  readonly cursor: KeyText | null;
  /** The batch of the sink's checkpoint at that time: a sink at an earlier batch has lost rows of it. */
  readonly held: number | null;
  readonly rowsDone: number;
  readonly chunksDone: number;
  /** How often another process continued it. */
  readonly resumedCount: number;
}

export interface EndedSnapshot {
  readonly progress: SnapshotProgress;
  /** See `SnapshotStore.finish`. */
  readonly settledAt?: number | undefined;
}

const COMPARISONS_MAX = 3;

/** Whether a table differed at each comparison although its differences were read again: a person has to look. */
export function isStubborn({ scope, chunksDone }: Pick<TableSnapshot, "scope" | "chunksDone">): boolean {
  return scope.kind === "differences" && chunksDone >= COMPARISONS_MAX;
}

export interface SnapshotStore {
  /** Returns an unfinished incremental snapshot of the same table, sink and scope instead of adding a second one. */
  add(snapshot: SnapshotRequest): Promise<TableSnapshot>;
  /** The same for many, in one transaction. */
  addAll(snapshots: readonly SnapshotRequest[]): Promise<readonly TableSnapshot[]>;
  /**
   * The same for many, but an unfinished incremental snapshot starts again: it may have passed rows that are wanted now. One for which
   * `isAhead` is true has read nothing yet, and stays. Either has this request's reason from now on. In one transaction, so that no
   * incremental snapshot ends in between.
   */
  again(
    snapshots: readonly SnapshotRequest[],
    isAhead: (open: TableSnapshot) => boolean,
  ): Promise<readonly TableSnapshot[]>;
  /** Unfinished ones, oldest first; with `all` also the finished ones. */
  list(all?: boolean): Promise<readonly TableSnapshot[]>;
  /** Unfinished comparisons, oldest first. The cost does not grow with the tables to read. */
  differences(): Promise<readonly TableSnapshot[]>;
  /** Unfinished ones of one sink's table. The cost does not grow with those of others. */
  unfinished(sink: string, tableId: string): Promise<readonly TableSnapshot[]>;
  /** Stores their progress in one transaction. Skips incremental snapshots that have started again, or ended, since. */
  advance(checkpoint: readonly SnapshotProgress[]): Promise<void>;
  /**
   * Returns false, and changes nothing, if the incremental snapshot has started again, or ended, since. `settledAt`: the batch of the
   * sink's checkpoint that contains its last row.
   */
  finish(checkpoint: SnapshotProgress, settledAt?: number): Promise<boolean>;
  /** The same for many, in one transaction. */
  finishAll(ended: readonly EndedSnapshot[]): Promise<readonly boolean[]>;
  /**
   * In one transaction. Returns those that were unfinished. `evenNeeded` also cancels those without which their sinks lack
   * rows. `why` replaces their reasons.
   */
  cancel(ids: readonly number[], evenNeeded?: boolean, why?: string): Promise<readonly number[]>;
  /** They start again from the first key; what was read does not count any more. In one transaction. */
  restart(ids: readonly number[]): Promise<void>;

  /** Adds keys that a sink could not complete; `shape`: see `keyShape`. A key listed twice is one entry. */
  addKeys(sink: string, tableId: string, keys: readonly KeyText[], shape?: string): Promise<void>;
  /**
   * The oldest keys of these sinks and tables, all of one sink's table before those of the next; null: of all tables. The
   * table whose key has waited longest comes first. The cost does not grow with the number of keys.
   */
  keys(sinks: readonly string[], tableIds: readonly string[] | null, limit: number): Promise<readonly PendingKey[]>;
  tablesOfKeys(): Promise<readonly string[]>;
  removeKeys(ids: readonly number[], settled?: SettledKeys): Promise<void>;
  /** Indexes in `keys` of those that are listed. */
  listed(sink: string, tableId: string, keys: readonly KeyText[]): Promise<ReadonlySet<number>>;
  /** By sink and table; of one that is not there none are listed. */
  countKeys(): Promise<ReadonlyMap<string, ReadonlyMap<string, number>>>;
}

export type SnapshotRequest = Pick<TableSnapshot, "tableId" | "sink" | "scope" | "reason"> & {
  readonly needed?: boolean;
};

/**
 * For keys that were read and not cancelled: `batch` is that of the sink's checkpoint that contains the last of their
 * rows.
 */
export interface SettledKeys {
  readonly sink: string;
  readonly tableId: string;
  readonly batch: number;
}

export interface PendingKey {
  readonly id: number;
  readonly sink: string;
  readonly tableId: string;
  readonly key: KeyText;
  /** The columns of the key when it was listed (`keyShape`); empty if unknown. */
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
  /** The reason, without cell values. */
  readonly reason: string;
  readonly createdAt: string;
  /** How often the target refused the row, replays included. */
  readonly attempts: number;
  /** A `discarded` one becomes `superseded`, too, when its key is written: until then the sink's row lacks the change. */
  readonly state: "waiting" | "superseded" | "replayed" | "discarded";
}

/** `envelope`: the row as JSON, which may be large. */
export type NewLetter = Omit<DeadLetter, "id" | "createdAt" | "state" | "attempts"> & { readonly envelope: string };

export interface LetterChange {
  readonly from: DeadLetter["state"];
  readonly to: DeadLetter["state"];
}

/** The findings of the newest comparison until it ends. */
export interface ComparisonStore {
  /**
   * Replaces what was stored, of any comparison. `content`: JSON with `startedAt`. Items of its lists are of a table each, which
   * they name as `table` or in the first place.
   */
  save(id: string, content: string): Promise<void>;
  /** Null too if it was begun 30 days ago. */
  get(id: string): Promise<string | null>;
  /** Removes what is stored of a table, with the keys of its rows: the configuration may hide them by now. */
  forgetTable(tableId: string): Promise<void>;
  /** Removes what nobody has resumed for 30 days. */
  prune(): Promise<void>;
}

/** One table in one sink. */
export interface ProofPlace {
  readonly table: string;
  readonly sink: string;
}

/** What comparisons have proven of one table in one sink. */
export type ProofRecord = Described<typeof PROOF_RECORD>;

export const PROOF_RECORD = {
  table: ["text", "SCHEMA.TABLE"],
  sink: ["text", "its name"],
  since: ["time", "since when the table in the sink is to be proven"],
  lookedAt: [{ orNull: "time" }, "when the range that waits longest was compared; null: never"],
  provenAt: [{ orNull: "time" }, "every row was found equal then or later; null: some never was"],
  position: [{ orNull: "position" }, "where the log was at that time"],
  ranges: ["count", "ranges of keys whose proofs are of different age"],
  missing: ["rows", "rows of the source that the sink lacked at the last look at their range"],
  extra: ["rows", "rows of the sink that the source lacked"],
  different: ["rows", "rows with different values"],
} as const satisfies Fields;

export type ProofFacts = Omit<ProofRecord, "since">;

export interface ProofLedger extends ProofPlace {
  /** See `ProofRecord`. */
  readonly since: string;
  /** How often it became void. */
  readonly voided: number;
  /** The sink's last opening; 0: there was none. */
  readonly opening: number;
  /** Null: nothing is proven. */
  readonly content: string | null;
}

/** When a comparison of a place began, and up to which batch of the sink it has compared. */
export interface ProofMark extends Pick<ProofLedger, "since" | "voided" | "opening"> {
  readonly step: number;
}

/**
 * What comparisons have proven. It becomes void in the transaction that stores why: rows are to be read
 * again, the table has another shape, the sink was reset, or has gone back to an earlier batch.
 */
export interface ProofStore {
  /** These are to be proven from here on, and no others, but for those of `kept`, tables that do not flow now. */
  know(places: readonly ProofPlace[], kept: readonly string[]): Promise<void>;
  list(): Promise<readonly ProofRecord[]>;
  /**
   * Those of these sinks that were looked at longest ago, and before this time; null: those that were never looked at as a whole,
   * the least known first.
   */
  next(sinks: readonly string[], before: string | null, limit: number): Promise<readonly ProofPlace[]>;
  ofTable(tableId: string): Promise<readonly ProofLedger[]>;
  /**
   * Whether what was compared tells of what the sink holds now: since it began nothing became void, and no earlier copy of the
   * sink was opened than the one with the batch `step`.
   */
  stands(place: ProofPlace, mark: ProofMark): Promise<boolean>;
  /**
   * False, and without effect, if it does not stand, or another one was stored since `ledger` was read. `step`: the batch of
   * the sink's checkpoint then.
   */
  save(ledger: ProofLedger, record: ProofFacts, step: number, content: string): Promise<boolean>;
}

export interface WaitingLetters {
  readonly count: number;
  /** Of the newest: its table, the number of its error and what that says. */
  readonly last: string;
  /** When the oldest was stored. */
  readonly since: string;
}

export interface DeadLetterStore {
  /** A letter for the same sink, table and key replaces the waiting one. */
  add(letter: NewLetter): Promise<void>;
  list(filter?: { readonly sink?: string; readonly state?: DeadLetter["state"] }): Promise<readonly DeadLetter[]>;
  /**
   * Those of a sink whose changes its rows lack: they wait, or were discarded and their keys not written since. Of too many
   * discarded ones the oldest end, and their keys are listed to be read.
   */
  lacking(sink: string): Promise<readonly DeadLetter[]>;
  get(id: number): Promise<DeadLetter | null>;
  /** Null if there is no such letter. */
  envelope(id: number): Promise<string | null>;
  /** Per sink. */
  waiting(): Promise<ReadonlyMap<string, WaitingLetters>>;
  /**
   * Removes all letters of a table, of every sink: they hold values that the configuration hides by now. A sink with `lacking`
   * ones lacks their rows, whichever rules come next: the table is to be read again for it.
   */
  forget(tableId: string): Promise<void>;
  /** Supersedes those of a sink's `lacking` letters whose keys have been written since. */
  supersede(sink: string, tableId: string, keys: readonly KeyText[]): Promise<void>;
  /** The same of all that are older than this row version: their rows are gone. */
  supersedeOlder(sink: string, tableId: string, version: bigint): Promise<void>;
  /** Changes the state of those of these letters that are in state `from`; returns how many were. */
  settle(ids: readonly number[], change: LetterChange): Promise<number>;
}

/** Results of comparisons: only the newest ones. */
export interface ReportStore {
  /**
   * The comparison has ended: in the same step this removes what `ComparisonStore` has of it. A second one of the same id
   * replaces nothing.
   */
  add(found: ReconcileDocument): Promise<void>;
  /** Newest first. */
  list(): Promise<readonly ReportSummary[]>;
  get(id: string): Promise<ReconcileDocument | null>;
  /** Removes the keys of a table's rows from all reports: the configuration may hide them by now. */
  forgetKeys(tableId: string): Promise<void>;
}
