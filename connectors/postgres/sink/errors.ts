import {
  type DatabaseReason,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  errorsOf,
  findMillraceError,
  type MillraceError,
} from "../../../src/core/errors.ts";
import { pages as meanings } from "../../../src/core/meanings.ts";
import { takenBy } from "../../../src/core/targets/taken.ts";
import { TABLE_FAILURES } from "../../warehouse/table-change.ts";
import { heldBy as withHolders, type LockHolders } from "../../kit/lock-holders.ts";
import { reachAgain } from "../../../src/core/system-errors.ts";
import { roomFix } from "../../../src/postgres/data-folder.ts";
import { connectFix, type Failure, failureOf, MORE_TEMP_FILES, moreLocks } from "../../../src/postgres/failure.ts";
import type { PostgresAddress } from "../../../src/postgres/url.ts";

/** The most likely mistake is a sink in the source's own database: no hint may lead to dropping those tables. */
export const FOREIGN_TABLE_FIX =
  "Set the sink's `schema` to put Millrace's tables elsewhere, or `onForeign: adopt` if another tool has filled it from the same source. Rename or drop the table only if nobody needs it: if the sink's database is the source's, it may be the captured table itself.";

/** What only Postgres as a sink can meet. */
export const pages: ErrorPages = {
  MR3119: {
    title: "A function in the target failed",
    remedy: "Qualify the names in the function, or give it its own path: ALTER FUNCTION … SET search_path = ….",
    cause:
      "A trigger, default or constraint of the target called a function that failed, often because it names a table without its schema: Millrace's session has an empty search path, like native logical replication.",
  },
  MR3122: {
    title: "Views or other objects use the target",
    remedy:
      "Drop the objects that the message names, run `millrace snapshot start --tables TABLE --sink SINK`, and create them again.",
    cause:
      "A change of the source needs another type of a column of the target, or removes the column, and Postgres allows neither while a view, a rule, a policy or another object uses it. Millrace removes nothing that it did not make.",
    seen: "suspended in a sink",
  },
};

export const postgresError = errorsOf({ side: "sink", kind: "postgres" }, {});

interface Rule {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  readonly what: string;
  readonly hint?: string;
}

const LOST: Rule = { code: "MR2001", kind: "retryable", what: "the connection to the target failed" };
const LOGIN: Rule = {
  code: "MR2002",
  kind: "blocked",
  what: "the target refuses the login",
};
const PRIVILEGE: Rule = {
  code: "MR2008",
  kind: "blocked",
  what: "the target's role lacks a privilege",
  hint: "`millrace check` prints the GRANT that is missing.",
};
const GONE: Rule = {
  code: "MR3110",
  kind: "reopen",
  what: "a table or Millrace's own schema is missing in the target",
  hint: "Somebody dropped or renamed it. Millrace creates and fills tables again.",
};
const CHANGED: Rule = {
  code: "MR3110",
  kind: "reopen",
  what: "a column is missing in the target",
  hint: "Somebody dropped or renamed it. Millrace adds it and fills the table again. If the error stays, a trigger on the table needs the column.",
};
const POISON: Rule = { code: "MR3111", kind: "poison", what: "the target refuses a row for its content" };
/** SQLSTATE of a character that one of two encodings lacks. */
export const UNTRANSLATABLE = "22P05";
const ENCODING: Rule = {
  code: "MR3111",
  kind: "poison",
  what: "the encoding of the target's database lacks a character",
  hint: "Use a database with the encoding UTF8, or exclude the table.",
};
const RESOURCES: Rule = {
  code: "MR2006",
  kind: "retryable",
  what: "the target lacks a resource",
  hint: "The server's log names it. Millrace tries again by itself.",
};
const TEMP_FILES: Rule = {
  code: "MR2006",
  kind: "retryable",
  what: "the target's role may not have as many temporary files as a statement needs (temp_file_limit)",
  hint: MORE_TEMP_FILES,
};
const CONNECTIONS: Rule = {
  code: "MR2006",
  kind: "retryable",
  what: "the target has no free connection",
  hint: "Close sessions that nobody needs, or raise max_connections, or the role's CONNECTION LIMIT. Millrace tries again by itself.",
};
const ENDING: Rule = {
  code: "MR2006",
  kind: "retryable",
  what: "the target is starting or stopping, or has ended the session",
  hint: "Millrace connects again by itself.",
};
const FAILED: Rule = {
  code: "MR2006",
  kind: "retryable",
  what: "the target has failed",
  hint: "The server's log says why. Millrace tries again by itself.",
};
const LOCKS: Rule = { code: "MR2006", kind: "retryable", what: "the target's lock table is full" };
/** The one of which a batch of fewer tables needs less. */
const LOCKS_OF_TABLES = "max_locks_per_transaction";

