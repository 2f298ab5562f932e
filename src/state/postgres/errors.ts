import { type ErrorCode, MillraceError } from "../../core/errors.ts";
import { stateError } from "../errors.ts";

/** Classes of SQLSTATE (the manual's appendix A) that pass: connection, resources, intervention, rolled back. */
const PASSING = new Set(["08", "53", "57", "40", "58"]);

const LOGIN = new Set(["28000", "28P01", "3D000"]);
const LOGIN_FIX = "Check user, password and database in the URL of `state`, and pg_hba.conf on the server.";

/** What the connection to any Postgres server says of its URL and of TLS; the fix is the same. */
const RENUMBERED: Readonly<Record<string, ErrorCode>> = { MR2003: "MR1217", MR2004: "MR1218" };

/** Never with the URL: it may hold a password. */
export function classify(error: unknown): MillraceError {
  if (!(error instanceof MillraceError)) return ofServer(error);
  const code = RENUMBERED[error.code];
  if (code !== undefined) {
    const message = error.message
      .replace(/^source\.url/, "the state's url")
      .replace(/^TLS with the source/, "TLS with the state's server");
    return stateError(code, message, { hint: error.hint ?? "", cause: error });
  }
  // The connection's other numbers speak of the source; the driver's own error is their cause.
  return error.code.startsWith("MR20") ? ofServer(error.cause) : error;
}

function ofServer(error: unknown): MillraceError {
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;
  const isAnswer = code !== null && /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]+$/.test(code);
  if (isAnswer && !PASSING.has(code.slice(0, 2))) {
    const what = error instanceof Error ? error.message : "";
    const hint = LOGIN.has(code) ? { hint: LOGIN_FIX } : {};
    return stateError("MR1216", `the state's Postgres server refuses: ${what} (SQLSTATE ${code})`, {
      ...hint,
      cause: error,
    });
  }
  const reason = code ?? (error instanceof Error ? error.message : "unknown error");
  return stateError("MR1215", `the state's Postgres server can't be reached (${reason})`, {
    kind: "retryable",
    cause: error,
  });
}
