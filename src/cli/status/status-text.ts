/**
 * `millrace status` as text: first whether somebody has to act, why and how, then the figures. Made for a person on
 * call: it fits on a screen, and everything that is in order takes one line.
 */
import { equalIn } from "../../core/comparison-verdict.ts";
import type { ReportSummary } from "../../core/contracts/reconciliation.ts";
import { type Condition, sentenceOf } from "../../core/conditions/condition.ts";
import type { ContinuousStatus, SinkStatus, SnapshotStatus, StatusDocument } from "../../core/contracts/status.ts";
import { bytes, count, digits, seconds, span, utc } from "../../core/figures.ts";
import { tableText } from "../table.ts";

/** A longer list of tables is only counted. */
const LISTED_COUNT_MAX = 5;
const MORE: Readonly<Record<string, string>> = {
  "table.suspended": "suspended",
  "table.suspended-in-sink": "suspended in a sink",
  "table.unreadable": "that can't be read",
};

export function statusText(status: StatusDocument, nowMs: number): string {
  const { head, conditions, source, rest } = statusParts(status, nowMs);
  return [
    ...head,
    ...conditions,
    ...(conditions.length === 0 ? [] : [""]),
    ...source,
    sinkTable(status.sinks),
    ...rest,
  ].join("\n");
}

/** In one line, how many shares there are, and which of them have no daemon or need a look. */
export function sharesText(documents: readonly object[]): string {
  const named = (what: string, isMeant: (one: object) => boolean): string[] => {
    const numbers = documents.filter(isMeant).map((one) => ("share" in one ? String(one.share) : "?"));
    return numbers.length === 0 ? [] : [`${what}: ${numbers.join(", ")}`];
  };
  const hasConditions = (one: object) =>
    "conditions" in one && Array.isArray(one.conditions) && one.conditions.length > 0;
  const parts = [
    ...named("no daemon", (one) => !("daemon" in one) || (one.daemon === null && !("heldBy" in one))),
    ...named("on another machine", (one) => "heldBy" in one),
    ...named("to look at", hasConditions),
  ];
  return [count(documents.length, "share"), ...(parts.length === 0 ? ["all is well"] : parts)].join("; ");
}

/** The lines of `status` but for the sinks' table. Without conditions all is well, and the head says so. */
export function statusParts(status: StatusDocument, nowMs: number) {
  const { conditions, verdict } = status;
  return {
    head: [headline(status, nowMs), ...(verdict.kind === "well" ? [inOrder(status)] : ["", `${verdict.headline}:`])],
    conditions: conditionLines(conditions, nowMs),
    source: [sourceLine(status)],
    rest: [...tableLines(status, nowMs), ...comparisonLine(status, nowMs)],
  };
}

function headline({ name, phase, daemon, heldBy }: StatusDocument, nowMs: number): string {
  if (heldBy !== undefined) return `${name}: no daemon listens here; what follows is what was stored last`;
  if (daemon === null) return `${name}: no daemon is running; what follows is what was known last`;
  return `${name}: ${phase} (pid ${daemon.pid}, up for ${span(nowMs - Date.parse(daemon.startedAt))})`;
}

function inOrder({ sinks }: StatusDocument): string {
  return `all is well: ${sinks.length === 1 ? "the sink follows" : `${sinks.length} sinks follow`}`;
}

/** Of each kind the first ones, then how many more there are. */
function conditionLines(conditions: readonly Condition[], nowMs: number): readonly string[] {
  return [...Map.groupBy(conditions, ({ kind }) => kind)].flatMap(([kind, all]) => {
    const isLong = all.length > LISTED_COUNT_MAX && kind in MORE;
    const lines = all.slice(0, isLong ? LISTED_COUNT_MAX : all.length).flatMap((one) => linesOf(one, nowMs));
    if (!isLong) return lines;
    const rest = `${count(all.length - LISTED_COUNT_MAX, "more table")} ${MORE[kind]}`;
    return [...lines, `  ! ${rest}`, "    -> millrace status --json"];
  });
}

function linesOf(condition: Condition, nowMs: number): readonly string[] {
  const { since, lastTried, meanwhile, fix } = condition;
  const ago = (at: string) => span(nowMs - Date.parse(at));
  const times = [
    ...(since === null ? [] : [lastTried === null ? `${ago(since)} ago` : `for ${ago(since)}`]),
    ...(lastTried === null ? [] : [`last tried ${ago(lastTried)} ago`]),
  ].join(", ");
  const more = [times, meanwhile ?? ""].filter((part) => part !== "").join("; ");
  const text = `${sentenceOf(condition)}${more === "" ? "" : ` (${more})`}`;
  return [`  ! ${indented(text)}`, ...(fix === null ? [] : [`    -> ${indented(fix)}`])];
}

