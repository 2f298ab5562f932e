import { ClickHouseError } from "@clickhouse/client";
import {
  atServer,
  type ErrorCode,
  type ErrorKind,
  type ErrorReason,
  errorsOf,
  findMillraceError,
  isAborted,
  type MillraceError,
} from "../../src/core/errors.ts";
import { reachAgain, serverAt, systemErrorCode } from "../../src/core/system-errors.ts";
import { addressOf, codeOf, TLS_ALONE, tlsFailure, type TlsFailure, tryHandshake } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";
import { TABLE_FAILURES } from "../warehouse/table-change.ts";

const DROP_AND_FILL =
  "Drop the table while Millrace is stopped (`DROP TABLE … SYNC`): Millrace creates and fills it again at the next start.";

/** Also what `check` says. */
export const HINTS = {
  MR1308:
    "With replicas behind one address, set `quorum`, so that a read sees what was written, or let the `url` lead to one server.",
  MR2001:
    "`url` is the address of the HTTP interface (8123, with TLS 8443), not of the native protocol (9000). `millrace check` tests it from the machine on which it runs.",
  MR2002:
    "Correct user and password in `url` (http://user:password@host:8123), or set them at the server as they were (ALTER USER … IDENTIFIED BY …; of a user whose VALID UNTIL has passed, or that is gone, it says the same).",
  MR2003:
    "Use https:// only where the port speaks TLS (8443); name an authority of your own in `ca`, a certificate of this client in `cert` and `certKey`, another name than the url's host in `serverName`.",
  MR2005: "Millrace tries again at growing intervals; `millrace check` tells at once whether it is corrected.",
  MR2006: "If it lasts, look at the server.",
  MR2027:
    "Use ClickHouse 26.7, or 24.8 and newer, which were not run; `millrace check` tells the version. With `cluster`: the cluster must exist on the server (`system.clusters`), with the macros {shard} and {replica}. `system.query_log` has the whole text.",
  MR3106: "Rename or drop it while Millrace is stopped, or give the sink another `schema`.",
  MR3107: `Change it back while Millrace is stopped. For a history whose key changed at the source: rename the table, and Millrace begins a new one. Otherwise: ${DROP_AND_FILL}`,
  MR3120:
    "Give the sink another `schema`, or set `mode` back. If nobody needs the table any more, drop it while Millrace is stopped: Millrace creates and fills it again.",
  MR3111: "`millrace dlq list --sink NAME` names the rows. Correct the values at the source, or leave the table out.",
} as const;

export const clickhouseError = errorsOf({ side: "sink", kind: "clickhouse" }, HINTS);

/** See TABLE_FAILURES; and a statement that is refused. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set<ErrorCode>([...TABLE_FAILURES, "MR2027"]);

type Meaning = readonly [code: ErrorCode, kind: ErrorKind, what: string, fix?: string];

const PARTS =
  "If it lasts: a longer `batch.delay` makes fewer parts for the server to merge (max_parts_in_total, parts_to_throw_insert).";
const MORE_MEMORY =
  "If it lasts: a smaller `batch.bytes`, or more memory for the user (max_memory_usage) or the server (max_server_memory_usage).";
const LIFT =
  "ALTER USER … SETTINGS max_… = 0 for the setting in the message, or take the constraint out of the profile; of memory (code 241) raise it above what the message says, or set a smaller `batch.bytes`. `millrace check` names the limits that the user can't lift.";
const MORE_AT_ONCE =
  "If it lasts, raise the setting in the message (max_concurrent_queries… of the server or the user's profile): the sink makes do with one statement at a time, a comparison and `check` run some more.";
const MORE_TABLES =
  "Raise the setting in the message (config.xml of the server) above the number of tables, or leave tables out (`tables` of the sink). The other tables go on.";
const LIFT_QUOTA = "ALTER QUOTA … FOR INTERVAL … NO LIMITS TO …, or wait for the interval's end.";
const MAKE_ROOM = "Make room on the server's disks. Millrace goes on by itself.";

const BUSY: Meaning = ["MR2006", "retryable", "ClickHouse can't take the statement now"];
const LOGIN: Meaning = ["MR2002", "blocked", "ClickHouse refuses user or password"];
const LIMIT: Meaning = ["MR2006", "blocked", "a limit of the ClickHouse user ends the sink's statement", LIFT];
/** It ends by itself. */
const QUOTA: Meaning = ["MR2006", "retryable", "a quota of the ClickHouse user is used up", LIFT_QUOTA];
const KEPT: Meaning = ["MR2005", "blocked", "the profile of the ClickHouse user has a constraint"];
/** Those in which the user alone is at a limit. */
const OF_USER: ReadonlySet<Meaning> = new Set([LIMIT, QUOTA, KEPT]);
const UNKNOWN: Meaning = ["MR2027", "retryable", "ClickHouse gave an error"];
const REFUSED: Meaning = ["MR2027", "fatal", "ClickHouse refuses a statement of the sink"];

