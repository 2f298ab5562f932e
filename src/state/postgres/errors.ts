import { reachAgain } from "../../core/system-errors.ts";
import { roomFix } from "../../postgres/data-folder.ts";
import { connectFix, type Failure, failureOf, MORE_TEMP_FILES, moreLocks } from "../../postgres/failure.ts";
import type { PostgresAddress } from "../../postgres/url.ts";
import { type DatabaseReason, type ErrorCode, type Login, MillraceError } from "../../core/errors.ts";
import { stateError } from "../errors.ts";

/** Our own messages about the URL and TLS; their fixes come with the error. */
const BEFORE: Partial<Record<DatabaseReason, readonly [ErrorCode, string]>> = {
  url: ["MR1201", "the state's url can't be used: "],
  shared: ["MR1201", "the state's url can't be used: "],
  tls: ["MR1216", "TLS with the state's server failed: "],
  unbound: ["MR1216", ""],
};

const HEALED: ReadonlySet<DatabaseReason> = new Set([
  "tls",
  "unbound",
  "login",
  "no-database",
  "privilege",
  "shared",
  "read-only",
]);

/** Another session holds what is needed. */
const WAITED: ReadonlySet<DatabaseReason> = new Set(["lock", "idle", "cancelled", "in-use"]);

/** Server answers that may change soon. */
const PASSING: ReadonlySet<DatabaseReason> = new Set([
  "lost",
  "pooler",
  "slots",
  "connections",
  "disk",
  "resources",
  "ending",
  "conflict",
  ...WAITED,
  "system",
  "internal",
  "no-file",
]);

/**
 * Never includes the URL, which may hold a password. Also drops the client's reason: sinks pass these errors on, and the
 * runtime would take the reason for one of their own target.
 */
export function classify(error: unknown, login?: Login, address?: PostgresAddress): MillraceError {
  return error instanceof MillraceError ? error : numbered(failureOf(error), login, address);
}

function numbered(failure: Failure, login: Login | undefined, address: PostgresAddress | undefined): MillraceError {
  const { reason, state, code, message: text, fix = "", server, cause } = failure;
  const at = server === undefined ? "" : ` at ${server}`;
  const way = failure.lockSetting === undefined ? connectFix(failure, "state") : moreLocks(failure.lockSetting);
  const note = (reason === "login" || reason === "no-database") && login?.note != null ? ` ${login.note}` : "";
  const hint = way === undefined ? {} : { hint: `${way}${note}` };
  const before = BEFORE[reason];
  // What somebody may put right at the server, or in a file that each connection reads.
  const kind = HEALED.has(reason) ? "blocked" : "fatal";
  if (before !== undefined) return stateError(before[0], `${before[1]}${text}${at}`, { kind, hint: fix, cause });
  if (reason === "disk") {
    const message = `the disk of the state's Postgres server${at} is full (SQLSTATE ${code})`;
    return stateError("MR1215", message, { hint: roomFix(address, text), kind: "retryable", cause });
  }
  if (reason === "temp-files") {
    const message = `the state's Postgres server${at} gave up a statement: ${text} (SQLSTATE ${code})`;
    return stateError("MR1215", message, { hint: MORE_TEMP_FILES, kind: "retryable", cause });
  }
  if (state === undefined || PASSING.has(reason)) {
    const why = code || text || "unknown error";
    const what = WAITED.has(reason) ? `gave up waiting: ${text} (SQLSTATE ${code})` : `can't be reached (${why})`;
    return stateError("MR1215", `the state's Postgres server${at} ${what}`, { ...hint, kind: "retryable", cause });
  }
  const message = `the state's Postgres server${at} refuses: ${text} (SQLSTATE ${state})`;
  return stateError("MR1216", message, { kind, ...hint, cause });
}

/** While a connection is there, or is made, and nothing comes over it. */
export function silentSoFar(server: string): MillraceError {
  const hint = reachAgain("ETIMEDOUT", server, "state");
  return stateError("MR1215", `the state's Postgres server at ${server} has not answered so far`, { hint });
}
