/** What goes wrong between Millrace and a MySQL or MariaDB server, and in the bytes of its log. */
import { RECOVER } from "../../../src/core/meanings.ts";
import {
  atServer,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  type ErrorReason,
  errorsOf,
  findMillraceError,
  type MillraceError,
} from "../../../src/core/errors.ts";

import { reachAgain, serverAt, systemErrorCode } from "../../../src/core/system-errors.ts";
import { certificateFailures, isTlsCode, tlsCodeOf, type TlsFailure } from "../../../src/tls/failure.ts";
import { quoteName } from "../quote.ts";

/** The way out if only an event in the log can't be read, and the log itself is not lost. */
const PASS_BY =
  "`millrace recover --anyway --yes` begins at the log's end, compares the sinks with the source and reads what differs.";

/** The way out if only rows of one table can't be read. */
export const READ_AGAIN = "`millrace snapshot start --tables TABLE` reads the table again.";
const UPDATE = "A newer Millrace may read it; its CHANGELOG names the tested servers.";

/** After these errors, only a new position helps. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set(["MR2010", "MR2013", "MR2016", "MR2035", "MR2123"]);

/** What only MySQL and MariaDB as sources can meet. */
export const pages = {
  MR2103: {
    title: "The log lacks parts of a table's rows",
    remedy: `SET PERSIST binlog_row_metadata = FULL and binlog_row_image = FULL (MariaDB: SET GLOBAL, and the configuration file), end sessions that were open before, and find the program that sets another one in its session. Then ${READ_AGAIN}`,
    cause: `Rows were written while \`binlog_row_metadata\` was not FULL, so that the log does not name their columns, or with another \`binlog_row_image\` than FULL, so that values are missing which nothing can bring back. Versions of MariaDB between 10.11 and 11.8, which are not tested, may also leave out generated columns. A table that was altered since then is not suspended: Millrace reads it again by itself.`,
    seen: "suspended",
  },
  MR2105: {
    title: "A table's rows can't be read from the log",
    remedy: `Leave the table out by \`tables\`, or change the column's type, or its collation to one of utf8mb4; then ${READ_AGAIN} ${UPDATE}`,
    cause:
      "A captured table has a column that this version can't read from the log, or its rows have a value that is not of their column's form.",
    seen: "suspended",
  },
  MR2120: {
    title: "The log holds a statement in place of rows",
    remedy: `Find the program that sets binlog_format in its session, and correct it; a history needs row_start and row_end of type TIMESTAMP(6). Then ${READ_AGAIN}`,
    cause:
      "A session wrote with binlog_format STATEMENT or MIXED, or to a table of MariaDB with transaction-precise history: the log does not tell which rows changed. The table is suspended; if the log does not tell which table it is, all that it may be. So is each table that an ALTER or RENAME may name if it can't be read whole: it has more than 8 MB, or an unknown character set.",
    seen: "suspended",
  },
  MR2123: {
    title: "A transaction can't be followed",
    remedy: `Let the application use smaller transactions, and end those that XA RECOVER lists. Then ${READ_AGAIN} If the stream has stopped: ${PASS_BY}`,
    cause:
      "The log takes back rows of a transaction, or commits a prepared XA transaction, that was too large to be kept until then (XA: 12 MB each, 32 MB together): their tables are suspended. If the rows of a committed one lay in files that are gone, the stream stops.",
  },
  MR2133: {
    title: "Catalogue and log differ about a table",
    remedy:
      "Nothing is lost. Compare the table's columns in SHOW CREATE TABLE with `millrace schema show`; labels in the character set `binary` are a known cause: another character set helps.",
    cause:
      "The server describes a column differently in its catalogue and in its log, and nothing was altered in between. Millrace follows the log's description, and reads the table again once.",
    seen: "log",
  },
} as const satisfies ErrorPages;