const FULL: Meaning = ["MR3213", "blocked", "ClickHouse has no disk space left", MAKE_ROOM];
/** Too many parts of tables, and too little memory of the server. */
const CROWDED: Meaning = [BUSY[0], BUSY[1], BUSY[2], PARTS];
const SHORT: Meaning = [BUSY[0], BUSY[1], BUSY[2], MORE_MEMORY];

const TOO_MANY_TABLES: Meaning = ["MR2006", "blocked", "ClickHouse has as many tables as it takes", MORE_TABLES];

/** Of a database, of a workload's resource, and all others. */
const DENIED: readonly number[] = [291, 673, 497];
const TOO_MANY_AT_ONCE = 202;
const UNAUTHORIZED = 401;
const FORBIDDEN = 403;

/** By the server's code: `SELECT code, name FROM system.errors` tells what each is. */
const CODES: readonly (readonly [Meaning, readonly number[]])[] = [
  [LOGIN, [192, 193, 194, 195, 516, 720]],
  [["MR2008", "blocked", "the ClickHouse user lacks a grant"], [...DENIED]],
  [["MR2008", "blocked", "the ClickHouse user or server may only read"], [164]],
  [FULL, [243]],
  [["MR2008", "blocked", "the ClickHouse user may not change tables"], [392]],
  [KEPT, [452]],
  [LIMIT, [158, 160, 161, 162, 167, 168, 191, 277, 290, 306, 307, 359, 396, 700]],
  [
    BUSY,
    [
      159, 173, 209, 210, 236, 242, 279, 285, 286, 289, 319, 341, 394, 425, 439, 517, 519, 692, 762, 763, 776, 999, 198,
      225, 499, 1000, 1001,
    ],
  ],
  [QUOTA, [201]],
  [[BUSY[0], BUSY[1], "ClickHouse runs as many statements as it may", MORE_AT_ONCE], [TOO_MANY_AT_ONCE]],
  [SHORT, [241]],
  [CROWDED, [252]],
  [REFUSED, [42, 43, 44, 46, 48, 50, 56, 62, 69, 115, 170, 344, 524, 549]],
  [TOO_MANY_TABLES, [724, 725]],
];

const MEANINGS = new Map(CODES.flatMap(([meaning, codes]) => codes.map((code) => [String(code), meaning] as const)));

/** The server's answer that it waits no longer: timeouts, quorums, replicas and the keeper. */
const UNFINISHED = new Set(["159", "209", "210", "285", "286", "319", "341", "394", "999"]);

/** Whether a statement that failed so may still be carried out. */
export function mayRunOn(error: unknown): boolean {
  return !(error instanceof ClickHouseError) || UNFINISHED.has(error.code);
}

/** The server, or a limit of the user, takes fewer statements at the same time. */
export function isTooManyAtOnce(error: unknown): boolean {
  return error instanceof ClickHouseError && error.code === String(TOO_MANY_AT_ONCE);
}

/** Unknown table, and unknown database. */
const GONE = new Set(["60", "81"]);

/** Something answered, but not as ClickHouse does: a proxy, or another service. What it wrote may hold anything. */
export class ForeignAnswer extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`HTTP ${status}`);
    this.name = "ForeignAnswer";
    this.status = status;
  }
}

/**
 * "entered": the table lacks the run's column. "again": the server has refused statements for the table with this code
 * before, and has carried out none since. "first": neither.
 */
type Refusal = "first" | "again" | "entered";

/**
 * A statement for the rows of one table was refused. The server answers so too where somebody attached a materialized view to
 * the table whose own query or target fails.
 */
