import { type ErrorCode, type ErrorPages, errorsOf, joined, MillraceError, type Raise } from "../core/errors.ts";
import { EPOCH_MAX } from "../core/model/position.ts";
import type { Neighbour } from "../core/contracts/connector.ts";
import type { AmbiguousKey } from "../core/contracts/row-reads.ts";
import type { RefusedTable } from "../core/contracts/catalog.ts";
import type { ForeignTarget, Sink } from "../core/contracts/sink.ts";
import { type StoredError, TABLE_PAUSED } from "../core/contracts/state-store.ts";

import { shellWord } from "../core/shell-word.ts";
import { partTakenBy, takenBy } from "../core/targets/taken.ts";

export const pages = {
  MR1301: {
    title: "The sink holds less than it held before",
    remedy:
      "Fill it again beside the running stream: `millrace snapshot start --sink NAME`; a history, files and topics lack the changes in between. If the sink was meant to be restored from a newer copy, restore that and run `millrace resume --sink NAME`.",
    cause:
      "The progress in the sink is missing or older than recorded, and the source's log no longer reaches back to there. The sink stops only with `onLost: fail` (the default of warehouses) or as a history.",
  },
  MR1302: {
    title: "Refused rows stop a sink or a table",
    remedy:
      "`millrace dlq list` counts the letters by cause, `millrace dlq show ID --show-values` shows a row. Correct the target, then `millrace snapshot start --tables TABLE --sink NAME`; for a history `millrace dlq discard`, then `millrace resume --sink NAME`.",
    cause:
      "`onPoison: pause` is set; or more rows of a table were refused than `deadLettersMax` (1,000) allows: a constraint, a trigger, a column that is too small. The table is suspended in this sink; a history stops.",
  },
  MR1303: {
    title: "A table is new or its shape changed, and an operator has to approve it",
    remedy:
      "Look at it with `millrace schema show TABLE`, then `millrace schema approve TABLE`: the sinks follow the new shape, and the table is read again beside the stream.",
    cause:
      "`schemaChange: pause`, or a change that the table's `compatibility` does not allow; under a glob with `schemaChange: pause` also a table that appears after the first start.",
    seen: "suspended",
  },
  MR1304: {
    title: "A failure that is not classified",
    remedy:
      "The log has the error with its causes. Correct what it names and run `millrace resume --sink NAME`; a table that was suspended over it comes back by `millrace snapshot start --tables TABLE`. Report it.",
    cause:
      "A sink, the stream, or a read beside it failed with an error that Millrace does not know, and the retries failed too; or a defect of Millrace affects one table, which is suspended.",
  },
  MR1305: {
    title: "Two tables have the same target",
    remedy:
      "Give the sink a `tables` list with only one of them, or put them in sinks with different `schema` or `prefix`. If one of the two is dropped or renamed at the source, Millrace captures the other by itself.",
    cause:
      "Two tables have one name in a sink: their names differ in case or in a dot's place, were cut, or two sinks share them. The later one waits. Or a table's keys in a cache would lie under the longer `prefix` of another sink.",
    seen: "suspended in a sink",
  },
  MR1308: {
    title: "The sink holds another position than was written",
    remedy:
      "Nothing, unless it ends in MR1301. If it repeats, find the other program that writes to it, or let the `url` lead to one server.",
    cause:
      "The target was restored from a copy, a replica that lagged behind answers or was promoted, or somebody replaced it. Millrace goes on from what it holds if the log reaches back that far.",
  },
  MR1309: {
    title: "A captured table can't be captured any more",
    remedy:
      "Do what the hint, or `millrace check`, says, such as adding the lost key or a GRANT. Millrace then reads the table again and captures it. Take a table that was dropped for good out of `tables`.",
    cause:
      "The table, its key or its replica identity was dropped, it became unlogged, got a column with a reserved name, or the login may not read it any more.",
    seen: "suspended",
  },
  MR1311: {
    title: "The sink is ahead of the source's log",
    remedy:
      "If the source was exchanged by mistake, put the right one back. Otherwise stop the daemon and run `millrace recover`: it begins a new epoch and compares every sink. A mirror you can also fill again alone: `millrace snapshot start --sink NAME`.",
    cause:
      "The checkpoint names a position that the log does not have: state or source was lost, exchanged or restored while this sink did not answer.",
  },
  MR1313: {
    title: "A key that does not tell its rows apart",
    remedy:
      "Correct those rows at the source and add a unique constraint over not-null columns; then `millrace snapshot start --tables TABLE`. Or use other columns as the key.",
    cause:
      "The rule's `key` has no unique constraint at the source, and two rows have the same values there, or one has a null. One of them would be lost in every sink, so the table is suspended.",
    seen: "suspended",
  },
  MR1315: {
    title: "A history is gone from its sink",
    remedy:
      "Put the table back from a backup, or the former `schema` into the configuration, then `millrace resume --sink NAME`. Or start a new history with the present rows: `millrace snapshot start --sink NAME`.",
    cause:
      "A table with `mode: history` was dropped or emptied, or the sink got another `schema`. Earlier rows can't be read again, so the sink stops.",
  },
  MR1317: {
    title: "The sink belongs to another state",
    remedy:
      "Correct the sink's address. If the target is the right one: stop the daemon, then `millrace offsets reset --sink NAME --to snapshot --yes`, which removes rows that this log can't have written and reads all tables again.",
    cause:
      "The checkpoint was written with another state, or there is none and the rows are newer than the log: the target is another daemon's, or from an earlier life of this one.",
  },
  MR1321: {
    title: "A query can't be run",
    remedy:
      "Ask a DuckDB sink (`--sink`), by one statement that reads. Correct the SQL; make room beside the file, or ask when less is written or asked; or stop Millrace: then the query reads the file itself.",
    cause:
      "The sink has no queries, the SQL writes or fails, or the file can't be copied: the disk has no room, too much is written, or too many queries run at once.",
    seen: "command",
  },
  MR1323: {
    title: "The source does not accept a condition",
    remedy:
      "Try it at the source: SELECT count(*) FROM the table WHERE (the condition). Where rules mask, drop or filter anything, write it in the language of `where`, over columns that no rule hides. Behind Kafka the sink with `format: log` needs `conditions: true`.",
    cause:
      "`snapshot start --where` is not valid SQL of the source, names what the table lacks or rules hide, or the capturing daemon takes no conditions: nothing was started. Or it failed on a row (a division by zero): the read ended there, and `snapshot list` says so.",
    seen: "command",
  },
  MR1324: {
    title: "A sink can't write one table",
    remedy:
      "Correct what the message names at the target. Millrace tries the table again by itself, at most every 30 s, and then reads it again as a whole.",
    cause:
      "The target refuses this table, and not because of a single row: an index is closed or has lost a part, a constraint fails at the commit, an error is not classified. The message has the target's error. The table is suspended in this sink.",
    seen: "suspended in a sink",
  },
  MR1326: {
    title: "An operator has paused a table",
    remedy:
      "`millrace resume --tables TABLE`. Where changes have passed meanwhile, its rows are read again. `millrace audit list` says who paused it.",
    cause:
      "`millrace pause --tables TABLE`: the sinks skip the table's changes and go on with the others. The source keeps no log for it.",
    seen: "suspended in a sink",
  },
  MR1330: {
    title: "The tables were shared in another way before",
    remedy:
      "Take the former value back. Or stop all processes, and run `millrace recover --shares --yes` with the new one. From shares to none: `millrace teardown --sink-metadata --yes` with the former value, then start.",
    cause:
      "`source.shares` was changed, or a sink's `schema` or an `into` of `tables` was, and the states have positions from before; or processes of one group have different ones. Two daemons would count a table as theirs.",
    seen: "start",
  },
  MR1335: {
    title: "A sink gives no answer",
    remedy:
      "Look at the target: whether its server works, waits for a lock, or lacks memory or disk. If it is only slow, make its batches smaller (`batch.rows`, `batch.bytes`) or the time longer (`batch.timeout`).",
    cause:
      "A write took longer than `batch.timeout` (five minutes by default; twelve times as long for work on a whole table). Millrace opens the sink again and gives the next attempt twice the time. The other sinks go on.",
  },
  MR1336: {
    title: "A token can't be compared with the source's log",
    remedy:
      "Take the token from the database that this daemon follows, after the commit: `select pg_current_wal_insert_lsn()` on Postgres, the session's GTID or `file:position` on MySQL and MariaDB. After a failover take a new one.",
    cause:
      "It is no position of this log and no name of a transaction, lies beyond the end of the log, or was taken before the source got another log.",
  },
} as const satisfies ErrorPages;

