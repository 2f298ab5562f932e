import type {
  NotComparable,
  ReconcileDocument,
  ReconcileProgress,
  ReconcileRequest,
  TableReconciliation,
} from "../core/contracts/reconciliation.ts";
import { type Clock, timestamp } from "../core/clock.ts";
import type { KeptTable } from "./rows/findings.ts";
import { PART_COUNT, partOn } from "./rows/rotation.ts";
import type { TableComparison } from "./rows/table-comparison.ts";
import { driftIn } from "./report/verdict.ts";

/** The results of a running comparison so far. */
export interface Run {
  readonly id: string;
  startedAt: string;
  readonly request: ReconcileRequest;
  /** Stops only this comparison. */
  readonly stopping: AbortController;
  /** When somebody last asked for the progress. */
  lookedMs: number;
  /** See `ReconcileDocument.part`. */
  part: ReconcileDocument["part"];
  /** Tables that were compared in all sinks, with the fingerprints of their shapes. */
  readonly done: Map<string, string>;
  /** Unfinished walks by table and sink: where another process would continue. */
  readonly open: Map<string, KeptTable>;
  savedMs: number;
  readonly tables: TableReconciliation[];
  readonly notComparable: NotComparable[];
  readonly suspended: { table: string; code: string; message: string }[];
  readonly besides: { table: string; what: string }[];
  readonly comparing: Set<TableComparison>;
  /** Sinks that did not arrive in time, with the number of their tables that were skipped. */
  readonly givenUp: Map<string, number>;
  tableCount: number;
  tablesDone: number;
  table: string | null;
  rowsCompared: number;
}

export function newRun(request: ReconcileRequest, clock: Clock): Run {
  const startedAt = timestamp(clock);
  return {
    id: request.resume ?? `${startedAt.replaceAll(/[-:.]/g, "")}-${clock.unique(2)}`,
    startedAt,
    request,
    stopping: new AbortController(),
    lookedMs: clock.elapsed(),
    part: request.mode === "fast" ? { number: partOn(new Date(startedAt)), of: PART_COUNT } : null,
    done: new Map(),
    open: new Map(),
    savedMs: clock.elapsed(),
    tables: [],
    notComparable: [],
    suspended: [],
    besides: [],
    comparing: new Set(),
    givenUp: new Map(),
    tableCount: 0,
    tablesDone: 0,
    table: null,
    rowsCompared: 0,
  };
}

export interface DocumentParts {
  readonly clock: Clock;
  readonly name: string;
  /** See `ReconcileDocument`. */
  readonly version: string;
  readonly config: string;
  /** How many rows of the table may differ in a sink without an alarm. */
  readonly driftMax: (table: string) => number;
}

export function documentOf({ clock, name, version, config, driftMax }: DocumentParts, run: Run): ReconcileDocument {
  const { id, startedAt, notComparable, suspended, besides, part, request } = run;
  const tables = run.tables.toSorted((a, b) => a.table.localeCompare(b.table) || a.sink.localeCompare(b.sink));
  const drift = tables.some((row) => driftIn(row) > 0);
  const alarm = tables.some((row) => driftIn(row) > driftMax(row.table));
  return {
    id,
    name,
    startedAt,
    finishedAt: timestamp(clock),
    part,
    drift,
    alarm,
    tables,
    notComparable,
    suspended,
    besides,
    whole: request.tables.length === 0 && request.sinks.length === 0,
    version,
    config,
  };
}

export function progressOf({
  id,
  startedAt,
  tableCount,
  tablesDone,
  table,
  rowsCompared,
  comparing,
}: Run): ReconcileProgress {
  const now = [...comparing].reduce((sum, { findings }) => sum + findings.counts.compared, 0);
  return { id, startedAt, tableCount, tablesDone, table, rowsCompared: rowsCompared + now };
}
