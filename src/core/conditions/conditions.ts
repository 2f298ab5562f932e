/**
 * The one list of what is not, or not yet, as it should be: from the facts of a running daemon, or from those that the state
 * stored last. Nobody else decides what is wrong; see `Condition`.
 */
import type {
  ComparisonStatus,
  ContinuousStatus,
  PipelineStatus,
  TablesStatus,
  SinkStatus,
  SourceStatus,
  StateStatus,
  StatusDocument,
} from "../contracts/status.ts";
import type { SlowFunction } from "../contracts/log-admin.ts";
import { hasLeft } from "../contracts/reconciliation.ts";
import { type StoredError, TABLE_PAUSED } from "../contracts/state-store.ts";
import type { Room } from "../disk-room.ts";
import { bytes, count, digits, seconds, span, verb } from "../figures.ts";
import { type Block, blocks, type Condition, type Verdict } from "./condition.ts";
import { shellWord } from "../shell-word.ts";

/** A streaming sink is mentioned when it is this far behind. */
const SLOW_SECONDS = 30;
/** Of one sink: a cluster may have many disks. */
const ROOMS_MAX = 3;
/** Another session held for too long what is needed, at whichever server. It may never let go: the error names it. */
const HELD = "MR2026";
const GIVEN_UP = "its position in the log was given up or moved, and its tables are read again when it takes rows";

type Facts = Pick<Condition, "what"> & Partial<Omit<Condition, "kind">>;

/** What a status says beside the pipeline. */
export type Beside = Pick<StatusDocument, "state" | "reconcile" | "notify" | "config">;

/** The document of `status`, whether its facts are those of now or those that were stored last; see `pipelineStatus`. */
export function statusDocument(pipeline: PipelineStatus, beside: Beside): StatusDocument {
  const conditions = conditionsOf(pipeline, beside);
  return { ...pipeline, ...beside, verdict: verdictOf(conditions), conditions };
}

/** In the order in which they are to be read: what waits for a person first. Nothing: all is well. */
function conditionsOf(pipeline: PipelineStatus, { state, reconcile, notify, config }: Beside): readonly Condition[] {
  const all = [
    ...stateConditions(state, pipeline.phase === "streaming"),
    ...pipelineConditions(pipeline),
    ...ofComparisons(reconcile),
    ...ofReceiver(notify?.error ?? null),
    ...ofConfig(config?.changedAt ?? null),
  ];
  return all.toSorted((a, b) => rankOf(a) - rankOf(b));
}

function rankOf({ level, kind }: Condition): number {
  if (kind === "daemon.absent" || kind === "daemon.ended" || kind === "daemon.elsewhere") return 0;
  return level === "act" ? 1 : 2;
}

function verdictOf(conditions: readonly Condition[]): Verdict {
  const acts = conditions.filter(({ level }) => level === "act").length;
  if (acts > 0) return { kind: "act", headline: acts === 1 ? "1 thing needs you" : `${acts} things need you` };
  if (conditions.some((one) => blocks(one, "ready"))) {
    return { kind: "unready", headline: "not ready; nothing needs you so far" };
  }
  if (conditions.length > 0) return { kind: "watch", headline: "nothing needs you" };
  return { kind: "well", headline: "all is well" };
}

/** Of the way of the rows alone: what a `wait` and a `run --once` look at. */
export function pipelineConditions(pipeline: PipelineStatus): readonly Condition[] {
  return [
    ...ofDaemon(pipeline),
    ...ofSource(pipeline),
    ...pipeline.sinks.flatMap((sink) => [...ofSink(pipeline, sink)]),
    // Behind what keeps it there.
    ...ofPhase(pipeline),
    ...tableConditions(pipeline.tables),
    ...ofReads(pipeline),
    ...ofDocuments(pipeline),
  ];
}

/** It waits for a person. */
function act(kind: string, facts: Facts): Condition {
  return condition(kind, { ...facts, level: "act" });
}

/** Millrace deals with it. */
function watch(kind: string, facts: Facts): Condition {
  return condition(kind, { ...facts, level: "watch" });
}

function condition(kind: string, given: Facts & Pick<Condition, "level">): Condition {
  const { sink = null, table = null } = given;
  const id = [kind, ...(sink === null ? [] : [`sink=${sink}`]), ...(table === null ? [] : [`table=${table}`])].join(
    " ",
  );
  return {
    id,
    kind,
    blocks: [],
    sink,
    table,
    code: null,
    message: null,
    since: null,
    lastTried: null,
    meanwhile: null,
    ...given,
    fix: given.fix == null ? null : named(given.fix, sink, table),
  };
}

