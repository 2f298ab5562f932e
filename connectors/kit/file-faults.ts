import type { ErrorKind } from "../../src/core/errors.ts";
import { lacksHandles, moreHandles, systemErrorCode } from "../../src/core/system-errors.ts";

interface FileFault {
  readonly code: string;
  /** `blocked`: an operator has to change something; Millrace tries again at growing intervals until then. */
  readonly kind: Extract<ErrorKind, "blocked" | "retryable">;
  readonly isFull: boolean;
  readonly fix: string;
}

const ROOM = "Make room there (ENOSPC), or raise the quota of the daemon's user (EDQUOT). Millrace goes on by itself.";
const PERMISSION = "Let the daemon's user read and write there. Millrace goes on by itself.";
const NO_FOLDER =
  "A part of this path is a file, or a folder where a file should be: correct the path, or move it away.";

const FIXES: Readonly<Record<string, string>> = {
  EACCES: PERMISSION,
  EPERM: PERMISSION,
  EROFS: "The file system is read-only: mount it for writing, or look at the system's log for errors of the disk.",
  ENOSPC: ROOM,
  EDQUOT: ROOM,
  EEXIST: NO_FOLDER,
  EISDIR: NO_FOLDER,
  ENOTDIR: NO_FOLDER,
};

/** What a failure of the file system means, told by its code, never by its text. Null: it is none. */
export function fileFault(error: unknown): FileFault | null {
  const code = systemErrorCode(error);
  if (code === undefined) return null;
  const isFull = code === "ENOSPC" || code === "EDQUOT";
  const fix = FIXES[code];
  if (fix !== undefined) return { code, kind: "blocked", isFull, fix };
  const look = "Look at the path and at the system's log. Millrace tries again by itself.";
  return { code, kind: "retryable", isFull, fix: lacksHandles(code) ? moreHandles() : look };
}
