/** Errors between Millrace and a MySQL or MariaDB server; errors in the bytes of its log are in ../errors.ts. */
import {
  atServer,
  MillraceError,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  type ErrorReason,
  findMillraceError,
} from "../../../src/core/errors.ts";

import { reachAgain, serverAt, systemErrorCode } from "../../../src/core/system-errors.ts";
import type { TlsFailure } from "../../../src/tls/failure.ts";
import { PASS_BY, READ_AGAIN, SUSPENDED } from "../errors.ts";
import { quoteName } from "../quote.ts";
import { handshakeFailure, INSECURE_REFUSED } from "../tls-errors.ts";

export const BEGIN_ANEW =
  "`millrace recover` begins at a new position, compares the sinks with the source and reads only the rows that differ.";

/** After these errors, only a new position helps. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set(["MR2116", "MR2117", "MR2118", "MR2123", "MR2124"]);

export const pages: ErrorPages = {
  MR2110: {
    title: "Source can't be reached",
    cause: "The MySQL or MariaDB server does not answer under `source.url`, or the connection broke.",
    remedy: "Millrace tries again by itself. If it lasts, check whether the server runs and can be reached from here.",
  },
  MR2111: {
    title: "Source refuses the login",
    cause:
      "User, password or database of `source.url` are wrong, or the user may not connect from this host. A running daemon tries again for as long as it takes, and `status` says that somebody has to act.",
    remedy:
      "Check them by the `mysql` client with the same URL's parts. Special characters in a URL are percent-encoded.",
  },
  MR2112: {
    title: "Source and Millrace do not agree on TLS",
    cause:
      "The server requires TLS and `source.url` turns it off, or the other way round, or its certificate is not trusted. A running daemon tries again for as long as it takes, and `status` says that somebody has to act.",
    remedy: "Set ssl-mode (DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY) and ssl-ca in `source.url`.",
  },
  MR2113: {
    title: "Privilege is missing at the source",
    cause: "The user of `source.url` may not do what the message names.",
    remedy: "Grant what the message names.",
  },
  MR2114: {
    title: "Server's settings do not fit",
    cause:
      "The binary log is off, does not hold whole rows with the names of their columns, or leaves out captured tables: their database (binlog-do-db, binlog-ignore-db), or what the server replicates (log_replica_updates).",
    remedy:
      "log_bin on, binlog_format = ROW, binlog_row_image = FULL, binlog_row_metadata = FULL; sessions that were open before keep their own. No binlog-do-db and binlog-ignore-db; on a replica log_replica_updates on.",
  },
  MR2115: {
    title: "Table can't be captured",
    cause: "A table that `tables` names has no key, is no base table, or does not exist.",
    remedy: "Give it a primary key, or a unique index over NOT NULL columns; or take it out of `tables`.",
  },
  MR2116: {
    title: "Log has been purged behind us",
    cause:
      "The server has deleted files of its binary log that were not read yet: changes are missing and can't be read any more.",
    remedy: `Raise binlog_expire_logs_seconds. ${BEGIN_ANEW}`,
  },
  MR2117: {
    title: "Log is another one than before",
    cause:
      "The server is not the one whose positions are stored, or its log was reset (RESET BINARY LOGS AND GTIDS, RESET MASTER, a restored data directory): the same file names may mean other changes. Millrace continues in the log of another host of the same replication set only if its GTIDs show that it has everything that was read, and nothing in between; the message says what is missing.",
    remedy: `Point \`source.url\` at the former server. If it is meant to be this one: ${BEGIN_ANEW}`,
  },
  MR2118: {
    title: "Stored position lies beyond the log",
    cause: "The sinks hold changes that the server's log does not: it lost them, or is another one.",
    remedy: `Point \`source.url\` at the server that has them. If they are lost: ${BEGIN_ANEW}`,
  },
  MR2119: {
    title: "Another reader uses our server id",
    cause: "Each reader of a binary log needs a server_id of its own; two readers with one id disconnect each other.",
    remedy: "Give `source.serverId` a number that neither a replica, nor another Millrace, nor the server itself has.",
  },
  MR2120: {
    title: "Log holds a statement in place of rows",
    cause: `A session wrote with binlog_format STATEMENT or MIXED, or to a table of MariaDB with transaction-precise history, whose changes are logged as statements always: which rows a statement changed can't be told from it. The message names a table that it may have changed, by its own name or by views, triggers and functions. ${SUSPENDED} A statement that can only change tables that are not captured stops nothing. Where a statement that alters tables names one in a character set that this version does not know, the stream stops.`,
    remedy: `Find the program that sets binlog_format in its session, and correct it; a history needs row_start and row_end of type TIMESTAMP(6). Then ${READ_AGAIN} If the stream has stopped: ${PASS_BY}`,
  },
  MR2121: {
    title: "Source does not answer",
    cause: "The server sent nothing for too long, not even the heartbeats that were asked for.",
    remedy: "Millrace tries again by itself.",
  },
  MR2122: {
    title: "Table was altered while it was read",
    cause: "Rows that are read beside the stream must have the shape that the stream is at.",
    remedy: "Millrace reads it again by itself.",
  },
  MR2123: {
    title: "Transaction can't be followed",
    cause:
      "The log takes back rows of a transaction that was too large to be kept until its end (12 MB where that is to be feared, else 512 kB), or XA transactions that are prepared and wait for their outcome are too large to be kept (12 MB each, 32 MB together), or one is committed whose rows lay in files of the log that are gone.",
    remedy: `Leave those tables out by \`tables\`, or let the application use smaller transactions, and decide those that XA RECOVER lists. Then ${PASS_BY}`,
  },
  MR2124: {
    title: "Log has come too far",
    cause: "The log's file number or a transaction's offset is larger than a row's version has room for.",
    remedy: `RESET BINARY LOGS AND GTIDS (RESET MASTER) makes its numbers start again. ${BEGIN_ANEW}`,
  },
  MR2125: {
    title: "Source answers with an error",
    cause: "The server refused a statement or ended the stream for a reason that has no number of its own here.",
    remedy: "The message has the server's error number; its manual says more. Millrace tries again by itself.",
  },
  MR2126: {
    title: "Server is not supported",
    cause: "Millrace needs MySQL 8.0 or newer, or MariaDB 10.5 or newer.",
    remedy: "Upgrade the server.",
  },
  MR2127: {
    title: "source.url can't be used",
    cause: "The URL is not of the form mysql://user:password@host:port/database, or a parameter of it is wrong.",
    remedy: "Correct it. Parameters: ssl-mode, ssl-ca, ssl-cert, ssl-key, connect_timeout (seconds).",
  },
  MR2128: {
    title: "Log is another host's",
    cause:
      "The server is another one than the one that was read last, or its log was created again. If the GTIDs show that its log holds everything that was read, a running daemon continues in it by itself; commands don't.",
    remedy: "Start the daemon: it continues there, or reports with MR2117 why it can't.",
  },
  MR2130: {
    title: "Connections end at different servers",
    cause:
      "The address of `source.url` has led one connection to another server than those before: it was switched in between, or several servers answer under it.",
    remedy:
      "Millrace compares again by itself. If it lasts, let `source.url` name one server, or an address that leads to one at a time.",
  },
  MR2131: {
    title: "Server gave up waiting",
    cause:
      "Another session holds a lock on the table, or waits for one itself and keeps all others behind it (LOCK TABLES, an ALTER behind a transaction that was left open); or a statement took longer than it may.",
    remedy:
      "Millrace tries again by itself. The message names the session that holds the table, if the user may see it: GRANT SELECT ON performance_schema.* (MySQL), or PROCESS ON *.* (MariaDB). An administrator finds it by SHOW FULL PROCESSLIST, and on MySQL SELECT * FROM sys.schema_table_lock_waits.",
  },
  MR2132: {
    title: "Large transaction has no room on the disk",
    cause:
      "MySQL sends a compressed transaction as one event. One above 8 MB is kept in a temporary file until its checksum is verified and its rows are read; that file can't be made or written.",
    remedy:
      "Make room in the folder of temporary files (TMPDIR, else /var/tmp), at most a gigabyte, or let TMPDIR name another one. Millrace tries again by itself.",
  },
  MR2133: {
    title: "Catalogue and log differ about a table",
    cause:
      "The server describes a column differently in its catalogue and in its log, and nothing was altered in between. Millrace follows the log's description, and reads the table again once.",
    remedy:
      "Nothing is lost. Compare the table's columns in SHOW CREATE TABLE with `millrace schema show`; labels in the character set `binary` are a known cause: another character set helps.",
  },
  MR2134: {
    title: "Another daemon reads the log",
    cause:
      "A daemon of the same `name`, or with the same `serverId`, reads this server's log, from another folder or host: the server would end its stream for ours. It is known by a named lock of the server (GET_LOCK), which its connection holds.",
    remedy:
      "Stop it, or give this one another `name` and `source.serverId`. The connection of a host that is gone ends by itself as soon as the server notices, or by KILL; a daemon that comes back with the same state ends it itself.",
  },
  MR2129: { title: "Stopped", cause: "Millrace was asked to stop.", remedy: "Nothing." },
};

export function sourceError(
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  hint: string | undefined = pages[code]?.remedy,
  cause?: unknown,
): MillraceError {
  return new MillraceError({ code, kind, message, hint, cause });
}

/** For a dump of the log, which is never silent for long. */
export function silent(doing: string): MillraceError {
  const message = `the source has sent nothing for too long while ${doing}`;
  return new MillraceError({ code: "MR2121", kind: "retryable", message, reason: "silent" });
}