const TOKEN_LENGTH_MAX = 100;

function fatal(
  code: ErrorCode,
  message: string,
  hint: string | undefined,
  more: { readonly cause?: unknown; readonly table?: string | undefined; readonly reason?: "behind" } = {},
): MillraceError {
  return new MillraceError({ code, kind: "fatal", message, hint, ...more });
}

/** Millrace tries such a table again by itself. */
export const CANNOT_WRITE = "MR1324";

export function cannotWrite(sink: string, table: string, cause: MillraceError): MillraceError {
  return fatal(
    CANNOT_WRITE,
    `sink ${sink} can't write ${table}: ${cause.code} ${cause.message}`,
    cause.hint ?? "correct what it names at the target; Millrace tries the table again by itself",
    { cause, table },
  );
}

export function sinkEmptied(sink: string): MillraceError {
  return fatal(
    "MR1301",
    `sink ${sink} holds no checkpoint any more: its target was emptied, or the checkpoint was deleted there`,
    `millrace snapshot start --sink ${sink}`,
    { reason: "behind" },
  );
}

export function sinkBehind(sink: string): MillraceError {
  return fatal(
    "MR1301",
    `sink ${sink} holds less than it held before, and the source's log no longer reaches back to there`,
    `millrace snapshot start --sink ${sink}`,
    { reason: "behind" },
  );
}

