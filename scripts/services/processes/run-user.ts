import { readFileSync } from "node:fs";
import { chown, mkdir, mkdtemp, chmod } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface RunUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Postgres, MySQL and MariaDB refuse root: if this process is root they run as `nobody`, otherwise as the same user.
 */
export function unprivilegedUser(): RunUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const entry = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .find(([name]) => name === "nobody");
  if (entry === undefined) throw new Error("running as root, and there is no user nobody to run Postgres as");
  return { uid: Number(entry[2]), gid: Number(entry[3]) };
}

/**
 * A new folder for one run of a server: its data, log and sockets. The path is short, because a socket's path has at
 * most 103 bytes.
 */
export async function temporaryHome(name: string, user: RunUser | undefined): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), `millrace-${name}-`));
  await chmod(home, 0o755);
  if (user !== undefined) await chown(home, user.uid, user.gid);
  return home;
}

export async function ownFolder(path: string, user: RunUser | undefined): Promise<void> {
  await mkdir(path, { mode: 0o700 });
  if (user !== undefined) await chown(path, user.uid, user.gid);
}
