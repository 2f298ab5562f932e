/**
 * The document of `status --json` and of the API: public interface, extended freely and never broken. What each field means
 * is in ops/status-fields.ts, from which docs/status.md and the API's schema are made. Every field is always there, but for
 * those with a question mark; what is not known, for example because no daemon runs, is null.
 */
import type { Condition, Verdict } from "../conditions/condition.ts";
import type { Room } from "../disk-room.ts";
import { NOT_COUNTED, type SlowFunction, type SourceCounts } from "./log-admin.ts";
import type { ReportSummary } from "./reconciliation.ts";
import type { LostChanges, ProofRecord, StoredError, TableSnapshot, WaitingLetters } from "./state-store.ts";
import type { TargetHint } from "./sink.ts";
import type { SinkState } from "./telemetry.ts";

export interface StatusDocument extends PipelineStatus {
  readonly state: StateStatus;
  readonly reconcile: ComparisonStatus;
  readonly notify?: { readonly error: StoredError | null };
  readonly config?: { readonly changedAt: string | null };
  readonly verdict: Verdict;
  readonly conditions: readonly Condition[];
}

export interface StateStatus {
  readonly error: StoredError | null;
  /** See StateWait. */
  readonly isSilent?: boolean;
  readonly rooms?: readonly Room[];
}

export interface ComparisonStatus {
  readonly next: string | null;
  readonly last: ReportSummary | null;
  readonly drift: ReportSummary | null;
  readonly failure: StoredError | null;
  readonly overdueSince?: string | null;
  readonly continuous?: ContinuousStatus | null;
}

/** With `reconcile.continuous`. */
export interface ContinuousStatus {
  readonly maxAgeSeconds: number;
  readonly waits: string | null;
  readonly places: number;
  readonly neverProven: number;
  readonly late: number;
  readonly oldest: ProofRecord | null;
  readonly drift: { readonly places: number; readonly rows: number; readonly worst: ProofRecord } | null;
}

export const SOURCE_ACTIVITIES = ["idle", "flowing", "slow", "blocked", "half-open", "away"] as const;
export type SourceActivity = (typeof SOURCE_ACTIVITIES)[number];

export const SINK_ACTIVITIES = ["idle", "flowing", "slow", "blocked", "wedged", "away", "stopped"] as const;
export type SinkActivity = (typeof SINK_ACTIVITIES)[number];

/** Rows on their way through the pipeline. */
export interface PipelineStatus {
  readonly name: string;
  readonly phase: string;
  readonly source: SourceStatus;
  readonly sinks: readonly SinkStatus[];
  readonly tables: TablesStatus;
  readonly documents?: readonly DocumentStatus[];
  readonly unfinishedSnapshots: number;
  readonly snapshots: readonly SnapshotStatus[];
  /** Null if no daemon runs: then everything is as the state store last knew it. */
  readonly daemon: { readonly pid: number; readonly startedAt: string } | null;
  readonly heldBy?: string;
  readonly lastSeenAt?: string;
  readonly ended?: StoredError;
}

export interface SourceStatus extends SourceCounts {
  readonly kind: string;
  readonly up: boolean;
  readonly activity: SourceActivity | null;
  readonly blockedBy: readonly string[];
  readonly position: string | null;
  readonly acknowledged: string | null;
  readonly lagBytes: number | null;
  readonly lagSeconds: number | null;
  readonly retainedBytes: number | null;
  readonly retainedBytesMax: number | null;
  readonly readsPaused: boolean;
  readonly safeBytes: number | null;
  readonly safeSeconds: number | null;
  readonly log: KeptLogStatus | null;
  readonly warnings: readonly string[];
  readonly hints: readonly string[];
  readonly slowFunctions: readonly SlowFunction[];
  readonly error: StoredError | null;
  readonly answeredAt: string | null;
  readonly unanswered: StoredError | null;
  readonly needsPerson: boolean;
  readonly goneBack: GoneBackStatus | null;
  readonly copy: CopyStatus | null;
}

/** How far rows are read, by the source's statistics of its tables. */
export interface ReadProgress {
  readonly rowsEstimated: number | null;
  readonly share: number | null;
  readonly secondsLeft: number | null;
}

export interface CopyStatus extends ReadProgress {
  readonly tableCount: number;
  readonly tablesDone: number;
  readonly rowsRead: number;
}

export interface KeptLogStatus {
  readonly from: string | null;
  readonly confirmed: string | null;
  readonly state: string;
}

/** The stream started again at the position of some sinks that can't have a stream of their own; the others wait. */
export interface GoneBackStatus {
  readonly sinks: readonly string[];
  readonly until: string;
  readonly error: StoredError;
}

export interface SinkStatus {
  readonly name: string;
  readonly kind: string;
  readonly place: string | null;
  readonly state: SinkState;
  readonly activity: SinkActivity | null;
  readonly position: string | null;
  readonly lagSeconds: number | null;
  readonly lagBytes: number | null;
  readonly unansweredSeconds: number | null;
  readonly deadLetters: number;
  readonly lastRefusal: string | null;
  readonly refusedSince: string | null;
  readonly error: StoredError | null;
  readonly needsPerson: boolean;
  readonly lost: LostChanges | null;
  readonly isMoved: boolean;
  readonly catchingUp: boolean;
  readonly waitsFor: readonly string[];
  readonly deadRows?: number;
  readonly hints?: readonly TargetHint[];
  readonly rooms?: readonly Room[];
}

