import { freeBytes, roomFor } from "../../src/core/disk-room.ts";
import { type ErrorCode, errorsOf, findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import { writersOf } from "../../src/core/files.ts";
import { fileFault, whyUnwritable } from "../kit/file-faults.ts";
import { TABLE_FAILURES } from "../warehouse/table-change.ts";

export const sqliteError = errorsOf(
  { side: "sink", kind: "sqlite" },
  {
    MR2026:
      "End what writes there for long: the file takes one writer at a time, and readers never hold it up. Millrace tries again by itself.",
    MR3109: "Make sure that one daemon runs for this configuration, and start it again.",
    MR3202:
      "Restore it from a backup, or move it and the files beside it (`-wal`, `-shm`) away: `millrace snapshot start --sink NAME` fills a new one.",
    MR3203: "Its folder must exist, and the user that Millrace runs as must be able to write there.",
    MR3213: "Make room there, or look at the system's log for errors of that disk. Millrace goes on by itself.",
  },
);

/** SQLite's primary result codes (sqlite.org/rescode.html): the low byte of what the driver gives as `errcode`. */
const ERROR = 1;
const PERM = 3;
const BUSY = 5;
const LOCKED = 6;
const NOMEM = 7;
const READONLY = 8;
const IOERR = 10;
const CORRUPT = 11;
const FULL = 13;
const CANTOPEN = 14;
const SCHEMA = 17;
const TOOBIG = 18;
const CONSTRAINT = 19;
const MISMATCH = 20;
const NOTADB = 26;

/** A page of SQLite does not fit. */
const FULL_BYTES = 64 * 1024;

/** See TABLE_FAILURES; and a target that is gone, or that two tables share. */
export const OF_ONE_TABLE: ReadonlySet<string> = new Set<ErrorCode>([...TABLE_FAILURES, "MR1305", "MR3110"]);

const STOPPED = "writing to SQLite was stopped";

export function stopped(): MillraceError {
  return sqliteError("MR2029", "aborted", STOPPED);
}

/** SQLite's own texts may hold what a user's trigger says: only the code is kept. */
export class DriverError extends Error {
  readonly errcode: number;

  constructor(resultCode: number) {
    super(`SQLite result ${resultCode}`);
    this.name = "SqliteError";
    this.errcode = resultCode;
  }
}

function resultCodeOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode : undefined;
}

function primaryCodeOf(error: unknown): number | undefined {
  const code = resultCodeOf(error);
  return code === undefined ? undefined : code & 0xff;
}

/** Another connection writes. */
export function isBusy(error: unknown): boolean {
  const code = primaryCodeOf(error);
  return code === BUSY || code === LOCKED;
}

/** The content of a row is refused, by its type, its size or a constraint or trigger that somebody made. */
export function isDataError(error: unknown): boolean {
  const code = primaryCodeOf(error);
  return code === CONSTRAINT || code === TOOBIG || code === MISMATCH;
}

export function rowRefused(error: unknown, table: string): MillraceError {
  const code = resultCodeOf(error) ?? 0;
  return sqliteError("MR3111", "poison", `SQLite refuses a row of ${table} (result ${code})`, {
    hint: "correct the row at the source, or remove the constraint or trigger that was made in the file",
    cause: new DriverError(code),
  });
}

const LET_THEM = "drop the trigger that was made in the file, or take RAISE(IGNORE) out of it";

export function rowIgnored(table: string): MillraceError {
  const message = `a trigger in the SQLite file kept a row of ${table} from being written or deleted (RAISE(IGNORE))`;
  return sqliteError("MR3111", "poison", message, {
    hint: `${LET_THEM}; then \`millrace dlq replay --sink NAME --all\` reads these rows again`,
  });
}

/** Of a statement that removes all rows. */
export function rowsKept(table: string): MillraceError {
  const message = `a trigger in the SQLite file kept rows of ${table} from being removed (RAISE(IGNORE))`;
  const hint = `${LET_THEM}; then: millrace snapshot start --tables TABLE --sink NAME`;
  return sqliteError("MR2027", "fatal", message, { table, hint });
}

/** A table or column that a statement, or a trigger that it fires, names is not there. */
export function isMissing(error: unknown): boolean {
  const code = primaryCodeOf(error);
  const isOfNames = code === ERROR || code === SCHEMA;
  return isOfNames && /no such (?:table|column)|has no column named|no column named/.test(String(error));
}

