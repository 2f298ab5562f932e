/** Folders and files whose names survive a crash of the machine. */
import { randomUUID } from "node:crypto";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { systemErrorCode } from "./system-errors.ts";

/**
 * Creates a folder and its parents; throws the system's error. Not by `recursive`: with it Node (24) never returns
 * where the parent exists but accepts no folders, as in /proc.
 */
export function makeFolder(path: string, mode?: number): void {
  if (isFolder(path)) return;
  makeFolder(dirname(path), mode);
  try {
    mkdirSync(path, mode);
  } catch (error) {
    // Another process was faster.
    if (!isFolder(path)) throw error;
  }
  syncFolder(dirname(path));
}

/** So that the names in it survive a crash of the machine. */
function syncFolder(path: string): void {
  let folder: number;
  try {
    folder = openSync(path, "r");
  } catch (error) {
    // A parent may let us pass and not read.
    if (systemErrorCode(error) === "EACCES") return;
    throw error;
  }
  try {
    fsyncSync(folder);
  } catch (error) {
    // A file system that syncs no folders.
    if (!NOT_SYNCED.has(systemErrorCode(error) ?? "")) throw error;
  } finally {
    closeSync(folder);
  }
}

const NOT_SYNCED: ReadonlySet<string> = new Set(["EINVAL", "ENOTSUP", "EOPNOTSUPP", "EISDIR"]);

/** The file is there whole, or as it was before. `mayReplace`, asked last: throws if the file must stay. */
export function writeWhole(path: string, text: string, mode: number, mayReplace?: () => void): void {
  makeWhole(path, (early) => writeFileSync(early, text, { mode, flush: true, flag: "wx" }), mayReplace);
}

/** The same of a file that `write` makes, durably, under another name. */
export function makeWhole(path: string, write: (early: string) => void, mayReplace = (): void => undefined): void {
  const early = earlyName(path);
  try {
    write(early);
    mayReplace();
    nameEarly(early, path);
  } finally {
    rmSync(early, { force: true });
  }
}

/** Processes of two containers have the same numbers. */
export function earlyName(path: string): string {
  return `${path}.${randomUUID()}.new`;
}

const EARLY = /^\.[0-9a-f-]{36}\.new$/;

/** What processes have left that were killed while they made the file, the newest first: it may be whole. */
export function leftEarly(path: string): readonly string[] {
  const [folder, own] = [dirname(path), basename(path)];
  const left = readdirSync(folder).filter((name) => name.startsWith(own) && EARLY.test(name.slice(own.length)));
  const dated = left.map((name) => ({ file: join(folder, name), ms: statSync(join(folder, name)).mtimeMs }));
  return dated.toSorted((a, b) => b.ms - a.ms).map(({ file }) => file);
}

export function nameEarly(early: string, path: string): void {
  renameSync(early, path);
  syncFolder(dirname(path));
}

/** The file's identity, so that another file under its name is noticed; empty: it does not exist. */
export function inodeOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? "" : `${stat.dev}:${stat.ino}`;
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

const PORTION_BYTES = 64 * 1024;

/** Reads a file that a configuration names. Devices never end, and a larger file is surely not the intended one. */
export function readSmallFile(path: string, byteCountMax: number): string {
  const file = openSync(path, "r");
  try {
    const facts = fstatSync(file);
    if (facts.isDirectory()) throw new UnreadableFile("EISDIR");
    if (!facts.isFile() && !facts.isFIFO()) throw new UnreadableFile("not a file");
    const parts: Buffer[] = [];
    for (let count = 0; ;) {
      const part = Buffer.allocUnsafe(PORTION_BYTES);
      const read = readSync(file, part);
      if (read === 0) return Buffer.concat(parts).toString("utf8");
      count += read;
      if (count > byteCountMax) throw new UnreadableFile(`larger than ${byteCountMax / 1024} KB`);
      parts.push(part.subarray(0, read));
    }
  } finally {
    closeSync(file);
  }
}

/** `code` gives the reason, as in the system's own errors. */
class UnreadableFile extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/** Which process locks a file of SQLite, as far as the system tells it. */
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
