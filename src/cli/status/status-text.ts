/**
 * `millrace status` as text: first whether somebody has to act, why and how, then the figures. Made for a person on
 * call: it fits on a screen, and everything that is in order takes one line.
 */
import Table from "cli-table3";
import type { ReportSummary } from "../../core/contracts/reconciliation.ts";
import type { StoredError } from "../../core/contracts/state-store.ts";
import type { SinkStatus, SnapshotStatus, StatusDocument } from "../../core/contracts/status.ts";

/** A streaming sink is mentioned when it is this far behind. */
const SLOW_SECONDS = 30;
/** A longer list of tables is only counted. */
const LISTED_COUNT_MAX = 5;

/** A problem, and what to do about it. */
interface Matter {
  readonly what: string;
  readonly todo: string | null;
}

export function statusText(status: StatusDocument, nowMs: number): string {
  const { head, matters, source, rest } = statusParts(status, nowMs);
  return [...head, ...matters, ...(matters.length === 0 ? [] : [""]), ...source, sinkTable(status.sinks), ...rest].join(
    "\n",
  );
}

/** The lines of `status` but for the sinks' table. No matters: nothing needs a look, and the head says so. */
export function statusParts(status: StatusDocument, nowMs: number) {
  const found = mattersOf(status, nowMs);
  return {
    head: [headline(status, nowMs), ...(found.length === 0 ? [inOrder(status)] : ["", "to look at:"])],
    matters: found.flatMap(({ what, todo }) => [
      `  ! ${indented(what)}`,
      ...(todo === null ? [] : [`    -> ${indented(todo)}`]),
    ]),
    source: [sourceLine(status), ...copyLine(status)],
    rest: [...tableLines(status, nowMs), ...comparisonLine(status, nowMs)],
  };
}

function headline({ name, phase, daemon, heldBy }: StatusDocument, nowMs: number): string {
  if (heldBy !== undefined) return `${name}: no daemon listens here; what follows is what was stored last`;
  if (daemon === null) return `${name}: no daemon is running; what follows is what was known last`;
  return `${name}: ${phase} (pid ${daemon.pid}, up for ${span(nowMs - Date.parse(daemon.startedAt))})`;
}

function inOrder({ phase, sinks }: StatusDocument): string {
  if (phase !== "streaming") return "nothing is wrong; it does not stream yet";
  return `all is well: ${sinks.length === 1 ? "the sink follows" : `${sinks.length} sinks follow`}`;
}

function mattersOf(status: StatusDocument, nowMs: number): readonly Matter[] {
  const { source, sinks, tables, daemon, heldBy, phase } = status;
  const matters: Matter[] = [];
  if (heldBy !== undefined) {
    matters.push({ what: `the lease is held by ${heldBy}`, todo: "millrace status, there" });
  } else if (daemon === null) {
    const what = "nothing is copied while no daemon runs, and the source keeps its log until one does";
    matters.push({ what, todo: "millrace run (its log says why it ended)" });
  }
  if (status.state.error !== null)
    matters.push(failure("the state can't be written, and nothing is acknowledged", status.state.error, nowMs));
  if (source.error !== null) matters.push(failure("the source", source.error, nowMs));
  else if (source.needsPerson) matters.push({ what: "the source waits for you", todo: "millrace check" });
  else if (phase === "streaming" && !source.up)
    matters.push({
      what: "the source does not tell its position now; lags and what it keeps are not known",
      todo: null,
    });
  if (source.goneBack !== null) {
    const { sinks: late, until, error } = source.goneBack;
    const what = `the stream went back for ${late.join(", ")}; the other sinks wait until it is at ${until} again`;
    matters.push(failure(what, error, nowMs));
  }
  for (const warning of source.warnings) matters.push({ what: `source: ${warning}`, todo: null });
  for (const sink of sinks) matters.push(...sinkMatters(status, sink, nowMs));
  for (const { table, error } of tables.aside.slice(0, LISTED_COUNT_MAX))
    matters.push(failure(`table ${table} is suspended, its changes are passed over`, error, nowMs));
  if (tables.aside.length > LISTED_COUNT_MAX)
    matters.push({
      what: `${tables.aside.length - LISTED_COUNT_MAX} more tables are suspended`,
      todo: "millrace status --json",
    });
  matters.push(...suspendedMatters(status, nowMs), ...unreadableMatters(status, nowMs), ...driftMatter(status, nowMs));
  const unfinished = status.reconcile.failure ?? null;
  if (unfinished !== null) matters.push(failure("the last planned comparison did not end", unfinished, nowMs));
  return matters;
}

