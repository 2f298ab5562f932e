/**
 * The document of `status --json` and of the API: public interface, extended freely and never broken. Its types, docs/status.md
 * and the API's schema come from the lists of its fields here. Every field is always there, but for the optional ones; what is
 * not known, for example because no daemon runs, is null.
 */
import { CONDITION, VERDICT } from "../conditions/condition.ts";
import { type Described, emptyOf, type Fields } from "../described.ts";
import { ROOM } from "../disk-room.ts";
import { SLOW_FUNCTION, SOURCE_COUNTS } from "./log-admin.ts";
import { REPORT_SUMMARY } from "./reconciliation.ts";
import { TARGET_HINT } from "./sink.ts";
import {
  LOST_CHANGES,
  PROOF_RECORD,
  STORED_ERROR,
  type StoredError,
  type TableSnapshot,
  type WaitingLetters,
} from "./state-store.ts";
import { SINK_STATES } from "./telemetry.ts";

const PROGRESS = {
  rowsEstimated: [{ orNull: "rows" }, "how many there are by the source's statistics"],
  share: [{ orNull: "number" }, "estimate: the part that is read, from 0 to 1"],
  secondsLeft: [{ orNull: "seconds" }, "estimate: until the end, at the pace so far"],
} as const satisfies Fields;

/** How far rows are read, by the source's statistics of its tables. */
export type ReadProgress = Described<typeof PROGRESS>;

const COPY = {
  tableCount: ["tables", "to be copied"],
  tablesDone: ["tables", "copied completely"],
  rowsRead: ["rows", "read so far"],
  ...PROGRESS,
  share: [{ orNull: "number" }, "estimate: the part that is durable in the sinks, from 0 to 1"],
} as const satisfies Fields;

export type CopyStatus = Described<typeof COPY>;

const GONE_BACK = {
  sinks: [{ listOf: "text" }, "names of the sinks for which the stream went back"],
  until: ["position", "where the stream was: when these sinks reach it, no sink waits any more"],
  error: [{ object: STORED_ERROR }, "why they have no stream of their own"],
} as const satisfies Fields;

const KEPT_LOG = {
  from: [{ orNull: "position" }, "the server keeps its log from here on (restart_lsn)"],
  confirmed: [{ orNull: "position" }, "what it has as confirmed by this daemon (confirmed_flush_lsn)"],
  state: ["text", "how safe that log is (wal_status): `reserved`, `extended`, `unreserved` or `lost`"],
} as const satisfies Fields;

export type KeptLogStatus = Described<typeof KEPT_LOG>;

export const SOURCE_ACTIVITIES = ["idle", "flowing", "slow", "blocked", "half-open", "away"] as const;
export type SourceActivity = (typeof SOURCE_ACTIVITIES)[number];

const SOURCE = {
  kind: ["text", "`postgres` or `mysql` (MariaDB too)"],
  up: ["boolean", "false while the source does not answer, or its stream is broken"],
  activity: [
    { orNull: { oneOf: SOURCE_ACTIVITIES } },
    "what the stream does: `idle`, `flowing`, `slow` (behind the log, and no sink holds it up), `blocked` (it waits for sinks), `half-open` (the connection stood, nothing came, and it was cut), `away`; null where no daemon runs",
  ],
  blockedBy: [{ listOf: "text" }, "the sinks that the stream waits for"],
  position: [{ orNull: "position" }, "everything before it has been read"],
  acknowledged: [{ orNull: "position" }, "everything before it is durable in every sink: the source may forget it"],
  lagBytes: [{ orNull: "bytes" }, "log that the source has written and Millrace has not read yet"],
  lagSeconds: [{ orNull: "seconds" }, "age of the log that is read now; it grows while the source is away"],
  retainedBytes: [{ orNull: "bytes" }, "log that the source keeps for this daemon"],
  retainedBytesMax: [{ orNull: "bytes" }, "how much it may keep: `retention.bytes`; null: no limit"],
  readsPaused: [
    "boolean",
    "true while reads beside the stream wait: it keeps more than that, and `retention.policy` is `pauseSource`",
  ],
  safeBytes: [
    { orNull: "bytes" },
    "how much more log may be written before the source drops what it keeps; null: it never does",
  ],
  safeSeconds: [
    { orNull: "seconds" },
    "MySQL and MariaDB: after this time the server may delete what a sink still needs; null: not by time",
  ],
  log: [
    { orNull: { object: KEPT_LOG } },
    "Postgres: the position of the slot; null: the source keeps its log for nobody in particular, or no daemon runs",
  ],
  warnings: [{ listOf: "text" }, "dangers to the log that a sink still needs: somebody has to act"],
  hints: [{ listOf: "text" }, "what may become a danger, such as a long open transaction"],
  slowFunctions: [
    { listOf: { object: SLOW_FUNCTION } },
    "functions of computed columns and documents that take longer than their budget",
  ],
  ...SOURCE_COUNTS,
  error: [{ orNull: { object: STORED_ERROR } }, "why the stream does not flow"],
  answeredAt: [{ orNull: "time" }, "when it last told its position; null: not since the daemon's start"],
  unanswered: [{ orNull: { object: STORED_ERROR } }, "why it does not tell its position now; null: it does"],
  needsPerson: ["boolean", "true if the stream waits for somebody to act"],
  goneBack: [{ orNull: { object: GONE_BACK } }, "the stream went back for sinks that can't have a stream of their own"],
  copy: [{ orNull: { object: COPY } }, "the first copy, while it runs"],
} as const satisfies Fields;

