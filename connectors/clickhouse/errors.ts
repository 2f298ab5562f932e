import { ClickHouseError } from "@clickhouse/client";
import {
  atServer,
  type ErrorKind,
  type ErrorReason,
  findMillraceError,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { reachAgain, serverAt, systemErrorCode } from "../../src/core/system-errors.ts";
import { addressOf, codeOf, TLS_ALONE, tlsFailure, type TlsFailure, tryHandshake } from "../../src/tls/failure.ts";
import { UnusableTls } from "../../src/tls/options.ts";
import { pages } from "./error-pages.ts";

export { area, pages } from "./error-pages.ts";

export type ClickhouseErrorCode = keyof typeof pages;

/** Failures of one table while it is prepared: they do not concern the sink's other tables. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set<ClickhouseErrorCode>([
  "MR4105",
  "MR4106",
  "MR4107",
  "MR4108",
  "MR4109",
  "MR4117",
  "MR4118",
  "MR4121",
]);

type Meaning = readonly [code: ClickhouseErrorCode, kind: ErrorKind, what: string];

const BUSY: Meaning = ["MR4104", "retryable", "ClickHouse can't take the statement now"];
const LOGIN: Meaning = ["MR4102", "blocked", "ClickHouse refuses user or password"];
const LIMIT: Meaning = ["MR4119", "blocked", "a limit of the ClickHouse user ends the sink's statement"];
/** It ends by itself. */
const QUOTA: Meaning = ["MR4119", "retryable", "a quota of the ClickHouse user is used up"];
const REFUSED: Meaning = ["MR4117", "fatal", "ClickHouse refuses a statement of the sink"];

const FULL: Meaning = ["MR4104", "blocked", "ClickHouse has no disk space left"];

const DENIED = "497";

/** By the server's code: `SELECT code, name FROM system.errors` tells what each is. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  192: LOGIN,
  193: LOGIN,
  194: LOGIN,
  195: LOGIN,
  516: LOGIN,
  [DENIED]: ["MR4103", "blocked", "the ClickHouse user lacks a grant"],
  164: ["MR4103", "blocked", "the ClickHouse user or server may only read"],
  243: FULL,
  392: ["MR4103", "blocked", "the ClickHouse user may not change tables"],
  452: ["MR4120", "blocked", "the profile of the ClickHouse user has a constraint"],
  158: LIMIT,
  159: BUSY,
  160: LIMIT,
  161: LIMIT,
  162: LIMIT,
  167: LIMIT,
  168: LIMIT,
  173: BUSY,
  191: LIMIT,
  201: QUOTA,
  202: BUSY,
  209: BUSY,
  210: BUSY,
  236: BUSY,
  241: BUSY,
  242: BUSY,
  252: BUSY,
  279: BUSY,
  285: BUSY,
  286: BUSY,
  289: BUSY,
  277: LIMIT,
  290: LIMIT,
  306: LIMIT,
  307: LIMIT,
  319: BUSY,
  341: BUSY,
  394: BUSY,
  425: BUSY,
  439: BUSY,
  517: BUSY,
  519: BUSY,
  999: BUSY,
  42: REFUSED,
  43: REFUSED,
  44: REFUSED,
  46: REFUSED,
  48: REFUSED,
  50: REFUSED,
  56: REFUSED,
  62: REFUSED,
  69: REFUSED,
  115: REFUSED,
  170: REFUSED,
  344: REFUSED,
  359: LIMIT,
  396: LIMIT,
  549: REFUSED,
};

/** The server's answer that it waits no longer: timeouts, quorums, replicas and the keeper. */
const UNFINISHED = new Set(["159", "209", "210", "285", "286", "319", "341", "394", "999"]);

/** Whether a statement that failed so may still be carried out. */
export function mayRunOn(error: unknown): boolean {
  return !(error instanceof ClickHouseError) || UNFINISHED.has(error.code);
}

/** Unknown table, and unknown database. */
const GONE = new Set(["60", "81"]);

/** The server's messages can hold values of rows, so only code and name of an error, and the setting, are kept. */
class ServerError extends Error {
  constructor({ code, type, message }: ClickHouseError) {
    const see = memoryLimit(code, message) ?? SETTING.exec(message)?.[0];
    super(`code ${code}${type === undefined ? "" : ` (${type})`}${see === undefined ? "" : `, see ${see}`}`);
    this.name = "ClickHouseError";
  }
}

const SETTING = /\b(?:max|min|force|allow|async|insert|mutations|alter|output|use|select|result|read)(?:_[a-z0-9]+)+\b/;
/** Whose memory is at its end: the server's own is no limit of the user. */
const MEMORY = /\b(query|user)\)? (?:memory limit )?exceeded: would use ([\d.]+ \w+)[^:]*maximum: ([\d.]+ \w+)/i;

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