function suspendedMatters({ tables: { suspended } }: StatusDocument, nowMs: number): readonly Matter[] {
  const matters = suspended.slice(0, LISTED_COUNT_MAX).map(({ table, sink, error }): Matter => {
    const { what, todo } = failure(`table ${table} is suspended in sink ${sink}, which lacks it`, error, nowMs);
    const back = `millrace snapshot start --tables ${table} --sink ${sink}`;
    return { what, todo: todo === null ? back : `${todo}${todo.includes("snapshot start") ? "" : `; then ${back}`}` };
  });
  const rest = suspended.length - matters.length;
  if (rest > 0)
    matters.push({ what: `${count(rest, "more table")} suspended in a sink`, todo: "millrace status --json" });
  return matters;
}

/** Also after a repair: the cause of the difference may still be there. */
function driftMatter({ reconcile: { drift } }: StatusDocument, nowMs: number): readonly Matter[] {
  if (drift === null || drift === undefined) return [];
  const differed = drift.missing + drift.extra + drift.different;
  const repaired = drift.repaired === 0 ? "" : `, ${drift.repaired.toLocaleString("en-US")} repaired`;
  const ago = span(nowMs - Date.parse(drift.finishedAt));
  const since = "no full comparison since then was without drift";
  const what = `${count(differed, "row")} differed${repaired} in the comparison ${ago} ago; ${since}`;
  return [{ what, todo: `millrace report show ${drift.id}, then millrace reconcile` }];
}

function unreadableMatters({ tables: { unreadable } }: StatusDocument, nowMs: number): readonly Matter[] {
  const matters: Matter[] = unreadable.slice(0, LISTED_COUNT_MAX).map(({ table, sinks, since, error }) => {
    const tried = `for ${span(nowMs - Date.parse(since))}, last tried ${span(nowMs - Date.parse(error.at))} ago`;
    const why = `${error.code} ${error.message} (${tried}; it is tried again by itself)`;
    return {
      what: `table ${table} can't be read for ${sinks.join(", ")}: ${why}`,
      todo: error.hint ?? pageOf(error.code),
    };
  });
  const rest = unreadable.length - matters.length;
  if (rest > 0) matters.push({ what: `${count(rest, "more table")} can't be read`, todo: "millrace status --json" });
  return matters;
}

function sinkMatters({ source, daemon, sinks }: StatusDocument, sink: SinkStatus, nowMs: number): readonly Matter[] {
  const { name, state, error, lagSeconds, catchingUp, deadLetters } = sink;
  const matters: Matter[] = [];
  const kept = source.retainedBytes === null ? "" : ` (${bytes(source.retainedBytes)} by now)`;
  if (state === "paused" && error === null) {
    const what = `sink ${name} is paused; the source keeps its log for it${kept}`;
    matters.push({ what, todo: `millrace resume --sink ${name}` });
  } else if (error !== null) {
    matters.push(sinkFailure(sink, error, daemon !== null, nowMs));
  } else if (state === "failed" || sink.needsPerson) {
    matters.push({ what: `sink ${name} is ${state} and waits for you`, todo: `millrace resume --sink ${name}` });
  } else if (daemon !== null && catchingUp) {
    const others = sinks.some(({ waitsFor }) => waitsFor.includes(name)) ? "wait for it" : "are not held up";
    matters.push({ what: `sink ${name} catches up, ${behind(sink)}; the others ${others}`, todo: null });
  } else if (state === "streaming" && (lagSeconds ?? 0) > SLOW_SECONDS) {
    const todo = "check the load of that server: it writes rows more slowly than they arrive";
    matters.push({ what: `sink ${name} is slow, ${behind(sink)}`, todo });
  }
  if (deadLetters > 0) {
    const what = `sink ${name} refused ${count(deadLetters, "row")}, kept as dead letters: the sink lacks them`;
    matters.push({ what, todo: `millrace dlq list --sink ${name}` });
  }
  return matters;
}

function sinkFailure(sink: SinkStatus, error: StoredError, isRunning: boolean, nowMs: number): Matter {
  // A stored error does not tell whether it would have passed by itself or needs somebody.
  if (!isRunning && sink.state === "failed") return failure(`sink ${sink.name} did not take rows last`, error, nowMs);
  if (sink.state === "failed") return failure(`sink ${sink.name} has failed and waits for you`, error, nowMs);
  if (sink.state !== "retrying") return failure(`sink ${sink.name} is ${sink.state}`, error, nowMs);
  const { code, message, hint, at } = error;
  const after = sink.needsPerson
    ? "it waits for you, and goes on by itself once that is done"
    : "it catches up by itself";
  const tried = `last tried ${span(nowMs - Date.parse(at))} ago; ${after}`;
  // There is no lag to show for a sink that was never reached.
  const lag = sink.lagSeconds === null && sink.lagBytes === null ? "" : `, ${behind(sink)}`;
  return {
    what: `sink ${sink.name} does not take rows${lag}: ${code} ${message} (${tried})`,
    todo: hint ?? pageOf(code),
  };
}

function failure(what: string, { code, message, hint, at }: StoredError, nowMs: number): Matter {
  return { what: `${what}: ${code} ${message} (${span(nowMs - Date.parse(at))} ago)`, todo: hint ?? pageOf(code) };
}

