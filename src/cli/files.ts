/** Files that the command line names. */
import { lstatSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type ErrorCode, findMillraceError } from "../core/errors.ts";
import { readSmallFile, writeWhole } from "../core/files.ts";
import { cliError } from "./errors.ts";

/** `code`: of the error if it can't be read. */
export function readNamedFile(file: string, byteCountMax: number, code: ErrorCode): string {
  try {
    return readSmallFile(file, byteCountMax);
  } catch (error) {
    throw notRead(file, code, error);
  }
}

/** Of a folder its files that end so; else the path itself. */
export function namedFilesAt(path: string, ending: string, code: ErrorCode): readonly string[] {
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return [path];
    return readdirSync(path).flatMap((name) => (name.endsWith(ending) ? [join(path, name)] : []));
  } catch (error) {
    throw notRead(path, code, error);
  }
}

function notRead(file: string, code: ErrorCode, cause: unknown): Error {
  return cliError(code, `${file} can't be read (${reasonOf(cause)})`, { cause });
}

/** Only its owner may read it: it can hold rows. An earlier file may be the only way back, and stays unless `mayReplace`. */
export function writeNamedFile(file: string, text: string, mayReplace: boolean): void {
  try {
    writeWhole(file, text, 0o600, () => {
      if (!mayReplace) expectNoFile(file);
    });
  } catch (error) {
    throw findMillraceError(error) ?? notWritten(file, error);
  }
}

/** A link that leads nowhere is a file too. */
export function expectNoFile(file: string): void {
  let isThere: boolean;
  try {
    isThere = lstatSync(file, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    throw notWritten(file, error);
  }
  if (isThere) throw cliError("MR1112", `${file} exists already; nothing was written`);
}

export function notWritten(file: string, cause: unknown): Error {
  return cliError("MR1113", `${file} can't be written (${reasonOf(cause)})`, { cause });
}

function reasonOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown error";
}