/** Commands of the error's page with the names that it can't know. */
function named(fix: string, sink: string | null, table: string | null): string {
  return fix
    .replaceAll(/(--sink) (?:NAME|SINK)\b/g, (all, option: string) => (sink === null ? all : `${option} ${sink}`))
    .replaceAll(/(--tables|schema show|schema approve|rules try) TABLE\b/g, (all, verb: string) =>
      table === null ? all : `${verb} ${shellWord(table)}`,
    );
}

/** Without a hint of its own the error's page says more. */
function failure({ code, message, hint, at, since = at }: StoredError) {
  return { code, message, since, fix: hint ?? `millrace explain ${code}` };
}

/** It is tried again and again. */
function retried(error: StoredError) {
  return { ...failure(error), lastTried: error.at };
}

function* ofDaemon({ daemon, heldBy, lastSeenAt, ended }: PipelineStatus): Generator<Condition> {
  if (heldBy !== undefined) {
    const what = `the lease is held by ${heldBy}`;
    const fix = "millrace status, there";
    yield watch("daemon.elsewhere", { blocks: ["wait", "once"], what, fix });
  } else if (ended !== undefined) {
    yield daemonEnded(ended);
  } else if (daemon === null) {
    yield daemonAbsent(lastSeenAt);
  }
}

function* ofPhase({ daemon, phase, source: { copy } }: PipelineStatus): Generator<Condition> {
  if (daemon === null) return;
  const blocks = ["ready", "wait"] as const;
  if (phase === "snapshot") {
    const what = copy === null ? "first copy: it begins" : `first copy: ${copyText(copy)}`;
    const meanwhile = "streaming begins when it is done";
    yield watch("daemon.copying", { blocks, what, since: daemon.startedAt, meanwhile });
  } else if (phase !== "streaming") {
    const what = `the daemon is ${phase}`;
    const meanwhile = "it streams when the source and the sinks have answered";
    yield watch("daemon.starting", { blocks, what, since: daemon.startedAt, meanwhile });
  }
}

/** Without a failure: it was stopped, or killed. */
export function daemonAbsent(since: string | null = null): Condition {
  const what = "nothing is copied while no daemon runs, and the source keeps its log until one does";
  const fix = "millrace run (its log says why it ended)";
  return act("daemon.absent", { blocks: ["ready", "wait"], what, since, fix });
}

export function daemonEnded(error: StoredError): Condition {
  const what = "nothing is copied, because the daemon has ended";
  return act("daemon.ended", { blocks: ["ready", "wait"], what, ...failure(error) });
}

function copyText({ tablesDone, tableCount, rowsRead, share, secondsLeft }: NonNullable<SourceStatus["copy"]>): string {
  return [
    `${tablesDone} of ${count(tableCount, "table")} done`,
    `${count(rowsRead, "row")} read`,
    ...(share == null ? [] : [`about ${Math.floor(share * 100)}%`]),
    ...(secondsLeft == null ? [] : [`about ${span(secondsLeft * 1_000)} left`]),
  ].join(", ");
}

/** `isStreaming`: whether the daemon streams, which goes on without the state. */
export function* stateConditions(
  { error, isSilent = false, rooms = [] }: StateStatus,
  isStreaming: boolean,
): Generator<Condition> {
  if (error === null) {
    const meanwhile = "when it is full, nothing is acknowledged, and the source keeps its log";
    yield* ofRooms(rooms, { kind: "state.nearly-full", what: "the disk of the state is nearly full", meanwhile });
  } else {
    yield isSilent ? stateSilent(error, isStreaming) : stateUnwritable(error, isStreaming);
  }
}

function stateSilent(error: StoredError, isStreaming: boolean): Condition {
  const what = "the state does not answer, and nothing is acknowledged";
  const meanwhile = "its answer is waited for, then it is asked again";
  return watch("state.silent", { blocks: heldByState(isStreaming), what, ...failure(error), meanwhile });
}

function stateUnwritable(error: StoredError, isStreaming: boolean): Condition {
  const what = "the state can't be written, and nothing is acknowledged";
  return act("state.unwritable", { blocks: heldByState(isStreaming), what, ...retried(error) });
}

