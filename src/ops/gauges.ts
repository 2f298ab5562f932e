/** What a scrape shows of the present, beside what is counted all the time: each gauge with its name and where its samples come from. */
import {
  type DocumentStatus,
  type ReadProgress,
  SINK_ACTIVITIES,
  type SinkStatus,
  type SnapshotStatus,
  SOURCE_ACTIVITIES,
  type StatusDocument,
} from "../core/contracts/status.ts";
import { SINK_STATES } from "../core/contracts/telemetry.ts";
import type { HistoryPoint } from "./dashboard/view.ts";

interface OfTable {
  readonly table: string;
  readonly sink: string;
}

/** What is known at the moment of a scrape. */
export interface Scraped {
  readonly status: StatusDocument;
  /** Captured tables and the version of their shape. */
  readonly schemas: readonly { readonly table: string; readonly version: number }[];
  /** The tables that each sink takes. */
  readonly taken: readonly { readonly sink: string; readonly tables: readonly string[] }[];
  readonly reads: readonly Pick<SnapshotStatus, "sink" | "tableId" | "rowsDone">[];
  /** The result of the last comparison of each table in each sink. */
  readonly drift: readonly (OfTable & { readonly kind: string; readonly rows: number })[];
  readonly lastEqualSeconds: number | null;
  /**
   * When the oldest range was proven; null: some never was. With continuous comparisons what was never proven counts from
   * when it was known.
   */
  readonly proofs: readonly (OfTable & { readonly equalAt: string | null })[];
  readonly retentionSeconds: number | null;
  /** Bytes by sink, for engines that run in this process. */
  readonly memory: ReadonlyMap<string, number>;
  readonly nowMs: number;
}

/** Null: not known. */
type Value = number | boolean | null;
type Sample = readonly [labels: Readonly<Record<string, string>>, value: Value];

/** Names, labels and units are public interface (base units, see docs/metrics.md). */
export interface LevelGauge {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
  readonly samples: (scraped: Scraped) => readonly Sample[];
  /** It grows only. */
  readonly isCounter?: true;
}

function plain(name: string, help: string, value: (scraped: Scraped) => Value): LevelGauge {
  return { name, help, labels: [], samples: (scraped) => [[{}, value(scraped)]] };
}

function perSink(name: string, help: string, value: (sink: SinkStatus, scraped: Scraped) => Value): LevelGauge {
  const samples = (scraped: Scraped) =>
    scraped.status.sinks.map((sink): Sample => [{ sink: sink.name }, value(sink, scraped)]);
  return { name, help, labels: ["sink"], samples };
}

function perDocument(
  name: string,
  help: string,
  value: (document: DocumentStatus, scraped: Scraped) => Value,
): LevelGauge {
  const samples = (scraped: Scraped) =>
    (scraped.status.documents ?? []).map((one): Sample => [{ document: one.name }, value(one, scraped)]);
  return { name, help, labels: ["document"], samples };
}

type TableSample = OfTable & { readonly value: Value };

function perTable(name: string, help: string, all: (scraped: Scraped) => readonly TableSample[]): LevelGauge {
  const samples = (scraped: Scraped) => all(scraped).map(({ sink, table, value }): Sample => [{ sink, table }, value]);
  return { name, help, labels: ["sink", "table"], samples };
}

/** 1 for the one of the words that holds; nothing if none is known. */
function oneOf(label: string, words: readonly string[], word: string | null, labels: Sample[0] = {}): Sample[] {
  return word === null ? [] : words.map((other) => [{ ...labels, [label]: other }, other === word]);
}

