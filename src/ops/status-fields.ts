/**
 * The meaning of each field of `status --json`. The HTTP interface's schema and docs/status.md are generated from it.
 * The types ensure that every field of the document is here, with its form, and no other field.
 */
import type { SlowFunction } from "../core/contracts/log-admin.ts";
import type { ReportSummary } from "../core/contracts/reconciliation.ts";
import type { Room } from "../core/disk-room.ts";
import type { ProofRecord, StoredError } from "../core/contracts/state-store.ts";
import type { Condition } from "../core/conditions/condition.ts";
import type {
  DocumentStatus,
  GoneBackStatus,
  KeptLogStatus,
  SinkStatus,
  ReadProgress,
  SnapshotStatus,
  SourceStatus,
  StatusDocument,
  TablesStatus,
  UnreadableTable,
} from "../core/contracts/status.ts";

/** For a number the form is its unit; each is a number in JSON. */
const NUMBERS = ["bytes", "seconds", "rows", "tables", "count", "number"] as const;
/** Each is a string in JSON: `time` is RFC 3339 in UTC, `position` is a log position in the source's own format. */
const TEXTS = ["text", "time", "position"] as const;

type PlainForm<T> = T extends string
  ? (typeof TEXTS)[number]
  : T extends number
    ? (typeof NUMBERS)[number]
    : T extends boolean
      ? "boolean"
      : T extends readonly string[]
        ? `list of ${(typeof TEXTS)[number]}`
        : T extends readonly (infer Item)[]
          ? { readonly listOf: Fields<Item> }
          : { readonly object: Fields<T> };

type FormOf<T> = null extends T ? { readonly orNull: PlainForm<NonNullable<T>> } : PlainForm<NonNullable<T>>;
/** Of a union: the names of all of its members. */
type NameOf<T> = T extends unknown ? keyof T : never;
type ValueOf<T, Name> = T extends unknown ? (Name extends keyof T ? Exclude<T[Name], undefined> : never) : never;
type Fields<T> = { readonly [Name in NameOf<T>]-?: readonly [FormOf<ValueOf<T, Name>>, string] };

const ERROR: Fields<StoredError> = {
  code: ["text", "the number, `MR` and four digits; `millrace explain` shows its page"],
  message: ["text", "what is wrong"],
  hint: [{ orNull: "text" }, "what to do"],
  at: ["time", "time of the last attempt"],
  since: ["time", "time of the first attempt that failed, of those in a row; absent: the same"],
  isOfSource: ["boolean", "of a sink: true where it waits for the source, which fails; else absent"],
};

const ROOM: Fields<Room> = {
  where: ["text", "the file, folder or server"],
  freeBytes: ["bytes", "left there"],
  lowBytes: ["bytes", "with less it is nearly full"],
};

const PROGRESS: Fields<ReadProgress> = {
  rowsEstimated: [{ orNull: "rows" }, "how many there are by the source's statistics"],
  share: [{ orNull: "number" }, "estimate: the part that is read, from 0 to 1"],
  secondsLeft: [{ orNull: "seconds" }, "estimate: until the end, at the pace so far"],
};

const COPY: Fields<NonNullable<SourceStatus["copy"]>> = {
  tableCount: ["tables", "to be copied"],
  tablesDone: ["tables", "copied completely"],
  rowsRead: ["rows", "read so far"],
  ...PROGRESS,
  share: [{ orNull: "number" }, "estimate: the part that is durable in the sinks, from 0 to 1"],
};

const GONE_BACK: Fields<GoneBackStatus> = {
  sinks: ["list of text", "names of the sinks for which the stream went back"],
  until: ["position", "where the stream was: when these sinks reach it, no sink waits any more"],
  error: [{ object: ERROR }, "why they have no stream of their own"],
};

const KEPT_LOG: Fields<KeptLogStatus> = {
  from: [{ orNull: "position" }, "the server keeps its log from here on (restart_lsn)"],
  confirmed: [{ orNull: "position" }, "what it has as confirmed by this daemon (confirmed_flush_lsn)"],
  state: ["text", "how safe that log is (wal_status): `reserved`, `extended`, `unreserved` or `lost`"],
};

