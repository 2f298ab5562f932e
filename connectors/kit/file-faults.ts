import type { ErrorKind } from "../../src/core/errors.ts";
import { systemErrorCode } from "../../src/core/system-errors.ts";

/** What an operator has to change; Millrace tries again at growing intervals until then. */
const NEEDS_A_PERSON = new Set(["EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EISDIR", "ENOTDIR"]);

export interface FileFault {
  readonly code: string;
  readonly kind: Extract<ErrorKind, "blocked" | "retryable">;
}

/** What a failure of the file system means, told by its code, never by its text. Null: it is none. */
export function fileFault(error: unknown): FileFault | null {
  const code = systemErrorCode(error);
  return code === undefined ? null : { code, kind: NEEDS_A_PERSON.has(code) ? "blocked" : "retryable" };
}
