import type { DeadLetter, ProofRecord } from "../../core/contracts/state-store.ts";
import { driftIn } from "../../core/comparison-verdict.ts";
import type { SnapshotStatus } from "../../core/contracts/status.ts";
import type { TableActivity } from "./activity.ts";

/** What the dashboard shows beside the status. It holds no keys and no values of rows. */
export interface DaemonView {
  /** What the sender of the request may do; null: the address has no tokens. */
  readonly role: "viewer" | "operator" | null;
  /** Oldest first, one each `stepSeconds`, of the last half an hour. */
  readonly history: readonly HistoryPoint[];
  readonly stepSeconds: number;
  /** The last day, coarser: one for `dayStepSeconds`. */
  readonly day: readonly HistoryPoint[];
  readonly dayStepSeconds: number;
  /** Forecast: until the source drops log that a sink still needs; null: no end is in sight. */
  readonly retentionSeconds: number | null;
  readonly tables: readonly TableView[];
  /** What is read beside the stream, or waits for that; oldest first. */
  readonly reads: readonly SnapshotStatus[];
  /** The newest waiting ones. */
  readonly deadLetters: readonly LetterView[];
  /** All waiting ones by sink, table and cause, the largest group first. */
  readonly letterGroups: readonly LetterGroupView[];
}

export const STEP_SECONDS = 5;
/** How many points become one of the day's. */
export const STEPS_OF_DAY = 24;

/** Of a process without a running pipeline. */
export const NOTHING_SEEN: Omit<DaemonView, "role"> = {
  history: [],
  stepSeconds: STEP_SECONDS,
  day: [],
  dayStepSeconds: STEP_SECONDS * STEPS_OF_DAY,
  retentionSeconds: null,
  tables: [],
  reads: [],
  deadLetters: [],
  letterGroups: [],
};

/** The mean or the newest value of one step; of a longer one, what lags is at its worst. */
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
  /** Mean time from commit to durable, of the transactions of this step; null: there was none. */
  readonly latencySeconds: number | null;
}

export interface TableView {
  readonly table: string;
  /** Version of its shape. */
  readonly version: number;
  readonly columns: number;
  /** How many rows it has by the source's statistics; null: there are none. */
  readonly rowsEstimated: number | null;
  /** When this daemon last applied a change of it; null: not since it started. */
  readonly changedAt: string | null;
  /** The sinks that take it. */
  readonly sinks: readonly TableSinkView[];
}

export interface TableSinkView {
  readonly sink: string;
  readonly changedAt: string | null;
  /** Rows that became durable since the daemon's start. */
  readonly rows: number;
  /** By the newest whole comparison; null: none is kept. */
  readonly counted: CountView | null;
  /** Null: nobody compares it. */
  readonly proof: ProofView | null;
}

export interface CountView {
  readonly at: string;
  readonly sourceRows: number;
  readonly sinkRows: number;
}

/** By all comparisons: whole ones, and the continuous one. */
export interface ProofView {
  /** Every row was found equal then or later; null: some never was. */
  readonly provenAt: string | null;
  /** Rows that differed at the last look. */
  readonly differing: number;
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

/** What is known of the captured tables. */
interface TableFacts {
  readonly schemas: readonly { readonly table: string; readonly version: number; readonly columns: number }[];
  /** The tables that each sink takes. */
  readonly taken: readonly { readonly sink: string; readonly tables: readonly string[] }[];
  readonly estimates: ReadonlyMap<string, number>;
  readonly activities: readonly Readonly<TableActivity>[];
  readonly counts: readonly (CountView & { readonly table: string; readonly sink: string })[];
  readonly proofs: readonly ProofRecord[];
}

export function tablesOf({ schemas, taken, estimates, activities, counts, proofs }: TableFacts): readonly TableView[] {
  const takers = Map.groupBy(
    taken.flatMap(({ sink, tables }) => tables.map((table) => ({ sink, table }))),
    ({ table }) => table,
  );
  const placeOf = ({ sink, table }: { readonly sink: string; readonly table: string }) => `${sink} ${table}`;
  const done = new Map(activities.map((activity) => [placeOf(activity), activity]));
  const counted = new Map(counts.map((count) => [placeOf(count), countOf(count)]));
  const proven = new Map(proofs.map((proof) => [placeOf(proof), proofOf(proof)]));
  return schemas.map(({ table, version, columns }) => {
    const sinks = (takers.get(table) ?? []).map((place): TableSinkView => {
      const { rows = 0, changedMs = null } = done.get(placeOf(place)) ?? {};
      const changedAt = changedMs === null ? null : new Date(changedMs).toISOString();
      const key = placeOf(place);
      return { sink: place.sink, changedAt, rows, counted: counted.get(key) ?? null, proof: proven.get(key) ?? null };
    });
    const newest = sinks.flatMap(({ changedAt }) => changedAt ?? []).toSorted();
    const rowsEstimated = estimates.get(table) ?? null;
    return { table, version, columns, rowsEstimated, changedAt: newest.at(-1) ?? null, sinks };
  });
}

function countOf({ at, sourceRows, sinkRows }: CountView): CountView {
  return { at, sourceRows, sinkRows };
}

function proofOf(record: ProofRecord): ProofView {
  return { provenAt: record.provenAt, differing: driftIn(record) };
}

const READS_MAX = 100;

export function readsOf(snapshots: readonly SnapshotStatus[]): readonly SnapshotStatus[] {
  return snapshots.filter(({ state }) => state === "waiting" || state === "running").slice(0, READS_MAX);
}

export interface LetterGroup {
  readonly sink: string;
  readonly table: string;
  readonly code: string;
  readonly cause: string;
  readonly count: number;
  readonly oldest: string;
  readonly newest: string;
}

/** Letters with the same sink, table and cause, the largest group first; with the numbers of each, the lowest first. */
export function groupsOf(
  letters: readonly DeadLetter[],
): readonly (LetterGroup & { readonly ids: readonly number[] })[] {
  const byCause = Map.groupBy(letters, ({ sink, tableId, code, reason }) =>
    JSON.stringify([sink, tableId, code, reason]),
  );
  const groups = [...byCause.values()].map((own) => {
    const { sink, tableId: table, code, reason: cause } = own[0]!;
    const times = own.map(({ createdAt }) => createdAt).toSorted();
    const ids = own.map(({ id }) => id).toSorted((a, b) => a - b);
    return { sink, table, code, cause, count: own.length, oldest: times[0]!, newest: times.at(-1)!, ids };
  });
  return groups.toSorted((a, b) => b.count - a.count);
}

export interface LetterGroupView extends LetterGroup {
  /** Numbers of the oldest ones: an action on the group means these. */
  readonly ids: readonly number[];
}

const LETTERS_MAX = 200;
const GROUPS_MAX = 100;
/** Of all groups together: the page asks every two seconds. */
const IDS_MAX = 2_000;

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

export function letterGroupsOf(letters: readonly DeadLetter[]): readonly LetterGroupView[] {
  const groups = groupsOf(letters).slice(0, GROUPS_MAX);
  const idCountMax = Math.floor(IDS_MAX / Math.max(1, groups.length));
  return groups.map((group) => ({ ...group, ids: group.ids.slice(0, idCountMax) }));
}

/** What the number of an error means. */
export interface ErrorView {
  readonly code: string;
  readonly title: string;
  readonly remedy: string;
  readonly cause: string;
}
