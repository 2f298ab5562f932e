import { randomInt } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { isDeepStrictEqual } from "node:util";
import { systemClock } from "../../core/clock.ts";
import { earlyName, inodeOf, leftEarly, makeFolder, makeWhole, nameEarly } from "../../core/files.ts";
import { systemErrorCode } from "../../core/system-errors.ts";
import { type MillraceError, reasonOf } from "../../core/errors.ts";
import { STATE_REPLACED, stateError } from "../errors.ts";
import { classify, locked } from "./errors.ts";
import { isSound, recognise } from "./migrate.ts";
import { integer } from "./row.ts";

/** Another process writes for at most milliseconds. Calls block this process, so the wait is short. */
export const BUSY_TIMEOUT_MS = 2000;

/** Dead letters hold rows of the source, so only the owner may read it. SQLite gives its side files the same mode. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** The log of SQLite, whose pages it puts into whatever file has the name, and the log's index. */
const LOG = "-wal";
const BESIDE = [LOG, "-shm"];

/** What the log may grow by before its pages are copied into the file: SQLite's own measure. */
const LOG_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Where SQLite's file format has what a file is known by: the cookie of its schema, which a copy with its pages in another order
 * has otherwise, and the user's version, which is another one each time that the log is copied.
 */
const COOKIE_AT = 40;
const VERSION_AT = 60;

interface Mark {
  readonly cookie: number;
  readonly version: number;
}

/** A program that writes over the file has come to its end. */
const SETTLED_MS = 1_000;

/** Of what the next run finds: the daemon that it follows did not die. */
const RELEASE = "UPDATE lease SET expires_at_ms = 0";

/**
 * The file of an open database, under its name. Another program may remove it, or put another one there, and SQLite writes on
 * into a file that nobody finds again; or write over it, and SQLite copies its own pages in between. So only the holder of the
 * lease copies the log into the file, each time with another mark: only the file as it was since, together with the log, is what
 * the database holds.
 */
export class StateFile {
  readonly path: string;
  /** Where a symbolic link leads: SQLite has the log beside that file. */
  readonly #real: string;
  readonly #inode: string;
  #logInode = "";
  #gone: MillraceError | null = null;
  /** Of the file, for reading marks. To close it before the database would take the locks of the whole process. */
  #open: number | null = null;
  /** The lease under which the file is marked. */
  #lease = 0;
  /** Those that the file may have; empty: it is not known. Several where a reader has kept the log from being copied whole. */
  #marks: readonly Mark[] = [];
  /** In the log, and to be copied. */
  #next: Mark | null = null;
  /** What the log had when it was copied last. */
  #copiedBytes = 0;

  private constructor(path: string) {
    this.path = path;
    this.#real = realpathSync(path);
    this.#inode = inodeOf(path);
  }

  /** Makes it if it is missing. */
  static at(path: string): StateFile {
    return usable(path, () => {
      makeFolder(dirname(path), FOLDER_MODE);
      // They are of a file that was removed, whose process may read on in them.
      if (inodeOf(path) === "") removeBeside(path);
      takeLeft(path);
      closeSync(openSync(path, "a", FILE_MODE));
      return new StateFile(path);
    });
  }

  /** The database has written: its log is there. */
  written(): void {
    this.#logInode = inodeOf(this.#log);
  }

