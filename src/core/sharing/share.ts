/** How the tables of one log are divided among the daemons that apply them. */
import { createHash } from "node:crypto";
import { extname } from "node:path";

/** A process for each is the most that one machine should run. */
export const SHARE_COUNT_MAX = 64;

interface TableName {
  readonly schema: string;
  readonly table: string;
}

export interface Division {
  readonly count: number;
  /**
   * What keeps tables together. Of two tables that meet in one target the first goes on only if one daemon has both, so those
   * whose names let them meet are in one share. `id`: schema and name, joined as a target may join them. `name`: the end
   * of that, so that the schema does not count.
   */
  readonly by: "id" | "name";
  /** The names that tables have in the sinks. Absent: their own. */
  readonly routes?: TargetNames;
}

interface TargetNames {
  /** Tells these names from others. */
  readonly text: string;
  named(table: TableName): TableName;
}

export interface Share {
  /** From 1 on. */
  readonly number: number;
  readonly of: Division;
}

/** The same on every machine and in every version: a table in another share would have to be read again. */
export function shareOf(own: TableName, { count, by, routes }: Division): number {
  const { schema, table } = routes?.named(own) ?? own;
  const joined = inAnyCase(`${schema}.${table}`);
  const dot = joined.lastIndexOf(".");
  const end = joined.slice(dot + 1);
  const digest = createHash("sha256")
    .update(JSON.stringify(by === "name" ? [end] : [joined.slice(0, dot), end]))
    .digest();
  return 1 + (digest.readUInt32BE(0) % count);
}

/** Which sigma is written in lower case depends on what stands beside it. */
function inAnyCase(name: string): string {
  return name.toLowerCase().replaceAll("ς", "σ");
}

export function isInShare(table: TableName, share: Share): boolean {
  return shareOf(table, share.of) === share.number;
}

/** The key of a log's stored identity under which a share's daemon keeps its division. */
export const DIVISION = "shares";

/** As it is stored with a share's progress. */
export function divisionText({ count, by, routes }: Division): string {
  const text = by === "id" ? String(count) : `${count} by name`;
  return routes === undefined ? text : `${text} as routed by ${routes.text}`;
}

/** The name of the daemon that applies a share: no daemon of a configuration has a `-` in it. Without a number, what the names of all begin with. */
export function shareName(name: string, number: number | ""): string {
  return `${name}-${number}`;
}

/** A share's part of a path, or of a state's address: `shop.db` becomes `shop-2.db`. Null: the path itself. */
export function pathOfShare(path: string, number: number | null): string {
  if (number === null) return path;
  const extension = extname(path);
  return `${shareName(path.slice(0, path.length - extension.length), number)}${extension}`;
}
