import type { SourceCounts } from "./source-counters.ts";
import type { ReportSummary } from "./reconciliation.ts";
import type { RefillScope, StoredError } from "./state-store.ts";
import type { SinkState } from "./telemetry.ts";

/** The document of `status --json` and of the API: public interface, extended freely and never broken. */
export interface StatusDocument extends PipelineStatus {
  /** Why what has to be stored waits at the moment; null: it does not. */
  readonly state: { readonly error: StoredError | null };
  readonly reconcile: ComparisonStatus;
}

export interface ComparisonStatus {
  /** When the next planned one begins; null: none is planned, or no daemon runs that would make it. */
  readonly next: string | null;
  /** The newest that has ended and is kept, whoever asked for it. */
  readonly last: ReportSummary | null;
  /** The newest that found more drift than is allowed, until one of everything has found none since. */
  readonly drift: ReportSummary | null;
}

/** What rows go through, as it is now. */
export interface PipelineStatus {
  readonly name: string;
  readonly phase: string;
  readonly source: SourceStatus;
  readonly sinks: readonly SinkStatus[];
  readonly tables: TablesStatus;
  /** Tables, chunks and keys still to be read beside the stream. */
  readonly refills: number;
  /** Those of the tables that are being read now. */
  readonly snapshots: readonly SnapshotStatus[];
  /** Null when there is no daemon: then everything is as the state store last knew it. */
  readonly daemon: { readonly pid: number; readonly startedAt: string } | null;
  /** Who holds the lease of a state while no daemon listens here: one on another host, or one that starts. */
  readonly heldBy?: string;
}

export interface SourceStatus extends SourceCounts {
  readonly kind: string;
  /** False while it does not answer, or its stream is broken. */
  readonly up: boolean;
  /** Everything before it has been read. */
  readonly position: string | null;
  readonly acknowledged: string | null;
  readonly lagBytes: number | null;
  readonly lagSeconds: number | null;
  readonly retainedBytes: number | null;
  /** Bytes until the source drops what it keeps for us; null: it never does. */
  readonly safeBytes: number | null;
  /** Seconds after which the source may drop what a sink still needs; null: it does not go by the clock. */
  readonly safeSeconds: number | null;
  readonly warnings: readonly string[];
  readonly error: StoredError | null;
  /** True where the stream goes on only after somebody has acted. */
  readonly needsPerson: boolean;
  readonly goneBack: GoneBackStatus | null;
  readonly copy: { readonly tableCount: number; readonly tablesDone: number; readonly rowsRead: number } | null;
}

/** The stream was begun again where some sinks stand, as they can't have one of their own; the others wait. */
export interface GoneBackStatus {
  readonly sinks: readonly string[];
  /** Where the stream was: when these sinks are there, nobody waits any more. */
  readonly until: string;
  /** Why they have no stream of their own. */
  readonly error: StoredError;
}

export interface SinkStatus {
  readonly name: string;
  readonly kind: string;
  readonly state: SinkState;
  /** Everything before it is durable in the sink. */
  readonly position: string | null;
  readonly lagSeconds: number | null;
  readonly lagBytes: number | null;
  readonly deadLetters: number;
  readonly error: StoredError | null;
  /** True where it goes on only after somebody has acted: it has failed, or it is tried again until that was done. */
  readonly needsPerson: boolean;
  /** True for a sink that was away or could not keep up: by a stream of its own, or as the others wait for it. */
  readonly catchingUp: boolean;
  /** Sinks for which the stream went back: this one gets nothing new before they have caught up. */
  readonly waitsFor: readonly string[];
  /** Rows that the target keeps although they are gone, where it tells; DuckDB. */
  readonly deadRows?: number;
}

/** A table, or a part of it, read beside the stream for one sink. Without keys: those are values of the source. */
export interface SnapshotStatus {
  readonly id: number;
  readonly tableId: string;
  readonly sink: string;
  readonly scope: RefillScope;
  readonly reason: string;
  /** True where the sink is short of rows without it, so that it can't be cancelled. */
  readonly needed: boolean;
  readonly state: "waiting" | "running" | "done" | "cancelled";
  /** Why it does not get on at the moment; it is tried again. */
  readonly error: StoredError | null;
  readonly rowsDone: number;
  readonly chunksDone: number;
  /** How often a daemon went on with what the one before had begun. */
  readonly resumedCount: number;
  /** How often it began again from the first key. */
  readonly restartedCount: number;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

export interface TablesStatus {
  readonly captured: number;
  readonly aside: readonly { readonly table: string; readonly error: StoredError }[];
  readonly refused: readonly { readonly table: string; readonly reason: string; readonly fix: string }[];
  readonly unreadable: readonly UnreadableTable[];
  /** Tables that one sink can't follow: their changes pass over it, and nothing else. */
  readonly suspended: readonly { readonly table: string; readonly sink: string; readonly error: StoredError }[];
}

/** Something of the table is to be read beside the stream, and the source refuses it at the moment. It is tried again. */
export interface UnreadableTable {
  readonly table: string;
  /** For whom it is to be read. */
  readonly sinks: readonly string[];
  readonly since: string;
  /** Of the last attempt. */
  readonly error: StoredError;
}
