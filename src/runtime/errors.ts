import { TABLE_PAUSED } from "../core/contracts/status.ts";
import { MillraceError } from "../core/errors.ts";
import { EPOCH_MAX } from "../core/model/version.ts";
import type { AmbiguousKey } from "../core/contracts/row-reads.ts";
import type { RefusedTable, TableShape } from "../core/contracts/catalog.ts";
import type { StoredError } from "../core/contracts/state-store.ts";

import { pages } from "./error-pages.ts";
import { shellWord } from "../core/shell-word.ts";

export { pages };

/** Millrace tries such a table again by itself. */
export const CANNOT_WRITE = "MR1324";

export function cannotWrite(sink: string, table: string, cause: MillraceError): MillraceError {
  return new MillraceError({
    code: CANNOT_WRITE,
    kind: "fatal",
    message: `sink ${sink} can't write ${table}: ${cause.code} ${cause.message}`,
    hint: cause.hint ?? "correct what it names at the target; Millrace tries the table again by itself",
    cause,
    table,
  });
}

export function sinkEmptied(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1301",
    kind: "fatal",
    reason: "behind",
    message: `sink ${sink} holds no checkpoint any more: its target was emptied, or the checkpoint was deleted there`,
    hint: `millrace snapshot start --sink ${sink}`,
  });
}

export function sinkBehind(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1301",
    kind: "fatal",
    reason: "behind",
    message: `sink ${sink} holds less than it held before, and the source's log no longer reaches back to there`,
    hint: `millrace snapshot start --sink ${sink}`,
  });
}

export function historyLost(sink: string, tables: readonly string[]): MillraceError {
  return new MillraceError({
    code: "MR1315",
    kind: "fatal",
    message: `the history of ${tables.join(", ")} is gone from sink ${sink}`,
    hint: `put it back, then millrace resume --sink ${sink}; or start a new one: millrace snapshot start --sink ${sink}`,
  });
}

export const SINK_AHEAD = "MR1311";

export function sinkAhead(sink: string): MillraceError {
  return new MillraceError({
    code: SINK_AHEAD,
    kind: "fatal",
    message: `sink ${sink} is at a position that the source's log does not have`,
    hint: "stop the daemon, then millrace recover: it begins a new epoch and compares every sink",
  });
}

export function sinkForeign(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1317",
    kind: "fatal",
    message: `sink ${sink} holds a checkpoint that was written with another state`,
    hint: `millrace offsets reset --sink ${sink} --to snapshot fills it again; it removes rows that this log can't have written`,
  });
}

export function notReadAgain(sink: string, { code, message }: StoredError, hint: string | null): MillraceError {
  return new MillraceError({
    code: "MR1337",
    kind: "fatal",
    message: `sink ${sink} has failed, and reading this again would not bring it back: ${code} ${message}`,
    hint: hint ?? pages.MR1337.remedy,
  });
}

export function epochsUsedUp(epoch: number): MillraceError {
  return new MillraceError({
    code: "MR1338",
    kind: "fatal",
    message: `epoch ${epoch} is more than the ${EPOCH_MAX} that row versions can tell apart`,
    hint: pages.MR1338.remedy,
  });
}

export function sinkHoldsLater(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1318",
    kind: "fatal",
    message: `sink ${sink} has rows that are newer than anything that the source's log has, and no checkpoint`,
    hint: `millrace offsets reset --sink ${sink} --to snapshot removes them and fills the sink again`,
  });
}

export function otherThanWritten(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1308",
    kind: "retryable",
    message: `sink ${sink} holds another position than this process has written to it`,
  });
}

export function pausedOnPoison(sink: string, table: string, cause: MillraceError): MillraceError {
  return new MillraceError({
    code: "MR1302",
    kind: "fatal",
    message: `sink ${sink} refused a row of ${table} (${cause.code}) and onPoison is pause`,
    hint: `millrace dlq list, then millrace resume --sink ${sink}`,
    cause,
  });
}

export function tooManyRefused(
  sink: string,
  table: string,
  { countMax, isHistory }: { readonly countMax: number; readonly isHistory: boolean },
  cause: MillraceError,
): MillraceError {
  return new MillraceError({
    code: "MR1328",
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
    code: "MR1325",
    kind: "poison",
    message: `a row of ${table} has a date that does not exist in its key`,
    hint: pages.MR1325.remedy,
  });
}

export function waitsForApproval(table: string, changes: readonly string[]): MillraceError {
  return new MillraceError({
    code: "MR1303",
    kind: "fatal",
    message: `table ${table} is suspended, because its shape has changed: ${changes.join("; ")}`,
    hint: `millrace schema approve ${shellWord(table)}`,
  });
}

export function newWaits(table: string): MillraceError {
  return new MillraceError({
    code: "MR1303",
    kind: "fatal",
    message: `table ${table} is suspended, because it is new and no rule names it: a glob of \`tables\` says \`schemaChange: pause\``,
    hint: `millrace schema approve ${shellWord(table)}`,
  });
}

export function unclassified(sink: string, cause: unknown): MillraceError {
  return new MillraceError({
    code: "MR1304",
    kind: "fatal",
    message: `sink ${sink} keeps failing: ${cause instanceof Error ? cause.message : String(cause)}`,
    hint: `correct what the log names, then millrace resume --sink ${sink}`,
    cause,
  });
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

export const TARGETS_MEET = "MR1305";

export function targetsMeet(sink: string, a: string, b: string, target: string): MillraceError {
  return new MillraceError({
    code: TARGETS_MEET,
    kind: "fatal",
    message: `tables ${a} and ${b} would both be written to ${target} in sink ${sink}`,
    hint: "leave one of them out of this sink's tables, or give another sink its own schema or prefix",
  });
}

export function notAsked(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1321",
    kind: "fatal",
    message: `sink ${sink} can't be queried with SQL`,
    hint: "name a DuckDB sink",
  });
}