export const GAUGES: readonly LevelGauge[] = [
  {
    name: "millrace_conditions",
    help: "What `status` lists as not, or not yet, as it should be; none: all is well. act: it waits for a person.",
    labels: ["kind", "level"],
    samples: ({ status: { conditions } }) =>
      [...Map.groupBy(conditions, ({ kind, level }) => `${kind} ${level}`).values()].map((all): Sample => {
        const [{ kind, level } = { kind: "", level: "" }] = all;
        return [{ kind, level }, all.length];
      }),
  },
  plain("millrace_source_up", "1 while the source answers and its stream flows.", ({ status }) => status.source.up),
  plain(
    "millrace_source_needs_person",
    "1 while the stream waits for somebody to act at the source, or has failed for ten minutes.",
    ({ status }) => status.source.needsPerson,
  ),
  plain(
    "millrace_tables_suspended",
    "Tables whose changes are skipped until somebody acts.",
    ({ status }) => status.tables.suspended.length,
  ),
  plain(
    "millrace_tables_unreadable",
    "Tables whose rows the source refuses to a read beside the stream.",
    ({ status }) => status.tables.unreadable.length,
  ),
  plain(
    "millrace_source_lag_bytes",
    "Log that the source has written and Millrace has not read yet.",
    ({ status }) => status.source.lagBytes,
  ),
  plain(
    "millrace_source_lag_seconds",
    "Age of the log that Millrace reads now.",
    ({ status }) => status.source.lagSeconds,
  ),
  plain(
    "millrace_slot_retained_bytes",
    "Log that the source keeps for this daemon.",
    ({ status }) => status.source.retainedBytes,
  ),
  plain(
    "millrace_source_zero_dates",
    "MySQL and MariaDB: dates that do not exist, counted since the start; see zeroDates of the tables.",
    ({ status }) => status.source.zeroDates,
  ),
  plain(
    "millrace_slot_unconfirmed_bytes",
    "Postgres: log behind the position that the slot has as confirmed.",
    ({ status }) => status.source.unconfirmedBytes,
  ),
  plain(
    "millrace_source_oldest_transaction_seconds",
    "How long the oldest open transaction has lasted, on Postgres the oldest that writes or is prepared: the slot keeps the log from its beginning on. MySQL and MariaDB tell it to users with PROCESS.",
    ({ status }) => status.source.oldestTransactionSeconds,
  ),
  plain(
    "millrace_slot_spilled_transactions",
    "Postgres: transactions that the server wrote to its disk while it decoded them (spill_txns).",
    ({ status }) => status.source.spilledTransactions,
  ),
  plain(
    "millrace_slot_spilled_bytes",
    "Postgres: bytes that it wrote so, because a transaction was beyond logical_decoding_work_mem (spill_bytes).",
    ({ status }) => status.source.spilledBytes,
  ),
  plain(
    "millrace_reconcile_last_success_timestamp_seconds",
    "Beginning of the last comparison that found all tables in all sinks equal, or of the newest of seven fast ones that did so together.",
    ({ lastEqualSeconds }) => lastEqualSeconds,
  ),
  {
    name: "millrace_reconcile_drift_rows",
    help: "Rows that differed from the source in the last comparison: missing, extra, different.",
    labels: ["table", "sink", "kind"],
    samples: ({ drift }) => drift.map(({ table, sink, kind, rows }) => [{ table, sink, kind }, rows]),
  },
  perSink("millrace_sink_lag_seconds", "How far the sink is behind the source.", ({ lagSeconds }) => lagSeconds),
  {
    name: "millrace_sink_state",
    help: "1 for the state that the sink is in, 0 for the others.",
    labels: ["sink", "state"],
    samples: ({ status }) =>
      status.sinks.flatMap(({ name: sink, state }) => oneOf("state", SINK_STATES, state, { sink })),
  },
  perSink(
    "millrace_sink_catching_up",
    "1 while the sink catches up after it was away or too slow.",
    ({ catchingUp }) => catchingUp,
  ),
  perSink(
    "millrace_sink_needs_person",
    "1 while the sink waits for somebody to act, here or at its target.",
    ({ needsPerson }) => needsPerson,
  ),
  perSink(
    "millrace_sink_waiting",
    "1 while the sink gets nothing new because the stream went back for another sink.",
    ({ waitsFor }) => waitsFor.length > 0,
  ),
  perSink("millrace_dead_letters", "Refused rows of the sink that wait for a decision.", (sink) => sink.deadLetters),
  perSink(
    "millrace_sink_dead_rows",
    "Deleted rows that still occupy space in a DuckDB file, at the last count.",
    ({ deadRows }) => deadRows ?? null,
  ),
  perSink(
    "millrace_sink_memory_bytes",
    "Memory that DuckDB counts as its own, within the process.",
    ({ name }, { memory }) => memory.get(name) ?? null,
  ),
  {
    name: "millrace_schema_version",
    help: "Version of the table's shape; it grows with each change of its columns or key.",
    labels: ["table"],
    samples: ({ schemas }) => schemas.map(({ table, version }) => [{ table }, version]),
  },
  perDocument(
    "millrace_documents_waiting",
    "Documents that have changed and are not in all of their sinks yet.",
    ({ waiting }) => waiting,
  ),
  perDocument(
    "millrace_documents_waiting_seconds",
    "Time since the first of them changed; 0: none waits.",
    ({ waiting, waitingSince }, { nowMs }) =>
      waitingSince === null ? (waiting === 0 ? 0 : null) : secondsSince(waitingSince, nowMs),
  ),
  plain("millrace_state_up", "1 while the state can be written.", ({ status }) => status.state.error === null),
  plain(
    "millrace_slot_safe_bytes",
    "How much more log may be written before the source drops what it keeps.",
    ({ status }) => status.source.safeBytes,
  ),
  plain(
    "millrace_retention_seconds",
    "Forecast: time until the source drops log that a sink still needs.",
    ({ retentionSeconds }) => retentionSeconds,
  ),
  plain(
    "millrace_reads_unfinished",
    "Tables, chunks and keys that are to be read beside the stream.",
    ({ status }) => status.unfinishedSnapshots,
  ),
  perTable(
    "millrace_table_suspended",
    "1 for a table whose changes are skipped until somebody acts, in this sink or in all (*).",
    ({ status }) => suspendedIn(status).map(({ sink, table }) => ({ sink, table, value: 1 })),
  ),
  perTable(
    "millrace_table_unreadable",
    "1 for a table whose rows this sink waits for while the source refuses to have them read.",
    ({ status }) => unreadableFor(status).map(({ sink, table }) => ({ sink, table, value: 1 })),
  ),
  perTable(
    "millrace_freshness_seconds",
    "How old the table's rows in the sink are: the sink's lag, or the time since the table is suspended or unreadable.",
    freshness,
  ),
  perTable(
    "millrace_proof_age_seconds",
    "Time since the beginning of the last comparison that found the table in the sink equal to the source; with continuous ones, of its oldest range.",
    ({ proofs, nowMs }) =>
      proofs.flatMap(({ sink, table, equalAt }) =>
        equalAt === null ? [] : [{ sink, table, value: secondsSince(equalAt, nowMs) }],
      ),
  ),
  plain(
    "millrace_proof_max_age_seconds",
    "`reconcile.continuous.maxAge`: no proof is to be older; absent without continuous comparisons.",
    ({ status }) => status.reconcile.continuous?.maxAgeSeconds ?? null,
  ),
  perTable(
    "millrace_snapshot_share",
    "Estimate: part of the table that is read, from 0 to 1; table and sink * for the first copy.",
    ({ status }) => estimated(status).map(({ sink, table, share }) => ({ sink, table, value: share })),
  ),
  perTable(
    "millrace_snapshot_remaining_seconds",
    "Estimate: time until the read of the table ends; table and sink * for the first copy.",
    ({ status }) => estimated(status).map(({ sink, table, secondsLeft }) => ({ sink, table, value: secondsLeft })),
  ),
  {
    ...perTable(
      "millrace_snapshot_rows_total",
      "Rows of the table that were read beside the stream for the sink.",
      rowsRead,
    ),
    isCounter: true,
  },
  {
    name: "millrace_source_activity",
    help: "1 for what the stream from the source does, 0 for the others.",
    labels: ["activity"],
    samples: ({ status }) => oneOf("activity", SOURCE_ACTIVITIES, status.source.activity),
  },
  {
    name: "millrace_source_blocked_by",
    help: "1 for each sink that the stream from the source waits for.",
    labels: ["sink"],
    samples: ({ status }) => status.source.blockedBy.map((sink) => [{ sink }, 1]),
  },
  plain(
    "millrace_source_reads_paused",
    "1 while reads beside the stream wait because the source keeps too much log.",
    ({ status }) => status.source.readsPaused,
  ),
  {
    name: "millrace_slot_state",
    help: "1 for what the server says of the log that it keeps for this daemon.",
    labels: ["state"],
    samples: ({ status: { source } }) => (source.log === null ? [] : [[{ state: source.log.state }, 1]]),
  },
  {
    name: "millrace_sink_activity",
    help: "1 for what the sink does, 0 for the others.",
    labels: ["sink", "activity"],
    samples: ({ status }) =>
      status.sinks.flatMap(({ name: sink, activity }) => oneOf("activity", SINK_ACTIVITIES, activity, { sink })),
  },
];

