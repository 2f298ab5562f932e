import {
  type ErrorArea,
  type ErrorCode,
  type ErrorKind,
  type ErrorPages,
  isAborted,
  MillraceError,
} from "../../src/core/errors.ts";
import { fileFault } from "../kit/file-faults.ts";

export const area: ErrorArea = { from: 4200, title: "Files" };

export const pages = {
  MR4201: {
    title: "The folder can't be used",
    cause:
      "The operating system refused to read or write below the sink's `path`: a missing permission, a full disk, a file " +
      "system that is read-only or not mounted. The message has the system's code. Nothing is lost: the sink goes on by itself.",
    remedy: "Check the path, its permissions and the space on the disk.",
  },
  MR4202: {
    title: "Another process writes to the sink's path",
    cause:
      "The log below `path` was continued by another process, or holds a higher lease than ours. This process stops writing, " +
      "so that each change is in the files once.",
    remedy: "Run one daemon with this `path`, and give each sink a path of its own.",
  },
  MR4203: {
    title: "What the sink wrote is gone",
    cause:
      "The newest entry of the log below `path` is missing: the folder or the objects under the prefix were removed, or others were put in " +
      "their place.",
    remedy:
      "Nothing: Millrace reads all rows again. With `onLost: fail` the sink stops; run `millrace offsets reset --sink NAME --to snapshot`.",
  },
  MR4204: {
    title: "The log below the sink's path can't be read",
    cause: "An object of the log is not what Millrace wrote there: it is damaged, or a newer version of Millrace wrote it.",
    remedy:
      "Restore `_millrace/log` below the path, use the newer version, or choose an empty `path`: then Millrace reads all rows again.",
  },
  MR4205: {
    title: "A Parquet file can't be made",
    cause: "DuckDB, which makes the sink's Parquet files, has failed. The changes stay in the log, and the sink tries again.",
    remedy:
      "Read the cause in the daemon's log. If DuckDB needs more memory, raise `memoryLimit` or lower `roll.bytes`.",
  },
  MR4206: {
    title: "The sink is not open",
    cause: "The sink was closed, or failed and was not opened again yet.",
    remedy: "Nothing: the daemon opens it again.",
  },
} satisfies ErrorPages;

type Code = keyof typeof pages & ErrorCode;

export function filesError(code: Code, kind: ErrorKind, message: string, cause?: unknown): MillraceError {
  return new MillraceError({ code, kind, message, hint: pages[code].remedy, cause });
}

/** Every failure of the file system ends up here. */
export function classifyFile(error: unknown, path: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const fault = fileFault(error);
  return fault === null ? error : filesError("MR4201", fault.kind, `${path} can't be used: ${fault.code}`, error);
}