function sourceLine({ source }: StatusDocument): string {
  const parts = [
    `source: ${source.kind} at ${source.position ?? "-"}`,
    ...activityOf(source),
    ...(source.lagBytes === null ? [] : [`${bytes(source.lagBytes)} not read yet`]),
    ...(source.retainedBytes === null ? [] : [`keeps ${bytes(source.retainedBytes)} of log for us`]),
    ...(source.safeBytes === null ? [] : [`gives it up after ${bytes(Math.max(0, source.safeBytes))} more`]),
    ...((source.zeroDates ?? 0) === 0
      ? []
      : [`met ${count(source.zeroDates ?? 0, "date")} that do not exist (zeroDates)`]),
    ...(source.safeSeconds === null ? [] : [`may delete it in ${span(source.safeSeconds * 1_000)}`]),
  ];
  return parts.join(", ");
}

/** The usual is not worth a word. */
function activityOf({ activity, blockedBy }: StatusDocument["source"]): readonly string[] {
  if (activity === "slow" || activity === "half-open") return [activity];
  return blockedBy.length === 0 ? [] : [`blocked by ${blockedBy.join(", ")}`];
}

function sinkTable(sinks: readonly SinkStatus[]): string {
  const rows = sinks.map((sink) => {
    const { name, kind, position, lagSeconds, lagBytes, deadLetters } = sink;
    return [`${name} (${kind})`, sinkState(sink), position ?? "-", seconds(lagSeconds), bytes(lagBytes), deadLetters];
  });
  return tableText(["sink", "state", "position", "behind", "log", "dead letters"], rows);
}

export function sinkState({ state, activity, catchingUp, waitsFor }: SinkStatus): string {
  const isTold = activity === "wedged" || (activity === "slow" && !catchingUp);
  return [
    state,
    ...(isTold ? [activity] : []),
    ...(catchingUp ? ["catching up"] : []),
    ...(waitsFor.length > 0 ? [`waits for ${waitsFor.join(", ")}`] : []),
  ].join(", ");
}

function tableLines({ tables: { captured, refused }, snapshots }: StatusDocument, nowMs: number): string[] {
  const lines = [`${count(captured, "table")} captured`];
  lines.push(...snapshots.slice(0, LISTED_COUNT_MAX).map((snapshot) => readingLine(snapshot, nowMs)));
  if (refused.length > 0) {
    const shown = refused.slice(0, LISTED_COUNT_MAX).map(({ table, reason }) => `${table} (${reason})`);
    const rest = refused.length - shown.length;
    lines.push(`left out: ${[...shown, ...(rest > 0 ? [`${rest} more`] : [])].join(", ")}; millrace check has the fix`);
  }
  return lines;
}

function comparisonLine({ reconcile: { last, next, continuous } }: StatusDocument, nowMs: number): string[] {
  const parts = [
    ...(last === null ? [] : [`compared ${span(nowMs - Date.parse(last.finishedAt))} ago: ${resultOf(last)}`]),
    ...(next === null ? [] : [`next comparison ${utc(next)} (in ${span(Date.parse(next) - nowMs)})`]),
    ...(continuous == null ? [] : [proofText(continuous, nowMs)]),
  ];
  return parts.length === 0 ? [] : [parts.join(", ")];
}

function proofText({ oldest, neverProven, waits }: ContinuousStatus, nowMs: number): string {
  const pause = waits === null ? "" : ` (it stands back: ${waits})`;
  if (neverProven > 0) return `proof is under way${pause}`;
  if (oldest?.provenAt == null) return `nothing to prove${pause}`;
  return `the oldest proof is ${span(nowMs - Date.parse(oldest.provenAt))} old${pause}`;
}

function resultOf(report: ReportSummary): string {
  const { id, missing, extra, different, repaired, notComparable } = report;
  const differed = missing + extra + different;
  const rest = notComparable === 0 ? "" : `, ${digits(notComparable)} not comparable`;
  const also = repaired === 0 ? "" : `, ${digits(repaired)} repaired`;
  const what = differed === 0 ? equalIn(report) : `${count(differed, "row")} differed${also}`;
  if (what === "equal") return what;
  return `${what}${rest} (millrace report show ${id})`;
}

function readingLine(snapshot: SnapshotStatus, nowMs: number): string {
  const { tableId, sink, rowsDone, startedAt, resumedCount } = snapshot;
  const since = startedAt === null ? "" : ` in ${span(nowMs - Date.parse(startedAt))}`;
  const resumed = resumedCount === 0 ? "" : `, resumed ${count(resumedCount, "time")}`;
  return `  ${tableId} for ${sink}: ${count(rowsDone, "row")} read${since}${progressText(snapshot)}${resumed}`;
}

/** By the source's statistics. */
function progressText({ share, secondsLeft }: SnapshotStatus): string {
  if (share === null) return "";
  const left = secondsLeft === null ? "" : `, about ${span(secondsLeft * 1_000)} left`;
  return `, about ${Math.floor(share * 100)}%${left}`;
}

function indented(text: string): string {
  return text.replaceAll("\n", "\n    ");
}