/** What a step locks at most. */
export interface StepLocks {
  readonly tableCount: number;
  readonly lockCount: number;
}

/** The target's table of locks has room for `perSession` of each session. */
export interface LockRoom {
  /** max_locks_per_transaction */
  readonly perSession: number;
  /** max_connections and max_prepared_transactions */
  readonly sessionsMax: number;
}

/** With the value at which the step has room beside all that others may hold. `step`: null if it locks no table of the sink's. */
export function lackingLocks(error: MillraceError, step: StepLocks | null, room: LockRoom): MillraceError {
  const { perSession, sessionsMax } = room;
  const { tableCount, lockCount } = step ?? { tableCount: 0, lockCount: perSession * sessionsMax };
  const value = perSession + Math.ceil(lockCount / sessionsMax);
  const then = tableCount > 1 ? "Millrace then takes fewer tables at once" : "Millrace tries again by itself";
  const takes = tableCount === 1 ? "the table alone takes" : `${tableCount} tables at once take`;
  const needs = tableCount === 0 ? "" : `, and ${takes} up to ${lockCount} locks`;
  return error.with({
    hint: `${then}. max_locks_per_transaction of the target is ${perSession}, for each of ${sessionsMax} sessions (max_connections and max_prepared_transactions)${needs}. If it lasts: ALTER SYSTEM SET max_locks_per_transaction = ${value}, and restart that server.`,
  });
}

const DISK_FULL: Rule = {
  code: "MR3213",
  kind: "blocked",
  what: "the target's disk is full",
};
const CONFLICT: Rule = {
  code: "MR2026",
  kind: "retryable",
  what: "the target gave up the transaction for another one's sake",
  hint: "Millrace tries again by itself.",
};
const LOCKED: Rule = {
  code: "MR2026",
  kind: "retryable",
  what: "another session holds a lock, and the target gave up waiting for it",
  hint: "Millrace tries again by itself. If it lasts: SELECT * FROM pg_stat_activity WHERE wait_event_type = 'Lock' OR state LIKE 'idle in%' shows who holds it.",
};
const CANCELLED: Rule = {
  code: "MR2026",
  kind: "retryable",
  what: "the target cancelled the statement",
  hint: "Somebody cancelled it, or a limit that the server sets for all (statement_timeout of the role): look at its log. Millrace tries again by itself.",
};
const READ_ONLY: Rule = {
  code: "MR2031",
  kind: "blocked",
  what: "the target takes no writes",
};
const TRIGGER: Rule = {
  code: "MR3119",
  kind: "fatal",
  what: "a function of the target, called by a trigger, default or constraint, failed",
  hint: "Qualify the names that it uses, or ALTER FUNCTION … SET search_path = …: this session has none, like native logical replication.",
};
const USED: Rule = {
  code: "MR3122",
  kind: "fatal",
  what: "views or other objects use what has to change",
  hint: "Drop them, read the table again, and create them again.",
};
const UNKNOWN: Rule = {
  code: "MR2027",
  kind: "fatal",
  what: "the target refused a statement",
  hint: "The server's log has the statement and why it was refused: correct that in the target.",
};

const STOPPED: Rule = { code: "MR2029", kind: "aborted", what: "was stopped" };
const URL: Rule = { code: "MR2004", kind: "blocked", what: "the sink's url can't be used: " };
const TLS: Rule = { code: "MR2003", kind: "blocked", what: "TLS with the target failed: " };
const UNBOUND: Rule = { code: "MR2003", kind: "blocked", what: "" };

/** SQLSTATE of a table with more columns than the server takes. */
const TOO_MANY_COLUMNS = "54011";
const TOO_WIDE: Rule = {
  code: "MR2027",
  kind: "fatal",
  what: "the table's columns and Millrace's own are more than the 1,600 that a table of the target takes,",
  hint: "Leave columns out (`columns: { NAME: { drop: true } }` of the table, which all sinks then lack), or take the table out of this sink's `tables`.",
};