export type SourceStatus = Described<typeof SOURCE>;

export const SINK_ACTIVITIES = ["idle", "flowing", "slow", "blocked", "wedged", "away", "stopped"] as const;
export type SinkActivity = (typeof SINK_ACTIVITIES)[number];

const SINK = {
  name: ["text", "its key in millrace.yaml"],
  kind: ["text", "its `kind` in millrace.yaml"],
  place: [{ orNull: "text" }, "what it writes into: host and port, or a path"],
  state: [{ oneOf: SINK_STATES }, "`starting`, `snapshot`, `streaming`, `retrying`, `paused`, `failed` or `stopped`"],
  activity: [
    { orNull: { oneOf: SINK_ACTIVITIES } },
    "what it does: `idle`, `flowing`, `slow` (it does not keep up), `blocked` (it waits for other sinks), `wedged` (its target takes connections and does not answer), `away` (the target can't be reached, or refuses), `stopped` (it was paused or failed, or is starting); null where no daemon runs",
  ],
  position: [{ orNull: "position" }, "everything before it is durable in the sink"],
  lagSeconds: [{ orNull: "seconds" }, "how far the sink is behind the source in time"],
  lagBytes: [{ orNull: "bytes" }, "log between the sink's position and the end of the source's log"],
  unansweredSeconds: [
    { orNull: "seconds" },
    "how long its present write has had no answer; null below ten seconds, or where nothing is written",
  ],
  deadLetters: ["rows", "refused by the sink and waiting for a decision"],
  lastRefusal: [{ orNull: "text" }, "why the newest of them was refused"],
  refusedSince: [{ orNull: "time" }, "when the oldest of them was refused"],
  error: [{ orNull: { object: STORED_ERROR } }, "why it is `retrying` or `failed`"],
  needsPerson: ["boolean", "true if it waits for somebody to act, here or at its target"],
  lost: [
    { orNull: { object: LOST_CHANGES } },
    "changes that its readers, or its history, lack for good; `millrace resume --sink NAME` ends the notice",
  ],
  isMoved: [
    "boolean",
    "true while its position was moved, by `offsets reset` or `retention.policy`, and it has not begun there yet",
  ],
  catchingUp: ["boolean", "true for a sink that was away or could not keep up, until it is back with the others"],
  waitsFor: [
    { listOf: "text" },
    "sinks for which the stream went back: this sink gets nothing new before they have caught up",
  ],
  hints: [
    { optional: { listOf: { object: TARGET_HINT } } },
    "what the target may do to rows that lie there (Redis), upkeep that fails (DuckDB, DuckLake), quotas that slow it (Kafka), and indices that are closed or blocked (Elasticsearch)",
  ],
  rooms: [
    { optional: { listOf: { object: ROOM } } },
    "how much room there is where it writes, at the last look; absent where no daemon runs, or the target does not tell",
  ],
  deadRows: [
    { optional: "rows" },
    "deleted rows that still occupy space in the target, at the last count; only DuckDB tells",
  ],
} as const satisfies Fields;

export type SinkStatus = Described<typeof SINK>;

const UNREADABLE = {
  table: ["text", "`schema.table`"],
  sinks: [{ listOf: "text" }, "the sinks that wait for its rows"],
  since: ["time", "time of the first failed attempt"],
  error: [{ object: STORED_ERROR }, "the error of the last attempt; it is tried again"],
} as const satisfies Fields;

/** Rows of the table must be read beside the stream, and the source refuses that now. The read is tried again. */
export type UnreadableTable = Described<typeof UNREADABLE>;