export function tooManyQueries(max: number): MillraceError {
  return new MillraceError({ code: "MR1322", kind: "retryable", message: `${max} queries are being prepared already` });
}

export function noSuchSink(name: string, known: readonly string[]): MillraceError {
  return new MillraceError({
    code: "MR1306",
    kind: "fatal",
    message: `there is no sink ${JSON.stringify(name)}`,
    hint: `the sinks are: ${known.join(", ")}`,
  });
}

export function noSuchTable(id: string): MillraceError {
  return new MillraceError({
    code: "MR1307",
    kind: "fatal",
    message: `there is no captured table ${JSON.stringify(id)}`,
    hint: "name it as schema.table",
  });
}

export function tablePaused(id: string): MillraceError {
  return new MillraceError({
    code: TABLE_PAUSED,
    kind: "fatal",
    message: `an operator has paused table ${id}`,
    hint: `let it go on: millrace resume --tables ${shellWord(id)}`,
    table: id,
  });
}

export function historyNotPaused(sink: string): MillraceError {
  return new MillraceError({
    code: "MR1327",
    kind: "fatal",
    message: `sink ${sink} keeps histories: what passes while a table is paused would be missing in its history for ever`,
    hint: `name another sink with --sink, or pause the sink as a whole: millrace pause --sink ${sink}`,
  });
}

export function noSuchLetter(ids: readonly number[]): MillraceError {
  return new MillraceError({
    code: "MR1115",
    kind: "fatal",
    message: `there is no dead letter ${ids.join(", ")}`,
    hint: "millrace dlq list --all shows the numbers; a row that is refused again has a new one",
  });
}

/** What stood under rules has another name: it is suspended although it was never captured under that one. */
export const OTHER_NAME = "MR1033";

/** Reasons for a table's suspension that end by themselves as soon as the source, or the configuration, is corrected. */
export const CORRECTED_AT_SOURCE: ReadonlySet<string> = new Set(["MR1026", OTHER_NAME, "MR1309", "MR1312"]);

/** `before`: the table as it was captured. */
export function refusedSince(refused: RefusedTable, before?: TableShape): MillraceError {
  const { id, reason, byPrivilege, code } = refused;
  const key = before?.key.map((ordinal) => before.columns[ordinal]!.name) ?? [];
  const fix = refused.fixWith?.(key) ?? refused.fix;
  if (code !== undefined)
    return new MillraceError({ code, kind: "fatal", message: `table ${id} is suspended: ${reason}`, hint: fix });
  return new MillraceError({
    code: byPrivilege === true ? "MR1312" : "MR1309",
    kind: "fatal",
    message: `table ${id} is suspended, because it can't be captured any more: ${reason}`,
    hint: `${fix} Then Millrace captures it again.`,
  });
}

export function keyLost(table: string): MillraceError {
  return new MillraceError({
    code: "MR1309",
    kind: "fatal",
    message: `table ${table} is suspended: it has no usable key any more`,
    hint: "`millrace check` prints the SQL that gives it a key again; then Millrace captures it again",
  });
}

export function ambiguousKey(table: string, what: AmbiguousKey["what"]): MillraceError {
  const met = what === "null" ? "a row has a null in the columns" : "two rows have the same values in the columns";
  return new MillraceError({
    code: "MR1313",
    kind: "fatal",
    message: `table ${table} is suspended: ${met} that its rule names as key`,
    hint: `correct those rows at the source, then millrace snapshot start --tables ${shellWord(table)}; or use other columns`,
  });
}

export function internalFailure(table: string, cause: unknown): MillraceError {
  return new MillraceError({
    code: "MR1314",
    kind: "fatal",
    message: `table ${table} is suspended: its rows could not be processed (${cause instanceof Error ? cause.name : typeof cause})`,
    hint: `report the log's error, then millrace snapshot start --tables ${shellWord(table)}`,
    cause,
  });
}

export function snapshotNeeded(id: number, table: string, sink: string): MillraceError {
  return new MillraceError({
    code: "MR1310",
    kind: "fatal",
    message: `snapshot ${id} can't be cancelled: without it sink ${sink} lacks rows of ${table}`,
    hint: `millrace pause --sink ${sink} interrupts it; to do without the table, leave it out of the sink's tables`,
  });
}

export function conditionRefused(table: string, cause: Error): MillraceError {
  return new MillraceError({
    code: "MR1323",
    kind: "fatal",
    message: `--where can't be used on ${table}: ${cause.message}`,
    hint: pages.MR1323.remedy,
    cause,
  });
}

/** Divisions as texts; null: one daemon has all tables. */
export function dividedBefore(name: string, before: string | null, now: string | null): MillraceError {
  const spelled = (division: string | null) => (division === null ? "no shares" : `\`shares: ${division}\``);
  return new MillraceError({
    code: "MR1330",
    kind: "fatal",
    message: `${name} has run with ${spelled(before)}, and the configuration now has ${spelled(now)}`,
    hint: pages.MR1330.remedy,
  });
}

/** The sink is opened again, and the tables are made and filled again. */
export function targetsGone(sink: string, lostTables: readonly string[]): MillraceError {
  return new MillraceError({
    code: "MR1336",
    kind: "reopen",
    message: `sink ${sink} lacks tables that it held: ${lostTables.join(", ")}`,
    hint: pages.MR1336.remedy,
    lostTables,
  });
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
