import { statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import type { Described, Fields } from "./described.ts";
import { digits } from "./figures.ts";

/** A place that can become full: a disk, or the memory that a server may use. */
export type Room = Described<typeof ROOM>;

export const ROOM = {
  where: ["text", "the file, folder or server"],
  freeBytes: ["bytes", "left there"],
  lowBytes: ["bytes", "with less it is nearly full"],
} as const satisfies Fields;

/** A disk is nearly full when less than this part of it is free, and less than this many bytes. */
const LOW_SHARE = 0.1;
const LOW_BYTES = 10 * 1024 ** 3;
/** Of a message. */
const TOLD_MAX = 3;

/** How much room there is for these files or folders, the least first: "/var/lib/x (0 bytes free), /tmp (…)". */
export function roomFor(...paths: readonly string[]): string {
  return roomText([...new Set(paths)].map((where) => ({ where, freeBytes: freeBytes(where) })));
}

/** The same for a file of a server. */
export function roomOfServer(host: string, path: string): string {
  return isHere(host, path) ? roomFor(path) : path;
}

/** On another machine a server's path says nothing about a disk of this one. */
export function isHere(host: string, path: string): boolean {
  return (host.startsWith("/") || /^(?:localhost|127\.[\d.]+|::1)$/.test(host)) && isThere(path);
}

/** A container's files are not. */
function isThere(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    // Its folder is closed to this user.
    return false;
  }
}

/** The fullest of them, the least room first. */
export function roomText(rooms: readonly { readonly where: string; readonly freeBytes: number | null }[]): string {
  return rooms
    .toSorted((a, b) => (a.freeBytes ?? 0) - (b.freeBytes ?? 0))
    .slice(0, TOLD_MAX)
    .map(({ where, freeBytes: free }) => `${where} (${free === null ? "?" : digits(free)} bytes free)`)
    .join(", ");
}

/** The disks that have these files or folders, each by the first of them. */
export function diskRooms(...paths: readonly string[]): readonly Room[] {
  const rooms = new Map<number, Room>();
  for (const where of paths) {
    try {
      const { bavail, blocks, bsize } = statfsSync(existing(where));
      const { dev } = statSync(existing(where));
      if (!rooms.has(dev)) {
        rooms.set(dev, { where, freeBytes: bavail * bsize, lowBytes: lowBytesOf(blocks * bsize) });
      }
    } catch {
      // The system does not tell.
    }
  }
  return [...rooms.values()];
}

/** Of a disk that has no limit of its own for this. */
export function lowBytesOf(totalBytes: number): number {
  return Math.min(totalBytes * LOW_SHARE, LOW_BYTES);
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