/** Of a table that is as the sink needs it. */
export function triggerFails(error: unknown, table: string): MillraceError {
  const message = `a trigger that was made on the target of ${table} in the SQLite file names a table or column that is not there`;
  return sqliteError("MR2027", "fatal", message, {
    table,
    hint: "drop or correct the trigger, then: millrace snapshot start --tables TABLE --sink NAME",
    cause: new DriverError(resultCodeOf(error) ?? 0),
  });
}

export function unfitText(table: string, why: string): MillraceError {
  return sqliteError("MR3111", "poison", `SQLite can't hold a row of ${table}: a text of it ${why}`, {
    hint: "correct the row at the source",
  });
}

export function notOurs(path: string): MillraceError {
  return sqliteError("MR3106", "fatal", `the SQLite file ${path} has tables and was not made by Millrace`, {
    hint: "give the sink another `path`: Millrace writes into a file of its own, and others may add tables, indexes and views there",
  });
}

export function fileGone(path: string): MillraceError {
  return sqliteError(
    "MR3110",
    "reopen",
    `the SQLite file ${path}, or its log beside it (-wal), was removed, replaced or emptied while it was open`,
    {
      hint: "put it back, or fill a new one: millrace snapshot start --sink NAME",
    },
  );
}

export function damaged(path: string, doing: string, cause?: Error): MillraceError {
  return sqliteError("MR3202", "fatal", `the file ${path} is damaged (${doing})`, { cause });
}

/** Turns a failure while `doing` something with the file into a numbered error. */
export function classify(error: unknown, doing: string, path: string): MillraceError {
  const known = findMillraceError(error);
  if (known !== undefined) return known;
  const fault = fileFault(error);
  if (fault !== null) {
    const { kind, code, isFull, fix } = fault;
    const message = `${path} can't be used: ${code} (${roomFor(path)})`;
    return sqliteError(isFull ? "MR3213" : "MR3203", kind, message, { hint: fix, cause: error });
  }
  const resultCode = resultCodeOf(error);
  if (resultCode === undefined) {
    const cause = error instanceof Error ? error.name : typeof error;
    return sqliteError("MR2027", "retryable", `${cause} while ${doing}`, { cause: error });
  }
  const cause = new DriverError(resultCode);
  switch (resultCode & 0xff) {
    case BUSY:
    case LOCKED: {
      const message = `${writersOf(path) || "another program"} writes to the SQLite file ${path} (${doing})`;
      return sqliteError("MR2026", "retryable", message, { reason: "lock", cause });
    }
    case PERM:
    case READONLY:
    case CANTOPEN: {
      const why = whyUnwritable(path);
      const told = why === null ? "" : `${why.code}, `;
      return sqliteError(
        "MR3203",
        "blocked",
        `the SQLite file ${path} can't be opened for this (${told}${doing}, SQLite result ${resultCode})`,
        { cause, hint: why?.fix },
      );
    }
    case IOERR:
    case FULL: {
      // On some file systems a full disk is an error of input or output to SQLite.
      const free = freeBytes(path);
      const isFull = (resultCode & 0xff) === FULL || (free !== null && free < FULL_BYTES);
      const why = isFull ? "is full" : "answers with an error";
      return sqliteError(
        "MR3213",
        "blocked",
        `the disk of the SQLite file ${why}: ${roomFor(path)} (${doing}, SQLite result ${resultCode})`,
        { cause },
      );
    }
    case CORRUPT:
    case NOTADB: {
      if ((resultCode & 0xff) === CORRUPT) return damaged(path, doing, cause);
      return sqliteError("MR3202", "fatal", `the file ${path} is not a SQLite database (${doing})`, { cause });
    }
    case NOMEM:
      return sqliteError("MR2006", "retryable", `SQLite got no memory while ${doing}`, { reason: "resources", cause });
    case ERROR:
    case SCHEMA:
      if (isMissing(error))
        return sqliteError(
          "MR3110",
          "reopen",
          `a table or column that Millrace made in the SQLite file is gone or changed (${doing})`,
          { hint: "put it back, or fill the sink again: millrace snapshot start --sink NAME", cause },
        );
  }
  const message = `SQLite result ${resultCode} while ${doing} (${path})`;
  return sqliteError("MR2027", "retryable", message, { cause });
}
