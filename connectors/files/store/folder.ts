import { randomUUID } from "node:crypto";
import {
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  unlink,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Finding } from "../../../src/core/contracts/connector.ts";
import { makeFolder } from "../../../src/core/files.ts";
import { systemErrorCode } from "../../../src/core/system-errors.ts";
import { classifyFile } from "../errors.ts";
import type { Store, ListFilter } from "./store.ts";

const SCRATCH = "_millrace/tmp";
const FOLDER_MODE = 0o755;
/** A table has one for each day. */
const SYNCED_MAX = 10_000;

/** A folder of this machine, or of a file system that it mounts. An object is synced before it appears under its name. */
export class FolderStore implements Store {
  readonly location: string;
  readonly paths: readonly string[];
  readonly #path: string;
  /** Folders whose own names are durable. */
  readonly #synced = new Set<string>();

  constructor(path: string) {
    this.#path = path;
    this.location = path;
    this.paths = [path];
  }

  async list(under: string, signal: AbortSignal, after = ""): Promise<readonly string[]> {
    return await this.#doing(
      signal,
      async () => {
        try {
          const found = await readdir(join(this.#path, under), { withFileTypes: true });
          return found
            .filter((entry) => entry.isFile())
            .map(({ name }) => `${under}${name}`)
            .filter((key) => key > after)
            .toSorted();
        } catch (error) {
          if (isMissing(error)) return [];
          throw error;
        }
      },
      under,
    );
  }

  async find(under: string, { is, countMax }: ListFilter, signal: AbortSignal): Promise<readonly string[]> {
    const found: string[] = [];
    const walk = async (folder: string): Promise<void> => {
      const entries = await readdir(join(this.#path, folder), { withFileTypes: true });
      for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
        if (found.length >= countMax) return;
        const key = `${folder}${entry.name}`;
        if (entry.isDirectory()) await walk(`${key}/`);
        else if (is(key)) found.push(key);
      }
    };
    return await this.#doing(
      signal,
      async () => {
        try {
          await walk(under);
        } catch (error) {
          if (!isMissing(error)) throw error;
        }
        return found;
      },
      under,
    );
  }

  async read(key: string, signal: AbortSignal): Promise<Buffer | null> {
    return await this.#doing(
      signal,
      async () => {
        try {
          return await readFile(join(this.#path, key));
        } catch (error) {
          if (isMissing(error)) return null;
          throw error;
        }
      },
      key,
    );
  }

  async has(key: string, signal: AbortSignal): Promise<boolean> {
    return await this.#doing(
      signal,
      async () => {
        try {
          return (await stat(join(this.#path, key))).isFile();
        } catch (error) {
          if (isMissing(error)) return false;
          throw error;
        }
      },
      key,
    );
  }

  /** By a link, which fails where the name is taken. */
  async create(key: string, pieces: readonly Buffer[], signal: AbortSignal): Promise<boolean> {
    return await this.#doing(
      signal,
      async () => {
        // Processes of two containers have the same numbers.
        const temporary = join(await this.scratch(), randomUUID());
        const path = join(this.#path, key);
        try {
          await using file = await open(temporary, "w", 0o644);
          for (const piece of pieces) await writeWhole(file, piece);
          await file.datasync();
          await this.#entering(path, () => link(temporary, path));
          return true;
        } catch (error) {
          if (systemErrorCode(error) === "EEXIST") return false;
          throw error;
        } finally {
          await rm(temporary, { force: true });
        }
      },
      key,
    );
  }

  async put(key: string, file: string, signal: AbortSignal): Promise<void> {
    await this.#doing(
      signal,
      async () => {
        const path = join(this.#path, key);
        await synced(await open(file, "r+"));
        await this.#entering(path, () => rename(file, path));
      },
      key,
    );
  }

  async remove(key: string, signal: AbortSignal): Promise<void> {
    await this.#doing(
      signal,
      async () => {
        const path = join(this.#path, key);
        await unlink(path).catch((error: unknown) => {
          if (!isMissing(error)) throw error;
        });
        // The folder of a day of which nothing is left.
        if (key.includes("/date=")) await rmdir(dirname(path)).catch(() => undefined);
      },
      key,
    );
  }

  async probe(folder: string, _extension: string, signal: AbortSignal): Promise<void> {
    await this.#doing(
      signal,
      async () => {
        const path = join(this.#path, folder);
        const made = await mkdir(path, { recursive: true, mode: FOLDER_MODE });
        const probe = join(path, `_${randomUUID()}`);
        await (await open(probe, "wx")).close();
        await unlink(probe);
        if (made !== undefined) await rmdir(path).catch(() => undefined);
      },
      folder,
    );
  }

  async scratch(): Promise<string> {
    const path = join(this.#path, SCRATCH);
    makeFolder(dirname(path), FOLDER_MODE);
    await mkdir(path, { recursive: false, mode: FOLDER_MODE }).catch((error: unknown) => {
      if (systemErrorCode(error) !== "EEXIST") throw error;
    });
    return path;
  }

  async rules(): Promise<readonly Finding[]> {
    return [];
  }

  async settle(signal: AbortSignal): Promise<void> {
    await this.#doing(signal, () => rm(join(this.#path, SCRATCH), { recursive: true, force: true }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is open between two calls.
  }

  /** The name survives a crash of the machine, with those of its folders: a killed process may have made them just before. */
  async #entering(path: string, enter: () => Promise<void>): Promise<void> {
    const folder = dirname(path);
    makeFolder(folder, FOLDER_MODE);
    await enter();
    const above = this.#synced.has(folder) ? [] : foldersBetween(this.#path, folder);
    for (const one of [folder, ...above]) await synced(await open(one, "r"));
    if (this.#synced.size >= SYNCED_MAX) this.#synced.clear();
    this.#synced.add(folder);
  }

  /** `key`: of what is done there. */
  async #doing<T>(signal: AbortSignal, work: () => Promise<T>, key = ""): Promise<T> {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      throw classifyFile(error, join(this.#path, key), this.#path);
    }
  }
}

async function writeWhole(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at, bytes.length - at)).bytesWritten;
}

async function synced(file: FileHandle): Promise<void> {
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}

/** Above `folder`, up to the root itself. */
function foldersBetween(root: string, folder: string): readonly string[] {
  const found: string[] = [];
  for (let at = folder; at.length > root.length && at.startsWith(root);) found.push((at = dirname(at)));
  return found;
}

function isMissing(error: unknown): boolean {
  return systemErrorCode(error) === "ENOENT";
}
