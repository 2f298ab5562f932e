import { errorsOf, isAborted, MillraceError } from "../../src/core/errors.ts";
import { fileFault } from "../../connectors/kit/file-faults.ts";

/** What went wrong has a number of src/core/meanings.ts; what to do about it is here, where that is more than the meaning says. */
export const fileError = errorsOf(
  { side: "sink", kind: "jsonfile" },
  {
    MR1308: "Find out who writes to the file, then run `millrace resume`.",
    MR3110: "Nothing: Millrace fills it again. With `onLost: fail` the sink stops.",
    MR3202: "Move it away, or choose another `path`.",
  },
);

/** Every failure of the file system ends up here. */
export function classify(error: unknown, path: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const fault = fileFault(error);
  if (fault === null) return error;
  const { kind, code, isFull, fix } = fault;
  return fileError(isFull ? "MR3213" : "MR3203", kind, `${path} can't be used: ${code}`, { hint: fix, cause: error });
}

export function takenOver(holder: number, lease: number): MillraceError {
  return fileError("MR3109", "fatal", `another process holds the file under lease ${holder}, ours is ${lease}`);
}

export function emptied(path: string): MillraceError {
  return fileError("MR3110", "reopen", `${path} is gone, or was emptied`);
}

export function otherCheckpoint(path: string): MillraceError {
  return fileError("MR1308", "fatal", `${path} holds another position than this process wrote`);
}

export function notOurs(path: string, cause?: unknown): MillraceError {
  return fileError("MR3202", "fatal", `${path} is not a file that Millrace wrote`, { cause });
}
