import { freeBytes, roomFor } from "../../core/disk-room.ts";
import { MillraceError, type RaiseDetails } from "../../core/errors.ts";
import { writersOf } from "../../core/files.ts";
import { stateError } from "../errors.ts";

/** SQLite's primary result codes (sqlite.org/rescode.html); the low byte of what node:sqlite gives as `errcode`. */
const SQLITE_PERM = 3;
const SQLITE_BUSY = 5;
const SQLITE_LOCKED = 6;
const SQLITE_READONLY = 8;
const SQLITE_IOERR = 10;
const SQLITE_CORRUPT = 11;
const SQLITE_FULL = 13;
const SQLITE_CANTOPEN = 14;
const SQLITE_NOTADB = 26;

/** A page of SQLite does not fit. */
const FULL_BYTES = 64 * 1024;

export function classify(error: unknown, path: string): unknown {
  if (error instanceof MillraceError) return error;
  const resultCode = resultCodeOf(error);
  if (resultCode === undefined) return error;
  const cause = { cause: error };
  // The disk is full or read-only, or another process locks the file.
  const passing = { reason: "passing", ...cause } as const;
  switch (resultCode & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return locked(path, passing);
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return stateError("MR1202", `the state file ${path} can't be opened for this`, {
        kind: "blocked",
        ...passing,
      });
    case SQLITE_IOERR:
    case SQLITE_FULL:
      return unwritable(path, resultCode, passing);
    case SQLITE_CORRUPT:
      return damaged(path, error);
    case SQLITE_NOTADB:
      return stateError("MR1204", `${path} is not a Millrace state file`, cause);
    default:
      return stateError("MR1209", `the state file ${path} failed with SQLite result ${resultCode}`, cause);
  }
}

export function locked(path: string, parts: RaiseDetails): MillraceError {
  const writers = writersOf(path);
  const message = `the state file ${path} is locked by ${writers === "" ? "another process" : writers}`;
  const which = writers === "" ? ` (\`fuser ${path} ${path}-shm\` names it)` : "";
  const hint = `Let that program end, or end it: a backup, or a shell of SQLite${which}. The daemon continues by itself.`;
  return stateError("MR1209", message, { ...parts, kind: "retryable", hint });
}

/** On some file systems a full disk is an error of input or output to SQLite. */
function unwritable(path: string, resultCode: number, parts: RaiseDetails): MillraceError {
  const free = freeBytes(path);
  const isFull = (resultCode & 0xff) === SQLITE_FULL || (free !== null && free < FULL_BYTES);
  const why = isFull ? "its disk is full" : "its disk answers with an error";
  const message = `the state file can't be written, ${why}: ${roomFor(path)} (SQLite result ${resultCode})`;
  const hint = isFull
    ? "Make room there. The daemon continues by itself."
    : "Look at the system's log for errors of that disk. The daemon continues by itself.";
  return stateError("MR1209", message, { ...parts, kind: "retryable", hint });
}

export function damaged(path: string, cause?: unknown): MillraceError {
  return stateError("MR1204", `the state file ${path} is damaged`, { cause });
}

function resultCodeOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode : undefined;
}
