/** The folder of fetched servers, and the only function that adds something to it. */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { hasCode } from "../processes/errno.ts";

const LOCK_POLL_MS = 100;

export function cacheDir(): string {
  const { MILLRACE_CACHE, XDG_CACHE_HOME } = process.env;
  if (MILLRACE_CACHE) return MILLRACE_CACHE;
  if (XDG_CACHE_HOME) return join(XDG_CACHE_HOME, "millrace");
  // Postgres refuses to run as root, and the user that it then runs as can't read root's home.
  if (process.getuid?.() === 0) return "/var/cache/millrace";
  return join(homedir(), ".cache", "millrace");
}

/** The path of the item installed under that name; the item is complete or missing. */
export function cachePath(name: string): string {
  return join(cacheDir(), name);
}

export function isCached(name: string): boolean {
  return existsSync(cachePath(name));
}

/**
 * Fills `name` in the cache: `install` gets an empty folder beside it, and one rename publishes the result. The lock
 * only saves two processes the same download. If both hold it (the lock of a dead holder is broken), the later rename
 * finds the name taken and gives up.
 */
export async function cached(name: string, install: (dir: string) => Promise<void>): Promise<string> {
  const target = cachePath(name);
  if (existsSync(target)) return target;
  const top = cacheDir();
  await mkdir(top, { recursive: true });
  const release = await lock(join(top, `.${name}.lock`));
  const work = join(top, `.${name}.${randomUUID()}`);
  try {
    if (existsSync(target)) return target;
    await mkdir(work);
    await install(work);
    await chmod(work, 0o755);
    await rename(work, target).catch((error: unknown) => {
      if (!hasCode(error, "ENOTEMPTY", "EEXIST")) throw error;
    });
    return target;
  } finally {
    await rm(work, { recursive: true, force: true });
    await release();
  }
}

async function lock(path: string): Promise<() => Promise<void>> {
  for (;;) {
    try {
      const handle = await open(path, "wx");
      await handle.writeFile(String(process.pid));
      await handle.close();
      return () => rm(path, { force: true });
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw error;
    }
    const holder = Number(await readFile(path, "utf8").catch(() => ""));
    if (holder > 0 && !isAlive(holder)) await rm(path, { force: true });
    else await delay(LOCK_POLL_MS);
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return hasCode(error, "EPERM");
  }
}
