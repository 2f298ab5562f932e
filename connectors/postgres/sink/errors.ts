import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  findMillraceError,
  isAborted,
  MillraceError,
} from "../../../src/core/errors.ts";
import { sqlState } from "../errors.ts";
import { StatementFailure } from "./wire.ts";

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
  hint: "Somebody dropped or renamed it. Tables are made and filled again.",
};
const CHANGED: Rule = {
  code: "MR3110",
  kind: "fatal",
  what: "a column is missing in the target",
  hint: "Somebody dropped or renamed it. Drop its table, then `millrace resume --sink NAME`: it is made and filled again.",
};
const POISON: Rule = { code: "MR3111", kind: "poison", what: "the target refuses a row for its content" };
const RESOURCES: Rule = {
  code: "MR3112",
  kind: "retryable",
  what: "the target is short of a resource, or is starting or stopping",
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
  hint: "Qualify the names that it uses, or ALTER FUNCTION … SET search_path = …: this session has none, as native logical replication.",
};
const UNKNOWN: Rule = {
  code: "MR3115",
  kind: "fatal",
  what: "the target refused a statement",
  hint: "The SQLSTATE and the server's log say more.",
};

/** What the runtime does about an error of the server, by SQLSTATE, else by its class (the first two characters). */
const BY_STATE: Readonly<Record<string, Rule>> = {
  "28": LOGIN,
  "3D": LOGIN,
  "42501": PRIVILEGE,
  "42P01": GONE,
  "42703": CHANGED,
  "3F000": GONE,
  "25006": READ_ONLY,
  "22": POISON,
  "23": POISON,
  // An index entry of more than a third of a page, a row of more columns than fit: the row's content.
  "54": POISON,
  // A view's check option, and a user's trigger that raises.
  "44": POISON,
  P0001: POISON,
  "55P03": CONFLICT,
  "40": CONFLICT,
  "55006": CONFLICT,
  "57014": CONFLICT,
  "08": LOST,
  "57": RESOURCES,
  "53100": DISK_FULL,
  "53": RESOURCES,
  "58": RESOURCES,
  XX: RESOURCES,
};

export function stateOf(error: unknown): string | undefined {
  return sqlState(error instanceof StatementFailure ? error.cause : error);
}

function ruleOf(state: string): Rule {
  return BY_STATE[state] ?? BY_STATE[state.slice(0, 2)] ?? UNKNOWN;
}

/** What goes wrong with one table, while it is made ready or written: the sink's others are not concerned. */
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
]);

/** Whether the server refuses a statement for good, for what stands in one of the step's tables. */
export function isRefused(error: unknown): boolean {
  const state = stateOf(error);
  if (state === undefined) return false;
  const { code, kind } = ruleFor(error, state);
  return kind === "poison" || code === UNKNOWN.code || code === TRIGGER.code;
}

function ruleFor(error: unknown, state: string): Rule {
  return inFunction(error) && state.startsWith("42") ? TRIGGER : ruleOf(state);
}

/** True where the failure is one row's fault. */
export function isPoison(error: unknown): boolean {
  const state = stateOf(error);
  return state !== undefined && ruleOf(state).kind === "poison";
}

/**
 * A driver's error, met while `doing`, as a numbered one. The server's text and the driver's error object are left out:
 * both may hold values of cells. SQLSTATE and the names of table, column and constraint say what there is to say.
 */
export function sinkError(thrown: unknown, doing: string): MillraceError {
  const error = thrown instanceof StatementFailure ? thrown.cause : thrown;
  const known = findMillraceError(error);
  if (known !== undefined) return ofConnection(known, doing);
  if (isAborted(error)) return stopped(doing);
  const state = sqlState(error);
  if (state === undefined) return withoutState(error, doing);
  const { code, kind, what, hint } = ruleFor(error, state);
  const message = `${what} while ${doing} (SQLSTATE ${state}${places(error)})`;
  return new MillraceError({ code, kind, message, hint });
}

/** Whether the statement that failed was one inside a function. The server says it in the context only, in words. */
function inFunction(error: unknown): boolean {
  const where: unknown = error instanceof Error ? Reflect.get(error, "where") : undefined;
  return typeof where === "string" && /\bfunction\b/.test(where);
}

