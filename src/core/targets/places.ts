/** What sinks write into, before anything is connected: the same store has one name, however a configuration spells it. */
import { existsSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/**
 * Shown to people, so without logins. A text: the sink alone writes there. `start`: all its targets begin so, and those of a
 * sink with a longer one are left to that. `path`: a file, or a folder with all that is below it; of a bucket, `at` has the
 * server.
 */
export type Place = string | PlaceOfNames | PlaceOfFiles;

interface PlaceOfNames {
  readonly at: string;
  readonly start: string;
}

interface PlaceOfFiles {
  readonly what: string;
  readonly at: string;
  readonly path: string;
  readonly isFolder: boolean;
}

/** Names of a machine that lead to itself. */
const OWN = /^(?:|localhost|(?:::ffff:)?127(?:\.\d{1,3}){3}|::1|0\.0\.0\.0|::)$/;

/** `port`: as it is written; empty: `usual`. */
export function placeOfServer(hostname: string, port: string | number, usual: string): string {
  const name = hostname
    .toLowerCase()
    .replace(/^\[(.*)\]$/, "$1")
    .replace(/\.$/, "");
  const host = OWN.test(name) ? "localhost" : name.includes(":") ? `[${name}]` : name;
  return `${host}:${port === "" ? usual : port}`;
}

/** Of an http:// or https:// URL, as its clients read it. */
export function placeOfHttp(text: string): string {
  const { hostname, port, protocol, pathname } = new URL(text);
  return `${placeOfServer(hostname, port, protocol === "https:" ? "443" : "80")}${pathname.replace(/\/+$/, "")}`;
}

export function placeOfFile(what: string, path: string): Place {
  return { what, at: "", path: realPath(path), isFolder: false };
}

export function placeOfFolder(what: string, path: string): Place {
  return { what, at: "", path: realPath(path), isFolder: true };
}

/** `prefix`: empty, or it ends with a slash. Buckets of AWS have one name in all its regions. */
export function placeOfBucket(
  what: string,
  {
    bucket,
    prefix,
    endpoint,
  }: { readonly bucket: string; readonly prefix: string; readonly endpoint: string | undefined },
): Place {
  const isOther = endpoint !== undefined && !/\.amazonaws\.com(?:\.cn)?$/i.test(new URL(endpoint).hostname);
  const path = `s3://${bucket}/${prefix}`.replace(/\/$/, "");
  return { what, at: isOther ? placeOfHttp(endpoint) : "", path, isFolder: true };
}

/** The real path of what may not exist yet, and whose folders may be links. */
export function realPath(path: string): string {
  if (existsSync(path)) return realpathSync(path);
  const folder = dirname(path);
  return folder === path ? path : join(realPath(folder), basename(path));
}

export function shownPlace(place: Place): string {
  if (typeof place === "string") return place;
  if ("start" in place) return `${JSON.stringify(place.start)}… in ${place.at}`;
  return `${place.what} ${place.path}${place.at === "" ? "" : ` at ${place.at}`}`;
}

/** Whether two sinks that write there would overwrite each other's rows. */
export function isSharedPlace(a: Place, b: Place): boolean {
  if (typeof a === "string" || typeof b === "string") return a === b;
  if ("start" in a || "start" in b) return "start" in a && "start" in b && a.at === b.at && a.start === b.start;
  if (a.at !== b.at) return false;
  return a.path === b.path || (a.isFolder && b.isFolder && (isBelow(a.path, b.path) || isBelow(b.path, a.path)));
}

function isBelow(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);
}
