/** A target that is one file on the daemon's machine: DuckDB's, SQLite's, a lake's catalogue. */
import { constants, existsSync, statSync } from "node:fs";
import { access, realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Finding, GrantScript, UrlKeys } from "../../src/core/contracts/connector.ts";
import type { MillraceError, Raise } from "../../src/core/errors.ts";
import { inodeOf } from "../../src/core/files.ts";
import { looked, ok, wrong } from "./findings.ts";
import { shellWord } from "../../src/core/shell-word.ts";

/** The same, before it is opened: its folder must exist. `file`: "DuckDB file". */
export async function resolved(path: string, file: string, raise: Raise): Promise<string> {
  try {
    return await realpath(path);
  } catch {
    try {
      return join(await realpath(dirname(path)), basename(path));
    } catch (error) {
      throw raise("MR3203", "blocked", `the folder of the ${file} ${path} does not exist`, {
        hint: `mkdir -p ${dirname(path)}`,
        cause: error,
      });
    }
  }
}

/** The file's identity and its size; empty: it does not exist. Not its times: some file systems set them later than they write. */
export function stampOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? "" : `${stat.dev}:${stat.ino}:${stat.size}`;
}

/** A file that is open, under its name. */
export class FilePlace {
  readonly #path: string;
  readonly #inode: string;
  #hasBytes = false;

  constructor(path: string) {
    this.#path = path;
    this.#inode = inodeOf(path);
    this.isKept();
  }

  /** False: it was removed or replaced, or somebody has emptied it. */
  isKept(): boolean {
    if (inodeOf(this.#path) !== this.#inode) return false;
    if (statSync(this.#path, { throwIfNoEntry: false })?.size === 0) return !this.#hasBytes;
    this.#hasBytes = true;
    return true;
  }
}

/** Of a file that may not exist yet: its folder, and what `look` finds in the file; creates nothing. */
export async function fileFindings(
  id: string,
  path: string,
  classify: (error: unknown) => MillraceError,
  look: () => Promise<readonly Finding[]>,
): Promise<readonly Finding[]> {
  const folder = dirname(path);
  try {
    await access(folder, constants.W_OK);
  } catch {
    return [wrong(id, `${folder} is missing or can't be written`, `mkdir -p ${folder}`)];
  }
  if (!existsSync(path)) return [ok(id, `${path} will be made`)];
  return await looked(id, classify, async () => {
    const findings = await look();
    return [ok(id, `${path} can be opened`), ...findings];
  });
}

/** The file's folder belongs to the user that the daemon runs as: engines write files beside the file. */
export function fileGrants(path: string): readonly GrantScript[] {
  const [file, folder] = [shellWord(path), shellWord(dirname(path))];
  const script = [
    "# In place of millrace: the user that the daemon runs as, and its group.",
    `install -d -m 0700 -o millrace -g millrace ${folder}`,
    `test ! -e ${file} || { chown millrace:millrace ${file} && chmod 0600 ${file}; }`,
  ];
  return [{ by: "root, on the daemon's machine", language: "sh", script: script.join("\n") }];
}

/** A path with one of these endings, or any path behind `scheme:`. */
export function fileKeys(given: string, scheme: string, endings: readonly string[]): UrlKeys | null {
  const hasScheme = (text: string): boolean => /^[a-z][a-z0-9+.-]*:\/\//i.test(text);
  const named = new RegExp(`^${scheme}:(?://)?(.+)$`, "is").exec(given)?.[1];
  const path = named ?? (endings.some((ending) => given.toLowerCase().endsWith(ending)) ? given : "");
  return path === "" || hasScheme(path) ? null : { path };
}
