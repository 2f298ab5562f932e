import type { StatusDocument } from "../core/contracts/status.ts";
import { bytes, duration, many } from "./format.ts";

/** Something that is not well, and what to do about it. */
export interface Concern {
  /** `act`: it waits for a person; `watch`: Millrace deals with it. */
  readonly level: "act" | "watch";
  readonly what: string;
  readonly why: string | null;
  readonly fix: string | null;
  /** The part of the page that shows more. */
  readonly part: string;
}

type Failure = { readonly code: string; readonly message: string; readonly hint: string | null };

const GIGABYTE = 1024 ** 3;
const HOUR = 3600;

/** What needs somebody first, then what only needs time. */
export function concernsOf(status: StatusDocument): readonly Concern[] {
  const all = [...ofSource(status), ...ofSinks(status), ...ofTables(status), ...ofProof(status)];
  return all.toSorted((a, b) => Number(b.level === "act") - Number(a.level === "act"));
}

function concern(level: Concern["level"], what: string, error: Failure | null, part: string): Concern {
  return { level, what, why: error && `${error.code} ${error.message}`, fix: error?.hint ?? null, part };
}

function* ofSource({ source, state }: StatusDocument): Generator<Concern> {
  const { error, needsPerson, safeBytes, safeSeconds, goneBack, warnings } = source;
  if (state.error !== null) yield concern("act", "The state can't be written", state.error, "offsets");
  if (error !== null) yield concern(needsPerson ? "act" : "watch", "The source's stream is broken", error, "offsets");
  if (safeBytes !== null && safeBytes < GIGABYTE)
    yield {
      level: "act",
      what: `Only ${bytes(safeBytes)} of log are left`,
      why: "The source will soon drop the log that a sink still needs. Then every table would have to be read again.",
      fix: "Bring back the sink that is furthest behind, or raise max_slot_wal_keep_size.",
      part: "offsets",
    };
  if (safeSeconds !== null && safeSeconds < HOUR)
    yield {
      level: "act",
      what: `The source may delete log that a sink needs in ${duration(safeSeconds)}`,
      why: null,
      fix: "Bring back the sink that is furthest behind, or raise binlog_expire_logs_seconds.",
      part: "offsets",
    };
  for (const warning of warnings) yield { level: "watch", what: warning, why: null, fix: null, part: "offsets" };
  if (goneBack !== null)
    yield concern("watch", `The stream went back for ${goneBack.sinks.join(", ")}`, goneBack.error, "sinks");
}

function* ofSinks({ sinks }: StatusDocument): Generator<Concern> {
  for (const { name, state, error, needsPerson, deadLetters, catchingUp } of sinks) {
    if (needsPerson) yield concern("act", `Sink ${name} is ${state} and waits for you`, error, "sinks");
    else if (error !== null) yield concern("watch", `Sink ${name} is ${state}`, error, "sinks");
    else if (state === "paused")
      yield {
        level: "act",
        what: `Sink ${name} is paused`,
        why: "The source keeps its log until the sink continues.",
        fix: "Resume it.",
        part: "sinks",
      };
    else if (catchingUp) yield { level: "watch", what: `Sink ${name} catches up`, why: null, fix: null, part: "sinks" };
    if (deadLetters > 0)
      yield {
        level: "act",
        what: `Sink ${name} refused ${many(deadLetters, "row")}`,
        why: "They wait as dead letters.",
        fix: "Correct them at the source, then replay them.",
        part: "letters",
      };
  }
}

function* ofTables({ tables }: StatusDocument): Generator<Concern> {
  for (const { table, error } of tables.aside) yield concern("act", `Table ${table} is suspended`, error, "tables");
  for (const { table, sink, error } of tables.suspended)
    yield concern("act", `Table ${table} is suspended in sink ${sink}`, error, "tables");
  for (const { table, sinks, error } of tables.unreadable)
    yield concern("act", `Table ${table} can't be read for ${sinks.join(", ")}`, error, "tables");
}

function* ofProof({ reconcile }: StatusDocument): Generator<Concern> {
  const { drift } = reconcile;
  if (drift === null) return;
  const rows = drift.missing + drift.extra + drift.different;
  yield {
    level: "act",
    what: `${many(rows, "row")} differed from the source`,
    why: `Comparison ${drift.id}`,
    fix: "millrace report show, then millrace reconcile --repair",
    part: "proof",
  };
}
