import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { fileFault } from "../../connectors/kit/file-faults.ts";

export const area: ErrorArea = { from: 3950, title: "A file of changes" };

export const pages = {
  MR3951: {
    title: "The file can't be used",
    cause: "The operating system refused to read or write it. The message has the system's code.",
    remedy: "Check the path, its permissions and the room on the disk. The sink goes on by itself.",
  },
  MR3952: {
    title: "Another process has written to the file",
    cause:
      "The file is longer than this process left it, or holds a newer lease. It stops, so that two never write at once.",
    remedy: "Make sure that one daemon runs under this name.",
  },
  MR3953: {
    title: "The file is gone",
    cause: "It was removed or cut while Millrace ran.",
    remedy: "Nothing: all rows are read again. With `onLost: fail` the sink stops.",
  },
  MR3954: {
    title: "The file is not one that Millrace wrote",
    cause: "Something else is at `path`, or the file is damaged.",
    remedy: "Move it away, or choose another `path`.",
  },
} satisfies ErrorPages;

type Code = keyof typeof pages & ErrorCode;

export function streamError(code: Code, kind: ErrorKind, message: string, cause?: unknown): MillraceError {
  return new MillraceError({ code, kind, message, hint: pages[code].remedy, cause });
}

/** Every failure of the file system ends up here. */
export function classify(error: unknown, path: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const fault = fileFault(error);
  if (fault === null) return error;
  return streamError("MR3951", fault.kind, `${path} can't be used: ${fault.code}`, error);
}
