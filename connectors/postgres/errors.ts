import { findMillraceError, MillraceError, type ErrorCode, type ErrorKind } from "../../src/core/errors.ts";
import { SecondStreamRefused } from "../../src/core/contracts/source.ts";
import { systemErrorCode } from "../../src/core/system-errors.ts";
import type { TlsFailure } from "../../src/tls/failure.ts";

import { BEGIN_ANEW } from "./error-pages.ts";
import { handshakeFailure, refusedWithoutTls } from "./tls-errors.ts";

export { area, BEGIN_ANEW, LOSSES, pages } from "./error-pages.ts";

/** An ErrorResponse of the server, as the protocol's fields. `text` is the server's own sentence: it may hold values. */
export class ServerError extends Error {
  readonly code: string;
  /** The server's function that raised it; the same in every language of its messages. */
  readonly routine: string;
  constructor(code: string, text: string, routine = "") {
    super(text);
    this.name = "ServerError";
    this.code = code;
    this.routine = routine;
  }
}

/** Raised inside a stream that was started with binary cells when a type turns up that has no binary form. */
export class TextModeNeeded extends Error {}

const LOST_FIX = "It is tried again by itself. Where that lasts, look whether the server runs and can be reached.";

export function sourceError(
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  hint?: string,
  cause?: unknown,
): MillraceError {
  return new MillraceError({ code, kind, message, hint, cause });
}

export function aborted(what: string): MillraceError {
  return sourceError("MR2029", "aborted", `${what} was stopped`);
}

/** States of a server that is going away, or of a connection that did: the first stream is as lost as the second. */
const GOING_AWAY = /^(08|57)/;

/** What `error`, met while a second slot was asked for, means for the one who asked. */
export function refusedSecondStream(error: unknown): unknown {
  const known = findMillraceError(error);
  const state = sqlState(known?.cause);
  if (known === undefined || state === undefined || GOING_AWAY.test(state)) return error;
  return new SecondStreamRefused({
    code: "MR2030",
    kind: "retryable",
    message: `no second replication slot can be had: ${known.message}`,
    hint: "A sink that lies behind catches up by a slot and a WAL sender of its own: leave one of each free (max_replication_slots, max_wal_senders), and let the role call pg_copy_logical_replication_slot.",
    cause: error,
  });
}

/** The server's own function that raised the error. */
function routineOf(error: unknown): string {
  if (!(error instanceof Error) || !("routine" in error) || typeof error.routine !== "string") return "";
  return error.routine === "" ? "" : `, in its ${error.routine}`;
}

/** Five characters: a SQLSTATE. Node's own codes (ECONNRESET …) are words. */
function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

export function sqlState(error: unknown): string | undefined {
  const code = codeOf(error);
  return /^[0-9A-Z]{5}$/.test(code) && !code.startsWith("E") ? code : undefined;
}

/** A text that is no value of the column's type, or that the database's encoding can't hold: no row has such a key. */
const NO_KEY = /^22(?:003|007|008|021|P02|P05)$/;

export function isNoKey(error: unknown): boolean {
  return NO_KEY.test(sqlState(findMillraceError(error)?.cause) ?? "");
}

/**
 * Turns whatever a driver threw while `doing` (for example "reading public.orders") into a numbered error. By SQLSTATE;
 * where the text has to be read the reason stands beside it. The server's sentence is repeated only for classes whose
 * sentences hold names and settings, never data.
 */
