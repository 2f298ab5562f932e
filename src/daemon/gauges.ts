/** What the metrics show at a scrape, from the status and from past comparisons. */
import type { Proof } from "./comparing.ts";
import type { PipelineStatus, ReadProgress, SnapshotStatus, StatusDocument } from "../core/contracts/status.ts";
import type { StoredError } from "../core/contracts/state-store.ts";
import type { HistoryPoint } from "../ops/dashboard/view.ts";
import type { Levels } from "../ops/metrics.ts";
import { retentionSeconds } from "../ops/retention.ts";
import { EVERY_SINK, EVERY_TABLE, type TableLevels } from "../ops/table-gauges.ts";

export function pipelineLevels(
  status: StatusDocument,
  schemas: Levels["schemas"],
): Omit<Levels, "drift" | "lastEqualSeconds" | "tables"> {
  const { source, tables, conditions } = status;
  return {
    conditions,
    sourceUp: source.up,
    sourceNeedsPerson: source.needsPerson,
    suspendedCount: tables.suspended.length,
    unreadableCount: tables.unreadable.length,
    sourceLagBytes: source.lagBytes,
    sourceLagSeconds: source.lagSeconds,
    slotRetainedBytes: source.retainedBytes,
    counts: source,
    activities: {
      source: source.activity,
      blockedBy: source.blockedBy,
      readsPaused: source.readsPaused,
      logState: source.log?.state ?? null,
      sinks: status.sinks.map(({ name, activity }) => ({ sink: name, activity })),
    },
    schemas,
    sinks: status.sinks.map(
      ({ name, state, lagSeconds, deadLetters, deadRows, catchingUp, needsPerson, waitsFor }) => ({
        name,
        state,
        lagSeconds,
        deadLetterCount: deadLetters,
        deadRowCount: deadRows ?? null,
        isCatchingUp: catchingUp,
        needsPerson,
        isWaiting: waitsFor.length > 0,
      }),
    ),
  };
}

export interface TableParts {
  readonly status: PipelineStatus;
  /** The tables that each sink takes. */
  readonly taken: readonly { readonly sink: string; readonly tables: readonly string[] }[];
  readonly reads: readonly SnapshotStatus[];
  readonly proofs: readonly Proof[];
  readonly history: readonly HistoryPoint[];
  readonly stateError: StoredError | null;
  readonly nowMs: number;
}

export function tableLevels(parts: TableParts): TableLevels {
  const { status, taken, reads, proofs, history, stateError, nowMs } = parts;
  const { source, tables } = status;
  const ages = (at: string): number => Math.max(0, (nowMs - Date.parse(at)) / 1000);
  const suspended = tables.suspended.map(({ table, sink, error }) => {
    return { table, sink: sink ?? EVERY_SINK, since: error.at };
  });
  const unreadable = tables.unreadable.flatMap(({ table, sinks, since }) =>
    sinks.map((sink) => ({ table, sink, since })),
  );
  const stale = [...suspended, ...unreadable];
  const known = proofs.flatMap(({ equalAt, ...proof }) => (equalAt === null ? [] : [{ ...proof, equalAt }]));
  return {
    stateUp: stateError === null,
    safeBytes: source.safeBytes,
    retentionSeconds: retentionSeconds(source, history),
    unfinishedReads: status.unfinishedSnapshots,
    suspended,
    unreadable,
    freshness: taken.flatMap(({ sink, tables: ids }) => {
      const lag = status.sinks.find(({ name }) => name === sink)?.lagSeconds ?? null;
      return ids.flatMap((table) => {
        const own = stale.filter((one) => one.table === table && (one.sink === sink || one.sink === EVERY_SINK));
        const seconds = Math.max(...own.map(({ since }) => ages(since)), ...(lag === null ? [] : [lag]));
        return Number.isFinite(seconds) ? [{ sink, table, seconds }] : [];
      });
    }),
    proofAges: known.map(({ table, sink, equalAt }) => ({ table, sink, seconds: ages(equalAt) })),
    progress: [
      ...(source.copy === null ? [] : progressOf({ ...source.copy, sink: EVERY_SINK, table: EVERY_TABLE })),
      ...status.snapshots.flatMap(({ tableId: table, ...read }) => progressOf({ ...read, table })),
    ],
    readRows: [...Map.groupBy(reads, ({ sink, tableId }) => JSON.stringify([sink, tableId])).values()].flatMap(
      (all) => {
        const [{ sink, tableId } = { sink: "", tableId: "" }] = all;
        return [{ sink, table: tableId, rows: all.reduce((sum, { rowsDone }) => sum + rowsDone, 0) }];
      },
    ),
  };
}

type OfRead = ReadProgress & { readonly sink: string; readonly table: string };

/** Nothing where the source has no statistics of the table. */
function progressOf({ sink, table, share, secondsLeft }: OfRead): TableLevels["progress"] {
  return share === null ? [] : [{ sink, table, share, secondsLeft }];
}