export function historyLost(sink: string, tables: readonly string[]): MillraceError {
  return fatal(
    "MR1315",
    `the history of ${tables.join(", ")} is gone from sink ${sink}`,
    `put it back, then millrace resume --sink ${sink}; or start a new one: millrace snapshot start --sink ${sink}`,
  );
}

export const SINK_AHEAD = "MR1311";

export function sinkAhead(sink: string): MillraceError {
  return fatal(
    SINK_AHEAD,
    `sink ${sink} is at a position that the source's log does not have`,
    "stop the daemon, then millrace recover: it begins a new epoch and compares every sink",
  );
}

export function sinkForeign(sink: string): MillraceError {
  return fatal(
    "MR1317",
    `sink ${sink} holds a checkpoint that was written with another state`,
    `millrace offsets reset --sink ${sink} --to snapshot fills it again; it removes rows that this log can't have written`,
  );
}

export function notReadAgain(sink: string, { code, message }: StoredError, hint: string | null): MillraceError {
  return fatal(
    "MR1127",
    `sink ${sink} has failed, and reading this again would not bring it back: ${code} ${message}`,
    hint ??
      "`millrace snapshot start --sink NAME`, without `--tables` and `--where`, fills a mirror again. For a history or a stream that is ahead of the log (MR1311), stop the daemon and run `millrace recover`.",
  );
}

export function epochsUsedUp(epoch: number): MillraceError {
  return fatal(
    "MR1131",
    `epoch ${epoch} is more than the ${EPOCH_MAX} that row versions can tell apart`,
    "Empty the sinks, or give them empty places (another schema, prefix or path). Then the epochs begin again.",
  );
}