/** A daemon that streams goes on writing to its sinks; one that starts does not come to that. */
function heldByState(isStreaming: boolean): readonly Block[] {
  return isStreaming ? ["ready"] : ["ready", "wait"];
}

/** What has failed already says itself that there is no room. */
function* ofRooms(rooms: readonly Room[], { kind, ...of }: Facts & Pick<Condition, "kind">): Generator<Condition> {
  const low = rooms.filter(({ freeBytes, lowBytes }) => freeBytes < lowBytes);
  if (low.length === 0) return;
  const places = low
    .toSorted((a, b) => a.freeBytes - b.freeBytes)
    .slice(0, ROOMS_MAX)
    .map(({ where, freeBytes }) => `${where} has ${bytes(freeBytes)} free`);
  const more = low.length > ROOMS_MAX ? ` and ${low.length - ROOMS_MAX} more` : "";
  const what = `${of.what}: ${places.join(", ")}${more}`;
  yield act(kind, { ...of, what, fix: "make room there before it is full" });
}

function* ofSource(status: PipelineStatus): Generator<Condition> {
  const { source, phase, sinks, daemon } = status;
  const { goneBack, warnings, hints, retainedBytes, retainedBytesMax } = source;
  if (daemon !== null) yield* ofConnection(status);
  // Of a first copy that it belongs to, the copy tells.
  if (phase === "streaming" && isBehind(source)) {
    const what = `the stream is ${behind(source)} behind the log, and no sink holds it up`;
    const fix =
      "look at the load of the source and of this machine; behind Kafka, at the daemon that captures: millrace status, there";
    yield watch("source.behind", { what, fix });
  }
  if (retainedBytes !== null && retainedBytesMax !== null && retainedBytes >= retainedBytesMax) {
    const what = `the source keeps ${bytes(retainedBytes)} of log for Millrace; retention.bytes is ${bytes(retainedBytesMax)}`;
    const [last] = sinks.toSorted((a, b) => (b.lagBytes ?? 0) - (a.lagBytes ?? 0));
    const isFar = last !== undefined && (last.lagBytes ?? 0) >= retainedBytes / 2;
    const fix = isFar
      ? `bring sink ${last.name} back, which is ${bytes(last.lagBytes)} behind`
      : "look for a long transaction at the source; no sink is far behind";
    yield act("source.keeps-too-much", { what, fix });
  }
  if (source.readsPaused) {
    const what = "reads beside the stream are paused: new tables, snapshots and comparisons wait";
    const meanwhile = "they go on by themselves when the source keeps less log";
    yield watch("source.reads-paused", { what, meanwhile });
  }
  if (goneBack !== null) {
    const { sinks: names, until } = goneBack;
    const what = `the stream went back for ${names.join(", ")}; the other sinks wait until it is at ${until} again`;
    yield watch("source.went-back", { what, ...failure(goneBack.error) });
  }
  if (phase === "streaming" && source.up && !status.tables.areKnown) {
    const what = "the source's tables have not been looked at yet";
    const meanwhile = "the next look comes by itself";
    const why = status.tables.notLooked === null ? {} : retried(status.tables.notLooked);
    yield watch("source.not-looked-at", { blocks: ["wait"], what, meanwhile, ...why });
  }
  for (const warning of warnings)
    yield told("source.log-at-risk", "act", warning, "millrace check; if log is gone already, millrace recover");
  for (const hint of hints) yield told("source.hint", "watch", hint, null);
  for (const slow of source.slowFunctions) yield slowFunction(slow);
}

/** The same while only its time changes. */
function slowFunction({ table, column, function: name, averageMs, budgetMs }: SlowFunction): Condition {
  const where = column === null ? "" : ` (column ${column})`;
  const what = `function ${name} takes ${averageMs.toPrecision(2)} ms for a row of ${table}${where}; its budget is ${budgetMs} ms`;
  const fix = "make it faster, because every row of the stream waits for it; or give it a larger `budget`";
  const id = `table.slow-function table=${table}${column === null ? "" : ` column=${column}`}`;
  return watch("table.slow-function", { id, table, what, fix });
}

