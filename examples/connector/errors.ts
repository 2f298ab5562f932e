import { type ErrorCode, type ErrorKind, isAborted, MillraceError } from "../../src/core/errors.ts";
import { systemErrorCode } from "../../src/core/system-errors.ts";

/**
 * A connector of the product exports here `pages`, one `ErrorPage` per code, and `area`, the heading and the first number of
 * its codes: `docs/errors.md` and `millrace explain` are made from them. Numbers from 3900 on are for examples and tests.
 */
export function fileError(
  code: ErrorCode,
  kind: ErrorKind,
  message: string,
  hint: string,
  cause?: unknown,
): MillraceError {
  return new MillraceError({ code, kind, message, hint, cause });
}

/** What an operator has to change; Millrace tries again at growing intervals until then. */
const NEEDS_A_PERSON = new Set(["EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EISDIR", "ENOTDIR"]);

/** Every failure of the file system ends up here. It is told apart by its code, never by its text. */
export function classify(error: unknown, path: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const code = systemErrorCode(error);
  if (code === undefined) return error;
  const kind = NEEDS_A_PERSON.has(code) ? "blocked" : "retryable";
  return fileError(
    "MR3901",
    kind,
    `${path} can't be used: ${code}`,
    "Check the path, its permissions and the disk.",
    error,
  );
}

export function takenOver(holder: number, lease: number): MillraceError {
  const message = `another process holds the file under lease ${holder}, ours is ${lease}`;
  return fileError("MR3902", "fatal", message, "Make sure that one daemon runs under this name.");
}

export function emptied(path: string): MillraceError {
  const message = `${path} is gone, or was emptied`;
  return fileError("MR3903", "reopen", message, "Millrace fills it again, or stops with `onLost: fail`.");
}

export function otherProgress(path: string): MillraceError {
  const message = `${path} holds another position than this process wrote: it was restored, or another process writes to it`;
  return fileError("MR3904", "fatal", message, "Find out who writes to the file, then run `millrace resume`.");
}

export function notOurs(path: string, cause?: unknown): MillraceError {
  const message = `${path} is not a file that Millrace wrote`;
  return fileError("MR3905", "fatal", message, "Move it away, or choose another `path`.", cause);
}