export function sinkHoldsLater(sink: string): MillraceError {
  return fatal(
    "MR1317",
    `sink ${sink} has rows that are newer than anything that the source's log has, and no checkpoint`,
    `millrace offsets reset --sink ${sink} --to snapshot removes them and fills the sink again`,
  );
}

/** Its rows would stay the present ones, whatever this sink writes. */
export function laterHistory(sink: string, table: string): MillraceError {
  return fatal(
    "MR1317",
    `the history of ${table} in sink ${sink} is another daemon's or sink's, and newer than anything that the source's log has`,
    "stop the daemon, then `millrace recover --anyway`: it begins an epoch above these rows. Or give the sink another `schema`",
    { table },
  );
}

export function otherThanWritten(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1308",
    kind: "retryable",
    message: `sink ${sink} holds another checkpoint than this process has written to it`,
  });
}

export function pausedOnPoison(sink: string, table: string, cause: MillraceError): MillraceError {
  return fatal(
    "MR1302",
    `sink ${sink} refused a row of ${table} (${cause.code}) and onPoison is pause`,
    `millrace dlq list, then millrace resume --sink ${sink}`,
    { cause },
  );
}

export function tooManyRefused(
  sink: string,
  table: string,
  { countMax, isHistory }: { readonly countMax: number; readonly isHistory: boolean },
  cause: MillraceError,
): MillraceError {
  return new MillraceError({
    code: "MR1302",
    kind: "fatal",
    message: `sink ${sink} refused more than ${countMax} rows of ${table}, the last one by ${cause.code} (${cause.message})`,
    hint: isHistory
      ? `millrace dlq list --sink ${sink}; correct the target or discard the letters, then millrace resume --sink ${sink}`
      : `millrace dlq list --sink ${sink}; correct the target, then millrace snapshot start --tables ${shellWord(table)} --sink ${sink}`,
    ...(isHistory ? {} : { table }),
    cause,
  });
}

export function impossibleKey(table: string): MillraceError {
  return new MillraceError({
    code: "MR3111",
    kind: "poison",
    message: `a row of ${table} has a date that does not exist in its key`,
    hint: "Correct the row at the source, or choose `zeroDates: text` for its table, which is then read again with its dates as texts. `millrace dlq list` names the rows.",
  });
}

/** `how`: what the cell says (core/model/tuple.ts). */
export function functionFailed(table: string, column: string | null, how: string): MillraceError {
  return new MillraceError({
    code: "MR1036",
    kind: "poison",
    message: `${column === null ? table : `column ${JSON.stringify(column)} of ${table}`}: ${how}`,
  });
}

export function waitsForApproval(table: string, changes: readonly string[]): MillraceError {
  return fatal(
    "MR1303",
    `the shape of ${table} has changed: ${changes.join("; ")}`,
    `millrace schema approve ${shellWord(table)}`,
  );
}

export function newWaits(table: string): MillraceError {
  return fatal(
    "MR1303",
    `${table} is new, and no rule names it: a glob of \`tables\` says \`schemaChange: pause\``,
    `millrace schema approve ${shellWord(table)}`,
  );
}

export function unclassified(sink: string, cause: unknown): MillraceError {
  return fatal(
    "MR1304",
    `sink ${sink} keeps failing: ${cause instanceof Error ? cause.message : String(cause)}`,
    `correct what the log names, then millrace resume --sink ${sink}`,
    { cause },
  );
}

