/** What is not well and what to do about it: one list for `status`, its exit code, `top`, the dashboard and the webhook. */
import { hasLeft } from "../core/contracts/reconciliation.ts";
import type { StoredError } from "../core/contracts/state-store.ts";
import type { Concern } from "../core/concerns/concern.ts";
import { type SinkStatus, type SourceStatus, type StatusDocument, TABLE_PAUSED } from "../core/contracts/status.ts";
import { bytes, count, seconds } from "./figures.ts";

/** A streaming sink is mentioned when it is this far behind. */
const SLOW_SECONDS = 30;
const GIVEN_UP = "its place in the log was given up or moved, and its tables are read again when it takes rows";

type Status = Omit<StatusDocument, "concerns">;
type Given = Pick<Concern, "kind" | "level" | "what"> & Partial<Concern>;

/** In the order in which they are to be read. Nothing: all is well. */
export function concernsOf(status: Status): readonly Concern[] {
  return [
    ...ofDaemon(status),
    ...ofSource(status),
    ...status.sinks.flatMap((sink) => [...ofSink(status, sink)]),
    ...ofTables(status),
    ...ofComparisons(status),
    ...ofReceiver(status),
  ];
}

export function needsPerson(concerns: readonly Concern[]): boolean {
  return concerns.some(({ level }) => level === "act");
}

function concern(given: Given): Concern {
  const { kind, sink = null, table = null } = given;
  const id = [kind, ...(sink === null ? [] : [`sink=${sink}`]), ...(table === null ? [] : [`table=${table}`])].join(
    " ",
  );
  return {
    id,
    sink,
    table,
    code: null,
    message: null,
    since: null,
    lastTried: null,
    meanwhile: null,
    fix: null,
    ...given,
  };
}

/** Without a hint of its own the error's page says more. */
function failure({ code, message, hint, at }: StoredError) {
  return { code, message, since: at, fix: hint ?? `millrace explain ${code}` };
}

/** It is tried again and again: when it began is not known. */
function retried(error: StoredError) {
  return { ...failure(error), since: null, lastTried: error.at };
}

function* ofDaemon({ daemon, heldBy, ended, state }: Status): Generator<Concern> {
  if (heldBy !== undefined) {
    const what = `the lease is held by ${heldBy}`;
    yield concern({ kind: "daemon.elsewhere", level: "watch", what, fix: "millrace status, there" });
  } else if (ended !== undefined) {
    const what = "nothing is copied, because the daemon has ended";
    yield concern({ kind: "daemon.ended", level: "act", what, ...failure(ended) });
  } else if (daemon === null) {
    const what = "nothing is copied while no daemon runs, and the source keeps its log until one does";
    yield concern({ kind: "daemon.absent", level: "act", what, fix: "millrace run (its log says why it ended)" });
  }
  if (state.error !== null) {
    const what = "the state can't be written, and nothing is acknowledged";
    yield concern({ kind: "state.unwritable", level: "act", what, ...failure(state.error) });
  }
}

