import { closeSync, fsyncSync, openSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { inodeOf, makeFolder, makeWhole } from "../../core/files.ts";
import { systemErrorCode } from "../../core/system-errors.ts";
import type { MillraceError } from "../../core/errors.ts";
import { STATE_REPLACED, stateError } from "../errors.ts";

/** Dead letters hold rows of the source, so only the owner may read it. SQLite gives its side files the same mode. */
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** The log of SQLite, whose pages it puts into whatever file has the name, and the log's index. */
const LOG = "-wal";
const BESIDE = [LOG, "-shm"];

/**
 * The file of an open database, under its name. Another program may remove it, or put another one there, and SQLite writes on
 * into a file that nobody finds again.
 */
export class StateFile {
  readonly path: string;
  readonly #inode: string;
  #logInode = "";
  #gone: MillraceError | null = null;

  private constructor(path: string, inode: string) {
    this.path = path;
    this.#inode = inode;
  }

  /** Makes it if it is missing. */
  static at(path: string): StateFile {
    return usable(path, () => {
      makeFolder(dirname(path), FOLDER_MODE);
      closeSync(openSync(path, "a", FILE_MODE));
      return new StateFile(path, inodeOf(path));
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

  #lost(database: DatabaseSync): MillraceError | null {
    const inode = inodeOf(this.path);
    if (inode === this.#inode) {
      if (inodeOf(this.#log) === this.#logInode) return null;
      database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
      return stateError(STATE_REPLACED, `the log of the state file, ${this.#log}, was removed while it was open`);
    }
    if (inode !== "") {
      this.#removeLog();
      return this.#replaced();
    }
    this.#putBack(database);
    const message = `the state file ${this.path} was removed while it was open: what it held is there again`;
    return stateError(STATE_REPLACED, message);
  }

  #putBack(database: DatabaseSync): void {
    makeFolder(dirname(this.path), FOLDER_MODE);
    const write = (early: string): void => {
      const file = openSync(early, "wx", FILE_MODE);
      try {
        database.prepare("VACUUM INTO ?").run(early);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
    };
    makeWhole(this.path, write, () => {
      if (inodeOf(this.path) !== "") throw this.#replaced();
      this.#removeLog();
    });
  }

  /** Its pages are none of the file that gets the name. */
  #removeLog(): void {
    if (inodeOf(this.#log) === this.#logInode) this.#remove(BESIDE);
  }

  remove(): void {
    this.#remove([...BESIDE, ""]);
  }

  #remove(suffixes: readonly string[]): void {
    for (const suffix of suffixes) rmSync(`${this.path}${suffix}`, { force: true });
  }

  get #log(): string {
    return `${this.path}${LOG}`;
  }

  #replaced(): MillraceError {
    return stateError(STATE_REPLACED, `another file was put in the place of the state file ${this.path}`);
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