const TABLES = {
  captured: ["tables", "that are followed"],
  refused: [
    {
      listOf: {
        object: {
          table: ["text", "`schema.table`"],
          reason: ["text", "why it can't be followed"],
          fix: ["text", "the statement that allows it"],
        },
      },
    },
    "tables that are left out",
  ],
  unreadable: [{ listOf: { object: UNREADABLE } }, "tables whose rows the source refuses to a read beside the stream"],
  suspended: [
    {
      listOf: {
        object: {
          table: ["text", "`schema.table`"],
          sink: [{ orNull: "text" }, "the sink that skips its changes; null: every sink"],
          error: [{ object: STORED_ERROR }, "why"],
          mayReturn: ["boolean", "true if it may be followed again, or be gone, by itself"],
        },
      },
    },
    "tables whose changes are skipped until they are reinstated",
  ],
  pending: [
    {
      listOf: {
        object: {
          table: ["text", "`schema.table`"],
          why: ["text", "what it waits for"],
          fix: [{ orNull: "text" }, "what ends the session that holds it; null: it goes on by itself"],
        },
      },
    },
    "tables that are not followed yet, or not in their present shape; empty where no daemon runs",
  ],
  stubborn: [
    { listOf: { object: { table: ["text", "`schema.table`"], sink: ["text", "the sink where it differs"] } } },
    "tables whose differences come back, however often they are read again; empty where no daemon runs",
  ],
  areKnown: ["boolean", "whether the source's tables were read since the start of the daemon"],
  notLooked: [{ orNull: { object: STORED_ERROR } }, "why they could not be read so far; Millrace tries again"],
} as const satisfies Fields;

export type TablesStatus = Described<typeof TABLES>;

const SNAPSHOT = {
  id: ["number", "for `snapshot cancel`"],
  tableId: ["text", "`schema.table`"],
  sink: ["text", "the sink that gets the rows"],
  scope: [
    {
      object: {
        kind: [
          { oneOf: ["table", "differences", "where"] },
          "`table`, `differences` (only rows that differ) or `where` (rows of a condition)",
        ],
        where: [{ optional: "text" }, "the condition; absent for the other kinds"],
      },
    },
    "which rows are read",
  ],
  reason: ["text", "why they are read"],
  needed: ["boolean", "true if the sink would lack rows without it; then it can't be cancelled"],
  state: [{ oneOf: ["waiting", "running", "done", "cancelled"] }, "`waiting`, `running`, `done` or `cancelled`"],
  error: [{ orNull: { object: STORED_ERROR } }, "why it makes no progress now; it is tried again"],
  rowsDone: ["rows", "read so far"],
  ...PROGRESS,
  chunksDone: ["count", "chunks read so far"],
  resumedCount: ["count", "how often a new daemon continued it"],
  restartedCount: ["count", "how often it started again from the first key"],
  createdAt: ["time", "when it was requested"],
  startedAt: [{ orNull: "time" }, "time of the first chunk"],
  endedAt: [{ orNull: "time" }, "time of the end"],
} as const satisfies Fields;

/** A table, or a part of it, that is read beside the stream for one sink. Without keys: they are values of the source. */
export type SnapshotStatus = Described<typeof SNAPSHOT>;

const DOCUMENT = {
  name: ["text", "its name in millrace.yaml"],
  table: ["text", "the table that it is to sinks and commands"],
  sinks: [{ listOf: "text" }, "the sinks that take it"],
  isFilled: ["boolean", "the nest has all rows of its tables: before, none is sent"],
  lagSeconds: [{ orNull: "seconds" }, "how old its newest state is in the sink that is furthest behind"],
  waiting: ["count", "documents that have changed and are not in all of these sinks yet"],
  isMore: ["boolean", "there are more: not all are counted, or listed"],
  waitingSince: [
    { orNull: "time" },
    "when the first of them changed, to the second; null: none waits, or it is not known",
  ],
} as const satisfies Fields;

/** Objects made of rows of several tables (docs/documents.md). */
export type DocumentStatus = Described<typeof DOCUMENT>;

const CONTINUOUS = {
  maxAgeSeconds: ["number", "reconcile.continuous.maxAge"],
  waits: [{ orNull: "text" }, "why it stands back now; null: it does not"],
  places: ["count", "tables, counted once for each sink that has them"],
  neverProven: ["count", "how many of them have rows that were never proven"],
  late: ["count", "how many have a range whose proof is older than maxAge"],
  oldest: [{ orNull: { object: PROOF_RECORD } }, "the one whose oldest range was proven longest ago, or never"],
  drift: [
    {
      orNull: {
        object: {
          places: ["count", "how many of them have more differing rows than maxDrift"],
          rows: ["count", "differing rows in all of them"],
          worst: [{ object: PROOF_RECORD }, "the one with the most"],
        },
      },
    },
    "rows that differed at the last look at their range; null: none, or no more than maxDrift",
  ],
} as const satisfies Fields;