const SLOW_FUNCTION: Fields<SlowFunction> = {
  table: ["text", "id of the table"],
  column: [{ orNull: "text" }, "the computed column, or the relation of a document; null: it makes the whole document"],
  function: ["text", "as the configuration names it"],
  averageMs: ["number", "what a call takes, in milliseconds, on average"],
  budgetMs: ["number", "what it may take: `budget` of the column"],
};

const SOURCE: Fields<SourceStatus> = {
  kind: ["text", "`postgres` or `mysql` (MariaDB too)"],
  up: ["boolean", "false while the source does not answer, or its stream is broken"],
  activity: [
    { orNull: "text" },
    "what the stream does: `idle`, `flowing`, `slow` (behind the log, and no sink holds it up), `blocked` (it waits for sinks), `half-open` (the connection stood, nothing came, and it was cut), `away`; null where no daemon runs",
  ],
  blockedBy: ["list of text", "the sinks that the stream waits for"],
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
  warnings: ["list of text", "dangers to the log that a sink still needs: somebody has to act"],
  hints: ["list of text", "what may become a danger, such as a long open transaction"],
  slowFunctions: [
    { listOf: SLOW_FUNCTION },
    "functions of computed columns and documents that take longer than their budget",
  ],
  zeroDates: [
    { orNull: "count" },
    "MySQL and MariaDB: dates that do not exist, counted since the start; null: unknown",
  ],
  unconfirmedBytes: [{ orNull: "bytes" }, "Postgres: log behind the position that the slot has as confirmed"],
  oldestTransactionSeconds: [
    { orNull: "seconds" },
    "age of the oldest open transaction, on Postgres the oldest that writes or is prepared; 0: there is none",
  ],
  spilledTransactions: [
    { orNull: "count" },
    "Postgres: transactions that the server wrote to its disk while it decoded them",
  ],
  spilledBytes: [{ orNull: "bytes" }, "Postgres: bytes that it wrote so"],
  error: [{ orNull: { object: ERROR } }, "why the stream does not flow"],
  answeredAt: [{ orNull: "time" }, "when it last told its position; null: not since the daemon's start"],
  unanswered: [{ orNull: { object: ERROR } }, "why it does not tell its position now; null: it does"],
  needsPerson: ["boolean", "true if the stream waits for somebody to act"],
  goneBack: [{ orNull: { object: GONE_BACK } }, "the stream went back for sinks that can't have a stream of their own"],
  copy: [{ orNull: { object: COPY } }, "the first copy, while it runs"],
};

