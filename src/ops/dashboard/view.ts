import type { DeadLetter } from "../../core/contracts/state-store.ts";
import type { SnapshotStatus } from "../../core/contracts/status.ts";
import type { TableActivity } from "./activity.ts";

/** What the dashboard shows beside the status. It holds no keys and no values of rows. */
export interface DaemonView {
  /** What the sender of the request may do; null: the address has no tokens. */
  readonly role: "viewer" | "operator" | null;
  /** Oldest first, one each `stepSeconds`, of the last half an hour. */
  readonly history: readonly HistoryPoint[];
  readonly stepSeconds: number;
  /** Forecast: until the source drops log that a sink still needs; null: no end is in sight. */
  readonly retentionSeconds: number | null;
  readonly tables: readonly TableView[];
  /** What is read beside the stream, or waits for that; oldest first. */
  readonly reads: readonly SnapshotStatus[];
  /** The newest waiting ones. */
  readonly deadLetters: readonly LetterView[];
}

/** The mean or the newest value of one step. */
export interface HistoryPoint {
  readonly at: string;
  readonly source: {
    readonly lagSeconds: number | null;
    readonly lagBytes: number | null;
    readonly retainedBytes: number | null;
  };
  readonly sinks: readonly SinkPoint[];
}

export interface SinkPoint {
  readonly name: string;
  /** How old the sink's data is. */
  readonly lagSeconds: number | null;
  readonly lagBytes: number | null;
  readonly rowsPerSecond: number;
  /** Mean and slowest time from commit to durable, of the transactions of this step; null: there was none. */
  readonly latencySeconds: number | null;
  readonly latencyMaxSeconds: number | null;
}

export interface TableView {
  readonly table: string;
  /** Version of its shape. */
  readonly version: number;
  readonly columns: number;
  /** When this daemon last applied a change of it; null: not since it started. */
  readonly changedAt: string | null;
  /** Rows that became durable since the daemon's start, all sinks together. */
  readonly rows: number;
  readonly sinks: readonly { readonly sink: string; readonly changedAt: string; readonly rows: number }[];
  /** The newest complete comparison with each sink. */
  readonly proofs: readonly ProofView[];
}

export interface ProofView {
  readonly sink: string;
  readonly at: string;
  /** Rows that differ. */
  readonly rows: number;
  readonly sourceRows: number;
}

export interface LetterView {
  readonly id: number;
  readonly sink: string;
  readonly table: string;
  readonly op: string;
  readonly code: string;
  readonly cause: string;
  readonly at: string;
  readonly attempts: number;
}

type Schemas = readonly { readonly table: string; readonly version: number; readonly columns: number }[];
type Proofs = readonly (ProofView & { readonly table: string })[];

export function tablesOf(
  schemas: Schemas,
  activities: readonly Readonly<TableActivity>[],
  proofs: Proofs,
): readonly TableView[] {
  const done = Map.groupBy(activities, ({ table }) => table);
  const proven = Map.groupBy(proofs, ({ table }) => table);
  return schemas.map(({ table, version, columns }) => {
    const own = done.get(table) ?? [];
    const newestMs = Math.max(...own.map(({ changedMs }) => changedMs));
    return {
      table,
      version,
      columns,
      changedAt: own.length === 0 ? null : new Date(newestMs).toISOString(),
      rows: own.reduce((sum, { rows }) => sum + rows, 0),
      sinks: own.map(({ sink, rows, changedMs }) => ({ sink, rows, changedAt: new Date(changedMs).toISOString() })),
      proofs: (proven.get(table) ?? []).map(({ sink, at, rows, sourceRows }) => ({ sink, at, rows, sourceRows })),
    };
  });
}

const READS_MAX = 100;

export function readsOf(snapshots: readonly SnapshotStatus[]): readonly SnapshotStatus[] {
  return snapshots.filter(({ state }) => state === "waiting" || state === "running").slice(0, READS_MAX);
}

const LETTERS_MAX = 200;

/** Without key and envelope: they are values of the source. */
export function lettersOf(letters: readonly DeadLetter[]): readonly LetterView[] {
  return letters
    .slice(-LETTERS_MAX)
    .toReversed()
    .map(({ id, sink, tableId, op, code, reason, createdAt, attempts }) => ({
      id,
      sink,
      table: tableId,
      op,
      code,
      cause: reason,
      at: createdAt,
      attempts,
    }));
}