export function classify(error: unknown, doing: string): MillraceError {
  const known = findMillraceError(error);
  if (known) return known;
  if (error instanceof Error && error.name === "AbortError") return aborted(doing);
  const state = sqlState(error);
  if (state === undefined) return classifyConnection(error, doing);
  const text = error instanceof Error ? error.message : "";
  const at = `while ${doing} (SQLSTATE ${state})`;
  switch (state) {
    case "28P01":
    case "28000":
    case "3D000": {
      const tls = refusedWithoutTls(text);
      if (tls !== undefined) return tlsError(tls, doing, error);
      return sourceError(
        "MR2002",
        "blocked",
        `the source refuses the login: ${text}`,
        "Check user, password and database in source.url, and pg_hba.conf on the server (a line for the database itself: replication of a database is an ordinary connection to it).",
        error,
      );
    }
    case "42501":
      // One code for two things: with row_security=off the server refuses a read that a policy would narrow.
      if (/row-level security/.test(text))
        return sourceError(
          "MR2028",
          "blocked",
          `row-level security hides rows from the role ${at}: ${text}`,
          "Give the role BYPASSRLS (ALTER ROLE … BYPASSRLS), or exclude the table in `tables`.",
          error,
        );
      return sourceError(
        "MR2008",
        "blocked",
        `the role lacks a privilege ${at}: ${text}`,
        "`millrace check` prints the GRANT that is missing.",
        error,
      );
    case "53400":
      return sourceError(
        "MR2006",
        "blocked",
        `the server has no free replication slot ${at}: ${text}`,
        "Drop a slot that nobody uses (SELECT slot_name FROM pg_replication_slots WHERE NOT active) or raise max_replication_slots and restart the server.",
        error,
      );
    case "53300":
      return sourceError(
        "MR2006",
        // Others come and go; a session that was just closed is still counted for a moment.
        "retryable",
        `the server has no free connection ${at}: ${text}`,
        "Raise max_connections or max_wal_senders, or the role's CONNECTION LIMIT.",
        error,
      );
    case "55006":
      return sourceError("MR2012", "retryable", `an object is in use ${at}: ${text}`, undefined, error);
    case "55000":
      return sourceError(
        "MR2027",
        "fatal",
        `the server can't do this in its present state ${at}: ${text}`,
        undefined,
        error,
      );
    // Sessions of ours may write unless the server as a whole may not.
    case "25006":
      return sourceError(
        "MR2031",
        "retryable",
        `the source is a standby, which takes no writes ${at}`,
        "Promote it, or point source.url at the primary.",
        error,
      );
    case "58P01":
      return sourceError(
        "MR2011",
        "fatal",
        `the server no longer has the log that is needed ${at}: ${text}`,
        `Drop the slot. ${BEGIN_ANEW}`,
        error,
      );
    case "42P01":
    case "42703":
    case "42704":
    case "3F000":
      return sourceError(
        "MR2025",
        "retryable",
        `a table changed under our hands ${at}: ${text}`,
        "It is looked up again.",
        error,
      );
    case "55P03":
    case "57014":
    case "25P03":
    case "25P04":
      return sourceError(
        "MR2026",
        "retryable",
        `the server gave up waiting ${at}: ${text}`,
        "A lock or a timeout of the server was in the way; see pg_stat_activity and pg_locks.",
        error,
      );
    default:
      break;
  }
  switch (state.slice(0, 2)) {
    case "08":
      return /startup parameter|pgbouncer|pooler/i.test(text) ? poolerError(error) : lost(at, error);
    case "57":
      return sourceError("MR2024", "retryable", `the server ended the session ${at}: ${text}`, undefined, error);
    case "53":
    case "40":
      return sourceError("MR2024", "retryable", `the server is short of resources ${at}: ${text}`, undefined, error);
    case "XX":
      // What the sentence would say may be of rows; whoever knows the server knows much by the function that failed.
      return sourceError("MR2027", "retryable", `the server failed ${at}${routineOf(error)}`, "See its log.", error);
    case "58":
      return sourceError("MR2027", "retryable", `the server failed ${at}: ${text}`, "See its log.", error);
    default:
      return sourceError(
        "MR2027",
        "fatal",
        `the server refused a command ${at}`,
        "See the server's log for the statement.",
        error,
      );
  }
}

function classifyConnection(error: unknown, doing: string): MillraceError {
  const code = codeOf(error);
  const text = error instanceof Error ? error.message : String(error);
  // A pooler in between is known by its refusal of the startup parameter; it comes without a SQLSTATE of its own.
  if (/unsupported startup parameter/i.test(text)) return poolerError(error);
  const tls = handshakeFailure(code, text);
  if (tls !== undefined) return tlsError(tls, doing, error);
  if (systemErrorCode(error) !== undefined)
    return sourceError(
      "MR2001",
      "retryable",
      `the source can't be reached while ${doing}: ${code}`,
      "Check host and port in source.url, the firewall and listen_addresses.",
      error,
    );
  // pg's own sentences for a socket that ended; they carry no code.
  if (/timeout expired|Connection terminated|not queryable|Client was closed/.test(text))
    return lost(`while ${doing}`, error);
  return sourceError(
    "MR2027",
    "fatal",
    `an unexpected failure while ${doing}: ${error instanceof Error ? error.name : "unknown"}`,
    undefined,
    error,
  );
}

function tlsError({ what, fix }: TlsFailure, doing: string, cause: unknown): MillraceError {
  return sourceError("MR2003", "blocked", `TLS with the source failed while ${doing}: ${what}`, fix, cause);
}

function lost(at: string, cause: unknown): MillraceError {
  return sourceError("MR2021", "retryable", `the connection to the source was lost ${at}`, LOST_FIX, cause);
}

export function poolerError(cause?: unknown): MillraceError {
  return sourceError(
    "MR2007",
    "fatal",
    "source.url leads to a connection pooler, which can't carry replication",
    "Point source.url at the Postgres server itself (its own host and port, not the pooler's).",
    cause,
  );
}