function* ofSource({ source, phase, sinks }: Status): Generator<Concern> {
  const { error, up, goneBack, warnings, hints = [] } = source;
  const level = source.needsPerson ? "act" : "watch";
  if (error !== null) {
    yield concern({ kind: "source.failing", level, what: "the source", ...failure(error) });
  } else if (source.needsPerson) {
    yield concern({ kind: "source.failing", level, what: "the source waits for you", fix: "millrace check" });
  } else if (phase === "streaming" && !up) {
    const what = "the source does not tell its position now; lags and what it keeps are not known";
    yield concern({ kind: "source.silent", level, what });
  }
  if (isBehind(source)) {
    const what = `the stream is ${behind(source)} behind the log, and no sink holds it up`;
    const fix =
      "look at the load of the source and of this machine; behind Kafka, at the daemon that captures: millrace status, there";
    yield concern({ kind: "source.behind", level: "watch", what, fix });
  }
  const { retainedBytes, retainedBytesMax = null } = source;
  if (retainedBytes !== null && retainedBytesMax !== null && retainedBytes >= retainedBytesMax) {
    const what = `the source keeps ${bytes(retainedBytes)} of log for Millrace; retention.bytes is ${bytes(retainedBytesMax)}`;
    const [last] = sinks.toSorted((a, b) => (b.lagBytes ?? 0) - (a.lagBytes ?? 0));
    const isFar = last !== undefined && (last.lagBytes ?? 0) >= retainedBytes / 2;
    const fix = isFar
      ? `bring sink ${last.name} back, which is ${bytes(last.lagBytes)} behind`
      : "look for a long transaction at the source; no sink is far behind";
    yield concern({ kind: "source.keeps-too-much", level: "act", what, fix });
  }
  if (source.readsPaused === true) {
    const what = "reads beside the stream are paused: new tables, snapshots and comparisons wait";
    const meanwhile = "they go on by themselves when the source keeps less log";
    yield concern({ kind: "source.reads-paused", level: "watch", what, meanwhile });
  }
  if (goneBack !== null) {
    const { sinks, until } = goneBack;
    const what = `the stream went back for ${sinks.join(", ")}; the other sinks wait until it is at ${until} again`;
    yield concern({ kind: "source.went-back", level: "watch", what, ...failure(goneBack.error) });
  }
  for (const warning of warnings) yield told("source.log-at-risk", "act", warning);
  for (const hint of hints) yield told("source.hint", "watch", hint);
}

/** Of what the source says in words: the same while only its figures change. */
function told(kind: string, level: Concern["level"], text: string): Concern {
  return concern({ kind, id: `${kind} ${text.replaceAll(/\d+/g, "#")}`, level, what: `source: ${text}` });
}

function* ofSink(status: Status, sink: SinkStatus): Generator<Concern> {
  const { source, daemon, sinks } = status;
  const { name, state, error, lagSeconds, catchingUp, deadLetters } = sink;
  const of = { sink: name };
  if (state === "paused" && error === null) {
    const kept = source.retainedBytes === null ? "" : ` (${bytes(source.retainedBytes)} by now)`;
    const why = sink.isMoved === true ? GIVEN_UP : `the source keeps its log for it${kept}`;
    const what = `sink ${name} is paused; ${why}`;
    yield concern({ ...of, kind: "sink.paused", level: "watch", what, fix: `millrace resume --sink ${name}` });
  } else if (error !== null) {
    yield concern({ ...of, kind: "sink.failing", ...sinkFailure(sink, error, daemon !== null) });
  } else if (sink.activity === "wedged" && sink.needsPerson) {
    const what = `sink ${name} is wedged: its write gets no answer and can't be cut off`;
    const fix = "look at the target, then restart the daemon: nothing is lost";
    yield concern({ ...of, kind: "sink.wedged", level: "act", what, fix });
  } else if (state === "failed" || sink.needsPerson) {
    const what = `sink ${name} is ${state} and waits for you`;
    yield concern({ ...of, kind: "sink.failing", level: "act", what, fix: `millrace resume --sink ${name}` });
  } else if (daemon !== null && catchingUp) {
    const others = sinks.some(({ waitsFor }) => waitsFor.includes(name)) ? "wait for it" : "are not held up";
    const what = `sink ${name} catches up, ${behind(sink)} of log behind; the others ${others}`;
    yield concern({ ...of, kind: "sink.catching-up", level: "watch", what });
  } else if (state === "streaming" && (lagSeconds ?? 0) > SLOW_SECONDS && !hasAll(sink, source)) {
    const what = `sink ${name} is slow, ${behind(sink)} of log behind`;
    const fix = "check the load of that server: it writes rows more slowly than they arrive";
    yield concern({ ...of, kind: "sink.slow", level: "watch", what, fix });
  }
  if (deadLetters > 0) {
    const what = `sink ${name} refused ${count(deadLetters, "row")}, kept as dead letters: the sink lacks them`;
    yield concern({ ...of, kind: "sink.dead-letters", level: "act", what, fix: `millrace dlq list --sink ${name}` });
  }
}