/** Names of the objects that an error is about; never its message or detail. */
function places(error: unknown): string {
  if (!(error instanceof Error)) return "";
  const found: string[] = [];
  for (const field of ["table", "column", "constraint"] as const) {
    const value: unknown = Reflect.get(error, field);
    if (typeof value === "string" && value !== "") found.push(`, ${field} ${JSON.stringify(value)}`);
  }
  return found.join("");
}

function withoutState(error: unknown, doing: string): MillraceError {
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
  const text = error instanceof Error ? error.message : "";
  // The driver's own sentences for a connection that is gone; they carry no code.
  const gone = /terminated|not queryable|was closed|timeout expired|connection error/i.test(text);
  if (code !== undefined || gone) {
    const cause = code ?? "connection closed";
    return new MillraceError({
      code: LOST.code,
      kind: LOST.kind,
      message: `${LOST.what} while ${doing}: ${cause}`,
      hint: "Check the target's host and port, the network and the server's log.",
    });
  }
  return new MillraceError({
    code: UNKNOWN.code,
    kind: UNKNOWN.kind,
    message: `an unexpected failure while ${doing}: ${error instanceof Error ? error.name : "unknown"}`,
    cause: error,
  });
}

/** Errors of the shared connection code speak of the source; here they are the target's. */
const CONNECTION: Readonly<Record<string, Rule>> = {
  MR2001: LOST,
  MR2002: LOGIN,
  MR2006: RESOURCES,
  MR2008: PRIVILEGE,
  MR2021: LOST,
  MR2024: RESOURCES,
  MR2026: CONFLICT,
};

/** Those whose sentence and fix hold here too. */
const RENUMBERED: Readonly<Record<string, ErrorCode>> = { MR2003: "MR3104", MR2004: "MR3101" };

function ofConnection(known: MillraceError, doing: string): MillraceError {
  // What the runtime throws through the sink, when a letter can't be stored or must stop it, stays as it is.
  if (!known.code.startsWith("MR20")) return known;
  if (known.kind === "aborted") return stopped(doing);
  const code = RENUMBERED[known.code];
  if (code !== undefined) {
    const message = known.message
      .replace(/^source\.url/, "the sink's url")
      .replace(/^TLS with the source/, "TLS with the target");
    return new MillraceError({
      code,
      kind: "blocked",
      message,
      ...(known.hint === undefined ? {} : { hint: known.hint }),
    });
  }
  const rule = CONNECTION[known.code] ?? UNKNOWN;
  const state = stateOf(known.cause);
  const reason = state === undefined ? connectionReason(known.cause) : `SQLSTATE ${state}`;
  const hint = rule.hint ?? "Check the target's host and port, the network and the server's log.";
  return new MillraceError({
    code: rule.code,
    kind: rule.kind,
    message: `${rule.what} while ${doing}: ${reason}`,
    hint,
  });
}

function connectionReason(cause: unknown): string {
  if (!(cause instanceof Error)) return "no reason given";
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message;
}

export function stopped(doing: string): MillraceError {
  return new MillraceError({ code: "MR3116", kind: "aborted", message: `${doing} was stopped` });
}

export function targetsMeet(table: string, owner: string, quoted: string): MillraceError {
  return new MillraceError({
    code: "MR3108",
    kind: "fatal",
    message: `${table} and ${owner} would both land in ${quoted}`,
    hint: "Exclude one of them in the sink's `tables`, or give it a sink of its own.",
    table,
  });
}

/** Refused content that is no single row's (a truncate held up by a foreign key, a constraint checked at COMMIT). */
export function withoutRow(error: MillraceError): MillraceError {
  if (error.kind !== "poison") return error;
  return fatal("MR3115", error.message, "Remove the constraint or trigger from the target, or make it harmless.");
}

export function fatal(code: ErrorCode, message: string, hint: string): MillraceError {
  return new MillraceError({ code, kind: "fatal", message, hint });
}

/** Something that was there is not: the sink is opened again, and these tables are read again. */
export function reopening(
  code: ErrorCode,
  message: string,
  hint: string,
  lostTables: readonly string[] = [],
): MillraceError {
  return new MillraceError({ code, kind: "reopen", message, hint, lostTables });
}

/** The likeliest mistake is a sink in the source's own database: no hint may lead to the loss of those tables. */
export const FOREIGN_TABLE_FIX =
  "Set the sink's `schema` to put Millrace's tables elsewhere. Rename or drop the table only if nobody needs it: where the sink's database is the source's, it may be the very table that is followed.";

