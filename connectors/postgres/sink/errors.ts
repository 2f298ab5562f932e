import {
  type DatabaseReason,
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  findMillraceError,
  MillraceError,
} from "../../../src/core/errors.ts";
import { type Failure, failureOf } from "../client/failure.ts";

interface Rule {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  readonly what: string;
  readonly hint?: string;
}

const LOST: Rule = { code: "MR3102", kind: "retryable", what: "the connection to the target failed" };
const LOGIN: Rule = {
  code: "MR3103",
  kind: "blocked",
  what: "the target refuses the login",
  hint: "Check user, password and database in the sink's url, and pg_hba.conf on the server.",
};
const PRIVILEGE: Rule = {
  code: "MR3105",
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
const RESOURCES: Rule = {
  code: "MR3112",
  kind: "retryable",
  what: "the target lacks a resource, or is starting or stopping",
};
const DISK_FULL: Rule = {
  code: "MR3112",
  kind: "blocked",
  what: "the target's disk is full",
  hint: "Make room on the target's disk.",
};
const CONFLICT: Rule = { code: "MR3113", kind: "retryable", what: "the target gave up waiting or serialising" };
const READ_ONLY: Rule = {
  code: "MR3118",
  kind: "blocked",
  what: "the target takes no writes",
  hint: "Point the sink's url at the primary server.",
};
const TRIGGER: Rule = {
  code: "MR3119",
  kind: "fatal",
  what: "a function of the target, called by a trigger, default or constraint, failed",
  hint: "Qualify the names that it uses, or ALTER FUNCTION … SET search_path = …: this session has none, like native logical replication.",
};
const UNKNOWN: Rule = {
  code: "MR3115",
  kind: "fatal",
  what: "the target refused a statement",
  hint: "The SQLSTATE and the server's log say more.",
};

const STOPPED: Rule = { code: "MR3116", kind: "aborted", what: "was stopped" };
const URL: Rule = { code: "MR3101", kind: "blocked", what: "the sink's url can't be used: " };
const TLS: Rule = {
  code: "MR3104",
  kind: "blocked",
  what: "TLS with the target failed while connecting to the server: ",
};
const UNBOUND: Rule = { code: "MR3104", kind: "blocked", what: "" };

const RULES: Readonly<Record<DatabaseReason, Rule>> = {
  stopped: STOPPED,
  url: URL,
  tls: TLS,
  unbound: UNBOUND,
  garbled: LOST,
  unreachable: LOST,
  lost: LOST,
  pooler: LOST,
  unknown: UNKNOWN,
  login: LOGIN,
  privilege: PRIVILEGE,
  "row-security": PRIVILEGE,
  slots: RESOURCES,
  connections: RESOURCES,
  disk: DISK_FULL,
  resources: RESOURCES,
  conflict: CONFLICT,
  ending: RESOURCES,
  lock: CONFLICT,
  cancelled: CONFLICT,
  idle: UNKNOWN,
  "in-use": CONFLICT,
  "not-now": UNKNOWN,
  "read-only": READ_ONLY,
  "no-file": RESOURCES,
  system: RESOURCES,
  internal: RESOURCES,
  "no-table": GONE,
  "no-column": CHANGED,
  "no-object": UNKNOWN,
  exists: UNKNOWN,
  "no-value": POISON,
  parameter: POISON,
  content: POISON,
  refused: UNKNOWN,
};

/** Failures of one table while it is prepared or written: they do not concern the sink's other tables. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set([
  "MR3106",
  "MR3107",
  "MR3108",
  "MR3110",
  "MR3114",
  "MR3115",
  "MR3117",
  "MR3119",
  "MR3120",
  "MR3121",
]);

export function stateOf(error: unknown): string | undefined {
  return failureOf(error).state;
}

/** Whether the server permanently refuses a statement because of a value in one of the step's tables. */
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

/** While connecting only these have rules of their own. */
const OF_CONNECTING: ReadonlySet<DatabaseReason> = new Set([
  "unreachable",
  "lost",
  "login",
  "privilege",
  "slots",
  "connections",
  "disk",
  "resources",
  "ending",
  "lock",
  "cancelled",
]);

function ruleOf({ reason, state, code, connecting, cause }: Failure): Rule {
  if (connecting) return OF_CONNECTING.has(reason) ? RULES[reason] : UNKNOWN;
  if (state?.startsWith("42") === true && inFunction(cause)) return TRIGGER;
  // One of Node's codes: the connection has failed.
  return reason === "unknown" && code !== "" ? LOST : RULES[reason];
}

/**
 * Turns a driver's error while `doing` something into a numbered one. Drops the server's text and the driver's error
 * object, because both may hold cell values. Keeps the SQLSTATE and the names of table, column and constraint.
 */
export function sinkError(error: unknown, doing: string): MillraceError {
  const known = findMillraceError(error);
  if (known !== undefined) return known;
  const failure = failureOf(error);
  const { reason, message: text, fix } = failure;
  if (reason === "stopped") return stopped(doing);
  const rule = RULES[reason];
  // Our own messages: safe to show.
  if (rule === URL || rule === TLS || rule === UNBOUND)
    return new MillraceError({ code: rule.code, kind: rule.kind, message: `${rule.what}${text}`, hint: fix });
  return ofServer(failure, doing);
}

function ofServer(failure: Failure, doing: string): MillraceError {
  const { state, code: word, connecting, cause } = failure;
  const rule = ruleOf(failure);
  const { code, kind, what } = rule;
  if (state !== undefined && !connecting) {
    const message = `${what} while ${doing} (SQLSTATE ${state}${places(cause)})`;
    return new MillraceError({ code, kind, message, hint: rule.hint });
  }
  if (rule === UNKNOWN && !connecting) {
    const message = `an unexpected failure while ${doing}: ${cause instanceof Error ? cause.name : "unknown"}`;
    return new MillraceError({ code, kind, message, cause });
  }
  const why = word || (connecting ? failure.message : "connection closed");
  const message = `${what} while ${doing}: ${state === undefined ? why : `SQLSTATE ${state}`}`;
  const hint = rule.hint ?? "Check the target's host and port, the network and the server's log.";
  return new MillraceError({ code, kind, message, hint });
}

/** Whether the failed statement was inside a function. The server says so only in the text of the context. */
function inFunction(error: unknown): boolean {
  const where: unknown = error instanceof Error ? Reflect.get(error, "where") : undefined;
  return typeof where === "string" && /\bfunction\b/.test(where);
}

/** Names of the objects in an error; never its message or detail. */
function places(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const found: string[] = [];
  for (const field of ["table", "column", "constraint"] as const) {
    const value: unknown = Reflect.get(error, field);
    if (typeof value === "string" && value !== "") found.push(`, ${field} ${JSON.stringify(value)}`);
  }
  return found.join("");
}

export function stopped(doing: string): MillraceError {
  const { code, kind, what } = STOPPED;
  return new MillraceError({ code, kind, message: `${doing} ${what}` });
}

export function targetsMeet(table: string, owner: string, quoted: string): MillraceError {
  return new MillraceError({
    code: "MR3108",
    kind: "fatal",
    message: `${table} and ${owner} would both land in ${quoted}`,
    hint: "Exclude one of them in the sink's `tables`, or give it its own sink.",
    table,
  });
}

export function takenOver(table: string, quoted: string, successor: string): MillraceError {
  return new MillraceError({
    code: "MR3121",
    kind: "fatal",
    message: `${quoted} belongs to ${successor} now (daemon and sink), which has prepared it since`,
    hint: "Leave the table to one of them: give this sink another `schema`, exclude the table, or stop the other daemon.",
    reason: "taken",
    table,
  });
}

/** For refused content that is of no single row: a foreign key blocks a truncate, a constraint is checked at COMMIT. */
export function withoutRow(error: MillraceError): MillraceError {
  if (error.kind !== "poison") return error;
  return fatal("MR3115", error.message, "Remove the constraint or trigger from the target, or make it harmless.");
}

export function fatal(code: ErrorCode, message: string, hint: string): MillraceError {
  return new MillraceError({ code, kind: "fatal", message, hint });
}

/** Something is gone from the target: the sink is opened again, and these tables are read again. */
export function reopening(
  code: ErrorCode,
  message: string,
  hint: string,
  lostTables: readonly string[] = [],
): MillraceError {
  return new MillraceError({ code, kind: "reopen", message, hint, lostTables });
}

/** The most likely mistake is a sink in the source's own database: no hint may lead to dropping those tables. */
export const FOREIGN_TABLE_FIX =
  "Set the sink's `schema` to put Millrace's tables elsewhere. Rename or drop the table only if nobody needs it: if the sink's database is the source's, it may be the captured table itself.";

export const area: ErrorArea = { from: 3100, title: "Postgres as a sink" };

export const pages: ErrorPages = {
  MR3101: {
    title: "Target URL is wrong",
    cause: "The sink's `url` is not a postgres:// URL, or has a parameter that Millrace does not know.",
    remedy: "Correct the URL; the message names the part.",
  },
  MR3102: {
    title: "Target can't be reached",
    cause:
      "No connection to the target, or it broke or stopped answering. Millrace connects again and repeats the step.",
    remedy: "Check host, port, firewall and the target's log, if it lasts.",
  },
  MR3103: {
    title: "Target refuses the login",
    cause: "Wrong user, password or database, or pg_hba.conf has no line that admits the role.",
    remedy: "Try the same URL with psql from the same machine; correct the sink's `url` or pg_hba.conf.",
  },
  MR3104: {
    title: "TLS with the target failed",
    cause: "The server does not speak TLS, or its certificate fails the check of `sslmode`.",
    remedy: "Set `sslmode` and `sslrootcert` in the sink's `url` as for psql.",
  },
  MR3105: {
    title: "Privilege missing in the target",
    cause: "The role may not create schemas or tables, use temporary tables, or write to a table.",
    remedy: "Run `millrace check`: it prints the GRANT.",
  },
  MR3106: {
    title: "Millrace did not create the target table",
    cause:
      "A table of that name exists and lacks `_millrace_version` or `_millrace_commit_time`. Millrace does not touch it.",
    remedy: FOREIGN_TABLE_FIX,
  },
  MR3107: {
    title: "Somebody changed the target",
    cause:
      "A column's type or the key is not the one that Millrace created. Millrace follows changes at the " +
      "source, except a new key of a table with a history.",
    remedy:
      "Change the target by hand to the type or key that the message names, or drop the target table and fill it again with `millrace snapshot start`.",
  },
  MR3108: {
    title: "Two tables have one target",
    cause: "Under the sink's `schema`, or after a long name was cut, two tables of the source get one name.",
    remedy: "Exclude one of them in the sink's `tables`, or give it its own sink.",
  },
  MR3109: {
    title: "Another process writes to this sink",
    cause:
      "The progress in the target is not what this process wrote last, or belongs to a higher lease. Nothing was changed. " +
      "If it is older, the target was restored from an older copy: the sink continues from there if the log reaches back.",
    remedy: "Stop the other daemon of this name.",
  },
  MR3110: {
    title: "Target was emptied or replaced",
    cause:
      "Millrace's progress, a table or a column that it wrote is no longer in the target. Millrace creates what is missing and fills " +
      "the table again while the others go on; a history stops with MR1315. Without the progress the sink stops with " +
      "MR1301, or is filled again (`onLost: resync`).",
    remedy: "Nothing for a table or a column.",
  },
  MR3111: {
    title: "Row refused",
    cause:
      "The target can't take one row: a constraint or trigger that was added there, a value out of its range or encoding, an index entry too large. The row becomes a dead letter, the others are applied.",
    remedy:
      "See `millrace dlq show`; remove the cause in the target, then read the row again: `millrace snapshot start --tables TABLE --sink NAME`.",
  },
  MR3112: {
    title: "Target lacks a resource",
    cause: "Disk, memory or connections have run out, or the server is starting or stopping. Millrace tries again.",
    remedy: "See the server's log, if it lasts.",
  },
  MR3113: {
    title: "Target gave up waiting",
    cause: "A lock was not granted in time, or transactions conflicted. Millrace tries again.",
    remedy: "Look for long transactions in the target (pg_stat_activity, pg_locks), if it lasts.",
  },
  MR3114: {
    title: "Too many rows refused",
    cause: "The target refused more rows of one step than Millrace stores as dead letters.",
    remedy:
      "The table is at fault rather than its rows: see the last SQLSTATE in the message, and constraints and triggers in the target.",
  },
  MR3115: {
    title: "Target refused a statement",
    cause: "An error of the server that Millrace has no rule for.",
    remedy: "The SQLSTATE and the server's log say more.",
  },
  MR3116: { title: "Stopped", cause: "Somebody asked Millrace to stop.", remedy: "Nothing." },
  MR3117: {
    title: "Reserved column name",
    cause: "A column of the source begins with `_millrace_`, which is reserved for Millrace's own columns.",
    remedy: "Rename the column, or exclude the table.",
  },
  MR3118: {
    title: "Target takes no writes",
    cause: "The server is a standby, or its transactions are read-only.",
    remedy: "Point the sink's `url` at the primary server.",
  },
  MR3119: {
    title: "Function in the target failed",
    cause:
      "A trigger, default or constraint of the target called a function that failed, often because it names a table without its schema: Millrace's session has an empty search path.",
    remedy: "Qualify the names in the function, or give it its own path: ALTER FUNCTION … SET search_path = ….",
  },
  MR3120: {
    title: "Target keeps the other mode",
    cause:
      "The table in the target is a mirror and the sink's `mode` is history, or the other way round. One table can't be both; nothing was changed.",
    remedy:
      "Give the sink another `schema`, or set `mode` back. If nobody needs the table any more, drop it while Millrace is stopped: Millrace creates and fills it again.",
  },
  MR3121: {
    title: "Target taken over by another daemon",
    cause:
      "Another daemon, or another sink, has prepared the same table of the target since. Two that write to one table remove and hide each other's rows, so the one that came first suspends the table in this sink. The other tables go on.",
    remedy:
      "Decide who writes the table. For the other one set another `schema` in the sink, or exclude the table in the sink's `tables`; or stop that daemon. Then run `millrace snapshot start --tables TABLE --sink SINK` here: the table is read again, and is this daemon's.",
  },
};