/** Whether the source answers, and its stream flows. */
function* ofConnection({ source, sinks, phase }: PipelineStatus): Generator<Condition> {
  const { error, up, answeredAt, unanswered } = source;
  const needsPerson = source.needsPerson || error?.code === HELD || unanswered?.code === HELD;
  const level = needsPerson ? "act" : "watch";
  const areFine = sinks.every(isFine) ? ["the sinks are fine"] : [];
  const meanwhile = [
    ...areFine,
    needsPerson ? "it goes on by itself once that is done" : "it is tried again by itself",
  ];
  const common = { level, meanwhile: meanwhile.join("; ") } as const;
  const until = answeredAt === null ? "not since the daemon's start" : `connected until ${timeText(answeredAt)}`;
  const silent = `the source does not tell its position, ${until}; lags and what it keeps are not known`;
  if (error !== null) {
    const what = unanswered === null ? "the stream from the source is broken" : `no connection to the source, ${until}`;
    const failing = retried(error);
    // It may have answered since the stream broke.
    const since = unanswered !== null && answeredAt !== null && answeredAt > failing.since ? answeredAt : failing.since;
    yield condition("source.failing", { blocks: ["ready", "wait"], what, ...common, ...failing, since });
  } else if (unanswered !== null) {
    // A `wait` begins with what the source tells.
    yield condition("source.silent", { blocks: ["ready", "wait"], what: silent, ...common, ...retried(unanswered) });
  } else if (needsPerson) {
    const fix = "millrace check";
    yield act("source.failing", { blocks: ["ready"], what: "the source waits for you", fix });
  } else if (phase === "streaming" && !up) {
    const meanwhile = "it is asked again every second";
    const fix =
      "look whether the source's server works and is not overloaded, and at the firewall and network in between";
    yield watch("source.silent", { blocks: ["ready", "wait"], what: silent, since: answeredAt, meanwhile, fix });
  }
}

function timeText(at: string): string {
  return `${at.slice(0, 19).replace("T", " ")} UTC`;
}

/** Takes rows, or would if there were any. */
function isFine({ state, error, activity }: SinkStatus): boolean {
  const takes = state === "streaming" || state === "snapshot" || state === "paused";
  return takes && error === null && activity !== "wedged";
}

/** Of what the source says in words: the same while only its figures change. */
function told(kind: string, level: Condition["level"], text: string, fix: string | null): Condition {
  const id = `${kind} ${text.replaceAll(/\d+/g, "#")}`;
  return condition(kind, { id, level, what: `source: ${text}`, fix });
}

function* ofSink(status: PipelineStatus, sink: SinkStatus): Generator<Condition> {
  const { source, daemon, sinks, phase } = status;
  const { name, state, error, catchingUp, deadLetters, needsPerson: waits } = sink;
  const of = { sink: name };
  const blocks: readonly Block[] = waits ? ["ready", "wait", "once"] : ["ready", "wait"];
  if (state === "paused") {
    const what = `sink ${name} is paused; ${sink.isMoved ? GIVEN_UP : keptFor(status, name)}`;
    const fix = `millrace resume --sink ${name}`;
    const meanwhile = error === null ? null : `before that it did not take rows: ${error.code} ${error.message}`;
    yield watch("sink.paused", { ...of, blocks: ["wait", "once"], what, meanwhile, fix });
  } else if (error !== null) {
    // What a sink that nobody runs failed over may have passed by now.
    const held = daemon === null ? [] : blocks;
    yield condition("sink.failing", { ...of, blocks: held, ...sinkFailure(sink, error, daemon !== null) });
  } else if (sink.activity === "wedged" && waits) {
    const what = `sink ${name} is wedged: its write gets no answer and can't be cut off${at(sink)}`;
    const fix = "look at the target, then restart the daemon: nothing is lost";
    yield act("sink.wedged", { ...of, blocks, what, fix });
  } else if (sink.activity === "wedged") {
    const what = `sink ${name} does not answer to a write${at(sink)}`;
    const meanwhile = "the write is cut off and tried again";
    yield watch("sink.wedged", { ...of, blocks, what, meanwhile });
  } else if (state === "failed" || waits) {
    const what = `sink ${name} is ${state} and waits for you`;
    yield act("sink.failing", { ...of, blocks, what, fix: `millrace resume --sink ${name}` });
  } else if (daemon !== null && catchingUp) {
    const others = sinks.some(({ waitsFor }) => waitsFor.includes(name)) ? "wait for it" : "are not held up";
    const doing = state === "snapshot" ? "gets its first copy" : "is catching up";
    const what = `sink ${name} ${doing}, ${behind(sink)} of log behind; the others ${others}`;
    const meanwhile = "it shares the stream again when it is there";
    yield watch("sink.catching-up", { ...of, blocks: ["wait"], what, meanwhile });
  } else if (isSlow(sink, source)) {
    const { why, fix } = slowness(sink);
    yield watch("sink.slow", { ...of, what: `sink ${name} is slow, ${behind(sink)} of log behind${why}`, fix });
  } else if (phase === "streaming" && state !== "streaming") {
    const meanwhile = "it takes rows when it is open";
    const what = `sink ${name} is ${state}: it is being opened${at(sink)}`;
    yield watch("sink.starting", { ...of, blocks, what, meanwhile });
  }
  if (error === null) {
    const meanwhile = `when it is full, its rows wait, and ${keptFor(status, name)}`;
    const what = `sink ${name} has little room left`;
    yield* ofRooms(sink.rooms ?? [], { ...of, kind: "sink.nearly-full", what, meanwhile });
  }
  for (const { table, what, fix, slows, needsPerson } of sink.hints ?? []) {
    // It is said already.
    if (slows === true && (error !== null || isSlow(sink, source))) continue;
    const facts = { ...of, table, what: `sink ${name}: ${what}`, fix };
    yield needsPerson === true ? act("sink.hint", facts) : watch("sink.hint", facts);
  }
  if (sink.lost !== null) {
    const { what: lost, since, until } = sink.lost;
    const what = `sink ${name} has lost changes for good: ${lost}`;
    const fix = `let its readers know that changes before ${timeText(until)} are missing; then millrace resume --sink ${name} ends this`;
    yield act("sink.lost-changes", { ...of, what, since, fix });
  }
  if (deadLetters > 0) {
    const why = sink.lastRefusal === null ? "" : `; the last one, ${sink.lastRefusal}`;
    const what = `sink ${name} refused ${count(deadLetters, "row")}, kept as dead letters: the sink lacks them${why}`;
    const fix = `millrace dlq list --sink ${name} says why; correct that, then millrace dlq replay --sink ${name} --all`;
    const since = sink.refusedSince;
    yield act("sink.dead-letters", { ...of, blocks: ["once"], what, since, fix });
  }
}

