import type {
  NotComparable,
  ReconcileDocument,
  ReconcileProgress,
  ReconcileRequest,
  TableReconciliation,
} from "../core/contracts/reconciliation.ts";
import { type Clock, timestamp } from "../core/clock.ts";
import { driftIn } from "../core/comparison-verdict.ts";
import type { ProofMark } from "../core/contracts/state-store.ts";
import { withinReport } from "./rows/coverage.ts";
import { type KeptTable, openId, withoutValues } from "./rows/findings.ts";
import { PART_COUNT, partOn } from "./rows/rotation.ts";
import type { TableComparison } from "./rows/table-comparison.ts";

/** What was found of a table counts for another process as long as it has this shape, and each mark stands. */
export interface DoneTable {
  readonly fingerprint: string;
  /** By sink: see `ProofStore.stands`. */
  readonly marks: Readonly<Record<string, ProofMark>>;
}

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
  /** Tables that were compared in all sinks. */
  readonly done: Map<string, DoneTable>;
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
    tables: withinReport(tables),
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

/** The stored part of an unfinished comparison, for `--resume`. */
interface StoredRun {
  readonly startedAt: string;
  readonly request: ReconcileRequest;
  readonly part: Run["part"];
  readonly done: readonly (readonly [table: string, found: DoneTable])[];
  readonly tables: readonly TableReconciliation[];
  readonly notComparable: readonly NotComparable[];
  readonly open: readonly KeptTable[];
}

export function keptText(run: Run): string {
  const { startedAt, request, part, done, tables, notComparable, open } = run;
  // Values of rows are only for the user who asked for them. They are never stored.
  const kept: StoredRun = {
    startedAt,
    request,
    part,
    done: [...done],
    tables: tables.map((table) => ({ ...table, sample: table.sample.map(withoutValues) })),
    notComparable,
    open: [...open.values()],
  };
  return JSON.stringify(kept);
}

export function keptRequest(text: string): ReconcileRequest {
  return parsed(text).request;
}

/** Continues with the findings of an earlier run, without those of tables that are another thing now. */
export async function takeUp(
  run: Run,
  text: string,
  isSame: (table: string, found: DoneTable) => Promise<boolean>,
): Promise<void> {
  const { startedAt, part, done, tables, notComparable, open } = parsed(text);
  run.startedAt = startedAt;
  run.part = part;
  for (const [table, found] of done) if (await isSame(table, found)) run.done.set(table, found);
  // For an unfinished table only its open walks count.
  run.tables.push(...tables.filter(({ table }) => run.done.has(table)));
  run.notComparable.push(...notComparable.filter(({ table }) => table !== null && run.done.has(table)));
  run.rowsCompared = run.tables.reduce((sum, { compared }) => sum + compared, 0);
  for (const one of open) run.open.set(openId(one.table, one.sink), one);
}

function parsed(text: string): StoredRun {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- written by this package, into its own state
  return JSON.parse(text) as StoredRun;
}
