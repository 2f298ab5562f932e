import { type Failure, failureOf } from "../../../connectors/postgres/client/failure.ts";
import { type DatabaseReason, type ErrorCode, MillraceError } from "../../core/errors.ts";
import { stateError } from "../errors.ts";

/** Our own messages about the URL and TLS; their fixes come with the error. */
const BEFORE: Partial<Record<DatabaseReason, readonly [ErrorCode, string]>> = {
  url: ["MR1218", "the state's url can't be used: "],
  tls: ["MR1217", "TLS with the state's server failed while connecting to the server: "],
  unbound: ["MR1217", ""],
};

/** Server answers that may change soon. */
const PASSING: ReadonlySet<DatabaseReason> = new Set([
  "lost",
  "pooler",
  "slots",
  "connections",
  "disk",
  "resources",
  "ending",
  "cancelled",
  "conflict",
  "system",
  "no-file",
]);

const LOGIN_FIX = "Check user, password and database in the URL of `state`, and pg_hba.conf on the server.";

/**
 * Never includes the URL, which may hold a password. Also drops the client's reason: sinks pass these errors on, and the
 * runtime would take the reason for one of their own target.
 */
export function classify(error: unknown): MillraceError {
  return error instanceof MillraceError ? error : numbered(failureOf(error));
}

function numbered({ reason, state, code, message: text, fix = "", cause }: Failure): MillraceError {
  const before = BEFORE[reason];
  if (before !== undefined) return stateError(before[0], `${before[1]}${text}`, { hint: fix, cause });
  if (state === undefined || PASSING.has(reason)) {
    const why = code || text || "unknown error";
    const message = `the state's Postgres server can't be reached (${why})`;
    return stateError("MR1215", message, { kind: "retryable", cause });
  }
  const hint = reason === "login" ? { hint: LOGIN_FIX } : {};
  const message = `the state's Postgres server refuses: ${text} (SQLSTATE ${state})`;
  return stateError("MR1216", message, { ...hint, cause });
}