/** In place of a sink's name: all sinks. No sink can have this name. Likewise of a table's: the first copy reads all. */
const EVERY = "*";

type Since = OfTable & { readonly since: string };

function suspendedIn({ tables }: StatusDocument): readonly Since[] {
  return tables.suspended.map(({ table, sink, error }) => ({ table, sink: sink ?? EVERY, since: error.at }));
}

function unreadableFor({ tables }: StatusDocument): readonly Since[] {
  return tables.unreadable.flatMap(({ table, sinks, since }) => sinks.map((sink) => ({ table, sink, since })));
}

function freshness({ status, taken, nowMs }: Scraped): readonly TableSample[] {
  const stale = [...suspendedIn(status), ...unreadableFor(status)];
  return taken.flatMap(({ sink, tables }) => {
    const lag = status.sinks.find(({ name }) => name === sink)?.lagSeconds ?? null;
    return tables.flatMap((table) => {
      const own = stale.filter((one) => one.table === table && (one.sink === sink || one.sink === EVERY));
      const ages = own.map(({ since }) => secondsSince(since, nowMs));
      const value = Math.max(...ages, ...(lag === null ? [] : [lag]));
      return Number.isFinite(value) ? [{ sink, table, value }] : [];
    });
  });
}

type Estimate = OfTable & Pick<ReadProgress, "share" | "secondsLeft">;