/** For an error without a hint of its own. */
function pageOf(code: string): string {
  return `millrace explain ${code}`;
}

function sourceLine({ source }: StatusDocument): string {
  const parts = [
    `source: ${source.kind} at ${source.position ?? "-"}`,
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

function copyLine({ source: { copy }, phase }: StatusDocument): string[] {
  if (copy === null || phase !== "snapshot") return [];
  const rows = copy.rowsRead.toLocaleString("en-US");
  return [`first copy: ${copy.tablesDone} of ${count(copy.tableCount, "table")} done, ${rows} rows read`];
}

function sinkTable(sinks: readonly SinkStatus[]): string {
  const table = new Table({
    head: ["sink", "state", "position", "behind", "log", "dead letters"],
    style: { head: [], border: [], compact: true },
  });
  for (const sink of sinks) {
    const { name, kind, position, lagSeconds, lagBytes, deadLetters } = sink;
    table.push([
      `${name} (${kind})`,
      sinkState(sink),
      position ?? "-",
      seconds(lagSeconds),
      bytes(lagBytes),
      deadLetters,
    ]);
  }
  return table.toString();
}

export function sinkState({ state, catchingUp, waitsFor }: SinkStatus): string {
  return [
    state,
    ...(catchingUp ? ["catching up"] : []),
    ...(waitsFor.length > 0 ? [`waits for ${waitsFor.join(", ")}`] : []),
  ].join(", ");
}

function tableLines({ tables: { captured, refused }, refills, snapshots }: StatusDocument, nowMs: number): string[] {
  const lines = [`${count(captured, "table")} captured`];
  if (refills > 0) lines.push(`${count(refills, "read")} beside the stream still to do: millrace snapshot list`);
  lines.push(...snapshots.slice(0, LISTED_COUNT_MAX).map((snapshot) => readingLine(snapshot, nowMs)));
  if (refused.length > 0) {
    const shown = refused.slice(0, LISTED_COUNT_MAX).map(({ table, reason }) => `${table} (${reason})`);
    const rest = refused.length - shown.length;
    lines.push(`left out: ${[...shown, ...(rest > 0 ? [`${rest} more`] : [])].join(", ")}; millrace check has the fix`);
  }
  return lines;
}

function comparisonLine({ reconcile: { last, next } }: StatusDocument, nowMs: number): string[] {
  const parts = [
    ...(last === null ? [] : [`compared ${span(nowMs - Date.parse(last.finishedAt))} ago: ${resultOf(last)}`]),
    ...(next === null ? [] : [`next comparison ${timeText(next)} (in ${span(Date.parse(next) - nowMs)})`]),
  ];
  return parts.length === 0 ? [] : [parts.join(", ")];
}

function resultOf({
  missing,
  extra,
  different,
  repaired,
  notComparable,
  deadLetters = 0,
  ...report
}: ReportSummary): string {
  const { id, whole, part, aside = 0 } = report;
  const differed = missing + extra + different;
  const rest = notComparable === 0 ? "" : `, ${notComparable.toLocaleString("en-US")} not comparable`;
  const isAll = whole === true && part === null && notComparable + deadLetters + aside === 0;
  if (differed === 0 && isAll) return "equal";
  const also = repaired === 0 ? "" : `, ${repaired.toLocaleString("en-US")} repaired`;
  const what = differed === 0 ? "what was compared is equal" : `${count(differed, "row")} differed${also}`;
  return `${what}${rest} (millrace report show ${id})`;
}

function timeText(time: string): string {
  return `${time.slice(0, 16).replace("T", " ")} UTC`;
}

function readingLine({ tableId, sink, rowsDone, startedAt, resumedCount }: SnapshotStatus, nowMs: number): string {
  const since = startedAt === null ? "" : ` in ${span(nowMs - Date.parse(startedAt))}`;
  const resumed = resumedCount === 0 ? "" : `, resumed ${count(resumedCount, "time")}`;
  return `  ${tableId} for ${sink}: ${count(rowsDone, "row")} read${since}${resumed}`;
}

function behind({ lagSeconds, lagBytes }: SinkStatus): string {
  return `${seconds(lagSeconds)} and ${bytes(lagBytes)} of log behind`;
}

function indented(text: string): string {
  return text.replaceAll("\n", "\n    ");
}

function count(value: number, noun: string): string {
  return `${value.toLocaleString("en-US")} ${noun}${value === 1 ? "" : "s"}`;
}

export function seconds(value: number | null): string {
  if (value === null) return "-";
  return value < 10 ? `${value.toFixed(1)} s` : span(value * 1000);
}

function span(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} days`;
}

export function bytes(value: number | null): string {
  if (value === null) return "-";
  const units = ["B", "KB", "MB", "GB", "TB"];
  const power = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  return `${power === 0 ? value : (value / 1024 ** power).toFixed(1)} ${units[power]}`;
}