function sinkFailure(sink: SinkStatus, error: StoredError, isRunning: boolean): Omit<Given, "kind"> {
  const { name, state, needsPerson: waits } = sink;
  // A stored error does not tell whether it would have passed by itself or needs somebody.
  if (!isRunning && state === "failed")
    return { level: "act", what: `sink ${name} did not take rows last`, ...failure(error) };
  if (state === "failed") return { level: "act", what: `sink ${name} has failed and waits for you`, ...failure(error) };
  const level = waits ? "act" : "watch";
  if (state !== "retrying") return { level, what: `sink ${name} is ${state}`, ...failure(error) };
  if (sink.isMoved === true)
    return { level, what: `sink ${name} does not take rows`, ...retried(error), meanwhile: GIVEN_UP };
  const meanwhile = waits ? "it waits for you, and goes on by itself once that is done" : "it catches up by itself";
  // There is no lag to show for a sink that was never reached.
  const lag = sink.lagSeconds === null && sink.lagBytes === null ? "" : `, ${behind(sink)} of log behind`;
  return { level, what: `sink ${name} does not take rows${lag}`, ...retried(error), meanwhile };
}

function* ofTables({ tables: { aside, suspended, unreadable } }: Status): Generator<Concern> {
  for (const { table, error } of aside) {
    const what = `table ${table} is suspended, its changes are passed over`;
    yield concern({ kind: "table.suspended", level: "act", table, what, ...failure(error) });
  }
  for (const { table, sink, error } of suspended) {
    if (error.code === TABLE_PAUSED) {
      const what = `table ${table} is paused in sink ${sink}; its changes are skipped`;
      const fix = `millrace resume --tables ${table} --sink ${sink}`;
      yield concern({
        kind: "table.paused",
        level: "watch",
        table,
        sink,
        what,
        code: error.code,
        since: error.at,
        fix,
      });
      continue;
    }
    const what = `table ${table} is suspended in sink ${sink}, which lacks it`;
    const back = `millrace snapshot start --tables ${table} --sink ${sink}`;
    const failed = failure(error);
    const fix = failed.fix.includes("snapshot start") ? failed.fix : `${failed.fix}; then ${back}`;
    yield concern({ kind: "table.suspended-in-sink", level: "act", table, sink, what, ...failed, fix });
  }
  for (const { table, sinks, since, error } of unreadable) {
    const what = `table ${table} can't be read for ${sinks.join(", ")}`;
    const meanwhile = "it is tried again by itself";
    yield concern({ kind: "table.unreadable", level: "act", table, what, ...retried(error), since, meanwhile });
  }
}

function* ofComparisons({ reconcile: { drift, failure: unfinished = null } }: Status): Generator<Concern> {
  if (drift != null) {
    const differed = count(drift.missing + drift.extra + drift.different, "row");
    const repaired = drift.repaired === 0 ? "" : `, ${drift.repaired.toLocaleString("en-US")} repaired`;
    yield concern({
      kind: "comparison.drift",
      level: hasLeft(drift) ? "act" : "watch",
      what: `${differed} differed${repaired} in the comparison ${drift.id}`,
      since: drift.finishedAt,
      // Also after a repair: the cause of the difference may still be there.
      meanwhile: "no full comparison since then was without drift",
      fix: `millrace report show ${drift.id}, then millrace reconcile`,
    });
  }
  if (unfinished !== null) {
    const what = "the last planned comparison did not end";
    yield concern({ kind: "comparison.failed", level: "act", what, ...failure(unfinished) });
  }
}

function* ofReceiver({ notify }: Status): Generator<Concern> {
  const error = notify?.error ?? null;
  const what = "the webhook could not be told what is not well";
  if (error !== null) yield concern({ kind: "webhook.failing", level: "act", what, ...retried(error) });
}

/** The log has more than the stream has read, for a reason of neither the connection nor a sink. */
function isBehind({ activity, lagSeconds }: SourceStatus): boolean {
  return activity === "slow" && (lagSeconds ?? 0) > SLOW_SECONDS;
}

/** The sink has written all that the stream has read. */
function hasAll(sink: SinkStatus, source: SourceStatus): boolean {
  return isBehind(source) && sink.activity === "idle";
}

function behind({ lagSeconds, lagBytes }: Pick<SinkStatus, "lagSeconds" | "lagBytes">): string {
  return `${seconds(lagSeconds)} and ${bytes(lagBytes)}`;
}