export const area: ErrorArea = { from: 3100, title: "Postgres as a sink" };

export const pages: ErrorPages = {
  MR3101: {
    title: "Target URL is wrong",
    cause: "The sink's `url` is not a postgres:// URL, or has a parameter that Millrace does not know.",
    remedy: "Correct the URL; the message names the part.",
  },
  MR3102: {
    title: "Target can't be reached",
    cause: "No connection to the target, or it broke or fell silent. Millrace connects again and repeats the step.",
    remedy: "Check host, port, firewall and the target's log, if it lasts.",
  },
  MR3103: {
    title: "Target refuses the login",
    cause: "Wrong user, password or database, or no line in pg_hba.conf that lets the role in.",
    remedy: "Try the same URL with psql from the same machine; correct the sink's `url` or pg_hba.conf.",
  },
  MR3104: {
    title: "TLS with the target failed",
    cause: "The server does not speak TLS, or its certificate does not stand the check that `sslmode` asks for.",
    remedy: "Set `sslmode` and `sslrootcert` in the sink's `url` as for psql.",
  },
  MR3105: {
    title: "Privilege missing in the target",
    cause: "The role may not create schemas or tables, use temporary tables, or write to a table.",
    remedy: "Run `millrace check`: it prints the GRANT.",
  },
  MR3106: {
    title: "Target table was not made by Millrace",
    cause: "A table of that name exists and lacks `_millrace_version` or `_millrace_commit_time`. It is left alone.",
    remedy: FOREIGN_TABLE_FIX,
  },
  MR3107: {
    title: "The target is not as it was made",
    cause:
      "A column's type or the key is not the one that the target was made with: somebody changed it there. Changes at the " +
      "source are followed, but for another key of a table whose history is kept.",
    remedy:
      "Change the target by hand to the type or key that the message names, or drop the target table and fill it again with `millrace snapshot start`.",
  },
  MR3108: {
    title: "Two tables meet in one target",
    cause: "Under the sink's `schema`, or after a long name was cut, two tables of the source get one name.",
    remedy: "Exclude one of them in the sink's `tables`, or give it a sink of its own.",
  },
  MR3109: {
    title: "Another process writes to this sink",
    cause:
      "The progress in the target is not what this process wrote last, or belongs to a higher lease. Nothing was changed. " +
      "Where it is older, the target was put back to an older copy: the sink goes on from there if the log reaches back.",
    remedy: "Stop the other daemon of this name.",
  },
  MR3110: {
    title: "Target was emptied or replaced",
    cause:
      "Millrace's progress, a table or a column that it wrote is no longer in the target. A table that was dropped or emptied " +
      "is made and filled again while the others go on; a history stops with MR1315. Without the progress the sink stops with " +
      "MR1301, or is filled again (`onLost: resync`).",
    remedy:
      "Nothing for a table. A column: drop its table, then `millrace resume --sink NAME`, and it is made and filled again.",
  },
  MR3111: {
    title: "Row refused",
    cause:
      "The target can't take one row: a constraint or trigger that was added there, a value out of its range or encoding, an index entry too large. The row becomes a dead letter, the others are applied.",
    remedy:
      "See `millrace dlq show`; remove the cause in the target, then read the row again: `millrace snapshot start --tables TABLE --sink NAME`.",
  },
  MR3112: {
    title: "Target is short of a resource",
    cause: "Disk, memory or connections have run out, or the server is starting or stopping. Millrace tries again.",
    remedy: "See the server's log, if it lasts.",
  },
  MR3113: {
    title: "Target gave up waiting",
    cause: "A lock was not to be had in time, or transactions got in each other's way. Millrace tries again.",
    remedy: "Look for long transactions in the target (pg_stat_activity, pg_locks), if it lasts.",
  },
  MR3114: {
    title: "Too many rows refused",
    cause: "The target refused more rows of one step than Millrace puts aside.",
    remedy:
      "It is the table rather than its rows: see the last SQLSTATE in the message, and constraints and triggers in the target.",
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
      "Give the sink another `schema`, or set `mode` back. A table that nobody needs any more may be dropped while Millrace is stopped: it is made and filled again.",
  },
};