/** Objects made of rows of several tables (docs/documents.md). */
export interface DocumentStatus {
  readonly name: string;
  readonly table: string;
  readonly sinks: readonly string[];
  readonly isFilled: boolean;
  readonly lagSeconds: number | null;
  readonly waiting: number;
  readonly isMore: boolean;
  readonly waitingSince: string | null;
}

/** A table, or a part of it, that is read beside the stream for one sink. Without keys: they are values of the source. */
export interface SnapshotStatus
  extends
    ReadProgress,
    Pick<TableSnapshot, "id" | "tableId" | "sink" | "scope" | "reason" | "needed" | "state" | "rowsDone">,
    Pick<TableSnapshot, "chunksDone" | "resumedCount" | "createdAt" | "startedAt" | "endedAt"> {
  readonly error: StoredError | null;
  readonly restartedCount: number;
}

/** The code of a table that an operator has paused in a sink. */
export const TABLE_PAUSED = "MR1326";

export interface TablesStatus {
  readonly captured: number;
  readonly refused: readonly { readonly table: string; readonly reason: string; readonly fix: string }[];
  readonly unreadable: readonly UnreadableTable[];
  readonly suspended: readonly SuspendedStatus[];
  /** `fix`: null if it goes on by itself. */
  readonly pending: readonly { readonly table: string; readonly why: string; readonly fix: string | null }[];
  readonly stubborn: readonly { readonly table: string; readonly sink: string }[];
  readonly areKnown: boolean;
}

interface SuspendedStatus {
  readonly table: string;
  /** Null: every sink skips its changes. */
  readonly sink: string | null;
  readonly error: StoredError;
  readonly mayReturn: boolean;
}

/** Rows of the table must be read beside the stream, and the source refuses that now. The read is tried again. */
export interface UnreadableTable {
  readonly table: string;
  readonly sinks: readonly string[];
  readonly since: string;
  readonly error: StoredError;
}

export const NO_PROGRESS: ReadProgress = { rowsEstimated: null, share: null, secondsLeft: null };

/** `error`: why it makes no progress, as far as the daemon knows. */
export function snapshotStatus(snapshot: TableSnapshot, error: StoredError | null = null): SnapshotStatus {
  const { id, tableId, sink, scope, reason, needed, state, rowsDone, chunksDone, resumedCount } = snapshot;
  const { attempt: restartedCount, createdAt, startedAt, endedAt } = snapshot;
  const progress = { ...NO_PROGRESS, rowsDone, chunksDone, resumedCount, restartedCount };
  return { id, tableId, sink, scope, reason, needed, state, error, ...progress, createdAt, startedAt, endedAt };
}

/** The sink has a part of it. */
export function isRunning({ state }: SnapshotStatus): boolean {
  return state === "running";
}

/** `letters`: undefined if none waits. */
export function letterFacts(
  letters: WaitingLetters | undefined,
): Pick<SinkStatus, "deadLetters" | "lastRefusal" | "refusedSince"> {
  const { count = 0, last = null, since = null } = letters ?? {};
  return { deadLetters: count, lastRefusal: last, refusedSince: since };
}

/** What the configuration names. */
export interface Named {
  readonly name: string;
  readonly source: { readonly kind: string };
  readonly sinks: readonly (Pick<SinkStatus, "name" | "kind"> & { readonly place?: string | null | undefined })[];
}

/** What somebody knows of a pipeline: a daemon of its own, a command from the state store, a start not even that. */
type KnownStatus = Partial<Omit<PipelineStatus, "name" | "source" | "sinks" | "tables">> & {
  readonly source?: Partial<SourceStatus>;
  readonly sinks?: ReadonlyMap<string, Partial<SinkStatus>>;
  readonly tables?: Partial<TablesStatus>;
};

const UNKNOWN = { activity: null, position: null, lagBytes: null, lagSeconds: null, error: null, needsPerson: false };

/** The one place that makes the document. */
export function pipelineStatus({ name, source, sinks }: Named, known: KnownStatus): PipelineStatus {
  return {
    name,
    phase: "stopped",
    unfinishedSnapshots: 0,
    snapshots: [],
    daemon: null,
    ...known,
    source: {
      kind: source.kind,
      up: false,
      ...UNKNOWN,
      blockedBy: [],
      acknowledged: null,
      retainedBytes: null,
      retainedBytesMax: null,
      readsPaused: false,
      safeBytes: null,
      safeSeconds: null,
      log: null,
      warnings: [],
      hints: [],
      slowFunctions: [],
      ...NOT_COUNTED,
      answeredAt: null,
      unanswered: null,
      goneBack: null,
      copy: null,
      ...known.source,
    },
    sinks: sinks.map((sink) => ({
      name: sink.name,
      kind: sink.kind,
      place: sink.place ?? null,
      state: "stopped",
      ...UNKNOWN,
      unansweredSeconds: null,
      deadLetters: 0,
      lastRefusal: null,
      refusedSince: null,
      lost: null,
      isMoved: false,
      catchingUp: false,
      waitsFor: [],
      ...known.sinks?.get(sink.name),
    })),
    tables: {
      captured: 0,
      refused: [],
      unreadable: [],
      suspended: [],
      pending: [],
      stubborn: [],
      areKnown: false,
      ...known.tables,
    },
  };
}