/** With `reconcile.continuous`. */
export type ContinuousStatus = Described<typeof CONTINUOUS>;

const COMPARISONS = {
  next: [{ orNull: "time" }, "when the next planned comparison begins"],
  last: [{ orNull: { object: REPORT_SUMMARY } }, "the newest that has ended"],
  drift: [
    { orNull: { object: REPORT_SUMMARY } },
    "the newest that found more drift than allowed, until a later full comparison finds none",
  ],
  failure: [
    { orNull: { object: STORED_ERROR } },
    "why the newest comparison that the daemon began did not end, until a later comparison does",
  ],
  continuous: [
    { optional: { orNull: { object: CONTINUOUS } } },
    "the continuous comparison; null: none is configured; absent where no daemon runs",
  ],
  overdueSince: [
    { optional: { orNull: "time" } },
    "the first planned time since the newest whole comparison began, if the one after it has passed too; null: it has not; absent where no daemon runs",
  ],
} as const satisfies Fields;

export type ComparisonStatus = Described<typeof COMPARISONS>;

const STATE = {
  error: [{ orNull: { object: STORED_ERROR } }, "why the state can't be written now"],
  isSilent: [{ optional: "boolean" }, "true if nothing has failed yet, but its server has not answered so far"],
  rooms: [{ optional: { listOf: { object: ROOM } } }, "how much room its disk has; absent if it is in a database"],
} as const satisfies Fields;

export type StateStatus = Described<typeof STATE>;

export const STATUS = {
  name: ["text", "the daemon's name, from millrace.yaml"],
  phase: ["text", "`starting`, `snapshot` (the first copy), `streaming` or `stopped`"],
  source: [{ object: SOURCE }, "the source"],
  sinks: [{ listOf: { object: SINK } }, "each sink, in the order of millrace.yaml"],
  tables: [{ object: TABLES }, "tables that are followed, and those that are not"],
  documents: [{ optional: { listOf: { object: DOCUMENT } } }, "each document; absent: the configuration has none"],
  notify: [
    {
      optional: {
        object: { error: [{ orNull: { object: STORED_ERROR } }, "why it could not be told last"] },
      },
    },
    "the receiver of `notify.webhook`",
  ],
  verdict: [{ object: VERDICT }, "what the conditions come to"],
  conditions: [
    { listOf: { object: CONDITION } },
    "what is not, or not yet, as it should be; an empty list: all is well",
  ],
  unfinishedSnapshots: ["count", "tables, chunks and keys that still have to be read beside the stream"],
  snapshots: [{ listOf: { object: SNAPSHOT } }, "tables that are read beside the stream now"],
  daemon: [
    { orNull: { object: { pid: ["number", "its process"], startedAt: ["time", "when it started"] } } },
    "null: none runs here, and the document shows what the state knew last",
  ],
  heldBy: [
    { optional: "text" },
    "who holds the lease while no daemon listens here: one on another host, or one that starts",
  ],
  lastSeenAt: [
    { optional: "time" },
    "when a daemon was last there that neither stopped in order nor said why it ended",
  ],
  ended: [
    { optional: { object: STORED_ERROR } },
    "why the last daemon ended; absent if it was stopped or killed, or if one runs",
  ],
  config: [
    {
      optional: {
        object: {
          changedAt: [
            { orNull: "time" },
            "when the config file was changed since the daemon started; null: it was not",
          ],
        },
      },
    },
    "the config file",
  ],
  state: [{ object: STATE }, "the state store"],
  reconcile: [{ object: COMPARISONS }, "comparisons of the sinks with the source"],
} as const satisfies Fields;

export type StatusDocument = Described<typeof STATUS>;

/** Rows on their way through the pipeline. */
export type PipelineStatus = Omit<
  StatusDocument,
  "notify" | "verdict" | "conditions" | "config" | "state" | "reconcile"
>;

export const NO_PROGRESS: ReadProgress = emptyOf(PROGRESS);

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

/** The one place that makes the document. */
export function pipelineStatus({ name, source, sinks }: Named, known: KnownStatus): PipelineStatus {
  return {
    name,
    phase: "stopped",
    unfinishedSnapshots: 0,
    snapshots: [],
    daemon: null,
    ...known,
    source: { kind: source.kind, ...emptyOf(SOURCE), ...known.source },
    sinks: sinks.map(({ name: sink, kind, place = null }) => {
      return { name: sink, kind, ...emptyOf(SINK), place, state: "stopped", ...known.sinks?.get(sink) };
    }),
    tables: { ...emptyOf(TABLES), ...known.tables },
  };
}