export class RowsRefused extends Error {
  readonly table: string;
  readonly error: ClickHouseError;
  readonly #why: Refusal;

  constructor(table: string, error: ClickHouseError, why: Refusal) {
    super("", { cause: error });
    this.table = table;
    this.error = error;
    this.#why = why;
  }

  /**
   * Once it is known that the sink's own tables are as they were: what has a meaning for all of them stays as it is. Of what has
   * none much passes (a lock that was not got in time, a replica that restarts): the table is at fault if it is refused again.
   */
  get judged(): unknown {
    const { table, error } = this;
    if (this.#why === "entered") return notEntered(`the table of ${table}`);
    const isOfAll = isLimit(error) || isDiskFull(error) || MEANINGS.has(error.code);
    if (isOfAll) return error;
    const cause = new ServerError(error);
    const refused = `ClickHouse refuses the rows of ${table}`;
    if (this.#why !== "again") return clickhouseError("MR2027", "retryable", `${refused}: ${cause.message}`, { cause });
    const message = `${refused}, or what is attached to the table does: ${cause.message}`;
    return clickhouseError("MR2027", "retryable", message, { table, hint: ATTACHED, cause });
  }
}

const ATTACHED =
  "Look at the materialized views that somebody attached to the table, and at their targets. Correct or drop what fails (`system.query_log` has the whole text): Millrace tries again by itself, and then reads the table again.";

/** The server's messages can hold values of rows, so only code and name of an error, and the setting, are kept. */
class ServerError extends Error {
  constructor({ code, type, message }: ClickHouseError) {
    const see = memoryLimit(code, message) ?? numberedLimit(message) ?? SETTING.exec(message)?.[0];
    super(`code ${code}${type === undefined ? "" : ` (${type})`}${see === undefined ? "" : `, see ${see}`}`);
    this.name = "ClickHouseError";
  }
}

const SETTING = /\b(?:max|min|force|allow|async|insert|mutations|alter|output|use|select|result|read)(?:_[a-z0-9]+)+\b/;
/** Whose memory is at its end: the server's own is no limit of the user. */
const MEMORY = /\b(query|user)\)? (?:memory limit )?exceeded: would use ([\d.]+ \w+)[^:]*maximum: ([\d.]+ \w+)/i;

/** What the server's sentence has instead of the setting's name, or beside it. */
const NUMBERED: readonly (readonly [setting: string, told: RegExp, what: string])[] = [
  ["max_concurrent_queries_for_all_users", /simultaneous queries for all users\b.*\bmaximum: (\d+)/i, ""],
  ["max_concurrent_queries_for_user", /simultaneous queries for user\b.*\bmaximum: (\d+)/i, ""],
  ["max_concurrent_insert_queries", /simultaneous insert queries\b.*\bmaximum: (\d+)/i, ""],
  ["max_concurrent_select_queries", /simultaneous select queries\b.*\bmaximum: (\d+)/i, ""],
  ["max_concurrent_queries", /simultaneous queries\b.*\bmaximum: (\d+)/i, ""],
  ["max_table_num_to_throw", /max_table_num_to_throw\W.*\bset to (\d+)/i, ""],
  ["max_database_num_to_throw", /max_database_num_to_throw\W.*\bset to (\d+)/i, ""],
  ["max_parts_in_total", /Too many parts \((\d+)\) in all partitions/i, " parts are there"],
  ["parts_to_throw_insert", /Too many parts \((\d+)\b/i, " parts are there"],
  ["inactive_parts_to_throw_insert", /Too many inactive parts \((\d+)\b/i, " parts are there"],
];

function numberedLimit(message: string): string | undefined {
  for (const [setting, told, what] of NUMBERED) {
    const count = told.exec(message)?.[1];
    if (count !== undefined) return what === "" ? `${setting} = ${count}` : `${setting}: ${count}${what}`;
  }
  return undefined;
}

function memoryLimit(code: string, message: string): string | undefined {
  const [, whose, wanted, most] = code === "241" ? (MEMORY.exec(message) ?? []) : [];
  if (whose === undefined) return undefined;
  return `max_memory_usage${/user/i.test(whose) ? "_for_user" : ""}: ${most} are too few for at least ${wanted}`;
}

/** One code each for a server that is busy, or a statement that it does not know, and for a limit of the user. */
function isLimit({ code, message }: ClickHouseError): boolean {
  if (code === "252") return message.includes("max_partitions_per_insert_block");
  if (code === "62") return message.includes("max_query_size") || message.includes("Max query size exceeded");
  return memoryLimit(code, message) !== undefined;
}

/** The profile keeps a setting, and the sink can't work with its value. */
export function keptSetting(name: string, value: string, wanted: string): MillraceError {
  return clickhouseError(
    "MR2005",
    "blocked",
    `the profile of the ClickHouse user keeps ${name} = ${value}, and the sink needs ${wanted}`,
    {
      hint: `An administrator runs: ALTER USER … SETTINGS ${name} = ${wanted}, or takes its constraint out of the profile. ${HINTS.MR2005}`,
      reason: "user-limit",
    },
  );
}

/** `or`: another reason. */
export function notShown(what: string, or?: string): MillraceError {
  const why = ["what answers has not received it yet", ...(or === undefined ? [] : [or])].join(", ");
  return clickhouseError("MR1308", "retryable", `ClickHouse does not show ${what}: ${why}`);
}

/** The run's column is not in these tables. */
export function notEntered(tables: string): MillraceError {
  const or = "or another daemon, or another process of this one, is about to write there";
  return notShown(`the column that the sink added to ${tables}`, or);
}

/** The sink could not end what it has given up. */
export function otherId(): MillraceError {
  const message =
    "what passes the sink's statements on to ClickHouse gives them ids of its own, so those that the sink gives up could not be ended";
  const hint = `Let \`url\` lead to the server, or to a proxy that passes \`query_id\` on. ${HINTS.MR2005}`;
  return clickhouseError("MR2005", "blocked", message, { hint });
}

/** `users`: whose logins they have. */
export function stillRunning(users: readonly string[]): MillraceError {
  const message = `statements that this sink has given up, or those of the daemon whose table it takes over, still run in ClickHouse, of the user ${users.join(", ")}`;
  const hint =
    "Millrace goes on when they have ended. Who has the grant KILL QUERY can end them: their `query_id` in `system.processes` begins with `millrace`.";
  return clickhouseError("MR2006", "retryable", message, { hint });
}

export function stopped(): MillraceError {
  return clickhouseError("MR2029", "aborted", "the work on ClickHouse was stopped");
}

/** A server of TLS closes the connection of a plain request, or answers with an alert, which is no HTTP. */
const HUNG_UP = /^(?:ECONNRESET|EPIPE|HPE_\w+)$/;

/** The meaning of a failure for the runtime; `doing`: what was tried, without values; `server`: host and port. */
export function classify(error: unknown, doing: string, signal: AbortSignal, server?: string): MillraceError {
  const known = findMillraceError(error);
  if (known !== undefined) return server === undefined ? known : atServer(known, server);
  if (signal.aborted || isAborted(error)) return stopped();
  if (error instanceof UnusableTls) {
    const { what: message, fix: hint, cause } = error;
    return clickhouseError("MR2003", "blocked", message, { hint, cause });
  }
  if (error instanceof ClickHouseError) {
    const refused = ofServer(error, doing);
    return server === undefined ? refused : atServer(refused, server);
  }
  if (error instanceof ForeignAnswer) return foreign(error, doing, server);
  const tls = tlsFailure(codeOf(error));
  if (tls !== undefined) return tlsError(tls, server);
  const code = systemErrorCode(error);
  return clickhouseError(
    "MR2001",
    "retryable",
    `${doing}: the connection to ClickHouse${at(server)} failed${code === undefined ? "" : `: ${code}`}`,
    {
      ...(server === undefined ? {} : { hint: reachAgain(code, server, "url") }),
      cause: code === undefined ? error : undefined,
    },
  );
}

/** As `classify`; of a server that hangs up on plain text it is found out whether it speaks TLS. `room`: of its full disks. */
export async function explain(
  error: unknown,
  doing: string,
  { url, signal, room = "" }: { readonly url: string; readonly signal: AbortSignal; readonly room?: string },
): Promise<MillraceError> {
  const address = addressOf(new URL(url));
  const server = serverAt(address.host, address.port);
  if (url.startsWith("http:") && HUNG_UP.test(codeOf(error)) && !signal.aborted) {
    const { spoke } = await tryHandshake(address, { rejectUnauthorized: false }, signal);
    if (spoke) return tlsError(TLS_ALONE, server);
  }
  const known = classify(error, doing, signal, room === "" ? server : `${server}, ${room}`);
  if (known.code !== "MR2001" || NAMES_PORT.test(url)) return known;
  return known.with({ hint: `${known.hint} \`url\` names no port, which means ${address.port}: ${OWN_PORTS}` });
}

const NAMES_PORT = /^https?:\/\/[^/?#]*:\d+(?:[/?#]|$)/i;
const OWN_PORTS = "ClickHouse's own are 8123, and 8443 with TLS.";

function tlsError({ what, fix: hint }: TlsFailure, server: string | undefined): MillraceError {
  const message = `TLS to ClickHouse${at(server)} failed: ${what}`;
  return clickhouseError("MR2003", "blocked", message, { hint });
}

function foreign({ status }: ForeignAnswer, doing: string, server: string | undefined): MillraceError {
  const message = `${doing}: what answers${at(server)} is not ClickHouse: HTTP ${status}`;
  if (status === UNAUTHORIZED || status === FORBIDDEN)
    return clickhouseError("MR2002", "blocked", message, { reason: "login" });
  const hint = `A proxy or load balancer before ClickHouse may have no server to pass statements to, or may limit them: look at its log. ${HINTS.MR2001}`;
  return clickhouseError("MR2001", "retryable", message, { hint });
}

function at(server: string | undefined): string {
  return server === undefined ? "" : ` at ${server}`;
}

function ofServer(error: ClickHouseError, doing: string): MillraceError {
  const cause = new ServerError(error);
  if (isGone(error)) {
    const message = `${doing}: a table of the sink is gone from ClickHouse`;
    return clickhouseError("MR3110", "reopen", message, { cause });
  }
  const meaning = isLimit(error) ? LIMIT : (MEANINGS.get(error.code) ?? UNKNOWN);
  const [code, kind, what, hint] = meaning;
  const details = { hint, cause, reason: reasonOf(error, meaning) };
  return clickhouseError(code, kind, `${doing}: ${what}: ${cause.message}`, details);
}

function reasonOf(error: ClickHouseError, meaning: Meaning): ErrorReason | undefined {
  if (meaning === LOGIN) return "login";
  if (isDenied(error)) return "privilege";
  if (isDiskFull(error)) return "disk";
  return OF_USER.has(meaning) || isCrowdedUser(error) ? "user-limit" : undefined;
}

/** Among codes for what all users run at once. */
function isCrowdedUser({ code, message }: ClickHouseError): boolean {
  return code === String(TOO_MANY_AT_ONCE) && message.includes("queries for user ");
}

/** A file that can't be written has codes of its own, with the system's error in the text. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof ClickHouseError && (error.code === "243" || /\berrno: 28\b/.test(error.message));
}

/** Whether the user lacks a grant. */
export function isDenied(error: unknown): boolean {
  return error instanceof ClickHouseError && DENIED.includes(Number(error.code));
}

/** Whether a login is refused: the sink's, or the one with which the server asks others of its cluster. */
export function isLoginRefused(error: unknown): boolean {
  return error instanceof ClickHouseError && MEANINGS.get(error.code) === LOGIN;
}

/** Whether a row breaks a constraint that somebody gave the table. */
export function breaksConstraint(error: unknown): boolean {
  return error instanceof ClickHouseError && error.code === "469";
}

/** Whether a table or database does not exist. */
export function isGone(error: unknown): boolean {
  return error instanceof ClickHouseError && GONE.has(error.code);
}

/** Whether a table lacks a column: one that is written to was altered, or another daemon has entered it (WriteFence). */
export function lacksColumn(error: unknown): boolean {
  return error instanceof ClickHouseError && ["10", "16", "47"].includes(error.code);
}

/** Whether the server does not know the session of a statement: it is not the server on which the session began. */
export function isElsewhere(error: unknown): boolean {
  return error instanceof ClickHouseError && error.code === "372";
}

/** Whether the server has as many tables, or databases, as it takes. */
export function takesNoTable(error: unknown): boolean {
  return error instanceof ClickHouseError && MEANINGS.get(error.code) === TOO_MANY_TABLES;
}

/** Whether a table that is to be made exists. */
export function isThere(error: unknown): boolean {
  return error instanceof ClickHouseError && error.code === "57";
}