/** A broken stream whose error no connector classified. */
export function streamLost(cause: unknown): MillraceError {
  return new MillraceError({
    code: "MR1304",
    kind: "retryable",
    message: `the stream from the source broke: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause,
  });
}

/** A read beside the stream whose error no connector classified. */
export function readFailed(table: string, cause: unknown): MillraceError {
  return new MillraceError({
    code: "MR1304",
    kind: "retryable",
    message: `${table} could not be read: ${cause instanceof Error ? cause.message : String(cause)}`,
    cause,
  });
}

/** A lock was not granted, or the source ended a statement that took too long. */
export const WAITED_IN_VAIN = "MR2026";

/** Of an error that no connector knows. */
export const UNCLASSIFIED = "MR1304";
export const TARGETS_MEET = "MR1305";

export function targetsMeet(sink: string, a: string, b: string, target: string): MillraceError {
  return fatal(
    TARGETS_MEET,
    `tables ${a} and ${b} would both be written to ${target} in sink ${sink}`,
    "leave one of them out of this sink's tables, or give another sink its own schema or prefix",
  );
}

export function targetIsNeighbours(sink: string, table: string, target: string, neighbour: Neighbour): MillraceError {
  return fatal(
    TARGETS_MEET,
    `table ${table} would be written to ${target}… in sink ${sink}, where sink ${neighbour.sink} writes ${neighbour.start}…`,
    `leave it out of this sink's tables, or give sink ${neighbour.sink} another prefix`,
  );
}

export function notAsked(sink: string): MillraceError {
  return fatal("MR1321", `sink ${sink} can't be queried with SQL`, "name a DuckDB sink");
}

export function tooManyQueries(max: number): MillraceError {
  return new MillraceError({ code: "MR1321", kind: "retryable", message: `${max} queries are being prepared already` });
}

export function noSuchSink(name: string, known: readonly string[]): MillraceError {
  return fatal("MR1114", `there is no sink ${JSON.stringify(name)}`, `the sinks are: ${known.join(", ")}`);
}

export function tokenUnknown(token: string, why: string): MillraceError {
  return fatal(
    "MR1336",
    `the token ${JSON.stringify(token.slice(0, TOKEN_LENGTH_MAX))} can't be compared with the source's log: ${why}`,
    "take the token from the database that this daemon follows, after the commit",
  );
}

export function noSuchTable(id: string): MillraceError {
  return fatal("MR1114", `there is no captured table ${JSON.stringify(id)}`, "name it as schema.table");
}

export function tablePaused(id: string): MillraceError {
  return fatal(
    TABLE_PAUSED,
    `an operator has paused table ${id}`,
    `let it go on: millrace resume --tables ${shellWord(id)}`,
    { table: id },
  );
}

export function historyNotPaused(sink: string): MillraceError {
  return fatal(
    "MR1127",
    `sink ${sink} keeps histories: what passes while a table is paused would be missing in its history for ever`,
    `name another sink with --sink, or pause the sink as a whole: millrace pause --sink ${sink}`,
  );
}

export function noSuchLetter(ids: readonly number[]): MillraceError {
  return fatal(
    "MR1114",
    `there is no dead letter ${ids.join(", ")}`,
    "millrace dlq list --all shows the numbers; a row that is refused again has a new one",
  );
}

/** Reasons for a table's suspension that end by themselves as soon as the source, or the configuration, is corrected. */
export const CORRECTED_AT_SOURCE: ReadonlySet<string> = new Set([
  // Its rules do not fit it.
  "MR1020",
  "MR1021",
  "MR1023",
  "MR1025",
  "MR1026",
  "MR1027",
  "MR1033",
  "MR1034",
  "MR1035",
  "MR1309",
]);

export function refusedSince({ id, reason, code, fix }: RefusedTable): MillraceError {
  if (code !== undefined) return new MillraceError({ code, kind: "fatal", message: `${id}: ${reason}`, hint: fix });
  return fatal("MR1309", `${id} can't be captured any more: ${reason}`, `${fix} Then Millrace captures it again.`);
}

export function keyLost(table: string): MillraceError {
  return fatal(
    "MR1309",
    `${table} has no usable key any more`,
    "`millrace check` prints the SQL that gives it a key again; then Millrace captures it again",
  );
}

export function ambiguousKey(table: string, what: AmbiguousKey["what"]): MillraceError {
  const met = what === "null" ? "a row has a null in the columns" : "two rows have the same values in the columns";
  return fatal(
    "MR1313",
    `${table}: ${met} that its rule names as key`,
    `correct those rows at the source, then millrace snapshot start --tables ${shellWord(table)}; or use other columns`,
  );
}

export function internalFailure(table: string, cause: unknown): MillraceError {
  return fatal(
    "MR1304",
    `rows of ${table} could not be processed (${cause instanceof Error ? cause.name : typeof cause})`,
    `report the log's error, then millrace snapshot start --tables ${shellWord(table)}`,
    { cause },
  );
}

export function snapshotNeeded(id: number, table: string, sink: string): MillraceError {
  return fatal(
    "MR1127",
    `snapshot ${id} can't be cancelled: without it sink ${sink} lacks rows of ${table}`,
    `millrace pause --sink ${sink} interrupts it; to do without the table, leave it out of the sink's tables`,
  );
}

export function conditionRefused(table: string, cause: Error): MillraceError {
  return fatal("MR1323", `--where can't be used on ${table}: ${cause.message}`, pages.MR1323.remedy, { cause });
}

/** Divisions as texts; null: one daemon has all tables. */
export function dividedBefore(name: string, before: string | null, now: string | null): MillraceError {
  const spelled = (division: string | null) => (division === null ? "no shares" : `\`shares: ${division}\``);
  return fatal(
    "MR1330",
    `${name} has run with ${spelled(before)}, and the configuration now has ${spelled(now)}`,
    pages.MR1330.remedy,
  );
}

/** The sink is opened again, and the tables are made and filled again. */
export function targetsGone(sink: string, lostTables: readonly string[]): MillraceError {
  return new MillraceError({
    code: "MR3110",
    kind: "reopen",
    message: `sink ${sink} lacks tables that it held: ${lostTables.join(", ")}`,
    hint: "Nothing, if the table was dropped by mistake or to have it filled again. Otherwise find out who drops it.",
    lostTables,
  });
}

type SomeForeign = readonly [ForeignTarget, ...ForeignTarget[]];

export function targetsTaken(sink: Pick<Sink, "kind">, foreign: SomeForeign): MillraceError {
  return ofForeign(sink, foreign, (raise, { table: { id }, owner }) =>
    takenBy(raise, `the target of ${id}`, id, owner),
  );
}

/** Of tables whose rows in a shared target another sink has: see `partTakenBy`. */
export function partsTaken(sink: Pick<Sink, "kind">, foreign: SomeForeign): MillraceError {
  return ofForeign(sink, foreign, (raise, { table: { id }, owner }) => partTakenBy(raise, id, owner));
}

function ofForeign(
  { kind }: Pick<Sink, "kind">,
  [first, ...further]: SomeForeign,
  told: (raise: Raise, one: ForeignTarget) => MillraceError,
): MillraceError {
  const raise = errorsOf({ kind, side: "sink" }, {});
  return joined([told(raise, first), ...further.map((one) => told(raise, one))]);
}

/** What a sink does; `table`: the sweep or truncate of a whole table, or its new shape. */
export type SinkTask = "write" | "table" | "opening";

export interface Unanswered {
  readonly sink: string;
  readonly task: SinkTask;
  readonly ms: number;
}

const UNANSWERED: Readonly<Record<SinkTask, string>> = {
  write: "a write to",
  table: "work on a whole table of",
  opening: "the opening of",
};

/** The sink is opened again, which makes another connection. */
export function noAnswer({ sink, task, ms }: Unanswered, cause: unknown): MillraceError {
  return new MillraceError({
    code: "MR1335",
    kind: "reopen",
    message: `${UNANSWERED[task]} sink ${sink} got no answer for ${ms / 1000} s: its connection was cut`,
    hint: pages.MR1335.remedy,
    cause,
  });
}