const SINK: Fields<SinkStatus> = {
  name: ["text", "its key in millrace.yaml"],
  kind: ["text", "its `kind` in millrace.yaml"],
  place: [{ orNull: "text" }, "what it writes into: host and port, or a path"],
  state: ["text", "`starting`, `snapshot`, `streaming`, `retrying`, `paused`, `failed` or `stopped`"],
  activity: [
    { orNull: "text" },
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
  error: [{ orNull: { object: ERROR } }, "why it is `retrying` or `failed`"],
  needsPerson: ["boolean", "true if it waits for somebody to act, here or at its target"],
  lost: [
    {
      orNull: {
        object: {
          what: ["text", "what, and why"],
          since: ["time", "when the first of it was lost"],
          until: ["time", "when the last of it was lost"],
        },
      },
    },
    "changes that its readers, or its history, lack for good; `millrace resume --sink NAME` ends the notice",
  ],
  isMoved: [
    "boolean",
    "true while its position was moved, by `offsets reset` or `retention.policy`, and it has not begun there yet",
  ],
  catchingUp: ["boolean", "true for a sink that was away or could not keep up, until it is back with the others"],
  waitsFor: [
    "list of text",
    "sinks for which the stream went back: this sink gets nothing new before they have caught up",
  ],
  hints: [
    {
      listOf: {
        table: [{ orNull: "text" }, "the table of the target that it concerns alone"],
        what: ["text", "what that is"],
        fix: ["text", "what prevents it"],
        slows: ["boolean", "true if it makes the sink slow; else absent"],
        needsPerson: ["boolean", "true if it ends only when somebody acts; else absent"],
      },
    },
    "what the target may do to rows that lie there (Redis), upkeep that fails (DuckDB, DuckLake), quotas that slow it (Kafka), and indices that are closed or blocked (Elasticsearch)",
  ],
  rooms: [
    { listOf: ROOM },
    "how much room there is where it writes, at the last look; absent where no daemon runs, or the target does not tell",
  ],
  deadRows: ["rows", "deleted rows that still occupy space in the target, at the last count; only DuckDB tells"],
};

const CONDITION: Fields<Condition> = {
  id: ["text", "the same for as long as it lasts: its kind, and the sink and the table that it is of"],
  kind: ["text", "`sink.failing`, `sink.dead-letters`, `table.suspended` …"],
  level: ["text", "`act`: it waits for a person; `watch`: Millrace deals with it"],
  blocks: [
    "list of text",
    "what it keeps from being: `ready` (`/readyz`), `wait` (`millrace wait`), `once` (`run --once`, which ends over it)",
  ],
  sink: [{ orNull: "text" }, "the sink that it is of"],
  table: [{ orNull: "text" }, "the table that it is of, `schema.table`"],
  what: ["text", "what is not well"],
  code: [{ orNull: "text" }, "the number of the error behind it"],
  message: [{ orNull: "text" }, "what that error says"],
  since: [{ orNull: "time" }, "when it began, or was found"],
  lastTried: [{ orNull: "time" }, "when Millrace last tried to get over it"],
  meanwhile: [{ orNull: "text" }, "what Millrace does about it by itself"],
  fix: [{ orNull: "text" }, "what to do"],
};

const UNREADABLE: Fields<UnreadableTable> = {
  table: ["text", "`schema.table`"],
  sinks: ["list of text", "the sinks that wait for its rows"],
  since: ["time", "time of the first failed attempt"],
  error: [{ object: ERROR }, "the error of the last attempt; it is tried again"],
};

const TABLES: Fields<TablesStatus> = {
  captured: ["tables", "that are followed"],
  refused: [
    {
      listOf: {
        table: ["text", "`schema.table`"],
        reason: ["text", "why it can't be followed"],
        fix: ["text", "the statement that allows it"],
      },
    },
    "tables that are left out",
  ],
  unreadable: [{ listOf: UNREADABLE }, "tables whose rows the source refuses to a read beside the stream"],
  suspended: [
    {
      listOf: {
        table: ["text", "`schema.table`"],
        sink: [{ orNull: "text" }, "the sink that skips its changes; null: every sink"],
        error: [{ object: ERROR }, "why"],
        mayReturn: ["boolean", "true if it may be followed again, or be gone, by itself"],
      },
    },
    "tables whose changes are skipped until they are reinstated",
  ],
  pending: [
    {
      listOf: {
        table: ["text", "`schema.table`"],
        why: ["text", "what it waits for"],
        fix: [{ orNull: "text" }, "what ends the session that holds it; null: it goes on by itself"],
      },
    },
    "tables that are not followed yet, or not in their present shape; empty where no daemon runs",
  ],
  stubborn: [
    { listOf: { table: ["text", "`schema.table`"], sink: ["text", "the sink where it differs"] } },
    "tables whose differences come back, however often they are read again; empty where no daemon runs",
  ],
  areKnown: ["boolean", "whether the source's tables were read since the start of the daemon"],
};

const SNAPSHOT: Fields<SnapshotStatus> = {
  id: ["number", "for `snapshot cancel`"],
  tableId: ["text", "`schema.table`"],
  sink: ["text", "the sink that gets the rows"],
  scope: [
    {
      object: {
        kind: ["text", "`table`, `differences` (only rows that differ) or `where` (rows of a condition)"],
        where: ["text", "the condition; absent for the other kinds"],
      },
    },
    "which rows are read",
  ],
  reason: ["text", "why they are read"],
  needed: ["boolean", "true if the sink would lack rows without it; then it can't be cancelled"],
  state: ["text", "`waiting`, `running`, `done` or `cancelled`"],
  error: [{ orNull: { object: ERROR } }, "why it makes no progress now; it is tried again"],
  rowsDone: ["rows", "read so far"],
  ...PROGRESS,
  chunksDone: ["count", "chunks read so far"],
  resumedCount: ["count", "how often a new daemon continued it"],
  restartedCount: ["count", "how often it started again from the first key"],
  createdAt: ["time", "when it was requested"],
  startedAt: [{ orNull: "time" }, "time of the first chunk"],
  endedAt: [{ orNull: "time" }, "time of the end"],
};

const PROOF: Fields<ProofRecord> = {
  table: ["text", "SCHEMA.TABLE"],
  sink: ["text", "its name"],
  since: ["time", "since when the table in the sink is to be proven"],
  lookedAt: [{ orNull: "time" }, "when the range that waits longest was compared; null: never"],
  provenAt: [{ orNull: "time" }, "every row was found equal then or later; null: some never was"],
  position: [{ orNull: "position" }, "where the log was at that time"],
  ranges: ["count", "ranges of keys whose proofs are of different age"],
  missing: ["rows", "rows of the source that the sink lacked at the last look at their range"],
  extra: ["rows", "rows of the sink that the source lacked"],
  different: ["rows", "rows with different values"],
};

const REPORT: Fields<ReportSummary> = {
  id: ["text", "for `report show`"],
  name: ["text", "the daemon's"],
  startedAt: ["time", "when it began"],
  finishedAt: ["time", "when it ended"],
  drift: ["boolean", "whether any row of any sink differs from the source"],
  alarm: ["boolean", "whether more rows differ than `maxDrift` allows"],
  tables: ["count", "tables, each counted once for every sink"],
  notComparable: [
    "count",
    "tables and sinks that could not be compared completely; without sinks that only pass changes on",
  ],
  compared: ["rows", "rows compared, all tables and sinks together"],
  whole: ["boolean", "whether all tables in all sinks were requested"],
  part: [
    { orNull: { object: { number: ["number", "which part"], of: ["count", "parts"] } } },
    "for `fast`: the part of the rows whose values were compared; null: all rows",
  ],
  suspended: ["tables", "tables that were suspended meanwhile"],
  deadLetters: ["rows", "rows that differ because the sink refused them; not counted as drift"],
  missing: ["rows", "rows of the source that the sink lacks"],
  extra: ["rows", "rows of the sink that the source lacks"],
  different: ["rows", "rows with different values"],
  repaired: ["rows", "rows that were read again because they differed"],
};

const DOCUMENT: Fields<DocumentStatus> = {
  name: ["text", "its name in millrace.yaml"],
  table: ["text", "the table that it is to sinks and commands"],
  sinks: ["list of text", "the sinks that take it"],
  isFilled: ["boolean", "the nest has all rows of its tables: before, none is sent"],
  lagSeconds: [{ orNull: "seconds" }, "how old its newest state is in the sink that is furthest behind"],
  waiting: ["count", "documents that have changed and are not in all of these sinks yet"],
  isMore: ["boolean", "there are more: not all are counted, or listed"],
  waitingSince: [
    { orNull: "time" },
    "when the first of them changed, to the second; null: none waits, or it is not known",
  ],
};

export const STATUS_FIELDS: Fields<StatusDocument> = {
  name: ["text", "the daemon's name, from millrace.yaml"],
  phase: ["text", "`starting`, `snapshot` (the first copy), `streaming` or `stopped`"],
  source: [{ object: SOURCE }, "the source"],
  sinks: [{ listOf: SINK }, "each sink, in the order of millrace.yaml"],
  tables: [{ object: TABLES }, "tables that are followed, and those that are not"],
  documents: [{ listOf: DOCUMENT }, "each document; absent: the configuration has none"],
  notify: [
    { object: { error: [{ orNull: { object: ERROR } }, "why it could not be told last"] } },
    "the receiver of `notify.webhook`",
  ],
  verdict: [
    {
      object: {
        kind: [
          "text",
          "`act`: somebody has to act; `unready`: it is not ready, and goes on by itself; `watch`: it is ready, and something is worth a look; `well`",
        ],
        headline: ["text", "the same as a sentence"],
      },
    },
    "what the conditions come to",
  ],
  conditions: [{ listOf: CONDITION }, "what is not, or not yet, as it should be; an empty list: all is well"],
  unfinishedSnapshots: ["count", "tables, chunks and keys that still have to be read beside the stream"],
  snapshots: [{ listOf: SNAPSHOT }, "tables that are read beside the stream now"],
  daemon: [
    { orNull: { object: { pid: ["number", "its process"], startedAt: ["time", "when it started"] } } },
    "null: none runs here, and the document shows what the state knew last",
  ],
  heldBy: ["text", "who holds the lease while no daemon listens here: one on another host, or one that starts"],
  lastSeenAt: ["time", "when a daemon was last there that neither stopped in order nor said why it ended"],
  ended: [{ object: ERROR }, "why the last daemon ended; absent if it was stopped or killed, or if one runs"],
  config: [
    {
      object: {
        changedAt: [{ orNull: "time" }, "when the config file was changed since the daemon started; null: it was not"],
      },
    },
    "the config file",
  ],
  state: [
    {
      object: {
        error: [{ orNull: { object: ERROR } }, "why the state can't be written now"],
        isSilent: ["boolean", "true if nothing has failed yet, but its server has not answered so far"],
        rooms: [{ listOf: ROOM }, "how much room its disk has; absent if it is in a database"],
      },
    },
    "the state store",
  ],
  reconcile: [
    {
      object: {
        next: [{ orNull: "time" }, "when the next planned comparison begins"],
        last: [{ orNull: { object: REPORT } }, "the newest that has ended"],
        drift: [
          { orNull: { object: REPORT } },
          "the newest that found more drift than allowed, until a later full comparison finds none",
        ],
        failure: [
          { orNull: { object: ERROR } },
          "why the newest comparison that the daemon began did not end, until a later comparison does",
        ],
        continuous: [
          {
            orNull: {
              object: {
                maxAgeSeconds: ["number", "reconcile.continuous.maxAge"],
                waits: [{ orNull: "text" }, "why it stands back now; null: it does not"],
                places: ["count", "tables, counted once for each sink that has them"],
                neverProven: ["count", "how many of them have rows that were never proven"],
                late: ["count", "how many have a range whose proof is older than maxAge"],
                oldest: [{ orNull: { object: PROOF } }, "the one whose oldest range was proven longest ago, or never"],
                drift: [
                  {
                    orNull: {
                      object: {
                        places: ["count", "how many of them have more differing rows than maxDrift"],
                        rows: ["count", "differing rows in all of them"],
                        worst: [{ object: PROOF }, "the one with the most"],
                      },
                    },
                  },
                  "rows that differed at the last look at their range; null: none, or no more than maxDrift",
                ],
              },
            },
          },
          "the continuous comparison; null: none is configured; absent where no daemon runs",
        ],
        overdueSince: [
          { orNull: "time" },
          "the first planned time since the newest whole comparison began, if the one after it has passed too; null: it has not; absent where no daemon runs",
        ],
      },
    },
    "comparisons of the sinks with the source",
  ],
};

/** The description of any field. */
export type AnyForm =
  | string
  | { readonly orNull: AnyForm }
  | { readonly listOf: AnyFields }
  | { readonly object: AnyFields };
export type AnyFields = { readonly [name: string]: readonly [AnyForm, string] };

export function schemaOf(fields: AnyFields): object {
  const properties = Object.entries(fields).map(([name, [form, description]]) => {
    return [name, { ...formSchema(form), description }];
  });
  return { type: "object", properties: Object.fromEntries(properties) };
}

function formSchema(form: AnyForm): object {
  if (typeof form === "object") {
    if ("orNull" in form) return { anyOf: [formSchema(form.orNull), { type: "null" }] };
    return "listOf" in form ? { type: "array", items: schemaOf(form.listOf) } : schemaOf(form.object);
  }
  if (form.startsWith("list of ")) return { type: "array", items: { type: "string" } };
  if (form === "boolean") return { type: "boolean" };
  if (NUMBERS.some((unit) => unit === form)) return { type: "number" };
  return form === "time" ? { type: "string", format: "date-time" } : { type: "string" };
}
