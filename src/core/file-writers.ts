/** Which process locks a file of SQLite, as far as the system tells it. */
import { readFileSync, statSync } from "node:fs";

/** Of /proc/locks: the process, and the file by its device and number. */
const LOCK = /^\d+: POSIX +ADVISORY +WRITE (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) /gm;
/** With a write-ahead log the locks are on the file that is shared for it. */
const LOCKED_PARTS = ["", "-shm"];

/** The other processes that write to it, as "pid 42 (sqlite3)". Empty: the system does not tell, or nobody does by now. */
export function writersOf(path: string): string {
  if (process.platform !== "linux") return "";
  try {
    const parts = new Set(LOCKED_PARTS.map((part) => idOf(`${path}${part}`)));
    const pids = [...readFileSync("/proc/locks", "latin1").matchAll(LOCK)]
      .filter(([, , major = "", minor = "", inode]) =>
        parts.has(`${parseInt(major, 16)}:${parseInt(minor, 16)}:${inode}`),
      )
      .map(([, pid]) => Number(pid));
    const others = new Set(pids.filter((pid) => pid > 0 && pid !== process.pid));
    return [...others].map((pid) => `pid ${pid} (${readFileSync(`/proc/${pid}/comm`, "utf8").trim()})`).join(", ");
  } catch {
    return "";
  }
}

function idOf(path: string): string | null {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return null;
  const major = (found.dev >> 8) & 0xfff;
  const minor = (found.dev & 0xff) | ((found.dev >> 12) & 0xfff00);
  return `${major}:${minor}:${found.ino}`;
}
