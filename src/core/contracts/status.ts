import type { Condition, Verdict } from "../conditions/condition.ts";
import type { SourceCounts } from "./source-counters.ts";
import type { ReportSummary } from "./reconciliation.ts";
import type { TableSnapshot, StoredError } from "./state-store.ts";
import type { TargetHint } from "./sink.ts";
import type { SinkState } from "./telemetry.ts";

/** The document of `status --json` and of the API: public interface, extended freely and never broken. */
export interface StatusDocument extends PipelineStatus {
  /** Why the state can't be written now; null if it can. */
  readonly state: { readonly error: StoredError | null };
  readonly reconcile: ComparisonStatus;
  /** Why the receiver of `notify.webhook` could not be told last; null: it was, or nobody is to be told. */
  readonly notify?: { readonly error: StoredError | null };
  /** Since when the config file says something else than it said when the daemon started; null: it does not. */
  readonly config?: { readonly changedAt: string | null };
  /** What the conditions come to. */
  readonly verdict: Verdict;
  /** What is not, or not yet, as it should be. Nothing: all is well. */
  readonly conditions: readonly Condition[];
}

export interface ComparisonStatus {
  /** When the next scheduled comparison begins; null if none is scheduled, or no daemon runs. */
  readonly next: string | null;
  /** The newest stored comparison that has ended. */
  readonly last: ReportSummary | null;
  /** The newest that found more drift than allowed, unless a later full comparison found none. */
  readonly drift: ReportSummary | null;
  /**
   * Why the newest scheduled comparison did not end, unless a later comparison did; this process only. Absent from a daemon
   * of an earlier version, which may still run when the command is newer.
   */
  readonly failure?: StoredError | null;
}

/**
 * What the stream from the source does. `slow`: it is behind the log although no sink holds it up. `blocked`: it waits for
 * sinks. `half-open`: the connection stood and nothing came, so it was cut; the source is not back yet. `away`: the source
 * does not answer, or refuses.
 */
export const SOURCE_ACTIVITIES = ["idle", "flowing", "slow", "blocked", "half-open", "away"] as const;
export type SourceActivity = (typeof SOURCE_ACTIVITIES)[number];

/**
 * What a sink does. `slow`: it does not keep up. `blocked`: it waits for other sinks. `wedged`: its target takes writes and
 * does not answer. `away`: the target can't be reached, or refuses. `stopped`: it was paused or failed, or is starting.
 */
export const SINK_ACTIVITIES = ["idle", "flowing", "slow", "blocked", "wedged", "away", "stopped"] as const;
export type SinkActivity = (typeof SINK_ACTIVITIES)[number];

/** The present progress of rows through the pipeline. */
export interface PipelineStatus {
  readonly name: string;
  readonly phase: string;
  readonly source: SourceStatus;
  readonly sinks: readonly SinkStatus[];
  readonly tables: TablesStatus;
  /** Tables, chunks and keys still to be read beside the stream. */
  readonly unfinishedSnapshots: number;
  /** The tables that are being read now. */
  readonly snapshots: readonly SnapshotStatus[];
  /** Null if no daemon runs: then everything is as the state store last knew it. */
  readonly daemon: { readonly pid: number; readonly startedAt: string } | null;
  /** Who holds the lease of the state while no daemon listens here: a daemon on another host, or one that starts. */
  readonly heldBy?: string;
  /** When a daemon was last there that neither stopped in order nor said why it ended. */
  readonly lastSeenAt?: string;
  /** The error over which the last daemon ended; absent: it was stopped, or killed, or one runs. */
  readonly ended?: StoredError;
}

export interface SourceStatus extends SourceCounts {
  readonly kind: string;
  /** False while the source does not answer, or its stream is broken. */
  readonly up: boolean;
  /** Absent where no daemon runs, and from a daemon of an earlier version. */
  readonly activity?: SourceActivity;
  /** Sinks that the stream waits for. Absent like `activity`. */
  readonly blockedBy?: readonly string[];
  /** Everything before it has been read. */
  readonly position: string | null;
  readonly acknowledged: string | null;
  readonly lagBytes: number | null;
  readonly lagSeconds: number | null;
  readonly retainedBytes: number | null;
  /** `retention.bytes`; null: no limit. Absent from a daemon of an earlier version. */
  readonly retainedBytesMax?: number | null;
  /** True while `retention.policy: pauseSource` pauses reads beside the stream. Absent where no daemon runs, and like above. */
  readonly readsPaused?: boolean;
  /** How many more bytes of log before the source drops what it keeps for us; null: it never does. */
  readonly safeBytes: number | null;
  /** Seconds until the source may drop log that a sink still needs; null: not by time. */
  readonly safeSeconds: number | null;
  /** Where the source keeps its log for us; null: it keeps it for nobody in particular. Absent like `activity`. */
  readonly log?: KeptLogStatus | null;
  /** Dangers to the log that a sink still needs. */
  readonly warnings: readonly string[];
  /** What may become a danger. Absent from a daemon of an earlier version. */
  readonly hints?: readonly string[];
  readonly error: StoredError | null;
  /** When it last told its position; null: not since the daemon's start. Absent where no daemon runs. */
  readonly answeredAt?: string | null;
  /** Why it does not tell its position now; null: it does, or takes its time. Absent like `answeredAt`. */
  readonly unanswered?: StoredError | null;
  /** True if the stream waits for somebody to act. */
  readonly needsPerson: boolean;
  readonly goneBack: GoneBackStatus | null;
  readonly copy: CopyStatus | null;
}