export const sourceError = errorsOf(
  { side: "source", kind: "mysql" },
  {
    MR2001: "Millrace tries again by itself. If it lasts, check whether the server runs and can be reached from here.",
    MR2002:
      "Check user, password and database by the `mysql` client with the same URL's parts; the user may be limited to other hosts. Special characters in a URL are percent-encoded.",
    MR2003: "Set ssl-mode (DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY) and ssl-ca in `source.url`.",
    MR2004:
      "Correct it: mysql://user:password@host:port/database. Parameters: ssl-mode, ssl-ca, ssl-cert, ssl-key, connect_timeout (seconds).",
    MR2005: "Millrace needs MySQL 8.0 or newer, or MariaDB 10.5 or newer, with log_bin on.",
    MR2006: "Millrace tries again by itself.",
    MR2008: "Grant what the message names.",
    MR2010: `Raise binlog_expire_logs_seconds. ${RECOVER}`,
    MR2012: "Give `source.serverId` a number that neither a replica, nor another Millrace, nor the server itself has.",
    MR2013: `Point \`source.url\` at the former server. If it is meant to be this one: ${RECOVER}`,
    MR2016: `Point \`source.url\` at the server that has them. If they are lost: ${RECOVER}`,
    MR2020: "Give it a primary key, or a unique index over NOT NULL columns; or take it out of `tables`.",
    MR2023: UPDATE,
    MR2025: "Millrace reads it again by itself.",
    MR2026:
      "Millrace tries again by itself. The message names the session that holds the table, if the user may see it: GRANT SELECT ON performance_schema.* (MySQL), or PROCESS ON *.* (MariaDB).",
    MR2027: "The message has the server's error number; its manual says more. Millrace tries again by itself.",
    MR2032:
      "Millrace compares again by itself; a command can't, but the daemon goes on at another host whose log holds everything that was read. If it lasts, let `source.url` name one server.",
    MR2035: `RESET BINARY LOGS AND GTIDS (RESET MASTER) makes its numbers start again. ${RECOVER}`,
    MR2103: pages.MR2103.remedy,
    MR2105: pages.MR2105.remedy,
    MR2120: pages.MR2120.remedy,
    MR2123: pages.MR2123.remedy,
    MR3213:
      "Make room in the folder of temporary files (TMPDIR, else /var/tmp), at most a gigabyte, or let TMPDIR name another one. Millrace tries again by itself.",
  },
);

/** Of a table's rows, or of the log. */
export function fatal(code: ErrorCode, message: string): MillraceError {
  return sourceError(code, "fatal", message);
}

const DAMAGED =
  "Check the file with mysqlbinlog --verify-binlog-checksum on the server. What a damaged file holds is lost: " +
  PASS_BY;

const DAMAGED_LOG = "the binary log can't be read: ";

export function damaged(what: string, cause?: unknown): MillraceError {
  return sourceError("MR2023", "fatal", `${DAMAGED_LOG}${what}`, { hint: DAMAGED, cause });
}

/**
 * What can't be read within the rows of one table says nothing of the log, in which the next event begins where this one ends.
 * Undefined: the error is of another kind.
 */
export function unreadableRows(table: string, error: unknown): MillraceError | undefined {
  const known = findMillraceError(error);
  if (known?.code === "MR2105") return known;
  if (!(error instanceof RangeError) && known?.code !== "MR2023") return undefined;
  const why = known === undefined ? "they are cut short" : known.message.replace(DAMAGED_LOG, "");
  return sourceError("MR2105", "fatal", `rows of ${table} can't be read from the log: ${why}`, { cause: error });
}

/** For a dump of the log, which is never silent for long. */
export function silent(doing: string): MillraceError {
  const message = `the source has sent nothing for too long while ${doing}`;
  return sourceError("MR2022", "retryable", message, { reason: "silent" });
}

