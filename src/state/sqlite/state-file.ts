import { closeSync, fsyncSync, lstatSync, openSync, realpathSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { inodeOf, leftEarly, makeFolder, makeWhole, nameEarly } from "../../core/files.ts";
import { systemErrorCode } from "../../core/system-errors.ts";
import { type MillraceError, reasonOf } from "../../core/errors.ts";
import { STATE_REPLACED, stateError } from "../errors.ts";
import { classify, locked } from "./errors.ts";
import { isSound, recognise } from "./migrate.ts";

/** Another process writes for at most milliseconds. Calls block this process, so the wait is short. */
export const BUSY_TIMEOUT_MS = 2000;

/** Dead letters hold rows of the source, so only the owner may read it. SQLite gives its side files the same mode. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** The log of SQLite, whose pages it puts into whatever file has the name, and the log's index. */
const LOG = "-wal";
const BESIDE = [LOG, "-shm"];

/** Of what the next run finds: the daemon that it follows did not die. */
const RELEASE = "UPDATE lease SET expires_at_ms = 0";

/**
 * The file of an open database, under its name. Another program may remove it, or put another one there, and SQLite writes on
 * into a file that nobody finds again.
 */
export class StateFile {
  readonly path: string;
  /** Where a symbolic link leads: SQLite has the log beside that file. */
  readonly #real: string;
  readonly #inode: string;
  #logInode = "";
  #gone: MillraceError | null = null;

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
   * Throws, and from then on, if the file or its log was removed or replaced. What the database holds is put where the next
   * start finds it, unless somebody has put another file there.
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
      if (inodeOf(this.#log) === this.#logInode) return null;
      this.#emptyLog(database);
      database.exec(RELEASE);
      this.#emptyLog(database);
      return stateError(STATE_REPLACED, `the log of the state file, ${this.#log}, was removed while it was open`);
    }
    if (this.#isTaken()) return this.#replaced();
    this.#putBack(database);
    const message = `the state file ${this.path} was removed while it was open: what it held is there again`;
    return stateError(STATE_REPLACED, message);
  }

  /** SQLite does not throw where a reader keeps it from copying all. */
  #emptyLog(database: DatabaseSync): void {
    const done = database.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get();
    if (done?.["busy"] !== 0) throw locked(this.path, { reason: "passing" });
  }

  /** Somebody has put a file there that holds something. */
  #isTaken(): boolean {
    if (inodeOf(this.path) === "") return false;
    this.#removeLog();
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
      if (this.#isTaken()) throw this.#replaced();
      removeBeside(place);
    });
  }

  /** Its pages are none of the file that has the name now. */
  #removeLog(): void {
    if (inodeOf(this.#log) === this.#logInode && inodeOf(this.#real) !== this.#inode) removeBeside(this.#real);
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
