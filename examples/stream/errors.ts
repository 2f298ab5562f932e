import { errorsOf, isAborted, MillraceError } from "../../src/core/errors.ts";
import { fileFault } from "../../connectors/kit/file-faults.ts";

/** What went wrong has a number of src/core/meanings.ts; what to do about it is here, where that is more than the meaning says. */
export const streamError = errorsOf(
  { side: "sink", kind: "streamfile" },
  {
    MR3110: "Nothing: all rows are read again. With `onLost: fail` the sink stops.",
    MR3202: "Move it away, or choose another `path`.",
  },
);

/** Every failure of the file system ends up here. */
export function classify(error: unknown, path: string): unknown {
  if (error instanceof MillraceError || isAborted(error)) return error;
  const fault = fileFault(error);
  if (fault === null) return error;
  const { kind, code, isFull, fix } = fault;
  return streamError(isFull ? "MR3213" : "MR3203", kind, `${path} can't be used: ${code}`, { hint: fix, cause: error });
}