export function aborted(what: string): MillraceError {
  return sourceError("MR2029", "aborted", `${what} was stopped`);
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

// Failures of TLS, and their fixes in terms of the URL.

const OWN_REFUSED: TlsFailure = {
  what: "the server does not accept the client's certificate",
  fix: "Set ssl-cert and ssl-key in the url to a certificate that is signed by an authority in the server's ssl_ca.",
};

const FAILURES: Readonly<Record<string, TlsFailure>> = {
  ...certificateFailures({
    untrusted:
      "Set ssl-ca in the url to the PEM file of the authority that signed it (a self-signed certificate is its own).",
    expired: "Renew the certificate on the server (ssl_cert), then ALTER INSTANCE RELOAD TLS (MariaDB: FLUSH SSL).",
    otherName:
      "Name the server in the url as its certificate does, or have one issued for this name; ssl-mode=VERIFY_CA checks the authority alone.",
  }),
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: OWN_REFUSED,
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: OWN_REFUSED,
};

const INSECURE_REFUSED: TlsFailure = {
  what: "the server requires TLS (require_secure_transport)",
  fix: "Set ssl-mode=REQUIRED, or stronger, in the url.",
};

const NONE: TlsFailure = {
  what: "the server does not speak TLS",
  fix: "Give the server a certificate (ssl_cert, ssl_key); or, where the network is trusted, set ssl-mode=PREFERRED or ssl-mode=DISABLED in the url.",
};

/** Node's message for a connection that ended before TLS began: a server that goes down, or a proxy in between. */
const ENDED = /socket disconnected before secure TLS connection|\b(?:ECONNRESET|EPIPE|ETIMEDOUT)\b/;

interface Rule {
  readonly code: ErrorCode;
  readonly kind: ErrorKind;
  /** `at`: "while …". */
  readonly says: (at: string, text: string, number: number) => string;
  readonly reason?: ErrorReason;
}

/** The sentences of these errors hold names and settings, never data. */
const LOGIN: Rule = {
  code: "MR2002",
  kind: "blocked",
  says: (_, text) => `the source refuses the login: ${text}`,
  reason: "login",
};
const NO_DATABASE: Rule = { ...LOGIN, reason: "no-database" };
const PRIVILEGE: Rule = {
  code: "MR2008",
  kind: "blocked",
  says: (at, text) => `the source refuses ${at}: ${text}`,
  reason: "privilege",
};
const ALTERED: Rule = { code: "MR2025", kind: "retryable", says: (at) => `a table was altered ${at}` };
const WAITED: Rule = {
  code: "MR2026",
  kind: "retryable",
  says: (at, _, number) => `the server gave up waiting ${at} (error ${number})`,
};
const PASSING: Rule = {
  code: "MR2006",
  kind: "retryable",
  says: (at, _, number) => `the source refuses for now ${at} (error ${number})`,
};
const USED_UP: Rule = {
  code: "MR2006",
  kind: "retryable",
  says: (at, text) => `the source refuses for now ${at}: ${text}`,
};
const TOO_LONG: Rule = {
  code: "MR2027",
  kind: "retryable",
  says: (at) => `a statement is longer than the server takes (max_allowed_packet) ${at}`,
};
const CROWDED: Rule = { ...USED_UP };
/** The server's sentence names the table. */
const BROKEN: Rule = {
  code: "MR2027",
  kind: "retryable",
  says: (at, text) => `the server can't read a table ${at}: ${text}`,
};
const UNKNOWN: Rule = {
  code: "MR2027",
  kind: "retryable",
  says: (at, _, number) => `the source answers with error ${number} ${at}`,
};
const INSECURE: Rule = { code: "MR2003", kind: "blocked", says: () => INSECURE_REFUSED.what };

const LENGTHEN =
  "Raise it to 16 MB or more: SET GLOBAL max_allowed_packet = 16777216, and in the server's configuration file. Millrace tries again by itself.";

const MAKE_ROOM =
  "Raise max_connections or max_user_connections (SHOW GLOBAL VARIABLES LIKE 'max%connections' tells what they are), or end sessions that nobody uses. Millrace tries again by itself.";

const RESTORE_TABLE =
  "Give the table its rows back at the server (ALTER TABLE … IMPORT TABLESPACE, REPAIR TABLE, or a backup), or leave it out by `tables`. Millrace tries again by itself.";

const LIFT =
  "ALTER USER … WITH MAX_QUERIES_PER_HOUR 0 MAX_CONNECTIONS_PER_HOUR 0 MAX_USER_CONNECTIONS 0 for the user of `source.url`. Millrace tries again by itself.";

/** Where it is not that of the error's page. */
const WAYS_OUT: ReadonlyMap<Rule, string> = new Map([
  [NO_DATABASE, "Create the database, or correct its name in `source.url`."],
  [INSECURE, INSECURE_REFUSED.fix],
  [USED_UP, LIFT],
  [CROWDED, MAKE_ROOM],
  [TOO_LONG, LENGTHEN],
  [BROKEN, RESTORE_TABLE],
]);

const UNLOCK = "Unlock the user of `source.url` at the server: ALTER USER … ACCOUNT UNLOCK.";
const ONLINE =
  "Let the server take users again: SET GLOBAL offline_mode = OFF; or GRANT CONNECTION_ADMIN ON *.* TO the user of `source.url`.";
const UNBLOCK =
  "The server counts failed connections from this host (max_connect_errors): forget them by FLUSH HOSTS (MySQL: TRUNCATE TABLE performance_schema.host_cache), and look for what opens connections there and drops them, such as a port scan or a load balancer.";
const INIT_CONNECT =
  "Correct the statements in `init_connect` (SHOW GLOBAL VARIABLES LIKE 'init_connect'), so that the user of `source.url` may run them: the server's log has the error.";
const RENEW =
  "The password of the user of `source.url` has expired: set it again at the server (ALTER USER … IDENTIFIED BY …).";

const DENIED = 1045;

/** What a refused login lacks; of the others the page says what to look at. */
const LOGINS: Readonly<Record<number, string>> = {
  [DENIED]:
    "The password in `source.url` is not the user's, or the user may not come from this host: correct it (special characters are percent-encoded), or set it at the server (ALTER USER … IDENTIFIED BY …).",
  1049: "Create the database, or correct its name in `source.url`.",
  1129: UNBLOCK,
  1130: "Create the user for this host at the server (CREATE USER 'name'@'host' …), or correct the user in `source.url`.",
  1184: INIT_CONNECT,
  1820: RENEW,
  1862: RENEW,
  3032: ONLINE,
  3118: UNLOCK,
  3955: UNLOCK,
  4151: UNLOCK,
};

/** By the server's number; MariaDB's numbers begin at 1900, MySQL's own at 3000. */
const RULES: Readonly<Record<number, Rule>> = {
  1040: CROWDED, // too many connections
  1044: PRIVILEGE, // the user has none on anything in the database of the url
  1045: LOGIN,
  1049: NO_DATABASE,
  1053: PASSING, // shutdown
  1054: ALTERED, // unknown column
  1129: LOGIN, // host blocked, after failed connections
  1130: LOGIN, // host not allowed
  1142: PRIVILEGE,
  1143: PRIVILEGE,
  1146: ALTERED, // no such table
  1152: PASSING, // 1152, 1158 to 1161: the connection was aborted
  1153: TOO_LONG,
  1158: PASSING,
  1159: PASSING,
  1160: PASSING,
  1161: PASSING,
  1184: LOGIN, // what runs at a login failed
  1194: BROKEN, // crashed; so does 1195
  1195: BROKEN,
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
  1812: BROKEN, // the file of a table is missing
  1814: BROKEN, // discarded
  1820: LOGIN, // the password has expired; so does 1862
  1862: LOGIN,
  1877: BROKEN, // corrupt; 1932: not known to the engine
  1927: PASSING, // killed
  1932: BROKEN,
  1969: WAITED, // our own limit of a statement's time
  3024: WAITED, // the same
  3032: LOGIN, // offline
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
  const own = rule === PRIVILEGE ? grantFor(text) : (LOGINS[number] ?? WAYS_OUT.get(rule));
  return sourceError(code, kind, says(at, text, number), { hint: own, cause: error, reason });
}

/** The statement that helps, from the server's sentence; undefined if that does not say enough. `account`: our user. */
function grantFor(text: string, account = USER): string | undefined {
  const [, user, database] = /for user ('.*'@'.*') to database '(.*)'/.exec(text) ?? [];
  if (user !== undefined && database !== undefined)
    return `GRANT SELECT ON ${quoteName(database)}.* TO ${user}; or correct the name of the database in \`source.url\`.`;
  // SUPER, which the server may list first, is more than needed.
  const privilege = /\(at least one of\) the (.+) privilege/.exec(text)?.[1]?.split(", ").at(-1);
  return privilege === undefined ? undefined : `GRANT ${privilege} ON *.* TO ${account};`;
}

/** Until the server has said how it calls our user. */
const USER = "the user of `source.url`";

/** What failed at a server that had answered: where it is, its limits, and the GRANT as it can be run. */
export function failedAt(
  error: unknown,
  doing: string,
  { host, port }: ServerPlace,
  account: string | undefined,
  limits: string | undefined,
): MillraceError {
  const known = atServer(classify(error, doing), serverAt(host, port));
  const { reason, cause } = known;
  if (limits !== undefined && known.hint === MAKE_ROOM) return known.with({ hint: `${MAKE_ROOM} ${limits}` });
  const grant = reason === "privilege" && cause instanceof Error ? grantFor(cause.message, account) : undefined;
  return grant === undefined ? known : known.with({ hint: grant });
}

interface ServerPlace {
  readonly host: string;
  readonly port: number;
}

/** A server that wants TLS, or a certificate, refuses the login without it like a wrong password. */
export function refusedLike(
  known: MillraceError,
  { isEncrypted, hasCertificate }: { readonly isEncrypted: boolean; readonly hasCertificate: boolean },
): MillraceError {
  if (errorNumber(known.cause) !== DENIED || (isEncrypted && hasCertificate)) return known;
  const wanted = isEncrypted
    ? "the user must come with a certificate (SHOW CREATE USER: REQUIRE X509): set ssl-cert and ssl-key in the url."
    : `the server or the user requires TLS (SHOW CREATE USER: REQUIRE). ${INSECURE_REFUSED.fix}`;
  return known.with({ hint: `${known.hint} The server answers the same if ${wanted}` });
}

/** Why no session began; names the server. */
export function unconnected(error: unknown, { host, port }: ServerPlace): MillraceError {
  const server = serverAt(host, port);
  const known = atServer(classify(error, `connecting to ${server}`), server);
  if (known.code !== "MR2001" || errorNumber(error) !== undefined) return known;
  return known.with({ hint: reachAgain(systemErrorCode(error), server, "source.url") });
}

function unreachable(error: unknown, at: string): MillraceError {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const failure = handshakeFailure(code, error instanceof Error ? error.message : "");
  if (failure !== undefined) return tls(failure, error);
  const why = code === "" ? "" : ` (${code})`;
  return sourceError("MR2001", "retryable", `the source can't be reached ${at}${why}`, { cause: error });
}

/** The driver gives every failure of the handshake its own code, and keeps only the sentence of Node's error. */
function handshakeFailure(code: string, text: string): TlsFailure | undefined {
  if (code === "HANDSHAKE_NO_SSL_SUPPORT") return NONE;
  const isHandshake = code === "HANDSHAKE_SSL_ERROR";
  if (isHandshake && ENDED.test(text)) return undefined;
  const own = isHandshake ? (tlsCodeOf(text) ?? code) : code;
  const known = FAILURES[own];
  if (known !== undefined) return known;
  if (own !== "HANDSHAKE_SSL_ERROR" && !isTlsCode(own)) return undefined;
  return { what: `TLS failed (${own})`, fix: "Check ssl-mode, ssl-ca, ssl-cert and ssl-key in the url." };
}

function tls({ fix, what }: TlsFailure, cause: unknown): MillraceError {
  return sourceError("MR2003", "blocked", what, { hint: fix, cause });
}

/** Most reasons have the same number (1236), so these are told apart by the text; MariaDB's texts are the same. */
const ENDS_OF_DUMP: readonly (readonly [when: (text: string) => boolean, code: ErrorCode, what: string])[] = [
  [
    (text) => /same server_(uuid|id)|server_id\/server_uuid|slave_uuid/i.test(text),
    "MR2012",
    "another reader of the log uses our server id",
  ],
  [
    (text) => /could not find first log file|purged/i.test(text),
    "MR2010",
    "the server has purged the part of its log that comes next",
  ],
  [
    (text) =>
      /impossible position|exceeded max_allowed_packet|bogus data|log event entry/i.test(text) || isFirstUnread(text),
    "MR2013",
    "the log has no transaction where the stored position says",
  ],
];

/** Why the server ended the dump. */
export function endOfDump(error: unknown): MillraceError {
  const text = error instanceof Error ? error.message : "";
  const known = ENDS_OF_DUMP.find(([when]) => when(text));
  if (known !== undefined) return sourceError(known[1], "fatal", known[2], { cause: error });
  if (errorNumber(error) === 1236)
    return sourceError("MR2027", "retryable", "the server ended the stream (error 1236)", { cause: error });
  return classify(error, "reading the log");
}

/** Whether the server failed at the first event of the request: no event begins there. */
function isFirstUnread(text: string): boolean {
  const places = /the first event '[^']*' at (\d+), the last event read from '[^']*' at (\d+)/.exec(text);
  return places !== null && places[1] === places[2];
}