/** What waits for a sink that takes nothing. */
function keptFor({ source, documents = [] }: PipelineStatus, sink: string): string {
  const own = documents.filter(({ sinks }) => sinks.includes(sink));
  const kept = own.reduce((sum, { waiting }) => sum + waiting, 0);
  if (own.length > 0) return `changed documents wait for it (${digits(kept)} by now)`;
  return `the source keeps its log for it${source.retainedBytes === null ? "" : ` (${bytes(source.retainedBytes)} by now)`}`;
}

function at({ place }: SinkStatus): string {
  return place === null ? "" : ` (${place})`;
}

function slowness(sink: SinkStatus): { readonly why: string; readonly fix: string } {
  const { unansweredSeconds, hints = [] } = sink;
  const brake = hints.find(({ slows }) => slows === true);
  if (brake !== undefined) return { why: `: ${brake.what}`, fix: brake.fix };
  if ((unansweredSeconds ?? 0) <= SLOW_SECONDS)
    return { why: "", fix: `check the load of what it writes to${at(sink)}: rows arrive faster than they are written` };
  const why = `: its present write has had no answer for ${seconds(unansweredSeconds)}`;
  const fix = `look whether what it writes to works and is not overloaded${at(sink)}, and at the firewall and network in between; Millrace cuts the write off in the end and tries it again`;
  return { why, fix };
}

/** It is behind for a reason of its own: not one that has all that was read while the source is away, or is slow. */
function isSlow({ state, activity, lagSeconds }: SinkStatus, source: SourceStatus): boolean {
  if (state !== "streaming" || (lagSeconds ?? 0) <= SLOW_SECONDS) return false;
  if (activity === "slow") return true;
  return source.up && activity !== "idle" && activity !== "blocked";
}