const RULES: Readonly<Record<DatabaseReason, Rule>> = {
  stopped: STOPPED,
  url: URL,
  shared: URL,
  tls: TLS,
  unbound: UNBOUND,
  garbled: LOST,
  unreachable: LOST,
  lost: LOST,
  pooler: LOST,
  unknown: UNKNOWN,
  login: LOGIN,
  "no-database": LOGIN,
  privilege: PRIVILEGE,
  "row-security": PRIVILEGE,
  slots: RESOURCES,
  connections: CONNECTIONS,
  disk: DISK_FULL,
  resources: RESOURCES,
  "temp-files": TEMP_FILES,
  conflict: CONFLICT,
  ending: ENDING,
  lock: LOCKED,
  cancelled: CANCELLED,
  idle: UNKNOWN,
  "in-use": LOCKED,
  "not-now": UNKNOWN,
  "read-only": READ_ONLY,
  "no-file": RESOURCES,
  system: FAILED,
  internal: FAILED,
  "no-table": GONE,
  "no-column": CHANGED,
  "no-object": UNKNOWN,
  exists: UNKNOWN,
  "no-value": POISON,
  encoding: POISON,
  parameter: POISON,
  content: POISON,
  refused: UNKNOWN,
};

/** See TABLE_FAILURES; and what one table alone can meet while it is written. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set<ErrorCode>([
  ...TABLE_FAILURES,
  "MR1302",
  "MR2027",
  "MR3110",
  "MR3119",
  "MR3122",
]);

export function stateOf(error: unknown): string | undefined {
  return failureOf(error).state;
}

/** Whether the server permanently refuses a statement because of a value in one of the batch's tables. */
export function isRefused(error: unknown): boolean {
  const failure = failureOf(error);
  if (failure.state === undefined) return false;
  const rule = ruleOf(failure);
  return rule.kind === "poison" || rule === UNKNOWN || rule === TRIGGER;
}

/** True if one row is at fault. */
export function isPoison(error: unknown): boolean {
  return RULES[failureOf(error).reason].kind === "poison";
}

function ruleOf(failure: Failure): Rule {
  const { reason, state, code, connecting, cause } = failure;
  if (connecting) return reason === "pooler" ? UNKNOWN : RULES[reason];
  if (isUsed(failure)) return USED;
  if (state === UNTRANSLATABLE) return ENCODING;
  if (state === TOO_MANY_COLUMNS) return TOO_WIDE;
  if (failure.lockSetting !== undefined) return LOCKS;
  if (state?.startsWith("42") === true && inFunction(cause)) return TRIGGER;
  // One of Node's codes: the connection has failed.
  return reason === "unknown" && code !== "" ? LOST : RULES[reason];
}

/**
 * Turns a driver's error while `doing` something into a numbered one. Drops the server's text and the driver's error
 * object, because both may hold cell values. Keeps the SQLSTATE and the names of table, column and constraint. `address`: of
 * the server, of which a full disk is told.
 */
export function sinkError(error: unknown, doing: string, address?: PostgresAddress): MillraceError {
  const known = findMillraceError(error);
  if (known !== undefined) return known;
  const failure = failureOf(error);
  const { reason, message: text, fix, server } = failure;
  if (reason === "stopped") return stopped(doing);
  const rule = RULES[reason];
  // Our own messages: safe to show.
  if (rule === URL || rule === TLS || rule === UNBOUND)
    return postgresError(rule.code, rule.kind, `${rule.what}${text}${atServer(server)}`, { hint: fix });
  return ofServer(failure, doing, address);
}

function ofServer(failure: Failure, doing: string, address: PostgresAddress | undefined): MillraceError {
  const { state, code: word, connecting, server, message: text, cause, lockSetting } = failure;
  const rule = ruleOf(failure);
  const { code, kind, what } = rule;
  const locks = lockSetting === undefined ? undefined : moreLocks(lockSetting);
  if (state !== undefined && !connecting) {
    const users = rule === USED ? usersOf(cause) : "";
    const message = `${what} while ${doing} (SQLSTATE ${state}${objectsIn(cause)})${users}`;
    const reason = rule === PRIVILEGE ? "privilege" : lockSetting === LOCKS_OF_TABLES ? "tables" : undefined;
    const room = rule === DISK_FULL ? roomFix(address, text) : undefined;
    return postgresError(code, kind, message, {
      hint: room ?? locks ?? rule.hint ?? connectFix(failure, "url"),
      reason,
    });
  }
  if (rule === UNKNOWN && !connecting) {
    const message = `an unexpected failure while ${doing}: ${cause instanceof Error ? cause.name : "unknown"}`;
    return postgresError(code, kind, message, { cause });
  }
  const why = word || (connecting ? text : "connection closed");
  // The server's sentences about logins and connections hold names, never data.
  const refusal =
    connecting && (rule === LOGIN || rule === CONNECTIONS) ? `${text} (SQLSTATE ${state})` : `SQLSTATE ${state}`;
  const at = server === undefined ? doing : `connecting to ${server}`;
  const message = `${what} while ${at}: ${state === undefined ? why : refusal}`;
  const hint =
    locks ??
    connectFix(failure, "url") ??
    rule.hint ??
    "Millrace connects again by itself. If it lasts, look at the server's log.";
  return postgresError(code, kind, message, { hint, reason: rule === LOGIN ? "login" : undefined });
}

