import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  findMillraceError,
  MillraceError,
} from "../../src/core/errors.ts";

export const area: ErrorArea = { from: 3970, title: "A SQLite file" };

export const pages = {
  MR3971: {
    title: "The SQLite file can't be used",
    cause: "It is missing or locked, may not be written, or the disk is full. The message has SQLite's code.",
    remedy: "Check the path, its permissions and the room on the disk. The source goes on by itself.",
  },
  MR3972: {
    title: "The SQLite file is not in WAL mode",
    cause: "In another journal mode readers and writers lock each other out.",
    remedy: "PRAGMA journal_mode = WAL; it stays so.",
  },
  MR3973: {
    title: "The file has another log",
    cause: "It has no table of changes of ours, or one that was made later: the file was replaced.",
    remedy: "millrace recover --yes: it compares all tables and reads what differs.",
  },
  MR3974: {
    title: "The log does not hold the stored position",
    cause: "The file was restored from an older copy, or somebody deleted changes.",
    remedy: "millrace recover --yes: it compares all tables and reads what differs.",
  },
  MR3975: {
    title: "A table was altered",
    cause: "It is not as it was when its rows were asked for.",
    remedy: "Nothing: it is read when the stream has passed the change.",
  },
} satisfies ErrorPages;

type Code = keyof typeof pages & ErrorCode;

/** After these the stream can't go on: see `millrace recover`. */
export const LOSSES: ReadonlySet<ErrorCode> = new Set<Code>(["MR3973", "MR3974"]);

export function sqliteError(code: Code, kind: ErrorKind, message: string, cause?: unknown): MillraceError {
  return new MillraceError({ code, kind, message, hint: pages[code].remedy, cause });
}

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
  return sqliteError("MR3971", kind, `${doing} failed: ${what}`);
}
