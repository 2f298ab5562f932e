import { MillraceError } from "../../core/errors.ts";
import { stateError } from "../errors.ts";

/** Classes of SQLSTATE (the manual's appendix A) that pass: connection, resources, intervention, rolled back. */
const PASSING = new Set(["08", "53", "57", "40", "58"]);

/** Never with the URL: it may hold a password. */
export function classify(error: unknown): MillraceError {
  if (error instanceof MillraceError) return error;
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : null;
  const isAnswer = code !== null && /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]+$/.test(code);
  if (isAnswer && !PASSING.has(code.slice(0, 2))) {
    const what = error instanceof Error ? error.message : "";
    return stateError("MR1216", `the state's Postgres server refuses: ${what} (SQLSTATE ${code})`, { cause: error });
  }
  const reason = code ?? (error instanceof Error ? error.message : "unknown error");
  return stateError("MR1215", `the state's Postgres server can't be reached (${reason})`, {
    kind: "retryable",
    cause: error,
  });
}