interface Parts {
  readonly code: ClickhouseErrorCode;
  readonly kind: ErrorKind;
  readonly message: string;
  readonly hint?: string;
  readonly lostTables?: readonly string[];
  readonly cause?: unknown;
  readonly table?: string;
  readonly reason?: ErrorReason;
}

export function clickhouseError(parts: Parts): MillraceError {
  return new MillraceError({ hint: pages[parts.code].remedy, ...parts });
}

/** The profile keeps a setting, and the sink can't work with its value. */
export function keptSetting(name: string, value: string, wanted: string): MillraceError {
  return clickhouseError({
    code: "MR4120",
    kind: "blocked",
    message: `the profile of the ClickHouse user keeps ${name} = ${value}, and the sink needs ${wanted}`,
    hint: `An administrator runs: ALTER USER … SETTINGS ${name} = ${wanted}, or takes its constraint out of the profile. ${pages.MR4120.remedy}`,
  });
}

export function notShown(what: string): MillraceError {
  return clickhouseError({
    code: "MR4113",
    kind: "retryable",
    message: `ClickHouse does not show ${what}: what answers has not received it yet`,
  });
}

export function takenOver(table: string, sqlName: string, successor: string): MillraceError {
  return clickhouseError({
    code: "MR4118",
    kind: "fatal",
    message: `${sqlName} belongs to ${successor} now (daemon and sink), which has prepared it since`,
    table,
    reason: "taken",
  });
}

export function stopped(cause?: unknown): MillraceError {
  return clickhouseError({ code: "MR4101", kind: "aborted", message: "the work on ClickHouse was stopped", cause });
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
    return clickhouseError({ code: "MR4116", kind: "blocked", message, hint, cause });
  }
  if (error instanceof ClickHouseError) {
    const refused = ofServer(error, doing);
    return server === undefined ? refused : atServer(refused, server);
  }
  const tls = tlsFailure(codeOf(error));
  if (tls !== undefined) return tlsError(tls, server);
  const code = systemErrorCode(error);
  return clickhouseError({
    code: "MR4101",
    kind: "retryable",
    message: `${doing}: the connection to ClickHouse${at(server)} failed${code === undefined ? "" : `: ${code}`}`,
    ...(server === undefined ? {} : { hint: reachAgain(code, server, "url") }),
    cause: code === undefined ? error : undefined,
  });
}

/** As `classify`; of a server that hangs up on plain text it is found out whether it speaks TLS. `room`: of its full disks. */
export async function explain(
  error: unknown,
  doing: string,
  { url, signal, room }: { readonly url: string; readonly signal: AbortSignal; readonly room?: string | undefined },
): Promise<MillraceError> {
  const address = addressOf(new URL(url));
  const server = serverAt(address.host, address.port);
  if (url.startsWith("http:") && HUNG_UP.test(codeOf(error)) && !signal.aborted) {
    const { spoke } = await tryHandshake(address, { rejectUnauthorized: false }, signal);
    if (spoke) return tlsError(TLS_ALONE, server);
  }
  return classify(error, doing, signal, room === undefined ? server : `${server}, ${room}`);
}

function tlsError({ what, fix: hint }: TlsFailure, server: string | undefined): MillraceError {
  const message = `TLS to ClickHouse${at(server)} failed: ${what}`;
  return clickhouseError({ code: "MR4115", kind: "blocked", message, hint });
}

function at(server: string | undefined): string {
  return server === undefined ? "" : ` at ${server}`;
}

function ofServer(error: ClickHouseError, doing: string): MillraceError {
  const cause = new ServerError(error);
  if (isGone(error)) {
    const message = `${doing}: a table of the sink is gone from ClickHouse`;
    return clickhouseError({ code: "MR4114", kind: "reopen", message, cause });
  }
  const [code, kind, what] = isLimit(error)
    ? LIMIT
    : (MEANINGS[error.code] ?? ["MR4100", "retryable", "ClickHouse gave an error"]);
  const reason =
    code === "MR4102" ? "login" : error.code === DENIED ? "privilege" : isDiskFull(error) ? "disk" : undefined;
  return clickhouseError({
    code,
    kind,
    message: `${doing}: ${what}: ${cause.message}`,
    cause,
    ...(reason && { reason }),
  });
}

/** A file that can't be written has codes of its own, with the system's error in the text. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof ClickHouseError && (error.code === "243" || /\berrno: 28\b/.test(error.message));
}

/** Whether a table or database does not exist. */
export function isGone(error: unknown): boolean {
  return error instanceof ClickHouseError && GONE.has(error.code);
}

/** Whether a table that is to be made exists. */
export function isThere(error: unknown): boolean {
  return error instanceof ClickHouseError && error.code === "57";
}