export function aborted(what: string): MillraceError {
  return sourceError("MR2129", "aborted", `${what} was stopped`);
}

/** The server's number of an error; undefined if it does not come from the server. */
export function errorNumber(error: unknown): number | undefined {
  return error instanceof Error && "errno" in error && typeof error.errno === "number" && error.errno > 0
    ? error.errno
    : undefined;
}

/**
 * A text that can't be a value of the column it is compared with: its characters are not in the column's character set, or
 * it is no value of its type. No row has such a key.
 */
const NO_KEY = new Set([1267, 1270, 1271, 1292, 1366, 1367, 1411, 1525, 3854, 3988]);

export function isNoKey(error: unknown): boolean {
  return NO_KEY.has(errorNumber(findMillraceError(error)?.cause ?? error) ?? 0);
}

/** The server has as many connections as it takes, of all users or of ours. */
const TOO_MANY_SESSIONS = new Set([1040, 1203, 1226]);

export function isTooManySessions(error: unknown): boolean {
  return TOO_MANY_SESSIONS.has(errorNumber(findMillraceError(error)?.cause ?? error) ?? 0);
}

/** A lock was not to be had in time. */
export function isLockWait({ cause }: MillraceError): boolean {
  return errorNumber(cause) === 1205;
}

interface Rule {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  /** `at`: "while …". */
  readonly says: (at: string, text: string, number: number) => string;
  readonly reason?: ErrorReason;
}

