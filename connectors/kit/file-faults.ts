import { accessSync, constants, existsSync } from "node:fs";
import { dirname } from "node:path";
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

/** By the system's own sentences, in which engines pass its errors on. */
export const FIXES_BY_TEXT = {
  "Read-only file system": FIXES["EROFS"]!,
  "Permission denied": PERMISSION,
  "Is a directory": NO_FOLDER,
  "Not a directory": NO_FOLDER,
} as const;

/** Why a file that is there, or is to be made, can't be written, as the system says it; null: it can. */
export function whyUnwritable(path: string): FileFault | null {
  try {
    accessSync(dirname(path), constants.W_OK);
    if (existsSync(path)) accessSync(path, constants.R_OK | constants.W_OK);
    return null;
  } catch (error) {
    return fileFault(error);
  }
}

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
