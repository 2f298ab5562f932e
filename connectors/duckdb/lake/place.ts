/** Where a lake's catalogue and data are. */
import { existsSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

export type CatalogKind = "sqlite" | "duckdb" | "postgres";

export interface LakePlace {
  readonly kind: CatalogKind;
  /** A file's absolute path, or the URL of a database. */
  readonly catalog: string;
  /** An absolute path; ends with a slash. */
  readonly data: string;
}

export const CATALOG = /^(?:(?:sqlite|duckdb):.|postgres(?:ql)?:\/\/.)/;
export const DATA = /^(?!\w+:\/\/)./;

export function placeOf(catalog: string, data: string, folder: string): LakePlace {
  const kind = catalog.slice(0, catalog.indexOf(":"));
  const isFile = kind === "sqlite" || kind === "duckdb";
  return {
    kind: isFile ? kind : "postgres",
    catalog: isFile ? realPath(resolve(folder, catalog.slice(kind.length + 1))) : catalog,
    data: withSlash(resolve(folder, data)),
  };
}

/** Without login and parameters, for people. */
export function shownCatalog({ kind, catalog }: LakePlace): string {
  if (kind !== "postgres") return `${kind}:${catalog}`;
  const { hostname, port, pathname } = new URL(catalog);
  return `postgres://${hostname}${port === "" ? "" : `:${port}`}${pathname}`;
}

/** The file's identity; empty: it does not exist, or the catalogue is a database. */
export function inodeOf({ kind, catalog }: LakePlace): string {
  const stat = kind === "postgres" ? undefined : statSync(catalog, { bigint: true, throwIfNoEntry: false });
  return stat === undefined ? "" : `${stat.dev}:${stat.ino}`;
}

function realPath(path: string): string {
  if (existsSync(path)) return realpathSync(path);
  const folder = dirname(path);
  return existsSync(folder) ? join(realpathSync(folder), basename(path)) : path;
}

function withSlash(path: string): string {
  return path.endsWith("/") ? path : `${path}/`;
}