/** How far rows are read, by the source's statistics of its tables. */
export interface ReadProgress {
  /** How many rows there are; null: the source has no statistics of them. */
  readonly rowsEstimated: number | null;
  /** From 0 to 1, below 1 until the end; null: not known. */
  readonly share: number | null;
  /** Until the end, at the pace so far; null: not known. */
  readonly secondsLeft: number | null;
}

/** The progress is absent where no daemon runs, and from a daemon of an earlier version. */
export interface CopyStatus extends Partial<ReadProgress> {
  readonly tableCount: number;
  readonly tablesDone: number;
  readonly rowsRead: number;
}

export interface KeptLogStatus {
  readonly from: string | null;
  readonly confirmed: string | null;
  /** The source's own word. */
  readonly state: string;
}

/** The stream started again at the position of some sinks that can't have a stream of their own; the others wait. */
export interface GoneBackStatus {
  readonly sinks: readonly string[];
  /** Where the stream was: when these sinks reach it, no sink waits any more. */
  readonly until: string;
  /** Why they have no stream of their own. */
  readonly error: StoredError;
}

export interface SinkStatus {
  readonly name: string;
  readonly kind: string;
  readonly state: SinkState;
  /** Absent where no daemon runs, and from a daemon of an earlier version. */
  readonly activity?: SinkActivity;
  /** Everything before it is durable in the sink. */
  readonly position: string | null;
  readonly lagSeconds: number | null;
  readonly lagBytes: number | null;
  readonly deadLetters: number;
  /** Why the newest of them was refused; null: there is none. Absent from a daemon of an earlier version. */
  readonly lastRefusal?: string | null;
  /** When the oldest of them was refused. Absent like above. */
  readonly refusedSince?: string | null;
  readonly error: StoredError | null;
  /** True if it waits for somebody to act: it has failed, or it retries until that is done. */
  readonly needsPerson: boolean;
  /** True while its place in the log was moved, and it has not begun there yet. Absent from a daemon of an earlier version. */
  readonly isMoved?: boolean;
  /**
   * True for a sink that was away or too slow, while it catches up: by its own stream, or while the others wait for it.
   */
  readonly catchingUp: boolean;
  /** Sinks for which the stream went back: this sink gets nothing new before they have caught up. */
  readonly waitsFor: readonly string[];
  /** Deleted rows that still occupy space in the target; only DuckDB tells. */
  readonly deadRows?: number;
  /** What the target may do to rows that lie there. Absent where no daemon runs, or nothing is known. */
  readonly hints?: readonly TargetHint[];
}

/**
 * A table, or a part of it, that is read beside the stream for one sink. Without keys: they are values of the source. The
 * progress is that of a whole table while it is read; absent where no daemon runs, and from a daemon of an earlier version.
 */
export interface SnapshotStatus
  extends
    Partial<ReadProgress>,
    Pick<
      TableSnapshot,
      | "id"
      | "tableId"
      | "sink"
      | "scope"
      | "reason"
      | "needed"
      | "state"
      | "rowsDone"
      | "chunksDone"
      | "resumedCount"
      | "createdAt"
      | "startedAt"
      | "endedAt"
    > {
  /** Why it makes no progress now; it is tried again. */
  readonly error: StoredError | null;
  /** How often it started again from the first key. */
  readonly restartedCount: number;
}

/** The code of a table that an operator has paused in a sink. */
export const TABLE_PAUSED = "MR1326";

export interface TablesStatus {
  readonly captured: number;
  readonly aside: readonly SuspendedStatus[];
  readonly refused: readonly { readonly table: string; readonly reason: string; readonly fix: string }[];
  readonly unreadable: readonly UnreadableTable[];
  /** Tables that one sink can't follow: only this sink skips their changes. */
  readonly suspended: readonly { readonly table: string; readonly sink: string; readonly error: StoredError }[];
  /** Tables that are not followed yet, or not in their present shape. Absent where no daemon runs, like what follows. */
  readonly pending?: readonly { readonly table: string; readonly why: string }[];
  /** Tables whose differences come back, however often they are read again. */
  readonly stubborn?: readonly { readonly table: string; readonly sink: string }[];
  /** Whether the source's tables were read since the start. */
  readonly areKnown?: boolean;
}

export interface SuspendedStatus {
  readonly table: string;
  readonly error: StoredError;
  /** Whether it may be followed again, or be gone, without anybody acting here. Absent where no daemon runs. */
  readonly mayReturn?: boolean;
}

/** Rows of the table must be read beside the stream, and the source refuses that now. The read is tried again. */
export interface UnreadableTable {
  readonly table: string;
  /** The sinks that wait for the rows. */
  readonly sinks: readonly string[];
  readonly since: string;
  /** The error of the last attempt. */
  readonly error: StoredError;
}