function sinkFailure(
  sink: SinkStatus,
  error: StoredError,
  isRunning: boolean,
): Pick<Condition, "level" | "what"> & Partial<Condition> {
  const { name, state } = sink;
  const waits = sink.needsPerson || error.code === HELD;
  // A stored error does not tell whether it would have passed by itself or needs somebody.
  if (!isRunning && state === "failed")
    return { level: "act", what: `sink ${name} did not take rows last`, ...failure(error) };
  if (state === "failed") return { level: "act", what: `sink ${name} is failed and waits for you`, ...failure(error) };
  const level = waits ? "act" : "watch";
  if (state !== "retrying") return { level, what: `sink ${name} is ${state}`, ...failure(error) };
  if (sink.isMoved) return { level, what: `sink ${name} does not take rows`, ...retried(error), meanwhile: GIVEN_UP };
  const meanwhile = waits ? "it waits for you, and goes on by itself once that is done" : "it catches up by itself";
  // There is no lag to show for a sink that was never reached.
  const lag = sink.lagSeconds === null && sink.lagBytes === null ? "" : `, ${behind(sink)} of log behind`;
  if (error.isOfSource === true) {
    const what = `sink ${name} waits for the source, to catch up${lag}`;
    return { level, what, ...retried(error), meanwhile: "it is tried again by itself" };
  }
  return { level, what: `sink ${name} does not take rows${lag}`, ...retried(error), meanwhile };
}

/** What keeps a sink of a document says that sink's own condition. */
function* ofDocuments({ documents = [], sinks, phase, daemon }: PipelineStatus): Generator<Condition> {
  if (daemon === null || phase === "snapshot") return;
  for (const { name, table, sinks: own, isFilled, lagSeconds, waiting, isMore, waitingSince } of documents) {
    if (!isFilled) {
      const what = `document ${name} is not sent yet: its nest does not have all rows of its tables`;
      const meanwhile = "the nest reads them; sinks keep the documents that they have";
      yield watch("document.filling", { blocks: ["wait"], table, what, meanwhile });
      continue;
    }
    const areStreaming = sinks.every((sink) => !own.includes(sink.name) || sink.state === "streaming");
    if (waitingSince === null || (lagSeconds ?? 0) <= SLOW_SECONDS || !areStreaming) continue;
    const what = `${isMore ? "more than " : ""}${digits(waiting)} changed documents ${name} wait for ${own.join(", ")}`;
    const meanwhile = "each is sent once, in its newest state";
    yield watch("document.behind", { table, what, since: waitingSince, meanwhile });
  }
}

/** Of the tables alone: what a sink lacks although it has applied everything. */
export function* tableConditions(tables: TablesStatus): Generator<Condition> {
  for (const { table, sink, error, mayReturn } of tables.suspended) {
    const blocks: readonly Block[] = mayReturn ? ["ready", "wait"] : ["ready", "wait", "once"];
    if (sink === null) {
      const what = `table ${table} is suspended, its changes are skipped`;
      yield act("table.suspended", { blocks, table, what, ...failure(error) });
      continue;
    }
    const of = { table, sink } as const;
    if (error.code === TABLE_PAUSED) {
      const what = `table ${table} is paused in sink ${sink}; its changes are skipped`;
      const fix = `millrace resume --tables ${shellWord(table)} --sink ${sink}`;
      const { code, at: since } = error;
      yield watch("table.paused", { ...of, blocks: ["wait", "once"], what, code, since, fix });
      continue;
    }
    const what = `table ${table} is suspended in sink ${sink}, which lacks it`;
    const back = `millrace snapshot start --tables ${shellWord(table)} --sink ${sink}`;
    const failed = failure(error);
    const fix = failed.fix.includes("snapshot start")
      ? failed.fix
      : `${failed.fix.replace(/[.;]\s*$/, "")}; then ${back}`;
    yield act("table.suspended-in-sink", { ...of, blocks, what, ...failed, fix });
  }
  for (const { table, sinks, since, error } of tables.unreadable) {
    const what = `table ${table} can't be read for ${sinks.join(", ")}`;
    const meanwhile = "it is tried again by itself";
    const blocks = ["ready", "wait"] as const;
    yield act("table.unreadable", { blocks, table, what, ...retried(error), since, meanwhile });
  }
  for (const { table, sink } of tables.stubborn) {
    const what = `table ${table} differs in sink ${sink} each time that it is compared`;
    const fix = `millrace reconcile --tables ${shellWord(table)} --sink ${sink}`;
    yield act("table.stubborn", { blocks: ["once"], table, sink, what, fix });
  }
  for (const { table, why, fix } of tables.pending) {
    const what = `table ${table} waits: ${why}`;
    const level = fix === null ? "watch" : "act";
    const meanwhile = fix === null ? "it goes on by itself" : "it goes on by itself once that is done";
    yield condition("table.pending", { level, blocks: ["wait"], table, what, meanwhile, fix });
  }
}