/** Of a session that was cut: the server works on nothing of ours, or can't be asked. */
export function gaveNoAnswer(server: string): MillraceError {
  const message = `${LOST.what}: ${server} gave no answer in time`;
  return postgresError(LOST.code, LOST.kind, message, { hint: reachAgain("ETIMEDOUT", server, "url") });
}

function atServer(server: string | undefined): string {
  return server === undefined ? "" : ` (${server})`;
}

/** For a column's type the server says only that it is not supported; the function that raised it tells. */
function isUsed({ state, routine }: Failure): boolean {
  return state === "2BP01" || (state === "0A000" && /AlterColumnType|AllDependentForRebuilding/.test(routine));
}

/** The objects that use it, which the server names here without any value. */
function usersOf(error: unknown): string {
  const detail: unknown = error instanceof Error ? Reflect.get(error, "detail") : undefined;
  return typeof detail === "string" ? `: ${detail.split("\n").slice(0, 5).join("; ")}` : "";
}

/** Whether the failed statement was inside a function. The server says so only in the text of the context. */
function inFunction(error: unknown): boolean {
  const where: unknown = error instanceof Error ? Reflect.get(error, "where") : undefined;
  return typeof where === "string" && /\bfunction\b/.test(where);
}

/** Names of the objects in an error; never its message or detail. */
function objectsIn(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const found: string[] = [];
  for (const field of ["table", "column", "constraint"] as const) {
    const value: unknown = Reflect.get(error, field);
    if (typeof value === "string" && value !== "") found.push(`, ${field} ${JSON.stringify(value)}`);
  }
  return found.join("");
}

/** The error of a lock that was not granted in time, with who holds it. */
export function heldBy(error: MillraceError, holders: LockHolders | null): MillraceError {
  return error.code !== "MR2026" || holders === null ? error : withHolders(error, holders);
}

export function stopped(doing: string): MillraceError {
  return postgresError(STOPPED.code, STOPPED.kind, `${doing} ${STOPPED.what}`);
}

/** The target of `table` is another's, and the role may not change its note. */
export function notTakeable(table: string, quoted: string, owner: string): MillraceError {
  const { what, fix } = ofAnother(quoted, owner);
  return postgresError("MR3121", "fatal", what, { reason: "taken", table, hint: fix });
}

export function ofAnother(quoted: string, owner: string): { readonly what: string; readonly fix: string } {
  return {
    what: `${quoted} belongs to ${owner} (daemon and sink), and the role may only write its rows: it can't be taken over`,
    fix: `Set another \`schema\` for one of the two sinks. To take the table over: ALTER TABLE ${quoted} OWNER TO the role of this sink.`,
  };
}

export function takenOver(table: string, quoted: string, successor: string): MillraceError {
  return takenBy(postgresError, quoted, table, successor);
}

/** `sink`: the former owner of a table, or of one that it left alone so far. */
export function displaced(sink: string): MillraceError {
  const hint = "Millrace looks which table it is, and goes on with the others.";
  return postgresError("MR3121", "retryable", `another daemon has taken over a table of ${sink}`, { hint });
}

export function isDisplacement(error: unknown): boolean {
  const known = findMillraceError(error);
  return known?.code === "MR3121" && known.kind === "retryable";
}

/** For refused content that is of no single row: a foreign key blocks a truncate, a constraint is checked at COMMIT. */
export function withoutRow(error: MillraceError): MillraceError {
  if (error.kind !== "poison") return error;
  const fix =
    "The message names the constraint, or a trigger has refused it: take it out of the target, or let it take Millrace's rows.";
  return fatal("MR2027", error.message, error.hint === meanings.MR3111.remedy ? fix : error.hint);
}

export function fatal(code: ErrorCode, message: string, hint: string | undefined): MillraceError {
  return postgresError(code, "fatal", message, { hint });
}

/** Something is gone from the target: the sink is opened again, and these tables are read again. */
export function reopening(
  code: ErrorCode,
  message: string,
  hint: string,
  lostTables: readonly string[] = [],
): MillraceError {
  return postgresError(code, "reopen", message, { hint, lostTables });
}
