import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { fileFault } from "../../connectors/kit/file-faults.ts";

/** Heading and first number in docs/errors.md. A connector takes a hundred of its own; 3900 is for examples and tests. */
export const area: ErrorArea = { from: 3900, title: "A JSON file" };

/** One page for each code: docs/errors.md and `millrace explain` are made from them, for connectors of the product. */
export const pages = {
  MR3901: {
    title: "The file can't be used",
    cause: "The operating system refused to read or write it. The message has the system's code.",
    remedy: "Check the path, its permissions and the room on the disk. The sink goes on by itself.",
  },
  MR3902: {
    title: "Another process has taken the file over",
    cause: "The file holds a newer lease than this process has. It stops, so that two never write at once.",
    remedy: "Make sure that one daemon runs under this name.",
  },
  MR3903: {
    title: "The file is gone",
    cause: "It was removed or emptied while Millrace ran.",
    remedy: "Nothing: Millrace fills it again. With `onLost: fail` the sink stops.",
  },
  MR3904: {
    title: "The file holds another position than was written",
    cause: "It was restored from a copy, or another program writes to it.",
    remedy: "Find out who writes to the file, then run `millrace resume`.",
  },
  MR3905: {
    title: "The file is not one that Millrace wrote",
    cause: "Something else is at `path`, or the file is damaged.",
    remedy: "Move it away, or choose another `path`.",
  },
} satisfies ErrorPages;

type Code = keyof typeof pages & ErrorCode;

export function fileError(code: Code, kind: ErrorKind, message: string, cause?: unknown): MillraceError {
  return new MillraceError({ code, kind, message, hint: pages[code].remedy, cause });
}

/** Every failure of the file system ends up here. */
export function classify(error: unknown, path: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const fault = fileFault(error);
  if (fault === null) return error;
  return fileError("MR3901", fault.kind, `${path} can't be used: ${fault.code}`, error);
}

export function takenOver(holder: number, lease: number): MillraceError {
  return fileError("MR3902", "fatal", `another process holds the file under lease ${holder}, ours is ${lease}`);
}

export function emptied(path: string): MillraceError {
  return fileError("MR3903", "reopen", `${path} is gone, or was emptied`);
}

export function otherCheckpoint(path: string): MillraceError {
  return fileError("MR3904", "fatal", `${path} holds another position than this process wrote`);
}

export function notOurs(path: string, cause?: unknown): MillraceError {
  return fileError("MR3905", "fatal", `${path} is not a file that Millrace wrote`, cause);
}