/** Of reads that run now; nothing where the source has no statistics of the table. */
function estimated({ source, snapshots }: StatusDocument): readonly Estimate[] {
  const copy = source.copy === null ? [] : [{ ...source.copy, sink: EVERY, table: EVERY }];
  const reads = snapshots.map(({ tableId: table, ...read }) => ({ ...read, table }));
  return [...copy, ...reads].filter(({ share }) => share !== null);
}

function rowsRead({ reads }: Scraped): readonly TableSample[] {
  return [...Map.groupBy(reads, ({ sink, tableId }) => JSON.stringify([sink, tableId])).values()].map((all) => {
    const [{ sink, tableId: table } = { sink: "", tableId: "" }] = all;
    return { sink, table, value: all.reduce((sum, { rowsDone }) => sum + rowsDone, 0) };
  });
}

function secondsSince(at: string, nowMs: number): number {
  return Math.max(0, (nowMs - Date.parse(at)) / 1000);
}

/** The slope is taken over this time, and not before so much of it has passed. */
const WINDOW_MS = 600_000;
const WINDOW_MS_MIN = 30_000;

interface Retained {
  readonly safeBytes: number | null;
  readonly safeSeconds: number | null;
}

/**
 * Seconds until the source may drop log that a sink still needs: what the source tells, and what the slope of the kept log
 * says. Null: no end is in sight.
 */
export function retentionSeconds({ safeBytes, safeSeconds }: Retained, points: readonly HistoryPoint[]): number | null {
  const slope = bytesPerSecond(points);
  const bySlope = safeBytes === null || slope === null || slope <= 0 ? null : Math.max(0, safeBytes) / slope;
  if (safeSeconds === null || bySlope === null) return safeSeconds ?? bySlope;
  return Math.min(safeSeconds, bySlope);
}

/** Growth of the log that the source keeps. Null: unknown. */
function bytesPerSecond(points: readonly HistoryPoint[]): number | null {
  const known = points.flatMap(({ at, source }) =>
    source.retainedBytes === null ? [] : [{ ms: Date.parse(at), bytes: source.retainedBytes }],
  );
  const last = known.at(-1);
  const first = last && known.find(({ ms }) => ms >= last.ms - WINDOW_MS);
  if (last === undefined || first === undefined || last.ms - first.ms < WINDOW_MS_MIN) return null;
  return ((last.bytes - first.bytes) * 1000) / (last.ms - first.ms);
}