/** The sentences of these errors hold names and settings, never data. */
const LOGIN: Rule = {
  code: "MR2111",
  kind: "blocked",
  says: (_, text) => `the source refuses the login: ${text}`,
  reason: "login",
};
const PRIVILEGE: Rule = {
  code: "MR2113",
  kind: "blocked",
  says: (at, text) => `the source refuses ${at}: ${text}`,
  reason: "privilege",
};
const ALTERED: Rule = { code: "MR2122", kind: "retryable", says: (at) => `a table was altered ${at}` };
const WAITED: Rule = {
  code: "MR2131",
  kind: "retryable",
  says: (at, _, number) => `the server gave up waiting ${at} (error ${number})`,
};
const PASSING: Rule = {
  code: "MR2110",
  kind: "retryable",
  says: (at, _, number) => `the source refuses for now ${at} (error ${number})`,
};
const USED_UP: Rule = {
  code: "MR2110",
  kind: "retryable",
  says: (at, text) => `the source refuses for now ${at}: ${text}`,
};
const TOO_LONG: Rule = {
  code: "MR2125",
  kind: "retryable",
  says: (at) => `a statement is longer than the server takes (max_allowed_packet) ${at}`,
};
const CROWDED: Rule = { ...USED_UP };
const UNKNOWN: Rule = {
  code: "MR2125",
  kind: "retryable",
  says: (at, _, number) => `the source answers with error ${number} ${at}`,
};
const INSECURE: Rule = { code: "MR2112", kind: "blocked", says: () => INSECURE_REFUSED.what };

