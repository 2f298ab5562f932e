import { statSync } from "node:fs";
import type { Exposure } from "../config.ts";

const READ_BY_OTHERS = 0o044;
const WRITTEN_BY_OTHERS = 0o022;
const WRITTEN_BY_ALL = 0o002;

/** Only the owner may read a file with a password. A file that everybody can write decides where passwords are sent. */
export function exposureOf(path: string, holdsSecret: boolean): Exposure | null {
  // Windows does not use these permissions.
  if (process.platform === "win32") return null;
  const mode = statSync(path).mode & 0o777;
  const fix = `chmod 600 '${path}'`;
  const spelt = `mode 0${mode.toString(8)}`;
  if (holdsSecret && (mode & (READ_BY_OTHERS | WRITTEN_BY_OTHERS)) !== 0) {
    const may = (mode & WRITTEN_BY_OTHERS) === 0 ? "read" : "change";
    return { what: `${path} holds a password, and others than its owner may ${may} it (${spelt})`, fix };
  }
  if ((mode & WRITTEN_BY_ALL) === 0) return null;
  return { what: `every user of this machine may change ${path} (${spelt})`, fix };
}
