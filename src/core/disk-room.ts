import { statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";

/** How much room there is for these files or folders, the least first: "/var/lib/x (0 bytes free), /tmp (…)". */
export function roomFor(...paths: readonly string[]): string {
  const rooms = [...new Set(paths)].map((path) => ({ path, bytes: freeBytes(path) }));
  return rooms
    .toSorted((a, b) => (a.bytes ?? 0) - (b.bytes ?? 0))
    .map(({ path, bytes }) => `${path} (${bytes === null ? "?" : bytes.toLocaleString("en-US")} bytes free)`)
    .join(", ");
}

/** Null: the system does not tell. A quota is not seen here. */
export function freeBytes(path: string): number | null {
  try {
    const { bavail, bsize } = statfsSync(existing(path));
    return bavail * bsize;
  } catch {
    return null;
  }
}

/** A file that could not be made has a folder that is there. */
function existing(path: string): string {
  const parent = dirname(path);
  return parent === path || statSync(path, { throwIfNoEntry: false }) !== undefined ? path : existing(parent);
}