  /** Throws if another file has the name, or none. */
  expectThere(): void {
    const inode = usable(this.path, () => inodeOf(this.path));
    if (inode === "") throw stateError("MR1209", `the state file ${this.path} was removed since it was opened`);
    if (inode !== this.#inode) throw this.#replaced();
  }

  /**
   * Throws, and from then on, if the file or its log was removed, replaced or written over. What the database holds is put where
   * the next start finds it, unless somebody has put another file there.
   */
  keep(database: DatabaseSync): void {
    this.#gone ??= usable(this.path, () => this.#lost(database));
    if (this.#gone !== null) throw this.#gone;
  }

  /** `keep` has thrown for good. */
  get isGone(): boolean {
    return this.#gone !== null;
  }

  #lost(database: DatabaseSync): MillraceError | null {
    if (inodeOf(this.path) === this.#inode) {
      if (this.#isOverwritten(database)) return this.#overwritten(database);
      if (inodeOf(this.#log) === this.#logInode) {
        this.#copyLog(database);
        return null;
      }
      this.#emptyLog(database);
      database.exec(RELEASE);
      this.#emptyLog(database);
      return stateError(STATE_REPLACED, `the log of the state file, ${this.#log}, was removed while it was open`);
    }
    if (this.#isTaken(database) || this.#isOverwritten(database)) return this.#replaced();
    this.#putBack(database);
    const message = `the state file ${this.path} was removed while it was open: what it held is there again`;
    return stateError(STATE_REPLACED, message);
  }

  /** SQLite does not throw where a reader keeps it from copying all. */
  #emptyLog(database: DatabaseSync): void {
    const done = database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get();
    if (done?.["busy"] !== 0) throw locked(this.path, { reason: "passing" });
  }

  /** In a transaction of the holder of this lease. */
  mark(database: DatabaseSync, lease: number): void {
    const bytes = statSync(this.#log, { throwIfNoEntry: false })?.size ?? 0;
    // It was copied whole, and begun again.
    if (bytes < this.#copiedBytes) this.#copiedBytes = 0;
    if (this.#marks.length > 0 && bytes - this.#copiedBytes < LOG_BYTES_MAX) return;
    this.#copiedBytes = bytes;
    this.#lease = lease;
    const version = randomInt(1, 2 ** 31);
    database.exec(`PRAGMA user_version = ${version}`);
    this.#next = { cookie: cookieOf(database), version };
  }

  #copyLog(database: DatabaseSync): void {
    const next = this.#next;
    if (next === null) return;
    this.#open ??= openSync(this.#real, "r");
    database.exec("PRAGMA wal_checkpoint(PASSIVE)");
    const found = this.#found();
    this.#marks = isDeepStrictEqual(found, next) ? [next] : [...this.#marks, found, next];
    this.#next = null;
  }

  #found(): Mark {
    const header = Buffer.alloc(VERSION_AT + 4);
    readSync(this.#open!, header, 0, header.length, 0);
    return { cookie: header.readUInt32BE(COOKIE_AT), version: header.readUInt32BE(VERSION_AT) };
  }

  #isOverwritten(database: DatabaseSync): boolean {
    if (this.#marks.length === 0) return false;
    const found = this.#found();
    const known = [...this.#marks, ...(this.#next === null ? [] : [this.#next])].filter(
      ({ version }) => version === found.version,
    );
    if (known.some(({ cookie }) => cookie === found.cookie)) return false;
    try {
      // Another program has changed the schema by SQLite (ANALYZE, a table of its own), and copied the log.
      if (known.some(({ cookie }) => cookie < found.cookie) && found.cookie <= cookieOf(database)) return false;
      // Or another process has taken the lease meanwhile, and marks the file.
      return integer(database.prepare("SELECT number FROM lease").get()!, "number") <= this.#lease;
    } catch {
      return true;
    }
  }

  #overwritten(database: DatabaseSync): MillraceError {
    if (systemClock.now() - statSync(this.#real).ctimeMs < SETTLED_MS) {
      const message = `another program writes over the state file ${this.path}`;
      throw stateError("MR1209", message, { kind: "retryable", reason: "passing" });
    }
    this.#removeLog(database);
    return this.#replaced();
  }

  /** Somebody has put a file there that holds something. */
  #isTaken(database: DatabaseSync): boolean {
    if (inodeOf(this.path) === "") return false;
    this.#removeLog(database);
    return !isUnused(this.path);
  }

  #putBack(database: DatabaseSync): void {
    const isLink = lstatSync(this.path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
    const place = isLink ? this.#real : this.path;
    makeFolder(dirname(place), FOLDER_MODE);
    const write = (early: string): void => {
      const file = openSync(early, "wx", FILE_MODE);
      try {
        database.prepare("VACUUM INTO ?").run(early);
        using copy = new DatabaseSync(early);
        copy.exec(RELEASE);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
    };
    makeWhole(place, write, () => {
      if (this.#isTaken(database)) throw this.#replaced();
      removeBeside(place);
    });
  }

  /** Its pages are none of the file that has the name now. */
  #removeLog(database: DatabaseSync): void {
    const isForeign = inodeOf(this.#real) !== this.#inode || this.#isOverwritten(database);
    if (inodeOf(this.#log) === this.#logInode && isForeign) removeBeside(this.#real);
  }

  /** SQLite copies the log into the file if it has its name then: that must not be one that somebody has written over. */
  close(database: DatabaseSync): void {
    const isOurs = inodeOf(this.#real) !== this.#inode || !this.#isOverwritten(database);
    const moved = isOurs ? null : earlyName(this.#real);
    if (moved !== null) {
      this.#removeLog(database);
      renameSync(this.#real, moved);
    }
    try {
      database.close();
    } finally {
      if (moved !== null) renameSync(moved, this.#real);
      if (this.#open !== null) closeSync(this.#open);
    }
  }

  remove(): void {
    removeBeside(this.#real);
    for (const path of [this.#real, this.path]) rmSync(path, { force: true });
  }

  get #log(): string {
    return `${this.#real}${LOG}`;
  }

  #replaced(): MillraceError {
    return stateError(STATE_REPLACED, `another file was put in the place of the state file ${this.path}`);
  }
}

function cookieOf(database: DatabaseSync): number {
  return integer(database.prepare("PRAGMA schema_version").get()!, "schema_version");
}

function removeBeside(path: string): void {
  for (const suffix of BESIDE) rmSync(`${path}${suffix}`, { force: true });
}

/** What a command makes where it finds no state: no daemon has held it. */
function isUnused(path: string): boolean {
  try {
    using other = new DatabaseSync(path, { readOnly: true, timeout: BUSY_TIMEOUT_MS });
    if (recognise(other, path) === "empty") return true;
    if (other.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'lease'").get() === undefined) return true;
    return other.prepare("SELECT 1 FROM lease").get() === undefined;
  } catch (error) {
    const known = classify(error, path);
    if (reasonOf(known) === "passing") throw known;
    return false;
  }
}

/** A process that was killed while it put the file back has left it under another name. */
function takeLeft(path: string): void {
  const left = leftEarly(path);
  if (left.length === 0) return;
  const whole = inodeOf(path) === "" || isUnused(path) ? left.find(isState) : undefined;
  if (whole !== undefined) {
    removeBeside(path);
    nameEarly(whole, path);
  }
  for (const early of left) rmSync(early, { force: true });
}

function isState(path: string): boolean {
  try {
    using database = new DatabaseSync(path);
    return recognise(database, path) === "ours" && isSound(database);
  } catch {
    return false;
  }
}

function usable<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    throw stateError("MR1202", `the state file ${path} can't be created or written`, {
      cause: error,
      reason: "passing",
    });
  }
}
