import { type ErrorKind, errorsOf, type MillraceError, type Raise } from "../../src/core/errors.ts";
import { classify as classifyFile } from "../sqlite/errors.ts";

export const nestError: Raise = errorsOf({ side: "source", kind: "nest" }, {});

export function stopped(): MillraceError {
  return nestError("MR2029", "aborted", "reading documents was stopped");
}

/** The sink opens the file, and makes it: until then, and while its tables change, there is nothing to read. */
export function notOpen(path: string): MillraceError {
  return nestError("MR2006", "retryable", `the nest ${path} is being opened, or its tables change`);
}

/** A document that is held. */
export function notWhole(table: string): MillraceError {
  return nestError("MR2025", "retryable", `a table of ${table} is read again: its documents wait for that`);
}

/** As a kind of the source: it never ends over a file that its sink may open or make again, but waits for that. */
const KINDS: Partial<Record<ErrorKind, ErrorKind>> = { reopen: "retryable", fatal: "blocked" };

/** Turns a failure while `doing` something with the file into one of the source. */
export function classify(error: unknown, doing: string, path: string): MillraceError {
  const { code, kind, message, hint } = classifyFile(error, doing, path);
  return nestError(code, KINDS[kind] ?? kind, message, { hint, cause: error });
}