function* ofReads({ unfinishedSnapshots: snapshots, source, phase }: PipelineStatus): Generator<Condition> {
  if (snapshots > 0 && phase === "streaming") {
    const paused = source.readsPaused ? ", and paused: the source keeps too much log" : "";
    const are = `${count(snapshots, "read")} beside the stream ${verb(snapshots, "are")}`;
    const what = `${are} not finished${paused}`;
    const fix = "millrace snapshot list";
    yield watch("reads.unfinished", { blocks: ["wait"], what, fix });
  }
}

function* ofComparisons({
  last,
  drift,
  failure: unfinished,
  overdueSince = null,
  continuous = null,
}: ComparisonStatus): Generator<Condition> {
  if (continuous !== null) yield* ofProofs(continuous);
  if (drift !== null) {
    const differed = count(drift.missing + drift.extra + drift.different, "row");
    const repaired = drift.repaired === 0 ? "" : `, ${digits(drift.repaired)} repaired`;
    const isLeft = hasLeft(drift);
    yield condition("comparison.drift", {
      level: isLeft ? "act" : "watch",
      what: `${differed} differed${repaired} in the comparison ${drift.id}`,
      since: drift.finishedAt,
      // Also after a repair: the cause of the difference may still be there.
      meanwhile: "no full comparison since then was without drift",
      fix: `millrace report show ${drift.id}, then millrace reconcile${isLeft ? " --repair" : ", which ends this when it is equal"}`,
    });
  }
  if (unfinished !== null) {
    const what = "the last comparison that the daemon began did not end";
    yield act("comparison.failed", { what, ...failure(unfinished) });
  } else if (overdueSince !== null) {
    const newest = last === null ? "" : `; the newest of any kind ended at ${timeText(last.finishedAt)}`;
    const what = `no whole comparison has ended that began after ${timeText(overdueSince)}, when one was due${newest}`;
    const fix = "millrace reconcile; if each takes longer than the time between two, plan fewer";
    yield act("comparison.overdue", { what, since: overdueSince, fix });
  }
}

function* ofProofs({ oldest, late, maxAgeSeconds, drift, waits }: ContinuousStatus): Generator<Condition> {
  const others = (of: number): string => (of > 1 ? `, and ${count(of - 1, "other table")} of a sink` : "");
  if (oldest !== null && late > 0) {
    const { table, sink, provenAt, since } = oldest;
    const proven = provenAt === null ? "was never proven equal as a whole" : `was last proven at ${timeText(provenAt)}`;
    const what = `table ${table} in sink ${sink} ${proven}${others(late)}`;
    const meanwhile = waits === null ? "the comparison goes on" : `the comparison stands back: ${waits}`;
    const fix =
      "millrace proofs list; a larger reconcile.continuous.share makes it faster, unless rows wait as dead letters (millrace dlq list)";
    const lateSince = new Date(Date.parse(provenAt ?? since) + maxAgeSeconds * 1000).toISOString();
    yield act("proof.old", { table, sink, what, since: lateSince, meanwhile, fix });
  }
  if (drift !== null) {
    const { table, sink, missing, extra, different } = drift.worst;
    const rows = count(missing + extra + different, "row");
    const what = `${rows} of table ${table} ${verb(missing + extra + different, "differ")} in sink ${sink}${others(drift.places)}`;
    const fix = `millrace reconcile --tables ${shellWord(table)} --sink ${sink}, which lists them; --repair repairs`;
    yield act("proof.drift", { table, sink, what, fix });
  }
}

function* ofReceiver(error: StoredError | null): Generator<Condition> {
  if (error === null) return;
  const what = "the webhook could not be told what is not well";
  yield act("webhook.failing", { what, ...retried(error) });
}

function* ofConfig(since: string | null): Generator<Condition> {
  if (since === null) return;
  const what = "the config file was changed, and the daemon runs with what it said before";
  const fix = "millrace check, then restart the daemon";
  yield watch("config.changed", { what, since, fix });
}

/** The log has more than the stream has read, for a reason of neither the connection nor a sink. */
function isBehind({ activity, lagSeconds }: SourceStatus): boolean {
  return activity === "slow" && (lagSeconds ?? 0) > SLOW_SECONDS;
}

function behind({ lagSeconds, lagBytes }: Pick<SinkStatus, "lagSeconds" | "lagBytes">): string {
  return `${seconds(lagSeconds)} and ${bytes(lagBytes)}`;
}
