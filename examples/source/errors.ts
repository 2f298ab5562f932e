import {
  type ErrorCode,
  type ErrorKind,
  errorsOf,
  findMillraceError,
  type MillraceError,
} from "../../src/core/errors.ts";

const RECOVER = "millrace recover --yes: it compares all tables and reads what differs.";

/** What went wrong has a number of src/core/meanings.ts; what to do about it is here, where that is more than the meaning says. */
export const sqliteError = errorsOf(
  { side: "source", kind: "sqlite" },
  {
    MR2005: "PRAGMA journal_mode = WAL; it stays so.",
    MR2010: RECOVER,
    MR2013: RECOVER,
    MR2016: RECOVER,
    MR3203: "Check the path, its permissions and the room on the disk. The source goes on by itself.",
  },
);

/** After these the stream can't go on: see `millrace recover`. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set(["MR2010", "MR2013", "MR2016"]);

/** By SQLite's primary result code (https://sqlite.org/rescode.html). Others may be a defect: they stop the source. */
const KINDS: Readonly<Record<number, ErrorKind>> = {
  5: "retryable", // busy
  6: "retryable", // locked
  8: "blocked", // read-only
  10: "retryable", // I/O
  13: "blocked", // full
  14: "blocked", // can't be opened
  17: "retryable", // the schema changed
  23: "blocked", // not authorized
};

/** What SQLite threw while `doing` something. Its text is left out: it may hold values. */
export function classify(error: unknown, doing: string): MillraceError {
  const known = findMillraceError(error);
  if (known !== undefined) return known;
  const code = error instanceof Error && "errcode" in error ? Number(error.errcode) & 0xff : undefined;
  const kind = KINDS[code ?? 0] ?? "fatal";
  const what = code === undefined ? String(error instanceof Error ? error.name : error) : `SQLite's code ${code}`;
  return sqliteError("MR3203", kind, `${doing} failed: ${what}`);
}