const LENGTHEN =
  "Raise it to 16 MB or more: SET GLOBAL max_allowed_packet = 16777216, and in the server's configuration file. Millrace tries again by itself.";

const MAKE_ROOM =
  "Raise max_connections or max_user_connections (SHOW GLOBAL VARIABLES LIKE 'max%connections' tells what they are), or end sessions that nobody uses. Millrace tries again by itself.";

const LIFT =
  "ALTER USER … WITH MAX_QUERIES_PER_HOUR 0 MAX_CONNECTIONS_PER_HOUR 0 MAX_USER_CONNECTIONS 0 for the user of `source.url`. Millrace tries again by itself.";

/** Where it is not that of the error's page. */
const WAYS_OUT: ReadonlyMap<Rule, string> = new Map([
  [INSECURE, INSECURE_REFUSED.fix],
  [USED_UP, LIFT],
  [CROWDED, MAKE_ROOM],
  [TOO_LONG, LENGTHEN],
]);

/** By the server's number; MariaDB's numbers begin at 1900, MySQL's own at 3000. */
const RULES: Readonly<Record<number, Rule>> = {
  1040: CROWDED, // too many connections
  1044: PRIVILEGE, // the user has none on anything in the database of the url
  1045: LOGIN,
  1049: LOGIN, // unknown database
  1053: PASSING, // shutdown
  1054: ALTERED, // unknown column
  1130: LOGIN, // host not allowed
  1142: PRIVILEGE,
  1143: PRIVILEGE,
  1146: ALTERED, // no such table
  1152: PASSING, // 1152, 1158 to 1161, 1184: the connection was aborted
  1153: TOO_LONG,
  1158: PASSING,
  1159: PASSING,
  1160: PASSING,
  1161: PASSING,
  1184: PASSING,
  1203: CROWDED, // too many connections of the user
  1205: WAITED, // a lock
  1213: PASSING, // deadlock
  1226: USED_UP, // the user's limit of connections, or of queries in an hour
  1227: PRIVILEGE,
  1251: LOGIN, // the client's way to log in
  1317: PASSING, // interrupted
  1370: PRIVILEGE,
  1401: PRIVILEGE,
  1412: ALTERED, // the table's definition changed
  1615: ALTERED,
  1698: LOGIN,
  1927: PASSING, // killed
  1969: WAITED, // our own limit of a statement's time
  3024: WAITED, // the same
  3118: LOGIN, // account locked
  3159: INSECURE,
  3955: LOGIN, // account blocked after failed logins
  4031: PASSING, // the session was idle for too long
  4151: LOGIN, // account locked
};

/** Turns any error of the driver while `doing` into a numbered error: by the server's number, or the socket's code. */
export function classify(error: unknown, doing: string): MillraceError {
  const known = findMillraceError(error);
  if (known) return known;
  if (error instanceof Error && error.name === "AbortError") return aborted(doing);
  const number = errorNumber(error);
  const at = `while ${doing}`;
  if (number === undefined) return unreachable(error, at);
  const text = error instanceof Error ? error.message : "";
  const rule = RULES[number] ?? UNKNOWN;
  const { code, kind, says, reason } = rule;
  const own = rule === PRIVILEGE ? grantFor(text) : WAYS_OUT.get(rule);
  const hint = own ?? pages[code]?.remedy;
  return new MillraceError({ code, kind, message: says(at, text, number), hint, cause: error, reason });
}

/** The statement that helps, taken from the server's sentence; undefined if the sentence does not say enough. */
function grantFor(text: string): string | undefined {
  const [, user, database] = /for user ('.*'@'.*') to database '(.*)'/.exec(text) ?? [];
  if (user !== undefined && database !== undefined)
    return `GRANT SELECT ON ${quoteName(database)}.* TO ${user}; or correct the name of the database in \`source.url\`.`;
  // SUPER, which the server may list first, is more than needed.
  const privilege = /\(at least one of\) the (.+) privilege/.exec(text)?.[1]?.split(", ").at(-1);
  return privilege === undefined ? undefined : `GRANT ${privilege} ON *.* TO the user of \`source.url\`.`;
}

/** Why no session began; names the server. */
export function unconnected(
  error: unknown,
  { host, port }: { readonly host: string; readonly port: number },
): MillraceError {
  const server = serverAt(host, port);
  const known = atServer(classify(error, `connecting to ${server}`), server);
  if (known.code !== "MR2110" || errorNumber(error) !== undefined) return known;
  const { code, kind, message, cause, reason } = known;
  const hint = reachAgain(systemErrorCode(error), server, "source.url");
  return new MillraceError({ code, kind, message, hint, cause, reason });
}

function unreachable(error: unknown, at: string): MillraceError {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const failure = handshakeFailure(code, error instanceof Error ? error.message : "");
  if (failure !== undefined) return tls(failure, error);
  const why = code === "" ? "" : ` (${code})`;
  return sourceError("MR2110", "retryable", `the source can't be reached ${at}${why}`, undefined, error);
}

function tls({ fix, what }: TlsFailure, cause: unknown): MillraceError {
  return sourceError("MR2112", "blocked", what, fix, cause);
}

/** Most reasons have the same number (1236), so these are told apart by the text; MariaDB's texts are the same. */
const ENDS_OF_DUMP: readonly (readonly [when: (text: string) => boolean, code: ErrorCode, what: string])[] = [
  [
    (text) => /same server_(uuid|id)|server_id\/server_uuid|slave_uuid/i.test(text),
    "MR2119",
    "another reader of the log uses our server id",
  ],
  [
    (text) => /could not find first log file|purged/i.test(text),
    "MR2116",
    "the server has purged the part of its log that comes next",
  ],
  [
    (text) =>
      /impossible position|exceeded max_allowed_packet|bogus data|log event entry/i.test(text) || isFirstUnread(text),
    "MR2117",
    "the log has no transaction where the stored position says",
  ],
];

/** Why the server ended the dump. */
export function endOfDump(error: unknown): MillraceError {
  const text = error instanceof Error ? error.message : "";
  const known = ENDS_OF_DUMP.find(([when]) => when(text));
  if (known !== undefined) return sourceError(known[1], "fatal", known[2], undefined, error);
  if (errorNumber(error) === 1236)
    return sourceError("MR2125", "retryable", "the server ended the stream (error 1236)", undefined, error);
  return classify(error, "reading the log");
}

/** Whether the server failed at the first event of the request: no event begins there. */
function isFirstUnread(text: string): boolean {
  const places = /the first event '[^']*' at (\d+), the last event read from '[^']*' at (\d+)/.exec(text);
  return places !== null && places[1] === places[2];
}
